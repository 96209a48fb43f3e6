//! Finding customers: search, filters, views, and what a key does not show.

use serde_json::json;
use serve::keys::Role;
use uuid::Uuid;

use crate::support::Answer;
use crate::support::base::Base;
use crate::support::browser::Browser;

#[tokio::test]
async fn a_key_with_a_row_filter_sees_its_customers_on_every_page() {
    let base = Base::new().await;
    let nh = base.customer("nh@x.example", json!({"name": "Nan Hill", "state": "NH"})).await;
    let me = base.customer("me@x.example", json!({"name": "Mel Hill", "state": "ME"})).await;
    base.note(me, "secret", "2026-11-20T03:00:00Z").await;
    base.order(me, "1", None, "7").await;
    let note: Uuid =
        sqlx::query_scalar("select entry_id from customer360.entries").fetch_one(&base.pool).await.unwrap();
    let mut browser = Browser::signed_in(&base, Role::Agent, Some("state in ('NH')")).await;
    for path in ["/customers", "/customers?q=hill", "/customers?q=Mel+Hill", "/customers?state=NH&state=ME"] {
        let answer = browser.get(path).await;
        assert!(!answer.body.contains("Mel Hill</a>") && !answer.body.contains(&me.to_string()), "{path}: {answer:?}");
    }
    let footer = browser.get(&format!("/customers/{nh}")).await;
    assert!(footer.body.contains("customers with state in (&#39;NH&#39;)"), "{footer:?}");
    let strangers = [me, nh, note].map(|known| (known.to_string(), Uuid::new_v4().to_string()));
    for path in [
        format!("/customers/{me}"),
        "/customers/me@x.example".to_owned(),
        format!("/customers/{me}/timeline"),
        format!("/customers/{me}/notes/{note}"),
        format!("/customers/{nh}/notes/{note}"),
    ] {
        let answer = browser.get(&path).await;
        assert_eq!(answer.status, 404, "{path}");
        let unknown =
            strangers.iter().fold(path.replace("me@", "nobody@"), |path, (known, other)| path.replace(known, other));
        let nobody = browser.get(&unknown).await;
        let without_request = |answer: &Answer| answer.content().split("Request").next().unwrap().to_owned();
        assert_eq!(without_request(&answer), without_request(&nobody), "{path}: as one that does not exist");
    }
    let own = format!("/customers/{nh}");
    for path in [
        format!("/customers/{me}/notes"),
        format!("/customers/{me}/notes/{note}"),
        format!("/customers/{nh}/notes/{note}"),
    ] {
        let answer = browser.fill(&own, &path, &[("text", "mine"), ("version", "1")]).await;
        assert!(answer.status == 404 || answer.status == 412, "{path}: {answer:?}");
    }
    for action in ["remove", "undo"] {
        let answer = browser.fill(&own, &format!("/customers/{me}/notes/{note}/{action}"), &[("version", "1")]).await;
        assert_eq!(answer.status, 404, "{answer:?}");
    }
    let said: String =
        sqlx::query_scalar("select content ->> 'text' from customer360.entries").fetch_one(&base.pool).await.unwrap();
    assert_eq!(said, "secret");
}

#[tokio::test]
async fn customers_are_searched_filtered_sorted_and_paged_by_links() {
    let base = Base::new().await;
    for number in 0..120 {
        let state = if number % 2 == 0 { "NH" } else { "VT" };
        let name = format!("Person {number:03}");
        base.customer(&format!("p{number:03}@x.example"), json!({"name": name, "city": "Keene", "state": state})).await;
    }
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    let names = |answer: &Answer| -> Vec<String> {
        answer
            .body
            .split("<th scope=\"row\">")
            .skip(1)
            .map(|rest| rest.split(['>', '<']).nth(2).unwrap().to_owned())
            .collect()
    };
    let (mut path, mut seen) = ("/customers?state=NH&sort=name&q=&system=".to_owned(), Vec::new());
    loop {
        let answer = browser.get(&path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        seen.extend(names(&answer));
        match answer.leads("cursor=").first() {
            Some(next) => path.clone_from(next),
            None => break,
        }
    }
    let expected: Vec<String> = (0..120).step_by(2).map(|number| format!("Person {number:03}")).collect();
    assert_eq!(seen, expected);
    let sorted = browser.get("/customers?sort=name").await;
    assert!(sorted.body.contains("aria-sort=\"ascending\"") && !sorted.leads("sort=-name").is_empty(), "{sorted:?}");
    let found = browser.get("/customers?q=persn+017").await;
    assert!(names(&found)[0] == "Person 017" && found.body.contains("best match first"), "{found:?}");
    assert!(found.body.contains("<abbr class=\"badge\" title=\"home_delivery\">HD</abbr>"));
    let filtered = browser.get("/customers?state=NH&state=VT&q=person").await;
    assert!(filtered.leads("state=VT&q=person").iter().any(|link| !link.contains("NH")), "a filter can be taken off");
    let none = browser.get("/customers?q=zzzzzzzz").await;
    assert!(none.status == 200 && none.body.contains("No customer matches “zzzzzzzz”"), "{none:?}");
    for (query, said) in
        [("sort=x", "Sort: one of name"), ("stat=NH", "did you mean state"), ("cursor=x", "Cursor: the")]
    {
        let wrong = browser.get(&format!("/customers?{query}")).await;
        assert!(wrong.status == 400 && wrong.body.contains(said), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_view_keeps_filters_for_whoever_saved_it_and_is_removed() {
    let base = Base::new().await;
    base.customer("nh@x.example", json!({"name": "Nan", "state": "NH & <b>"})).await;
    base.customer("vt@x.example", json!({"name": "Val", "state": "VT"})).await;
    let mut browser = Browser::signed_in(&base, Role::Agent, Some("state in ('NH & <b>')")).await;
    assert!(!browser.get("/customers").await.body.contains("Save as view"), "there is nothing to save");
    let filtered = browser.get("/customers?state=NH+%26+%3Cb%3E&sort=name&q=&cursor=").await;
    let fields = [("query", filtered.field("query")), ("token", filtered.token())];
    let save = async |browser: &mut Browser<'_>, name: &str| {
        let fields = fields.iter().map(|(name, value)| (*name, value.replace("&#38;", "&"))).collect::<Vec<_>>();
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| (*name, value.as_str())).chain([("name", name)]).collect();
        browser.post("/views", &fields).await
    };
    let saved = save(&mut browser, " Mine & <i> ").await;
    assert_eq!((saved.status, saved.location()), (303, "/customers?state=NH+%26+%3Cb%3E&sort=name"), "{saved:?}");
    let view = browser.get(saved.location()).await;
    assert!(view.body.contains("aria-current=\"true\">Mine &#38; &#60;i&#62;</a>"), "{view:?}");
    assert!(view.body.contains("Nan</a>") && !view.body.contains("Save as view") && view.body.contains("Remove view"));
    assert_eq!(browser.get("/customers").await.leads("sort=name").len(), 2, "the view, and the head of a column");
    for name in ["", " ", "ann@x.example", &"x".repeat(61)] {
        assert_eq!(save(&mut browser, name).await.status, 422, "{name}");
    }
    assert_eq!(browser.fill("/customers", "/views", &[("name", "a"), ("query", "cursor=1")]).await.status, 422);
    for number in 1..30 {
        assert_eq!(save(&mut browser, &number.to_string()).await.status, 303);
    }
    assert_eq!(save(&mut browser, "31").await.status, 422, "thirty are enough");
    assert_eq!(save(&mut browser, "1").await.status, 303, "one of this name becomes another one");

    let mut other = Browser::signed_in(&base, Role::Operator, None).await;
    assert!(!other.get("/customers").await.body.contains("Mine"), "it is nobody else's");
    let mut viewer = Browser::signed_in(&base, Role::Viewer, None).await;
    assert!(!viewer.get("/customers?state=VT").await.body.contains("Save as view"));
    assert_eq!(viewer.fill("/customers", "/views", &[("name", "a"), ("query", "state=VT")]).await.status, 403);
    assert_eq!(browser.post("/views/remove", &[("name", "1")]).await.status, 403, "a form without its token");
    let removed = browser.fill("/customers", "/views/remove", &[("name", "Mine & <i>")]).await;
    assert_eq!(removed.location(), "/customers");
    assert!(!browser.get("/customers").await.body.contains("Mine"));
    assert_eq!(browser.fill("/customers", "/views/remove", &[("name", "Mine & <i>")]).await.status, 404);
    let audited: i64 = sqlx::query_scalar("select count(*) from customer360.audit_log where action like '%_view'")
        .fetch_one(&base.pool)
        .await
        .unwrap();
    assert_eq!(audited, 32, "thirty, one of them once more, and one removed");
}

#[tokio::test]
async fn what_people_bought_who_bought_the_same_is_recommended_with_the_reason() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    base.order(ann, "7", Some("2026-11-03T10:00:00Z"), "p1").await;
    let page = format!("/customers/{ann}");
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    assert!(browser.get(&page).await.body.contains("Nothing that enough people bought"));
    base.run(
        "insert into customer360.products (system, product_id, name, attributes, position)
         values ('online_store', 'p1', 'Lamp', '{}', ''), ('online_store', 'p2', 'Shade <b>', '{}', '');
         insert into customer360.product_pairs values ('online_store', 'p1', 'online_store', 'p2', 5, 4.16)",
    )
    .await;
    let shown = browser.get(&page).await;
    for part in ["<span>Shade &#60;b&#62;</span>", "4.2× lift", "Because they bought Lamp"] {
        assert!(shown.body.contains(part), "{part}: {shown:?}");
    }
}
