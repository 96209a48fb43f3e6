//! What pages say and how they say it, as a browser without JavaScript has them.

use serde_json::json;
use serve::keys::Role;

use crate::support::base::Base;
use crate::support::browser::Browser;

#[tokio::test]
async fn what_matched_stands_beside_the_city() {
    let base = Base::new().await;
    base.customer("ann@x.example", json!({"name": "Ann", "city": "Keene", "address1": "12 West <b> Street"})).await;
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    let found = browser.get("/customers?q=west").await;
    assert!(found.body.contains("Keene <span class=\"detail\">12 West &#60;b&#62; Street</span>"), "{found:?}");
    assert!(!browser.get("/customers?q=ann").await.content().contains("West"));
}

#[tokio::test]
async fn all_orders_have_their_lines_and_stand_under_the_name() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    for day in 1..=25 {
        base.order(ann, &format!("{day:02}"), Some(&format!("2026-10-{day:02}T10:00:00Z")), "p").await;
    }
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    let page = browser.get(&format!("/customers/{ann}")).await;
    assert_eq!(page.body.matches("Lines of order").count(), 10);
    let older = browser.get(&page.leads("/orders?")[0]).await;
    assert!(older.body.contains("<h1>Ann</h1>") && older.body.contains("Orders, older"), "{older:?}");
    assert_eq!(older.body.matches("Lines of order").count(), 15, "{older:?}");
    let timeline = browser.get(&format!("/customers/{ann}/timeline?type=order")).await;
    assert!(timeline.body.contains("<h1>Ann</h1>") && timeline.body.contains("Order 25 for"), "{timeline:?}");
}

#[tokio::test]
async fn a_page_that_cannot_be_shown_says_what_to_do_next() {
    let base = Base::new().await;
    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    let nobody = browser.get("/customers/nobody@x.example").await;
    assert!(nobody.status == 404 && nobody.body.contains("<h1>No such customer</h1>"), "{nobody:?}");
    assert!(nobody.body.contains("<a class=\"button\" href=\"/customers\">Search customers</a>"), "{nobody:?}");
    base.run("alter table customer360.views rename to away").await;
    let broken = browser.get("/customers?q=a&sort=name").await;
    assert_eq!(broken.status, 500, "{broken:?}");
    assert!(broken.body.contains("href=\"/customers?q=a&#38;sort=name\">Try now</a>"), "{broken:?}");
    let sent = browser.fill("/lists", "/views", &[("name", "a"), ("query", "q=a")]).await;
    assert!(sent.status == 500 && !sent.body.contains("Try now"), "a form is not sent again by a link: {sent:?}");
}
