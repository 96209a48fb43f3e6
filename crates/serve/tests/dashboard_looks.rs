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

#[tokio::test]
async fn attributes_that_changed_at_once_are_one_entry() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    base.run(&format!(
        "create table customer360.changes_of_test partition of customer360.changes default;
         insert into customer360.changes (customer_id, at, attribute, old, new, system, cause)
         select '{ann}', '2026-11-20T03:00:00Z', 'a' || n, '\"old\"', to_jsonb('new ' || n), 'loyalty', 'record'
         from generate_series(1, 5) n;
         insert into customer360.changes (customer_id, at, attribute, new, system, cause)
         values ('{ann}', '2026-11-20T03:00:00Z', 'city', '\"Keene\"', 'home_delivery', 'record')"
    ))
    .await;
    let page = Browser::signed_in(&base, Role::Viewer, None).await.get(&format!("/customers/{ann}")).await;
    let (_, days) = page.body.split_once("<div id=\"days\">").unwrap();
    for said in ["5 attributes changed", "A 1:</span> <del><bdi>old</bdi></del> → <bdi>new 1", "2 more", "City added"]
    {
        assert_eq!(days.matches(said).count(), 1, "{said}: {days}");
    }
    assert!(!days.contains("City:</span>"), "one is named by the title: {days}");
}

#[tokio::test]
async fn a_view_is_replaced_when_that_is_meant() {
    let base = Base::new().await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let save = |query| [("name", "mine"), ("query", query)];
    assert_eq!(browser.fill("/customers", "/views", &save("q=a")).await.status, 303);
    assert_eq!(browser.fill("/customers", "/views", &save("q=a")).await.status, 303, "it is so already");
    let asked = browser.fill("/customers", "/views", &save("q=b")).await;
    assert!(asked.status == 409 && asked.body.contains("<h1>Replace view mine?</h1>"), "{asked:?}");
    assert!(!browser.get("/customers").await.leads("q=a").is_empty(), "nothing is replaced yet");
    let replaced = browser.submit(&asked, &[("replace", "yes")]).await;
    assert_eq!((replaced.status, replaced.location()), (303, "/customers?q=b"));
    let nothing = browser.get("/customers?q=zzzz&state=N%26H&sort=name").await;
    assert!(nothing.body.contains("Only those with State N&#38;H were looked at."), "{nothing:?}");
    assert!(
        nothing.body.contains("href=\"/customers?q=zzzz&#38;sort=name\">Search without the filters"),
        "{nothing:?}"
    );
}

#[tokio::test]
async fn insights_show_the_largest_first_and_all_on_demand() {
    let base = Base::new().await;
    for number in 0..12 {
        let profile = json!({"name": "N", "state": format!("S{number:02}")});
        base.customer(&format!("{number}@x.example"), profile).await;
    }
    base.run(
        "insert into customer360.xrefs
             (system, external_id, unmatched_reason, external_id_json, attributes, position, observed_at, first_seen_at,
              last_seen_at)
         values ('loyalty', '1', 'no_email', '1', '{}', '', now(), now(), now())",
    )
    .await;
    let page = Browser::signed_in(&base, Role::Viewer, None).await.get("/insights").await;
    let (_, states) = page.body.split_once("<h2 id=\"states\">").unwrap();
    let (first, others) = states.split("</section>").next().unwrap().split_once("<summary>All 12</summary>").unwrap();
    assert_eq!([first, others].map(|part| part.matches("<th scope=\"row\">").count()), [7, 5], "{states}");
    assert!(page.body.contains("<th scope=\"row\">No email</th>"), "{page:?}");
    assert!(page.body.contains("As of <time"), "{page:?}");
}
