//! Decisions of operators and edits of agents, from the page of a customer, beside somebody who consolidates.

use embedded_postgres::test::{eventually, look_until, until};
use serde_json::json;
use serve::keys::Role;
use uuid::Uuid;

use crate::support::Answer;
use crate::support::base::Base;
use crate::support::browser::Browser;
use crate::support::consolidating::Consolidating;

impl Answer {
    /// What a preview says of something, now and then.
    fn foreseen(&self, label: &str) -> Vec<(String, String)> {
        let head = format!("<th scope=\"row\">{label}</th>");
        let rows = self.content().split(&head).skip(1);
        let cells = |row: &str| {
            let mut cells = row.split("<td>").skip(1).map(|cell| cell.split("</td>").next().unwrap().to_owned());
            (cells.next().unwrap(), cells.next().unwrap())
        };
        rows.map(cells).collect()
    }
}

/// What the audit log holds of an action: how many customers it was about.
async fn audited(base: &Base, action: &str) -> i64 {
    sqlx::query_scalar("select count(distinct customer_id) from customer360.audit_log where action = $1")
        .bind(action)
        .fetch_one(&base.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_operator_merges_two_customers_with_a_preview_and_undoes_it() {
    let base = Base::new().await;
    let _consolidating = Consolidating::beside(&base);
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "state": "NH"})).await;
    let bob = base.customer("bob@x.example", json!({"name": "Bob", "phone": "1"})).await;
    base.order(bob, "7", Some("2026-11-03T10:00:00Z"), "p1").await;
    base.run("update customer360.orders set customer_external_id = 'bob@x.example', system = 'home_delivery'").await;
    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    let page = format!("/customers/{ann}");
    let merge = browser.get(&page).await.leads("/decide/merge").remove(0);
    assert!(browser.get(&merge).await.body.contains("The other customer"));
    for (with, said) in [("nobody@x.example", "No customer is known"), ("ann@x.example", "merged with himself")] {
        let refused = browser.get(&format!("{merge}?with={with}")).await;
        assert!(refused.status == 422 && refused.body.contains(said) && refused.body.contains(with), "{refused:?}");
    }
    let named = browser.get(&format!("{merge}?with=Bob+%3CBob@X.example%3E")).await;
    assert!(
        named.foreseen("Phone").contains(&("–".to_owned(), "<b>1</b>".to_owned())),
        "with a name before it: {named:?}"
    );
    let preview = browser.get(&format!("{merge}?with=%20Bob@X.example")).await;
    assert!(preview.body.contains("<h1>Merge bob@x.example into Ann?</h1>"), "{preview:?}");
    assert!(preview.body.contains("<h2>Bob, bob@x.example</h2>"), "{preview:?}");
    assert!(preview.body.contains("3 stay as they are"), "{preview:?}");
    let ids = ["home_delivery ann@x.example", "<b>home_delivery ann@x.example, home_delivery bob@x.example</b>"];
    let changes = preview.foreseen("Cross-references");
    assert!(changes.contains(&(ids[0].to_owned(), ids[1].to_owned())), "{changes:?}");
    assert!(changes.contains(&("home_delivery bob@x.example".to_owned(), "<b>–</b>".to_owned())), "{changes:?}");
    assert!(preview.foreseen("Phone").contains(&("–".to_owned(), "<b>1</b>".to_owned())), "{preview:?}");
    assert!(preview.foreseen("Orders").contains(&("0".to_owned(), "<b>1</b>".to_owned())), "{preview:?}");
    assert!(preview.foreseen("State").contains(&("NH".to_owned(), "NH".to_owned())), "{preview:?}");
    eventually("previews are noted", async || audited(&base, "preview_decision").await >= 2).await;
    let decisions: i64 =
        sqlx::query_scalar("select count(*) from customer360.decisions").fetch_one(&base.pool).await.unwrap();
    assert_eq!(decisions, 0, "a preview decides nothing");

    let merged = browser.submit(&preview, &[]).await;
    let shown = browser.follow(&merged, |shown| shown.body.contains("Order 7")).await;
    assert!(
        shown.body.contains("Merged bob@x.example into this customer.") && shown.body.contains("Order 7"),
        "{shown:?}"
    );
    assert!(shown.body.contains("Merged with bob@x.example") && shown.body.contains("By operator "), "{shown:?}");
    assert!(shown.body.contains("bob@x.example merged into ann@x.example"), "{shown:?}");
    let undo = shown.leads("/decide/undo?decision=");
    assert_eq!(undo.len(), 3, "in the flash, on the timeline and among the decisions: {undo:?}");
    assert_eq!(audited(&base, "merge_customers").await, 2);
    assert_eq!(browser.get(&format!("/customers/{bob}")).await.location(), page);
    let again = browser.get(&format!("{merge}?with=bob@x.example")).await;
    assert!(again.body.contains("It is so already.") && !again.content().contains("method=\"post\""), "{again:?}");

    let preview = browser.get(&undo[0]).await;
    assert!(preview.body.contains("<b>bob@x.example merged into ann@x.example</b>"), "{preview:?}");
    assert!(preview.body.contains("appears") && preview.body.contains("Undo this decision?"), "{preview:?}");
    let undone = browser.submit(&preview, &[]).await;
    let shown = browser.follow(&undone, |shown| !shown.body.contains("Order 7")).await;
    assert!(shown.body.contains("Decision undone.") && !shown.body.contains("Order 7"), "{shown:?}");
    assert!(shown.leads("/decide/undo").is_empty(), "{shown:?}");
    assert!(browser.get(&format!("/customers/{bob}")).await.body.contains("<h1>Bob</h1>"));
    assert_eq!(audited(&base, "undo_decision").await, 2);
}

#[tokio::test]
async fn a_cross_reference_is_split_off_an_email_blocked_and_what_is_held_back_let_in() {
    let base = Base::new().await;
    let _consolidating = Consolidating::beside(&base);
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    base.xref(ann, "loyalty", "27", json!({"name": "Anna", "phone": "27"})).await;
    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    let page = format!("/customers/{ann}");
    let split = browser.get(&page).await.leads("/decide/split").remove(0);
    let choose = browser.get(&split).await;
    assert!(choose.body.contains("value=\"loyalty:27\" required"), "{choose:?}");
    base.customer("bob@x.example", json!({"name": "Bob"})).await;
    let foreign = browser.get(&format!("{split}?xref=home_delivery:bob@x.example")).await;
    let is_asked = foreign.status == 200 && foreign.body.contains("Which cross-reference");
    assert!(is_asked && foreign.foreseen("Name").is_empty(), "one of another customer is none to choose: {foreign:?}");
    let preview = browser.get(&format!("{split}?xref=loyalty:27")).await;
    assert!(preview.foreseen("Name").contains(&("–".to_owned(), "<b>Anna</b>".to_owned())), "{preview:?}");
    let done = browser.submit(&preview, &[]).await;
    let shown = browser.follow(&done, |shown| shown.leads("/decide/split").is_empty()).await;
    assert!(
        shown.body.contains("Cross-reference split off.") && shown.body.contains("loyalty 27 split off"),
        "{shown:?}"
    );
    assert!(shown.leads("/decide/split").is_empty(), "there is nothing left to split off");

    let alone: Uuid =
        sqlx::query_scalar("select customer_id from customer360.customers where match_key = '#loyalty:27'")
            .fetch_one(&base.pool)
            .await
            .unwrap();
    let alone = browser.get(&format!("/customers/{alone}")).await;
    assert!(alone.body.contains("<h1>Anna</h1>") && !alone.leads("/decide/undo").is_empty(), "{alone:?}");
    assert!(alone.leads("/decide/block").is_empty(), "the email is somebody else's: {alone:?}");

    let block = shown.leads("/decide/block").remove(0);
    let preview = browser.get(&block).await;
    let done = browser.submit(&preview, &[]).await;
    let shown = browser.follow(&done, |shown| shown.body.contains("No system knows this customer")).await;
    assert!(shown.body.contains("Email blocked.") && shown.body.contains("No system knows this customer"), "{shown:?}");
    assert!(shown.body.contains("Unblock…") && shown.leads("/decide/merge").is_empty(), "{shown:?}");
    let unblock = shown.leads("/decide/undo").pop().unwrap();
    let preview = browser.get(&unblock).await;
    let done = browser.submit(&preview, &[]).await;
    let shown = browser.follow(&done, |shown| shown.body.contains("<h1>Ann</h1>")).await;
    assert!(shown.body.contains("<h1>Ann</h1>"), "{shown:?}");

    for id in ["1", "2", "3"] {
        base.xref(ann, "online_store", id, json!({"phone": id})).await;
    }
    base.run(
        "insert into customer360.dirty_marks (match_keys, cause, marked_at) values ('{ann@x.example}', 'test', now())",
    )
    .await;
    let look = async || browser.get(&page).await;
    let shown = look_until("it can be allowed", look, |shown| !shown.leads("/decide/allow").is_empty()).await;
    assert!(shown.body.contains("3 cross-references of online_store held back: too many"), "{shown:?}");
    let allow = shown.leads("/decide/allow").pop().unwrap();
    let preview = browser.get(&allow).await;
    assert!(preview.foreseen("Cross-references")[0].1.contains("online_store 3"), "{preview:?}");
    let done = browser.submit(&preview, &[]).await;
    let shown = browser.follow(&done, |shown| shown.leads("/decide/allow").is_empty()).await;
    assert!(shown.body.contains("All are let in.") && shown.leads("/decide/allow").is_empty(), "{shown:?}");
    for (action, customers) in
        [("split_customer", 2), ("block_customer", 1), ("undo_decision", 1), ("allow_customer", 1)]
    {
        assert_eq!(audited(&base, action).await, customers, "{action}");
    }
}

#[tokio::test]
async fn somebody_of_whom_all_is_held_back_is_let_in() {
    let base = Base::new().await;
    let _consolidating = Consolidating::beside(&base);
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    for id in ["1", "2"] {
        base.xref(ann, "home_delivery", id, json!({"name": "Ann"})).await;
    }
    base.run(
        "insert into customer360.dirty_marks (match_keys, cause, marked_at) values ('{ann@x.example}', 'test', now())",
    )
    .await;
    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    let page = format!("/customers/{ann}");
    // The page is made of several statements: a fold may come between two of them.
    let is_whole = |shown: &Answer| {
        shown.body.contains("All cross-references are held back") && !shown.leads("/decide/allow").is_empty()
    };
    let shown = look_until("it can be allowed", async || browser.get(&page).await, is_whole).await;
    let allow = shown.leads("/decide/allow").pop().unwrap();
    let preview = browser.get(&allow).await;
    let done = browser.submit(&preview, &[]).await;
    let shown = browser.follow(&done, |shown| shown.body.contains("<h1>Ann</h1>")).await;
    assert!(shown.body.contains("All are let in.") && shown.body.contains("<h1>Ann</h1>"), "{shown:?}");
}

#[tokio::test]
async fn whoever_erases_types_the_email_and_gets_a_receipt() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let bob = base.customer("bob@x.example", json!({"name": "Bob"})).await;
    base.order(ann, "7", Some("2026-11-03T10:00:00Z"), "p1").await;
    base.note(ann, "called", "2026-11-05T10:00:00Z").await;
    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    let erase = browser.get(&format!("/customers/{ann}")).await.leads("/decide/erase").remove(0);
    let preview = browser.get(&erase).await;
    assert!(
        preview.body.contains("1 cross-reference, 1 order, 1 note or other entry and all history go"),
        "{preview:?}"
    );
    for typed in ["", "bob@x.example", &bob.to_string()] {
        let refused = browser.fill(&erase, &erase, &[("typed", typed)]).await;
        assert!(refused.status == 422 && refused.body.contains("Nothing is erased"), "{refused:?}");
    }
    let left = async || -> i64 {
        let left = sqlx::query_scalar("select count(*) from customer360.xrefs where email = 'ann@x.example'");
        left.fetch_one(&base.pool).await.unwrap()
    };
    assert_eq!(left().await, 1);
    let erased = browser.fill(&erase, &erase, &[("typed", " Ann@X.example ")]).await;
    assert!(erased.status == 200 && erased.body.contains("<h1>Erased</h1>"), "{erased:?}");
    assert!(erased.body.contains("customer360.xrefs") && !erased.body.contains("ann@x.example"), "{erased:?}");
    assert_eq!(left().await, 0);
    assert_eq!(browser.get(&format!("/customers/{ann}")).await.status, 404);
    assert_eq!(audited(&base, "erase_customer").await, 1);
}

#[tokio::test]
async fn an_erasure_that_nobody_waits_for_any_more_is_done_all_the_same() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    let erase = format!("/customers/{ann}/decide/erase");
    let token = browser.get(&erase).await.token();
    let mut holder = base.pool.begin().await.unwrap();
    sqlx::query("lock table customer360.entries in share row exclusive mode").execute(&mut *holder).await.unwrap();
    let waits = "select count(*) from pg_locks where not granted and relation = 'customer360.entries'::regclass";
    let fields = [("token", token.as_str()), ("typed", "ann@x.example")];
    tokio::select! {
        answer = browser.post(&erase, &fields) => panic!("{answer:?}"),
        () = until(&base.pool, waits, 1) => {}
    }
    holder.rollback().await.unwrap();
    eventually("it is done", async || audited(&base, "erase_customer").await != 0).await;
}

#[tokio::test]
async fn nobody_but_operators_who_see_everybody_decides() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "state": "NH"})).await;
    let bob = base.customer("bob@x.example", json!({"name": "Bob", "state": "NH"})).await;
    base.xref(ann, "loyalty", "27", json!({})).await;
    let page = format!("/customers/{ann}");
    let with = bob.to_string();
    for (role, only) in [(Role::Viewer, None), (Role::Agent, None), (Role::Operator, Some("state in ('NH')"))] {
        let mut browser = Browser::signed_in(&base, role, only).await;
        let shown = browser.get(&page).await;
        assert!(shown.status == 200 && shown.leads("/decide/").is_empty(), "{role}: {shown:?}");
        for what in ["merge", "split", "block", "allow", "undo", "erase"] {
            let path = format!("{page}/decide/{what}");
            assert_eq!(browser.get(&format!("{path}?with={bob}&decision=1")).await.status, 403, "{role} {what}");
            let fields =
                [("with", with.as_str()), ("xref", "loyalty:27"), ("decision", "1"), ("typed", "ann@x.example")];
            assert_eq!(browser.fill(&page, &path, &fields).await.status, 403, "{role} {what}");
        }
    }
    let mut operator = Browser::signed_in(&base, Role::Operator, None).await;
    for what in ["merge", "block", "erase"] {
        let path = format!("{page}/decide/{what}");
        assert_eq!(operator.post(&path, &[("with", &with), ("typed", "ann@x.example")]).await.status, 403, "no token");
    }
    assert_eq!(operator.get(&format!("{page}/decide/marry")).await.status, 400);
    assert_eq!(operator.get(&format!("/customers/{}/decide/block", Uuid::new_v4())).await.status, 404);
    let kept: (i64, i64) = sqlx::query_as(
        "select (select count(*) from customer360.decisions), (select count(*) from customer360.customers)",
    )
    .fetch_one(&base.pool)
    .await
    .unwrap();
    assert_eq!(kept, (0, 2));
}

#[tokio::test]
async fn where_nobody_consolidates_a_decision_holds_and_the_page_says_so() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    let preview = browser.get(&format!("/customers/{ann}/decide/block")).await;
    let done = browser.submit(&preview, &[]).await;
    let shown = browser.get(done.location()).await;
    assert!(shown.body.contains("Email blocked. The profile follows as soon as somebody consolidates."), "{shown:?}");
}

#[tokio::test]
async fn an_agent_edits_a_profile_and_takes_an_edit_back() {
    let base = Base::new().await;
    let _consolidating = Consolidating::beside(&base);
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "state": "NH", "loyaltyPoints": 47})).await;
    let mut browser = Browser::signed_in(&base, Role::Agent, Some("state in ('NH')")).await;
    let page = format!("/customers/{ann}");
    let edit = browser.get(&page).await.leads("/profile/edit").remove(0);
    let form = browser.get(&edit).await;
    let nothing = browser.submit(&form, &[]).await;
    assert_eq!(nothing.location(), page, "nothing was touched");
    let touched = [("value:name", "Annie"), ("value:loyaltyPoints", "48"), ("value:city", "Keene")];
    let edited = browser.submit(&form, &touched).await;
    assert!(edited.location().starts_with(&format!("{page}?did=edited")), "{edited:?}");
    let shown = browser.follow(&edited, |shown| shown.body.contains("<h1>Annie</h1>")).await;
    assert!(shown.body.contains("Profile edited.") && shown.body.contains("<h1>Annie</h1>"), "{shown:?}");
    assert!(
        shown.body.contains("Edited by agent ") && shown.body.contains("An edit stands in its place."),
        "{shown:?}"
    );
    let written: serde_json::Value =
        sqlx::query_scalar("select jsonb_object_agg(attribute, value) from customer360.edits")
            .fetch_one(&base.pool)
            .await
            .unwrap();
    assert_eq!(written, json!({"name": "Annie", "loyaltyPoints": 48, "city": "Keene"}), "only what was touched");

    let late = browser.submit(&form, &[("value:phone", "1"), ("value:name", "Anna")]).await;
    assert!(late.status == 409 && late.body.contains("has changed since you opened it"), "{late:?}");
    assert!(
        late.body.contains("value=\"Annie\"") && late.body.contains("name=\"value:phone\" value=\"1\""),
        "{late:?}"
    );
    assert_eq!(late.body.matches("The profile says Annie by now.").count(), 1, "{late:?}");
    let form = browser.get(&edit).await;
    assert!(
        form.body.contains("home_delivery ann@x.example says Ann.") && form.body.contains("says nothing."),
        "{form:?}"
    );
    let long = "x".repeat(2001);
    let refused = browser.submit(&form, &[("value:name", &long)]).await;
    assert!(refused.status == 422 && refused.body.contains("Write text of at most 2000 characters"), "{refused:?}");
    let back = browser.submit(&form, &[("back:name", "1")]).await;
    let shown = browser.follow(&back, |shown| shown.body.contains("<h1>Ann</h1>")).await;
    assert!(shown.body.contains("<h1>Ann</h1>") && shown.body.contains("48"), "{shown:?}");
    assert_eq!(audited(&base, "edit_customer").await, 1);

    let mut viewer = Browser::signed_in(&base, Role::Viewer, None).await;
    assert!(viewer.get(&page).await.leads("/profile/edit").is_empty());
    assert_eq!(viewer.get(&edit).await.status, 403);
    assert_eq!(viewer.fill(&page, &edit, &[("value:name", "x")]).await.status, 403);
}

#[tokio::test]
async fn a_value_of_several_lines_is_edited_as_such_and_stays_as_it_is_untouched() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "address1": "1 Elm\nSuite 2"})).await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let edit = format!("/customers/{ann}/profile/edit");
    let form = browser.get(&edit).await;
    assert!(form.body.contains("1 Elm\nSuite 2</textarea>"), "{form:?}");
    let sent = |address| [("was:address1", "1 Elm\r\nSuite 2"), ("value:address1", address), ("value:city", "Keene")];
    let written = async || -> serde_json::Value {
        sqlx::query_scalar("select jsonb_object_agg(attribute, value) from customer360.edits")
            .fetch_one(&base.pool)
            .await
            .unwrap()
    };
    assert_eq!(browser.submit(&form, &sent("1 Elm\r\nSuite 2")).await.status, 303);
    assert_eq!(written().await, json!({"city": "Keene"}));
    base.run("delete from customer360.dirty_marks").await;
    assert_eq!(browser.submit(&form, &sent("1 Elm\r\nSuite 3")).await.status, 303);
    assert_eq!(written().await, json!({"city": "Keene", "address1": "1 Elm\nSuite 3"}));
}

#[tokio::test]
async fn a_form_of_somebody_who_was_merged_meanwhile_writes_over_nobody() {
    let base = Base::new().await;
    let old = base.customer("old@x.example", json!({"name": "Old"})).await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let form = browser.get(&format!("/customers/{old}/profile/edit")).await;
    base.merged(old, ann).await;
    let there = format!("/customers/{ann}/profile/edit");
    let led = browser.submit(&form, &[("value:name", "New")]).await;
    assert_eq!((led.status, led.location()), (307, there.as_str()));
    let fields = ["token", "customer", "version"].map(|name| (name, form.field(name)));
    let fields = fields.iter().map(|(name, value)| (*name, value.as_str())).chain([("value:name", "New")]);
    let late = browser.post(&there, &fields.collect::<Vec<_>>()).await;
    assert!(late.status == 409 && late.body.contains("value=\"New\"") && late.body.contains("Edit Ann"), "{late:?}");
}
