//! A key with a row filter sees its customers, and nothing of anybody else.

use serde_json::{Value, json};
use serve::keys::Role;

use crate::support::base::Base;
use crate::support::browser::Browser;

/// Two customers in New Hampshire and Vermont, one in Maine, whom nothing may show.
async fn three_states() -> std::sync::Arc<Base> {
    let base = Base::new().await;
    let nh = base.customer("nh@x.example", json!({"name": "Hampshire", "state": "NH"})).await;
    let vt = base.customer("vt@x.example", json!({"name": "Vermont", "state": "VT"})).await;
    let me = base.customer("canary@maine.example", json!({"name": "Canary Maine", "state": "ME"})).await;
    let gone = base.customer("canary.before@maine.example", json!({})).await;
    base.merged(gone, me).await;
    base.run(&format!(
        "insert into customer360.lists values ('team-7', 'ann', now()), ('canary', 'ann', now());
         insert into customer360.list_members values ('{vt}', 'team-7', now()), ('{me}', 'canary', now())"
    ))
    .await;
    for (customer, order) in [(nh, "1"), (vt, "2"), (me, "canary")] {
        base.order(customer, order, Some("2026-11-03T10:00:00Z"), "p").await;
        base.note(customer, &format!("note {order}"), "2026-11-03T10:00:00Z").await;
    }
    base.note(gone, "canary note", "2026-11-03T10:00:00Z").await;
    base.interaction(
        "m1",
        "2026-11-04T10:00:00Z",
        "Both",
        &[("nh@x.example", Some(nh)), ("canary@maine.example", Some(me))],
    )
    .await;
    base.interaction("m2", "2026-11-04T10:00:00Z", "Canary", &[("canary@maine.example", Some(me))]).await;
    base
}

#[tokio::test]
async fn nothing_of_a_third_state_is_seen_through_any_list_count_search_id_or_error() {
    let base = three_states().await;
    let key = base.key(Role::Operator, Some("state in ('NH', 'VT')")).await;
    let all = base.key(Role::Viewer, None).await;
    let (me, nh) = (base.id("canary@maine.example"), base.id("nh@x.example"));
    let gone = base.id("canary.before@maine.example");
    let paths = [
        "/customers?count=true".to_owned(),
        "/customers?sort=name&count=true".to_owned(),
        "/customers?state=ME&count=true".to_owned(),
        "/customers?q=canary&count=true".to_owned(),
        "/customers?q=canri&count=true".to_owned(),
        "/customers?q=maine.example&count=true".to_owned(),
        "/customers?system=home_delivery&count=true".to_owned(),
        format!("/customers/{me}"),
        format!("/customers/{gone}"),
        "/customers/canary@maine.example".to_owned(),
        "/customers/canary.before@maine.example".to_owned(),
        format!("/customers/{me}/timeline"),
        format!("/customers/{me}/timeline?count=true"),
        format!("/customers/{nh}"),
        format!("/customers/{nh}/timeline"),
        "/interactions?count=true".to_owned(),
        format!("/interactions?customer={me}&count=true"),
        "/interactions?thread=thread-m2&count=true".to_owned(),
        "/insights".to_owned(),
        "/lists".to_owned(),
        format!("/customers/{me}/recommendations"),
    ];
    for path in paths {
        let answer = base.server.ask(&key, &path).await;
        // That a list exists is no secret; who is on it is.
        let body = answer.body.to_lowercase().replace(r#""name":"canary""#, "");
        assert!(!body.contains("canary") && !body.contains(r#""me""#), "{path}: {answer:?}");
        assert!(!answer.body.contains(&me.to_string()) && !answer.head.contains(&me.to_string()), "{path}: {answer:?}");
        let everything = base.server.ask(&all, &path).await;
        // A search that finds nobody exactly finds others who are like it.
        if let (false, Some(seen)) = (path.contains("q="), answer_total(&answer.body)) {
            let there = answer_total(&everything.body).unwrap();
            assert!(seen < there, "{path}: {seen} of {there}");
        }
        let unseen = path.contains(&me.to_string()) || path.contains("canary") || path.contains(&gone.to_string());
        if unseen && path.starts_with("/customers/") {
            // Worded like somebody who does not exist.
            let nobody = base.server.ask(&key, "/customers/nobody@x.example").await;
            assert_eq!((answer.status, &answer.body), (404, &nobody.body), "{path}");
        }
    }
    let mut seen: Vec<Value> = base.server.all_pages(&key, "/customers?sort=email", 1).await;
    assert_eq!(seen.iter_mut().map(|item| item["email"].take()).collect::<Vec<_>>(), ["nh@x.example", "vt@x.example"]);
    let both = base.server.ask(&key, "/interactions").await.json();
    assert_eq!(both["items"][0]["participants"].as_array().unwrap().len(), 1, "only who may be seen");
}

#[tokio::test]
async fn changes_are_seen_with_whom_redirects_lead_to_and_with_nobody_else() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "state": "NH"})).await;
    let old = base.customer("old@x.example", json!({})).await;
    // Who was Ann once, and is somebody again; and who leads to nobody.
    let again = base.customer("again@x.example", json!({"name": "Canary", "state": "ME"})).await;
    let left = base.customer("left@x.example", json!({})).await;
    base.run(&format!(
        "create table customer360.changes_of_test partition of customer360.changes default;
         update customer360.customers set deleted_at = now() where customer_id in ('{old}', '{left}');
         insert into customer360.redirects
         values ('{old}', '{ann}', '2026-03-01'), ('{again}', '{ann}', '2026-03-01'), ('{left}', null, '2026-03-01');
         insert into customer360.changes (customer_id, at, attribute, old, new, system, cause)
         values ('{ann}', '2026-01-03', 'city', null, '\"Rye\"', 'loyalty', 'record'),
                ('{old}', '2026-01-04', 'name', null, '\"Ann\"', 'loyalty', 'record'),
                ('{old}', '2026-01-02', 'name', null, '\"An\"', 'loyalty', 'record'),
                ('{again}', '2026-01-02', 'name', null, '\"Canary\"', 'loyalty', 'record'),
                ('{left}', '2026-01-02', 'name', null, '\"Canary\"', 'loyalty', 'record')"
    ))
    .await;
    let path = format!("/customers/{ann}/timeline?type=change");
    for (only, limit) in [(None, 1), (None, 50), (Some("state in ('NH')"), 1), (Some("state in ('NH')"), 50)] {
        let key = base.key(Role::Viewer, only).await;
        let items = base.server.all_pages(&key, &path, limit).await;
        let new: Vec<&Value> = items.iter().map(|item| &item["content"]["new"]).collect();
        assert_eq!(new, [&Value::Null, &json!("Ann"), &json!("Rye"), &json!("An")], "{only:?} {limit}");
        let counted = base.server.ask(&key, &format!("{path}&count=true")).await.json();
        assert_eq!(counted["total"], 4, "{only:?}");
        let page = Browser::signed_in(&base, Role::Viewer, only).await.get(&format!("/customers/{ann}")).await;
        let tab = r#"Changes <span class="count">4</span>"#;
        assert!(page.body.contains(tab), "{page:?}");
    }
    // The role, whatever it is asked: nothing of whom the filter does not let through.
    let mut connection = staging::connect(&base.options.clone().options([("role", "c360_limited")])).await.unwrap();
    let filter = "select set_config('c360.filter_lists', '{}', false), set_config('c360.filter_profiles', $1, false)";
    for (profiles, seen) in [(r#"{"{\"state\": \"NH\"}"}"#, 3), (r#"{"{\"state\": \"ME\"}"}"#, 1)] {
        sqlx::query(filter).bind(profiles).execute(&mut connection).await.unwrap();
        let count = sqlx::query_scalar::<_, i64>("select count(*) from customer360.changes");
        assert_eq!(count.fetch_one(&mut connection).await.unwrap(), seen, "{profiles}");
    }
}

fn answer_total(body: &str) -> Option<i64> {
    serde_json::from_str::<Value>(body).unwrap()["total"].as_i64()
}

#[tokio::test]
async fn a_list_and_attributes_have_to_hold_together() {
    let base = three_states().await;
    for (only, seen) in [
        ("list team-7", "vt@x.example"),
        ("list team-7 and state in ('NH')", ""),
        ("list team-7 and state in ('VT')", "vt@x.example"),
        ("list team-7 and list canary", ""),
    ] {
        let key = base.key(Role::Viewer, Some(only)).await;
        for path in ["/customers", "/customers?q=example"] {
            let items = base.server.all_pages(&key, path, 50).await;
            let emails: Vec<&str> = items.iter().map(|item| item["email"].as_str().unwrap()).collect();
            assert_eq!(emails.join(" "), seen, "{only} {path}");
        }
    }
}

/// What was mapped once stays in profiles, and is not what a customer is any more.
#[tokio::test]
async fn a_filter_by_an_attribute_that_no_source_maps_lets_nobody_through() {
    let base = three_states().await;
    base.customer("x@x.example", json!({"segment": "x", "state": "NH"})).await;
    let key = base.key(Role::Viewer, Some("segment in ('x') and state in ('NH')")).await;
    for path in ["/customers?count=true", "/customers?q=example&count=true", "/interactions?count=true"] {
        let page = base.server.ask(&key, path).await.json();
        assert_eq!((&page["items"], &page["total"]), (&json!([]), &json!(0)), "{path}");
    }
    assert_eq!(base.server.ask(&key, "/customers/x@x.example").await.status, 404);
}

/// The role, whatever statement it is given: policies hold, credentials and search texts are not its.
#[tokio::test]
async fn the_role_of_row_filters_sees_nothing_without_one_and_never_a_credential() {
    let base = three_states().await;
    let mut connection = staging::connect(&base.options.clone().options([("role", "c360_limited")])).await.unwrap();
    let tables = [
        "customers",
        "orders",
        "order_lines",
        "interactions",
        "interaction_participants",
        "changes",
        "redirects",
        "entries",
        "customer_search",
        "buyers",
        "measured",
    ];
    for (lists, profiles) in
        [("", ""), ("", "{}"), ("{}", "{}"), ("{nobody}", ""), ("{}", r#"{"{\"state\": \"XX\"}"}"#)]
    {
        sqlx::query("select set_config('c360.filter_lists', $1, false), set_config('c360.filter_profiles', $2, false)")
            .bind(lists)
            .bind(profiles)
            .execute(&mut connection)
            .await
            .unwrap();
        for table in tables {
            let sql = format!("select count(*) from customer360.{table}");
            let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
            assert_eq!(count, 0, "{table} under {lists:?}, {profiles:?}");
        }
    }
    for refused in [
        "select credential from customer360.xrefs",
        "select search from customer360.customer_search",
        "select * from customer360.documents",
        "select * from customer360.api_keys",
        "select * from customer360.audit_log",
        "select * from customer360.decisions",
        "select * from staging.records",
        "update customer360.customers set email = null",
    ] {
        let error = sqlx::query(refused).execute(&mut connection).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("42501"), "{refused}");
    }
}
