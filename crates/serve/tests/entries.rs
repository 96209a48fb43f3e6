//! What people write down on customers, and lists of customers.

use embedded_postgres::test::{look_until, until_waiting};
use serde_json::{Value, json};
use serve::keys::Role;

use crate::support::base::Base;
use crate::support::browser::Browser;

#[tokio::test]
async fn a_note_is_added_changed_removed_and_each_of_it_undone() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let notes = format!("/customers/{ann}/notes");
    let added = base.server.request(&key, &format!("POST {notes}"), "", r#"{"text": "one"}"#).await;
    assert_eq!(added.status, 201, "{added:?}");
    assert!(added.head.contains("etag: \"1\""), "{}", added.head);
    let note = format!("{notes}/{}", added.json()["entry_id"].as_str().unwrap());
    assert!(added.head.contains(&format!("location: /api/v1{note}")), "{}", added.head);

    let changed = base.server.request(&key, &format!("PUT {note}"), "if-match: \"1\"\r\n", r#"{"text": "two"}"#).await;
    assert_eq!((changed.status, &changed.json()["content"]), (200, &json!({"text": "two"})));
    let late = base.server.request(&key, &format!("PUT {note}"), "if-match: \"1\"\r\n", r#"{"text": "three"}"#).await;
    assert_eq!(late.status, 412, "{late:?}");
    assert_eq!(base.server.request(&key, &format!("DELETE {note}"), "", "").await.status, 204);
    assert_eq!(base.server.request(&key, &format!("DELETE {note}"), "", "").await.status, 404);
    let timeline = base.server.ask(&key, &format!("/customers/{ann}/timeline?type=note")).await.json();
    assert_eq!(timeline["items"], json!([]));

    let undo = async |of: &str, version: u64| {
        let header = format!("if-match: \"{version}\"\r\n");
        base.server.request(&key, &format!("POST {of}/undo"), &header, "").await
    };
    let back = undo(&note, 3).await.json();
    assert_eq!((&back["content"], &back["deleted_at"]), (&json!({"text": "two"}), &Value::Null));
    assert_eq!(undo(&note, 3).await.status, 412, "sent again it does nothing");
    let removed_again = undo(&note, 4).await.json();
    assert!(removed_again["deleted_at"].is_string(), "undoing is undone, too: {removed_again}");
    let entry = base.server.ask(&key, &note).await.json();
    let versions: Vec<&Value> =
        entry["history"].as_array().unwrap().iter().map(|was| &was["content"]["text"]).collect();
    assert_eq!(versions, ["one", "two", "two", "two"]);
    assert_eq!(entry["version"], 5);
    let other = base.server.request(&key, &format!("POST {notes}"), "", r#"{"text": "three"}"#).await.json();
    let other = format!("{notes}/{}", other["entry_id"].as_str().unwrap());
    base.server.request(&key, &format!("PUT {other}"), "", r#"{"text": "four"}"#).await;
    let back = undo(&other, 2).await.json();
    assert_eq!(back["content"], json!({"text": "three"}));
}

#[tokio::test]
async fn however_often_an_entry_is_changed_its_history_stays_short() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let notes = format!("/customers/{ann}/notes");
    let add = async || {
        let body = r#"{"text": "1"}"#;
        base.server.request(&key, &format!("POST {notes}"), "idempotency-key: a\r\n", body).await.json()
    };
    let note = format!("{notes}/{}", add().await["entry_id"].as_str().unwrap());
    for version in 2..=60 {
        let body = json!({"text": version.to_string()}).to_string();
        assert_eq!(base.server.request(&key, &format!("PUT {note}"), "", &body).await.status, 200);
    }
    let history = base.server.ask(&key, &note).await.json()["history"].clone();
    let versions: Vec<i64> = history.as_array().unwrap().iter().map(|was| was["version"].as_i64().unwrap()).collect();
    assert_eq!(versions, [1].into_iter().chain(10..60).collect::<Vec<_>>());
    assert_eq!(add().await["content"]["text"], "60", "it is still the entry of this Idempotency-Key");
    let undone = base.server.request(&key, &format!("POST {note}/undo"), "", "").await.json();
    assert_eq!((&undone["content"]["text"], &undone["version"]), (&json!("59"), &json!(61)));
}

#[tokio::test]
async fn nothing_is_written_on_somebody_who_is_being_erased() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    assert_eq!(base.server.request(&key, "PUT /lists/mine", "", "").await.status, 204);
    let mut erasing = base.pool.begin().await.unwrap();
    let erase = "delete from customer360.customers where customer_id = $1";
    sqlx::query(erase).bind(ann).execute(&mut *erasing).await.unwrap();
    let note = format!("POST /customers/{ann}/notes");
    let note = base.server.request(&key, &note, "", r#"{"text": "one"}"#);
    let put = format!("PUT /lists/mine/customers/{ann}");
    let put = base.server.request(&key, &put, "", "");
    let erased = async {
        until_waiting(&base.pool, 2).await;
        erasing.commit().await.unwrap();
    };
    let (note, put, ()) = tokio::join!(note, put, erased);
    assert_eq!((note.status, put.status), (404, 404), "{note:?} {put:?}");
    let left = "select (select count(*) from customer360.entries) + (select count(*) from customer360.list_members)";
    assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&base.pool).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_written_down_while_somebody_is_erased_is_not_written_over() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let notes = format!("/customers/{ann}/notes");
    let note = base.server.request(&key, &format!("POST {notes}"), "", r#"{"text": "of bob@x.example"}"#).await.json();
    let put = format!("PUT {notes}/{}", note["entry_id"].as_str().unwrap());
    assert_eq!(browser.fill("/customers", "/views", &[("name", "a"), ("query", "q=bob")]).await.status, 303);

    let mut erasing = base.pool.begin().await.unwrap();
    staging::erased::hold_alone(&mut erasing).await.unwrap();
    let put = base.server.request(&key, &put, "", r#"{"text": "of nobody"}"#);
    let save = browser.fill("/customers", "/views", &[("name", "a"), ("query", "q=ann"), ("replace", "yes")]);
    let erased = async {
        until_waiting(&base.pool, 2).await;
        // What it has read before.
        for sql in [
            r#"update customer360.entries set content = '{"text": "of [erased]"}'"#,
            r#"update customer360.views set query = '[["q", "[erased]"]]'"#,
        ] {
            sqlx::query(sql).execute(&mut *erasing).await.unwrap();
        }
        erasing.commit().await.unwrap();
    };
    let (changed, saved, ()) = tokio::join!(put, save, erased);
    assert_eq!((changed.status, saved.status), (200, 303), "{changed:?} {saved:?}");
    assert_eq!(changed.json()["content"], json!({"text": "of nobody"}));
    assert_eq!(changed.json()["history"][0]["content"], json!({"text": "of [erased]"}), "what it was by then");
    let view: Value = sqlx::query_scalar("select query from customer360.views").fetch_one(&base.pool).await.unwrap();
    assert_eq!(view, json!([["q", "ann"]]));
}

#[tokio::test]
async fn an_undoing_that_is_sent_again_with_its_idempotency_key_does_nothing() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let notes = format!("/customers/{ann}/notes");
    let note = base.server.request(&key, &format!("POST {notes}"), "", r#"{"text": "one"}"#).await.json();
    let note = format!("{notes}/{}", note["entry_id"].as_str().unwrap());
    let change = async |text: &str| {
        let body = json!({"text": text}).to_string();
        assert_eq!(base.server.request(&key, &format!("PUT {note}"), "", &body).await.status, 200);
    };
    let undo = async |headers: &str| base.server.request(&key, &format!("POST {note}/undo"), headers, "").await;
    change("two").await;
    for headers in ["idempotency-key: a\r\n", "idempotency-key: a\r\nif-match: \"2\"\r\n"] {
        let undone = undo(headers).await.json();
        assert_eq!((&undone["content"]["text"], &undone["version"]), (&json!("one"), &json!(3)), "{undone}");
    }
    change("three").await;
    assert_eq!(undo("idempotency-key: a\r\n").await.json()["content"]["text"], "three", "what came later stays");
    assert_eq!(undo("idempotency-key: b\r\n").await.json()["content"]["text"], "one");
    assert_eq!(undo("idempotency-key: c\r\nif-match: \"2\"\r\n").await.status, 412);
}

#[tokio::test]
async fn the_same_idempotency_key_gives_the_entry_that_is_there() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let add_to = async |named: &str, again: &str, text: &str| {
        let body = json!({"text": text}).to_string();
        let header = format!("idempotency-key: {again}\r\n");
        base.server.request(&key, &format!("POST /customers/{named}/notes"), &header, &body).await
    };
    let add = async |again: &str, text: &str| add_to("ann@x.example", again, text).await;
    let (first, second) = tokio::join!(add("a", "once"), add("a", "once"));
    assert_eq!((first.status, second.status), (201, 201), "{first:?} {second:?}");
    assert_eq!(first.json()["entry_id"], second.json()["entry_id"]);
    assert_eq!(add("a", "another").await.status, 422);
    assert_ne!(add("b", "once").await.json()["entry_id"], first.json()["entry_id"]);
    let other = base.key(Role::Agent, None).await;
    let body = r#"{"text": "once"}"#;
    let others =
        base.server.request(&other, "POST /customers/ann@x.example/notes", "idempotency-key: a\r\n", body).await;
    assert_ne!(others.json()["entry_id"], first.json()["entry_id"], "keys do not know each other's");

    let spelled = add_to(&ann.to_string(), "a", "once").await;
    assert_eq!(spelled.json()["entry_id"], first.json()["entry_id"], "however the customer is named");
    let bob = base.customer("bob@x.example", json!({"name": "Bob"})).await;
    let elsewhere = add_to("bob@x.example", "a", "another").await;
    assert_eq!((elsewhere.status, &elsewhere.json()["customer_id"]), (201, &json!(bob)), "and of nobody else");
    let note = format!("PUT /customers/{ann}/notes/{}", first.json()["entry_id"].as_str().unwrap());
    base.server.request(&key, &note, "", r#"{"text": "changed"}"#).await;
    assert_eq!(add("a", "another").await.status, 422, "also when it says something else by now");
    let again = add("a", "once").await;
    assert_eq!((again.status, &again.json()["content"]), (201, &json!({"text": "changed"})));
    let noted: i64 = sqlx::query_scalar(
        "select count(*) from customer360.audit_log where action = 'add_entry' and customer_id = $1",
    )
    .bind(ann)
    .fetch_one(&base.pool)
    .await
    .unwrap();
    assert_eq!(noted, 3, "what was written, not how often it was sent");
    // Whoever has been merged meanwhile has it already.
    base.merged(ann, bob).await;
    base.run("delete from customer360.entries where content ->> 'text' = 'another'").await;
    assert_eq!(add_to("bob@x.example", "a", "once").await.json()["entry_id"], first.json()["entry_id"]);
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_with_what_can() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let long = json!({"text": "x".repeat(20_001)}).to_string();
    for (kind, body, status, field) in [
        ("notes", "", 400, Some("body")),
        ("notes", "{", 400, Some("body")),
        ("notes", "[]", 422, Some("body")),
        ("notes", r#"{"text": " "}"#, 422, Some("text")),
        ("notes", r#"{"text": 1}"#, 422, Some("text")),
        ("notes", &long, 422, Some("text")),
        ("notes", r#"{"text": "a", "html": "b"}"#, 422, Some("html")),
        ("notes", r#"{"text": "a\u0000b"}"#, 422, Some("body")),
        ("links", r#"{"url": "javascript:alert(1)"}"#, 422, Some("url")),
        ("links", r#"{"url": "https://x.example/ a"}"#, 422, Some("url")),
        ("contacts", r#"{"label": "a"}"#, 422, Some("value")),
        ("complaint", "{}", 422, Some("body")),
        ("complaint", r#"{"a": {"b": ["\u0000"]}}"#, 422, Some("body")),
        ("sale", r#"{"a": 1}"#, 404, None),
    ] {
        let answer = base.server.request(&key, &format!("POST /customers/{ann}/{kind}"), "", body).await;
        assert_eq!((answer.status, answer.json()["errors"][0]["field"].as_str()), (status, field), "{kind} {body}");
    }
    let huge = json!({"text": "x".repeat(2 << 20)}).to_string();
    let refused = base.server.request(&key, &format!("POST /customers/{ann}/notes"), "", &huge).await;
    assert_eq!((refused.status, &refused.json()["detail"]), (413, &json!("a body has at most one mebibyte")));
    let object = r#"{"about": "Lamp", "parts": [1, {"no": "7"}]}"#;
    assert_eq!(base.server.request(&key, &format!("POST /customers/{ann}/complaint"), "", object).await.status, 201);
    let viewer = base.key(Role::Viewer, None).await;
    let refused = base.server.request(&viewer, &format!("POST /customers/{ann}/notes"), "", r#"{"text": "a"}"#).await;
    assert_eq!((refused.status, refused.json()["title"].as_str()), (403, Some("Forbidden")));
}

#[tokio::test]
async fn entries_are_written_on_who_lives_and_read_with_who_was_merged() {
    let base = Base::new().await;
    let (old, ann) =
        (base.customer("old@x.example", json!({})).await, base.customer("ann@x.example", json!({"name": "Ann"})).await);
    let key = base.key(Role::Agent, None).await;
    let what = format!("POST /customers/{old}/links");
    let before = base.server.request(&key, &what, "", r#"{"url": "https://x.example"}"#).await;
    let entry_id = before.json()["entry_id"].clone();
    base.merged(old, ann).await;
    let moved = base.server.request(&key, &format!("POST /customers/{old}/notes"), "", r#"{"text": "a"}"#).await;
    assert_eq!(moved.status, 308, "{moved:?}");
    let entry = format!("links/{}", entry_id.as_str().unwrap());
    for (method, rest, body) in [
        ("POST", "notes", r#"{"text": "a"}"#),
        ("PUT", &entry, r#"{"url": "https://x.example"}"#),
        ("DELETE", &entry, ""),
        ("POST", &format!("{entry}/undo"), ""),
        ("GET", &entry, ""),
    ] {
        let what = format!("{method} /customers/{old}/{rest}");
        let moved = base.server.request(&key, &what, "if-match: \"1\"\r\n", body).await;
        let expected = (308, format!("/api/v1/customers/{ann}/{rest}"));
        assert_eq!((moved.status, moved.location().to_owned()), expected, "{what}");
    }
    let count: i64 =
        sqlx::query_scalar("select count(*) from customer360.entries").fetch_one(&base.pool).await.unwrap();
    assert_eq!(count, 1, "nothing is written where the answer leads elsewhere");
    let link = format!("/customers/{ann}/links/{}", entry_id.as_str().unwrap());
    let changed = base.server.request(&key, &format!("PUT {link}"), "", r#"{"url": "https://y.example"}"#).await;
    assert_eq!((changed.status, &changed.json()["customer_id"]), (200, &json!(old)), "it stays where it was written");
}

#[tokio::test]
async fn a_limited_agent_writes_on_its_customers_only() {
    let base = Base::new().await;
    let nh = base.customer("nh@x.example", json!({"state": "NH"})).await;
    let me = base.customer("me@x.example", json!({"state": "ME"})).await;
    let (key, all) = (base.key(Role::Agent, Some("state in ('NH')")).await, base.key(Role::Agent, None).await);
    let body = r#"{"text": "a"}"#;
    let own = base.server.request(&key, &format!("POST /customers/{nh}/notes"), "", body).await;
    assert_eq!(own.status, 201, "{own:?}");
    let theirs = base.server.request(&all, &format!("POST /customers/{me}/notes"), "", body).await.json();
    let note = format!("/customers/{me}/notes/{}", theirs["entry_id"].as_str().unwrap());
    for what in [
        format!("POST /customers/{me}/notes"),
        format!("PUT {note}"),
        format!("DELETE {note}"),
        format!("POST {note}/undo"),
    ] {
        assert_eq!(base.server.request(&key, &what, "if-match: \"1\"\r\n", body).await.status, 404, "{what}");
    }
    let through = note.replace(&me.to_string(), &nh.to_string());
    assert_eq!(base.server.request(&key, &format!("PUT {through}"), "", body).await.status, 404);
    assert_eq!(base.server.ask(&key, &note).await.status, 404);
}

#[tokio::test]
async fn lists_are_kept_by_who_sees_everybody_and_limit_who_does_not() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    base.customer("bob@x.example", json!({"name": "Bob"})).await;
    let key = base.key(Role::Agent, None).await;
    let done = async |what: &str| base.server.request(&key, what, "", "").await.status;
    assert_eq!(done("PUT /lists/team%207").await, 422);
    assert_eq!(done("PUT /lists/team-7/customers/ann@x.example").await, 404, "there is no such list");
    assert_eq!((done("PUT /lists/team-7").await, done("PUT /lists/team-7").await), (204, 204));
    assert_eq!(done("PUT /lists/team-7/customers/nobody@x.example").await, 404);
    assert_eq!(done("PUT /lists/team-7/customers/ann@x.example").await, 204);
    assert_eq!(done("PUT /lists/team-7/customers/ann@x.example").await, 204);
    let lists = base.server.ask(&key, "/lists").await.json();
    assert_eq!(lists.get("next_cursor"), Some(&Value::Null));
    assert_eq!((&lists["items"][0]["name"], &lists["items"][0]["customers"]), (&json!("team-7"), &json!(1)));
    let page = base.server.ask(&key, "/customers?list=team-7").await.json();
    assert_eq!(page["items"][0]["customer_id"], json!(ann));
    assert_eq!(
        base.server.ask(&key, &format!("/customers/{ann}?fields=lists")).await.json(),
        json!({"lists": ["team-7"]})
    );

    let limited = base.key(Role::Operator, Some("list team-7")).await;
    assert_eq!(base.server.all_pages(&limited, "/customers", 5).await.len(), 1);
    let refused = base.server.request(&limited, "PUT /lists/team-7/customers/bob@x.example", "", "").await;
    assert_eq!(refused.status, 403, "nobody widens what it sees");
    assert_eq!(done("DELETE /lists/team-7/customers/ann@x.example").await, 204);
    assert_eq!(base.server.all_pages(&limited, "/customers", 5).await.len(), 0);
    assert_eq!(done("DELETE /lists/team-7/customers/ann@x.example").await, 204, "who is not on it is off it");
    assert_eq!(done("DELETE /lists/team-7/customers/nobody@x.example").await, 404);
    assert_eq!(done("DELETE /lists/team-8/customers/ann@x.example").await, 404);
    assert_eq!((done("DELETE /lists/team-7").await, done("DELETE /lists/team-7").await), (204, 404));
}

#[tokio::test]
async fn who_read_and_wrote_is_in_the_audit_log_and_keys_say_when_they_were_used() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    base.server.ask(&key, &format!("/customers/{ann}")).await;
    base.server.ask(&key, &format!("/customers/{ann}/timeline")).await;
    base.server.ask(&key, &format!("/interactions?customer={ann}")).await;
    base.server.ask(&key, "/customers").await;
    base.server.ask(&key, "/interactions").await;
    base.server
        .request(&key, &format!("POST /customers/{ann}/notes"), "x-request-id: mine\r\n", r#"{"text": "a"}"#)
        .await;
    base.server.request(&key, "PUT /lists/team-7", "", "").await;
    let actions = async || -> Vec<(String, bool, String)> {
        sqlx::query_as(
            "select a.action, a.customer_id is not null, a.request_id from customer360.audit_log a
             join customer360.api_keys k on k.key_id = a.key_id and k.last_used_at is not null order by a.action",
        )
        .fetch_all(&base.pool)
        .await
        .unwrap()
    };
    let noted = look_until("all is noted", actions, |noted| noted.len() >= 5).await;
    let names: Vec<(&str, bool)> = noted.iter().map(|(action, on, _)| (action.as_str(), *on)).collect();
    let of_ann = [("add_entry", true), ("get_customer", true), ("list_interactions", true), ("list_timeline", true)];
    assert_eq!(names, [of_ann.as_slice(), &[("make_list", false)]].concat());
    assert_eq!(noted[0].2, "mine");
}

#[tokio::test]
async fn the_audit_log_names_whom_a_request_led_to_and_nobody_who_was_not_shown() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "state": "NH"})).await;
    let old = base.customer("old@x.example", json!({})).await;
    let me = base.customer("me@x.example", json!({"name": "Maine", "state": "ME"})).await;
    base.merged(old, ann).await;
    let (key, limited) = (base.key(Role::Agent, None).await, base.key(Role::Viewer, Some("state in ('NH')")).await);
    let nobody = sqlx::types::Uuid::nil();
    for (key, asked) in [(&limited, me), (&key, nobody), (&limited, old), (&key, me)] {
        assert_eq!(base.server.ask(key, &format!("/interactions?customer={asked}")).await.status, 200);
    }
    for what in [
        "PUT /lists/mine".to_owned(),
        format!("PUT /lists/mine/customers/{old}"),
        format!("DELETE /lists/mine/customers/{old}"),
    ] {
        assert_eq!(base.server.request(&key, &what, "", "").await.status, 204);
    }
    // The last thing that is noted, behind the others.
    base.server.ask(&key, &format!("/customers/{me}")).await;
    let noted = async || -> Vec<(String, Option<sqlx::types::Uuid>)> {
        let sql = "select action, customer_id from customer360.audit_log order by action, at";
        sqlx::query_as(sql).fetch_all(&base.pool).await.unwrap()
    };
    let found =
        look_until("all is noted", noted, |noted| noted.iter().any(|(action, _)| action == "get_customer")).await;
    let expected = [
        ("get_customer", Some(me)),
        ("list_interactions", Some(ann)),
        ("list_interactions", Some(me)),
        ("make_list", None),
        ("put_on_list", Some(ann)),
        ("take_off_list", Some(ann)),
    ];
    assert_eq!(found, expected.map(|(action, customer)| (action.to_owned(), customer)));
}

#[tokio::test]
async fn whoever_has_an_answer_already_is_told_so() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let path = format!("GET /customers/{ann}");
    let first = base.server.request(&key, &path, "", "").await;
    let tag = first.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let sent = format!("if-none-match: \"x\", W/{tag}\r\n");
    let again = base.server.request(&key, &path, &sent, "").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    for answer in [&first, &again] {
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"), "{answer:?}");
    }
    for what in ["GET /customers/nobody@x.example", "GET /customers?limit=x", "DELETE /interactions"] {
        let refused = base.server.request(&key, what, "", "").await;
        assert_eq!(refused.header("cache-control"), Some("no-store"), "{refused:?}");
    }
    base.server.request(&key, &format!("POST /customers/{ann}/notes"), "", r#"{"text": "a"}"#).await;
    let changed = base.server.request(&key, &path, &sent, "").await;
    assert_eq!(changed.status, 200);
    assert!(!changed.head.contains(&tag));
}
