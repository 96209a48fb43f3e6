//! The dashboard as a browser without JavaScript has it.

use chrono::{TimeDelta, Utc};
use embedded_postgres::test::{eventually, look_until};
use secrecy::ExposeSecret as _;
use serde_json::json;
use serve::keys::{self, NewKey, Role};
use uuid::Uuid;

use crate::support::Answer;
use crate::support::base::Base;
use crate::support::browser::Browser;

#[tokio::test]
async fn whoever_has_not_signed_in_does_that_first_and_comes_back() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let mut browser = Browser::new(&base.server);
    assert_eq!(browser.get("/").await.location(), "/customers");
    let asked = browser.get("/customers?q=a%20b").await;
    assert_eq!((asked.status, asked.location()), (303, "/sign-in?next=%2Fcustomers%3Fq%3Da%2520b"));
    let posted = browser.post(&format!("/customers/{ann}/notes"), &[("text", "a")]).await;
    assert_eq!(posted.location(), format!("/sign-in?next=%2Fcustomers%2F{ann}"));
    for (form, page) in [
        ("/customers", "customers"),
        ("/views", "customers"),
        ("/views/remove", "customers"),
        ("/theme", "customers"),
        ("/sign-out", "customers"),
        ("/lists", "lists"),
        ("/lists/remove", "lists"),
        ("/operations/dead-letters/retry", "operations"),
    ] {
        let posted = browser.post(form, &[]).await;
        assert_eq!(posted.location(), format!("/sign-in?next=%2F{page}"), "{form}");
    }
    // A link on another site brings no cookie: the page asks for itself once more, and nobody is signed out.
    browser.headers = "sec-fetch-site: cross-site\r\n";
    let linked = browser.get("/customers").await;
    assert!(linked.status == 200 && linked.body.contains("http-equiv=\"refresh\""), "{linked:?}");
    browser.headers = "";

    let key = base.key(Role::Viewer, None).await;
    for elsewhere in ["https://x.example", "//x.example", "/\\x.example", "javascript:alert(1)"] {
        let answer = Browser::new(&base.server).sign_in(&key, elsewhere).await;
        assert_eq!(answer.location(), "/customers", "{elsewhere}");
    }
    assert_eq!(browser.sign_in(&key, "/customers/ann@x.example").await.location(), "/customers/ann@x.example");
    assert!(browser.get("/customers/ann@x.example").await.body.contains("<h1>Ann</h1>"));
    let out = browser.fill("/customers", "/sign-out", &[]).await;
    assert_eq!((out.status, out.location()), (303, "/sign-in"));
    assert_eq!(browser.get("/customers").await.status, 303);
}

#[tokio::test]
async fn a_cookie_holds_no_key_and_ends_with_the_key() {
    let base = Base::new().await;
    let mut connection = staging::connect(&base.options).await.unwrap();
    let new = |name: &str, hours| NewKey {
        name: name.to_owned(),
        role: Role::Viewer,
        only: None,
        expires_at: Some(Utc::now() + TimeDelta::hours(hours)),
    };
    let (key, secret) = keys::add(&mut connection, &new("ann", 1), Utc::now()).await.unwrap();
    let (_, expired) = keys::add(&mut connection, &new("expired", -1), Utc::now()).await.unwrap();
    let mut browser = Browser::new(&base.server);
    let wrong = browser.sign_in(&format!("{}x", secret.expose_secret()), "/").await;
    assert!(wrong.status == 403 && wrong.body.contains("This key is not valid"), "{wrong:?}");
    let expired = browser.sign_in(expired.expose_secret(), "/").await;
    assert!(expired.status == 403 && expired.body.contains("This key has expired"), "{expired:?}");
    assert!(browser.cookie("c360_session").is_none());

    let answer = browser.sign_in(secret.expose_secret(), "/").await;
    let set = answer.set_cookies().find(|set| set.starts_with("c360_session=")).unwrap();
    for part in ["; Path=/", "; Max-Age=43200", "; HttpOnly", "; SameSite=Strict"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Secure") && !set.contains(&secret.expose_secret()[13..]), "{set}");
    let mut behind_tls = Browser::new(&base.server);
    behind_tls.headers = "x-forwarded-proto: https\r\n";
    let answer = behind_tls.sign_in(secret.expose_secret(), "/").await;
    assert!(answer.set_cookies().all(|set| set.ends_with("; Secure")), "{answer:?}");

    assert_eq!(browser.get("/customers").await.status, 200);
    let mut forged = Browser::new(&base.server);
    let cookie = browser.cookie("c360_session").unwrap();
    let other = if cookie.starts_with('A') { "B" } else { "A" };
    forged.cookies.push(("c360_session".to_owned(), format!("{other}{}", &cookie[1..])));
    assert_eq!(forged.get("/customers").await.status, 303);
    // What a visitor gets before signing in opens nothing.
    let mut visitor = Browser::new(&base.server);
    visitor.get("/sign-in").await;
    let visiting = visitor.cookie("c360_visit").unwrap().to_owned();
    visitor.cookies = vec![("c360_session".to_owned(), visiting)];
    assert_eq!(visitor.get("/customers").await.status, 303);

    keys::revoke(&mut connection, &key.prefix, Utc::now()).await.unwrap();
    eventually("a revoked key shows nothing any more", async || browser.get("/customers").await.status == 303).await;
}

#[tokio::test]
async fn many_wrong_keys_are_slowed_down_and_lock_nobody_out() {
    let base = Base::new().await;
    let key = base.key(Role::Viewer, None).await;
    let mut browser = Browser::new(&base.server);
    let token = browser.get("/sign-in").await.token();
    let mut refused = 0;
    for _ in 0..25 {
        let answer = browser.post("/sign-in", &[("token", &token), ("key", "c360_guess")]).await;
        refused += usize::from(answer.status == 429);
    }
    assert!((1..=10).contains(&refused), "{refused}");
    assert_eq!(Browser::new(&base.server).sign_in(&key, "/").await.status, 303);
}

#[tokio::test]
async fn a_form_counts_only_for_whom_it_was_made() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let mut stranger = Browser::new(&base.server);
    let refused = stranger.post("/sign-in", &[("key", &key)]).await;
    assert_eq!((refused.status, stranger.cookie("c360_session")), (403, None), "no other site signs anybody in");

    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let mut other = Browser::signed_in(&base, Role::Agent, None).await;
    let page = format!("/customers/{ann}");
    let others = other.get(&page).await.token();
    let notes = format!("{page}/notes");
    for token in ["", "x", &others] {
        for path in [notes.as_str(), "/sign-out", "/theme"] {
            let refused = browser.post(path, &[("token", token), ("text", "a"), ("theme", "dark")]).await;
            assert!(refused.status == 403 && refused.body.contains("not made for you"), "{path} {refused:?}");
            assert!(refused.set_cookies().next().is_none());
        }
    }
    assert_eq!(browser.post(&notes, &[("text", "a")]).await.status, 403);
    let count: i64 =
        sqlx::query_scalar("select count(*) from customer360.entries").fetch_one(&base.pool).await.unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn pages_load_only_our_own_files_and_nobody_keeps_or_frames_them() {
    let base = Base::new().await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let page = format!("/customers/{ann}");
    for path in ["/sign-in", "/customers", &page, "/customers/nobody@x.example", "/customers?sort=x", "/customers/a"] {
        let answer = browser.get(path).await;
        let policy = answer.header("content-security-policy").unwrap_or_else(|| panic!("{path}: {answer:?}"));
        for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let said = |name| answer.header(name);
        assert_eq!((said("x-content-type-options"), said("referrer-policy")), (Some("nosniff"), Some("no-referrer")));
        assert_eq!(said("cache-control"), Some("no-store"), "{path}");
        assert!(!answer.body.contains(" style=") && !answer.body.contains("<style"), "{path}");
        assert!(!answer.body.contains("<script>") && !answer.body.contains(" onclick"), "{path}");
        assert!(answer.body.len() < 100_000);
    }
    let assets = browser.get("/customers").await.leads("/assets/");
    assert!(assets.len() >= 3, "{assets:?}");
    for asset in assets {
        let answer = Browser::new(&base.server).get(&asset).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("public, max-age=31536000, immutable")));
        assert_eq!(Browser::new(&base.server).get(&asset.replace('.', "x.")).await.status, 404);
    }
}

#[tokio::test]
async fn what_sources_and_people_write_is_text_and_nothing_else() {
    let base = Base::new().await;
    let bad = r#""><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}"#;
    let ann = base.customer("ann@x.example", json!({"name": bad, "city": bad, "phone": bad})).await;
    base.order(ann, bad, None, bad).await;
    base.interaction(bad, "2026-11-20T03:00:00Z", bad, &[("ann@x.example", Some(ann))]).await;
    base.run(&format!(
        "create table customer360.changes_of_test partition of customer360.changes default;
         insert into customer360.changes (customer_id, at, attribute, old, new, system, cause)
         values ('{ann}', now(), '<b>', '\"<i>\"', '\"<u>\"', '<s>', '<script>')"
    ))
    .await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let page = format!("/customers/{ann}");
    let markdown = "**bold** <script>alert(1)</script> [x](javascript:alert(1)) ![p](https://x.example/p.gif)";
    for (kind, fields) in [
        ("notes", vec![("text", markdown)]),
        ("contacts", vec![("value", bad), ("label", bad)]),
        ("links", vec![("url", "https://x.example/\"onmouseover=\"alert(1)"), ("title", bad)]),
        ("complaint", vec![("text", bad)]),
    ] {
        let added = browser.fill(&page, &format!("{page}/{kind}"), &fields).await;
        assert_eq!(added.status, 303, "{added:?}");
    }
    let note = browser.get(&page).await.leads("/notes/").remove(0);
    let query: String = form_urlencoded::byte_serialize(bad.as_bytes()).collect();
    let searched = format!("/customers?q={query}&city={query}");
    let wrong = format!("/customers?{query}=1");
    for path in [&page, "/customers", &searched, &wrong, &note.replace("/remove", ""), &format!("/customers/{query}")] {
        let answer = browser.get(path).await;
        assert!(answer.status < 500, "{answer:?}");
        for tag in [
            "<script>",
            "<img src=x",
            "<b>\"",
            "<i>",
            "<u>",
            "<s>",
            "javascript:alert(1)\"",
            "\"onmouseover",
            "p.gif\">\n<",
        ] {
            assert!(!answer.body.contains(tag), "{path}: {tag} in {}", answer.body);
        }
    }
    let shown = browser.get(&page).await.body;
    assert!(
        shown.contains("<strong>bold</strong> &lt;script&gt;alert(1)&lt;/script&gt; <a href=\"\">x</a>"),
        "{shown}"
    );
    let refused =
        browser.fill(&page, &format!("{page}/links"), &[("url", "javascript:alert(1)"), ("title", "a")]).await;
    assert!(refused.status == 422 && refused.body.contains("begins with https://"), "{refused:?}");
    assert!(refused.body.contains("value=\"javascript:alert(1)\"") && refused.body.contains("aria-invalid"));
}

#[tokio::test]
async fn a_note_is_added_edited_deleted_and_undone_by_forms() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let page = format!("/customers/{ann}");
    let form = browser.get(&page).await;
    let sent = [("token", form.token()), ("once", form.field("once")), ("text", "one **lamp**".to_owned())];
    let sent: Vec<(&str, &str)> = sent.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let added = browser.post(&format!("{page}/notes"), &sent).await;
    assert_eq!(added.status, 303, "{added:?}");
    let again = browser.post(&format!("{page}/notes"), &sent).await;
    assert_eq!(again.location(), added.location(), "sent twice, written once");
    let shown = browser.get(added.location()).await;
    assert!(shown.body.contains("Note added.") && shown.body.contains("one <strong>lamp</strong>"), "{shown:?}");

    let note = shown.leads("/remove").remove(0).replace("/remove", "");
    let first = browser.get(&note).await;
    assert!(first.body.contains("one **lamp**</textarea>"), "{first:?}");
    let version = first.field("version");
    let changed = browser.fill(&note, &note, &[("version", &version), ("text", "two lamps")]).await;
    assert!(browser.get(changed.location()).await.body.contains("Note changed."));
    let late = browser.fill(&note, &note, &[("version", &version), ("text", "three")]).await;
    assert_eq!(late.status, 409, "{late:?}");
    assert!(
        late.body.contains("has changed this")
            && late.body.contains("two lamps")
            && late.body.contains("three</textarea>")
    );
    let empty = browser.fill(&note, &note, &[("version", "2"), ("text", " ")]).await;
    assert!(empty.status == 422 && empty.body.contains("Write text of 1 to 20000 characters"), "{empty:?}");

    let removed = browser.fill(&page, &format!("{note}/remove"), &[("version", "2")]).await;
    let gone = browser.get(removed.location()).await;
    assert!(gone.body.contains("Note deleted.") && !gone.body.contains("two lamps"), "{gone:?}");
    assert_eq!(browser.get(&note).await.status, 404);
    let undo = gone.leads("/undo").remove(0);
    let undone = browser.post(&undo, &[("token", &gone.token()), ("version", &gone.field("version"))]).await;
    let back = browser.get(undone.location()).await;
    assert!(back.body.contains("Last change undone.") && back.body.contains("two lamps"), "{back:?}");
    // A form without a version changes nothing.
    assert_eq!(browser.fill(&page, &format!("{note}/remove"), &[]).await.status, 412);
}

#[tokio::test]
async fn an_object_of_an_application_is_edited_member_by_member_and_keeps_what_no_field_can_say() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let content = r#"{"amount": 5, "about": "a lamp", "token": "t", "of": {"order": 7}, "tags": ["a"], "none": null}"#;
    let path = format!("/customers/{ann}/complaint");
    let added = base.server.request(&key, &format!("POST {path}"), "", content).await.json();
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let entry = format!("{path}/{}", added["entry_id"].as_str().unwrap());
    assert!(browser.get(&format!("/customers/{ann}")).await.leads("/complaint/").contains(&entry));
    let form = browser.get(&entry).await;
    assert!(form.body.contains("name=\"amount\" value=\"5\"") && !form.body.contains("name=\"tags\""), "{form:?}");
    let version = form.field("version");
    let fields = [("version", version.as_str()), ("amount", "6"), ("about", ""), ("text", "Broken")];
    let changed = browser.fill(&entry, &entry, &fields).await;
    assert!(changed.location().contains("did=changed"), "{changed:?}");
    let content = base.server.ask(&key, &entry).await.json()["content"].clone();
    assert_eq!(
        content,
        json!({"amount": 6, "text": "Broken", "token": "t", "of": {"order": 7}, "tags": ["a"], "none": null}),
        "a number stays one"
    );
    let content = r#"{"amount": 5, "text": {"en": "a"}}"#;
    let added = base.server.request(&key, &format!("POST {path}"), "", content).await.json();
    let entry = format!("{path}/{}", added["entry_id"].as_str().unwrap());
    let changed = browser.fill(&entry, &entry, &[("version", "1"), ("amount", "6")]).await;
    assert!(changed.location().contains("did=changed"), "{changed:?}");
    let content = base.server.ask(&key, &entry).await.json()["content"].clone();
    assert_eq!(content, json!({"amount": 6, "text": {"en": "a"}}));
}

#[tokio::test]
async fn what_happened_has_to_be_said() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let form = browser.get(&format!("/customers/{ann}?write=complaint")).await;
    let blank = [("token", form.token()), ("once", form.field("once")), ("text", " ".to_owned())];
    let blank: Vec<(&str, &str)> = blank.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let refused = browser.post(&format!("/customers/{ann}/complaint"), &blank).await;
    assert!(refused.status == 422 && refused.body.contains("Write something"), "{refused:?}");
}

#[tokio::test]
async fn who_is_named_by_an_id_is_found_by_it() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    let mut stranger = Browser::signed_in(&base, Role::Viewer, Some("state in ('NH')")).await;
    base.xref(ann, "loyalty", "27", json!({})).await;
    for q in ["27", "loyalty+27", "loyalty:27", &ann.to_string()] {
        let page = format!("/customers?q={q}");
        let link = format!("is <a href=\"/customers/{ann}\">Ann</a>");
        let found = browser.get(&page).await;
        assert!(found.body.contains(&link), "{q}: {found:?}");
        assert!(!stranger.get(&page).await.body.contains(&format!("href=\"/customers/{ann}")), "{q}");
    }
}

#[tokio::test]
async fn contacts_and_links_are_counted_beyond_those_that_are_shown() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    for (kind, content, many) in [("contact", r#"{"value": "1"}"#, 2), ("link", r#"{"url": "https://x.example"}"#, 120)]
    {
        base.run(&format!(
            "insert into customer360.entries (entry_id, customer_id, type, content, author, created_at, updated_at)
             select gen_random_uuid(), '{ann}', '{kind}', '{content}', 'ann', now(), now() + interval '1 s' * length('{kind}') * -1
             from generate_series(1, {many})"
        ))
        .await;
    }
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    let page = browser.get(&format!("/customers/{ann}")).await;
    for (title, count) in [("Contacts", 2), ("Links", 120)] {
        assert!(page.body.contains(&format!("{title} <span class=\"count\">{count}</span>")), "{page:?}");
    }
    assert_eq!(page.body.matches("None written down.").count(), 0);
    assert!(page.body.contains("All links"), "{page:?}");
}

#[tokio::test]
async fn sources_are_asked_from_the_page_which_says_what_they_have_yet_to_take() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let emails = ["ann@x.example".to_owned()];
    staging::polls::offer(&base.pool, &["online_store".to_owned()], &emails, &emails, Utc::now()).await.unwrap();
    for (kind, edits, state, reason) in [
        ("update", r#"{"name": null, "phone": null}"#, "waiting", None),
        ("update", r#"{"city": null}"#, "refused", Some("status 422")),
        ("create", "{}", "waiting", None),
    ] {
        sqlx::query(
            "insert into staging.outbox
                 (source, kind, system, external_id, match_key, email, edits, edited_at, next_at, state, reason)
             values ('online_store', $1, 'home_delivery', $2, $2, $2, $3::text::jsonb, now(), now(), $4, $5)",
        )
        .bind(kind)
        .bind("ann@x.example")
        .bind(edits)
        .bind(state)
        .bind(reason)
        .execute(&base.pool)
        .await
        .unwrap();
    }
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    let page = format!("/customers/{ann}");
    let shown = browser.get(&page).await.body;
    for line in [
        "2 edits wait to be sent: name, phone",
        "1 edit is refused: city (status 422)",
        "Waits to be made in online_store",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert_eq!(browser.post(&format!("{page}/refresh"), &[]).await.status, 403, "a form without its token");
    let asked = browser.fill(&page, &format!("{page}/refresh"), &[]).await;
    assert_eq!(asked.status, 303);
    let location = format!("location: {page}?did=asked&silent=online_store#systems");
    assert!(asked.head.contains(&location), "nobody polls here: {}", asked.head);
    let told = browser.get(&format!("{page}?did=asked&silent=online_store")).await.body;
    assert!(told.contains("No answer yet from online_store"), "{told}");
    let mut limited = Browser::signed_in(&base, Role::Agent, Some("state in ('NH')")).await;
    assert_eq!(limited.fill("/customers", &format!("{page}/refresh"), &[]).await.status, 404);

    let bob = base.customer("bob@x.example", json!({"name": "Bob"})).await;
    let page = format!("/customers/{bob}");
    let asked = browser.fill(&page, &format!("{page}/refresh"), &[]).await;
    assert!(browser.get(asked.location()).await.body.contains("No source is asked about this customer."), "{asked:?}");
    base.run("insert into customer360.dirty_marks (match_keys, cause, marked_at) values ('{bob@x.example}', 'record', now())")
        .await;
    let asked = browser.fill(&page, &format!("{page}/refresh"), &[]).await;
    assert!(browser.get(asked.location()).await.body.contains("The profile follows as soon as"), "{asked:?}");
}

#[tokio::test]
async fn what_was_typed_is_there_to_be_sent_again_when_a_form_is_not_taken() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let notes = format!("/customers/{ann}/notes");
    let mut browser = Browser::new(&base.server);
    let note = [("token", "of a session that has ended"), ("once", "1"), ("text", "two lines\r\nof <b>a note</b>")];
    for elsewhere in ["", "sec-fetch-site: cross-site\r\n"] {
        browser.headers = elsewhere;
        assert_eq!(browser.post(&notes, &note).await.status, 303, "no other site has us draw what it says");
    }
    browser.headers = "sec-fetch-site: same-origin\r\n";
    let out = browser.post(&notes, &note).await;
    assert!(out.status == 403 && out.body.contains("You are signed out"), "{out:?}");
    assert!(out.body.contains("two lines\r\nof &#60;b&#62;a note&#60;/b&#62;</textarea>"), "{out:?}");
    assert!(out.body.contains("href=\"/sign-in\" target=\"_blank\"") && out.token().is_empty(), "{out:?}");
    browser.sign_in(&key, "/customers").await;
    let stale = browser.submit(&out, &[note[2]]).await;
    assert!(stale.status == 403 && !stale.token().is_empty(), "{stale:?}");
    let sent = browser.submit(&stale, &[note[2]]).await;
    assert!(browser.get(sent.location()).await.body.contains("Note added."), "{sent:?}");
    let short = browser.fill("/customers", "/views", &[("query", "q=a"), ("name", &"n".repeat(300))]).await;
    assert!(short.status == 422 && short.body.contains(&"n".repeat(300)) && short.field("query") == "q=a", "{short:?}");
    let nothing = browser.post(&notes, &[("text", " ")]).await;
    assert!(nothing.status == 403 && !nothing.body.contains("textarea"), "{nothing:?}");
}

#[tokio::test]
async fn viewers_see_no_forms_and_write_nothing() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    base.note(ann, "a note", "2026-11-20T03:00:00Z").await;
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    let page = format!("/customers/{ann}");
    let shown = browser.get(&page).await;
    assert!(shown.body.contains("a note") && !shown.body.contains("<textarea") && shown.leads("/remove").is_empty());
    let refused = browser.fill(&page, &format!("{page}/notes"), &[("text", "a")]).await;
    assert!(refused.status == 403 && refused.body.contains("Not allowed"), "{refused:?}");
}

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
    let nobody = browser.get(&format!("/customers/{}", Uuid::new_v4())).await;
    for path in [
        format!("/customers/{me}"),
        "/customers/me@x.example".to_owned(),
        format!("/customers/{me}/timeline"),
        format!("/customers/{me}/notes/{note}"),
        format!("/customers/{nh}/notes/{note}"),
    ] {
        let answer = browser.get(&path).await;
        assert_eq!(answer.status, 404, "{path}");
        let without_request = |answer: &Answer| answer.body.split("Request").next().unwrap().to_owned();
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
async fn an_old_id_leads_to_the_new_one_also_for_forms() {
    let base = Base::new().await;
    let old = base.customer("old@x.example", json!({"name": "Old"})).await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    base.run(&format!(
        "update customer360.customers set deleted_at = now() where customer_id = '{old}';
         insert into customer360.redirects values ('{old}', '{ann}', now())"
    ))
    .await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let moved = browser.get(&format!("/customers/{old}")).await;
    assert_eq!((moved.status, moved.location()), (307, format!("/customers/{ann}").as_str()));
    assert!(browser.get(&format!("/customers/{ann}")).await.body.contains("Merged with customer"));
    let form = format!("/customers/{ann}");
    for (to, fields) in [("notes", [("text", "a")].as_slice()), ("refresh", &[])] {
        let posted = browser.fill(&form, &format!("/customers/{old}/{to}"), fields).await;
        assert_eq!((posted.status, posted.location()), (307, format!("/customers/{ann}/{to}").as_str()));
    }
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
        [("sort=x", "Sort: one of name"), ("stat=NH", "did you mean `state`"), ("cursor=x", "Cursor: the")]
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

#[tokio::test]
async fn a_customer_is_shown_with_what_systems_disagree_about() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann Hill", "city": "Keene", "state": "NH"})).await;
    base.run(&format!(
        "insert into customer360.xrefs
             (system, external_id, customer_id, match_key, email, external_id_json, attributes, credential, position,
              observed_at, first_seen_at, last_seen_at)
         values ('loyalty', '27', '{ann}', 'ann@x.example', 'ann@x.example', '27',
                 '{{\"name\": \"A. Hill\", \"city\": \"Keene\", \"state\": null}}', null, '', now(), now(), now());
         insert into customer360.products (system, product_id, name, attributes, position)
         values ('online_store', '7', 'Lamp', '{{}}', '')"
    ))
    .await;
    base.order(ann, "118", Some("2026-11-17T20:14:00Z"), "7").await;
    for number in 0..30 {
        base.note(ann, &format!("note {number:02}"), &format!("2026-10-{:02}T03:00:00Z", number + 1)).await;
    }
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    browser.headers = "accept-language: de-DE,de\r\n";
    let page = browser.get(&format!("/customers/{ann}")).await;
    let shown = |text: &str| assert!(page.body.contains(text), "{text} is not in {}", page.body);
    shown("A. Hill");
    shown("loyalty 27, <time");
    shown("home_delivery comes first in the rules.");
    shown("1 attribute disagrees");
    shown("Keene<br>NH");
    shown("Order 118 for 12,50");
    shown("2 × \u{2068}Lamp\u{2069}");
    shown("Notes <span class=\"count\">30</span>");
    assert!(!page.body.contains("digest-of-a-password"));

    let (mut path, mut notes) = (page.leads("/timeline?").remove(0), page.body.matches("<p>note ").count());
    loop {
        let older = browser.get(&path).await;
        notes += older.body.matches("<p>note ").count();
        match older.leads("/timeline?").first() {
            Some(next) => path.clone_from(next),
            None => break,
        }
    }
    assert_eq!(notes, 30, "older pages go on where the first ends");
    let orders = browser.get(&format!("/customers/{ann}?type=order")).await;
    assert!(orders.body.contains("Order 118 for") && !orders.body.contains("<p>note "));
    assert_eq!(browser.get(&format!("/customers/{ann}?type=x")).await.status, 400);
}

#[tokio::test]
async fn the_choice_of_light_and_dark_is_drawn_by_the_server() {
    let base = Base::new().await;
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    assert!(!browser.get("/customers").await.body.contains("data-theme"));
    let chosen = browser.fill("/customers", "/theme", &[("theme", "dark"), ("next", "/customers?q=a")]).await;
    assert_eq!(chosen.location(), "/customers?q=a");
    assert!(browser.get("/customers").await.body.contains("<html lang=\"en\" data-theme=\"dark\">"));
    browser.fill("/customers", "/theme", &[("theme", "system"), ("next", "//x.example")]).await;
    assert!(!browser.get("/customers").await.body.contains("data-theme"));
    let mut agent = Browser::signed_in(&base, Role::Agent, None).await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let page = format!("/customers/{ann}");
    let refused = agent.fill(&page, &format!("{page}/notes"), &[("text", " ")]).await;
    assert_eq!(
        (refused.status, refused.field("next")),
        (422, page),
        "back to a page, and not to what only takes forms"
    );
    browser.cookies.push(("c360_zone".to_owned(), "America/New_York".to_owned()));
    browser.cookies.push(("c360_theme".to_owned(), "\"><script>".to_owned()));
    let page = browser.get("/customers").await.body;
    assert!(page.contains("Times in America/New_York") && !page.contains("<script>"));
}

#[tokio::test]
async fn a_database_that_is_away_is_said_on_a_page() {
    let server = crate::support::server_without_database().await;
    let mut browser = Browser::new(&server);
    let answer = browser.sign_in("c360_whatever", "/").await;
    assert!(answer.status == 503 && answer.body.contains("<h1>No answer at the moment</h1>"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn what_layers_refuse_is_a_page_for_a_browser_and_a_problem_for_everybody_else() {
    let server = crate::support::server_without_database().await;
    let html = "accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n";
    let ask = async |what: &str, headers: &str, length: usize| {
        let head =
            format!("{what} HTTP/1.1\r\nhost: c360\r\nconnection: close\r\n{headers}content-length: {length}\r\n");
        server.send(format!("{head}content-type: application/x-www-form-urlencoded\r\n\r\n").as_bytes()).await
    };
    let nul = "GET /sign-in?a=%00";
    for (what, length, status, title) in [
        ("POST /sign-in", 2 << 20, 413, "Too much at once"),
        ("GET /nowhere", 0, 404, "Not found"),
        ("DELETE /sign-in", 0, 405, "Method Not Allowed"),
        (nul, 0, 400, "Bad Request"),
    ] {
        let page = ask(what, html, length).await;
        assert!(page.status == status && page.body.contains(&format!("<h1>{title}</h1>")), "{what}: {page:?}");
        assert!(page.header("content-security-policy").is_some() && page.header("x-request-id").is_some(), "{page:?}");
        let problem = ask(what, "accept: */*\r\n", length).await;
        assert_eq!((problem.status, &problem.json()["status"]), (status, &json!(status)), "{what}");
    }
    for what in ["GET /api/v1/nowhere", "GET /api/v1/customers", "GET /readyz"] {
        let answer = ask(what, html, 0).await;
        assert!(answer.status >= 400 && answer.json().is_object(), "{what}: {answer:?}");
    }
    assert_eq!(ask("POST /api/v1/customers", html, 2 << 20).await.json()["status"], json!(413));
    tokio::time::pause();
    // Of ten bytes none comes.
    let late = ask("POST /sign-in", html, 10).await;
    assert!(late.status == 503 && late.body.contains("The request took too long and was given up."), "{late:?}");
    assert_eq!(late.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn the_page_of_the_api_has_every_operation_of_its_document() {
    let server = crate::support::server_without_database().await;
    let document = server.get("/openapi.json").await.json();
    assert_eq!(server.get("/api/v1/openapi.json").await.json(), document);
    let page = server.get("/docs").await;
    assert!(page.status == 200 && page.body.len() < 100_000, "{} bytes", page.body.len());
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            operations += 1;
            let id = operation["operationId"].as_str().unwrap();
            let (_, shown) = page.body.split_once(&format!("<h3 id=\"{id}\">")).unwrap_or_else(|| panic!("{id}"));
            let shown = shown.split("</article>").next().unwrap();
            assert!(shown.contains(&format!("<code>{path}</code>")) && shown.contains("<code>curl "), "{id}: {shown}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap();
                assert!(shown.contains(&format!("<dt><code>{name}</code></dt>")), "{id} lacks {name}");
            }
            for status in operation["responses"].as_object().unwrap().keys().filter(|status| *status != "default") {
                assert!(shown.contains(&format!("<dt>{status}</dt>")), "{id} lacks {status}");
            }
        }
    }
    assert!(operations > 15, "{operations}");
    for anchor in page.leads("#").iter().filter(|link| link.starts_with('#')) {
        assert!(page.body.contains(&format!("id=\"{}\"", &anchor[1..])), "{anchor} leads nowhere");
    }
    for part in ["--json &#39;{&#34;email&#34;:&#34;ann@x.example&#34;}&#39;", "<code>429</code>", "If-Match"] {
        assert!(page.body.contains(part), "{part}");
    }
    assert!(page.header("content-security-policy").is_some());
    let base = Base::new().await;
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    let link = browser.get("/customers").await.leads("/docs").remove(0);
    assert!(browser.get(&link).await.body.contains("Sign out"), "whoever has signed in stays so");
}

#[tokio::test]
async fn who_reads_and_writes_on_pages_is_in_the_audit_log() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let page = format!("/customers/{ann}");
    browser.fill(&page, &format!("{page}/notes"), &[("text", "a")]).await;
    browser.get(&format!("{page}/timeline")).await;
    let noted = async || -> Vec<String> {
        sqlx::query_scalar("select distinct action from customer360.audit_log where customer_id = $1 order by action")
            .bind(ann)
            .fetch_all(&base.pool)
            .await
            .unwrap()
    };
    look_until("all is noted", noted, |noted| *noted == ["add_entry", "get_customer", "list_timeline"]).await;
}

#[tokio::test]
async fn insights_lead_to_the_customers_behind_a_number_and_count_what_the_key_shows() {
    let base = Base::new().await;
    for (email, state) in [("a@x.example", "N H & <b>"), ("b@x.example", "VT"), ("c@x.example", "VT")] {
        let customer = base.customer(email, json!({"name": "N", "state": state, "loyaltyPoints": 47})).await;
        base.order(customer, email, Some("2026-11-03T10:00:00Z"), "p").await;
    }
    base.run("update customer360.customer_search set disagreeing = '{loyaltyPoints}'").await;
    base.run(
        "update customer360.customer_search set disagreeing = '{loyaltyPoints, state}'
         where customer_id = (select customer_id from customer360.customers where email = 'a@x.example')",
    )
    .await;
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    let page = browser.get("/insights").await;
    let (_, disagree) = page.body.split_once("id=\"disagreements\"").unwrap();
    let disagree = disagree.split("</section>").next().unwrap();
    assert!(disagree.contains("Any of them") && disagree.contains("Loyalty points"), "{disagree}");
    assert_eq!(disagree.matches("<td class=\"number\">3</td>").count(), 2, "{disagree}");
    assert_eq!(
        page.leads("/customers?disagreeing"),
        ["loyaltyPoints&disagreeing=state", "loyaltyPoints", "state"].map(|of| format!("/customers?disagreeing={of}")),
        "any of them, and each"
    );
    let behind = browser.get("/customers?disagreeing=loyaltyPoints").await.body;
    assert!(behind.contains("Systems disagree: <b>Loyalty points</b>"), "{behind}");
    assert!(behind.contains("<input type=\"hidden\" name=\"disagreeing\" value=\"loyaltyPoints\">"), "{behind}");
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.leads("/customers?state=N+H+%26+%3Cb%3E").len() == 1 && !page.body.contains("& <b>"), "{}", page.body);
    assert!(page.body.contains("<rect width=\"50\"") && page.body.contains("37.50"), "{}", page.body);
    base.run("update customer360.customer_search set systems = '{crm,gone_system,home_delivery}'").await;
    base.run("update customer360.xrefs set system = 'crm' where external_id = 'a@x.example'").await;
    let page = browser.get("/insights").await;
    assert!(page.body.contains("Newest record"), "{page:?}");
    assert_eq!(page.leads("/customers?system"), ["crm", "home_delivery"].map(|of| format!("/customers?system={of}")));
    assert!(page.body.contains("gone_system"), "{page:?}");
    let by_hand = browser.get("/customers?system=crm").await;
    assert!(by_hand.status == 200 && by_hand.body.contains("value=\"crm\" checked"), "{by_hand:?}");
    let mut limited = Browser::signed_in(&base, Role::Viewer, Some("state in ('VT')")).await;
    let page = limited.get("/insights").await.body;
    assert!(page.contains("25.00") && !page.contains("37.50") && !page.contains("N H"), "{page}");
    let empty = Base::new().await;
    let page = Browser::signed_in(&empty, Role::Viewer, None).await.get("/insights").await;
    assert!(page.status == 200 && page.body.contains("Nothing to count yet."), "{page:?}");
}

#[tokio::test]
async fn growth_and_order_value_are_charts_above_their_tables() {
    let base = Base::new().await;
    let month = |ago: u32| Utc::now().date_naive().checked_sub_months(chrono::Months::new(ago)).unwrap();
    let first = |ago: u32| month(ago).format("%Y-%m-01T00:00:00Z").to_string();
    for (email, ago) in [("a@x.example", 1), ("b@x.example", 1), ("c@x.example", 0)] {
        let customer = base.customer(email, json!({"name": "N", "at": first(ago)})).await;
        for later in 0..=ago {
            base.order(customer, &format!("{email} {later}"), Some(&first(later)), "p").await;
        }
    }
    // Only one of the two who began a month ago has ordered again.
    base.run("update customer360.orders set cancelled = true where order_id = 'b@x.example 0'").await;
    base.run("update customer360.orders set total = 1234.5 where order_id = 'c@x.example 0'").await;
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    browser.headers = "accept-language: de-DE,de\r\n";
    let page = browser.get("/insights").await;
    assert!(page.body.len() < 100_000 && !page.body.contains(" style="), "{} bytes", page.body.len());
    let section = |id: &str| {
        let (_, section) = page.body.split_once(&format!("<section aria-labelledby=\"{id}\">")).unwrap();
        section.split("</section>").next().unwrap().to_owned()
    };
    let written = |ago: u32| month(ago).format("%b %Y").to_string();
    let (new, orders) = (section("new"), section("orders"));
    for chart in [&new, &orders] {
        assert!(chart.contains("<svg class=\"chart\" role=\"img\" aria-labelledby=\""), "{chart}");
        assert_eq!((chart.matches("<rect").count(), chart.matches("<rect class=\"unfinished\"").count()), (12, 1));
        assert!(chart.contains(&format!("<text y=\"100%\" dy=\"18\">{}</text>", written(11))), "{chart}");
        assert!(chart.contains(&format!("text-anchor=\"end\">{}</text>", written(0))), "{chart}");
        assert!(chart.find("</svg>").unwrap() < chart.find("<table").unwrap(), "the table is beneath");
    }
    assert!(new.contains("height=\"100.00%\"") && new.contains("height=\"50.00%\""), "two, then one: {new}");
    let said = format!("Highest: 2 in {}. So far: 1 in {}.</desc>", written(1), written(0));
    assert!(new.contains(&said), "{said}: {new}");
    assert!(orders.contains(">1,5k</text>") && orders.contains(": 1.247,00</title>"), "{orders}");
    for head in ["Month", "Orders", "Order value"] {
        assert!(orders.contains(&format!(">{head}</th>")), "{head}: {orders}");
    }
    let rows = orders.split("<tbody>").nth(1).unwrap().replace('\n', "");
    let row = |ago, orders, value| {
        format!(
            "<th scope=\"row\">{}</th><td class=\"number\">{orders}</td><td class=\"number\">{value}</td>",
            written(ago)
        )
    };
    assert!(rows.contains(&row(0, 2, "1.247,00")) && rows.contains(&row(1, 2, "25,00")), "{rows}");
    for cell in ["shade-0\">100 %", "shade-10\">50 %"] {
        assert!(page.body.contains(&format!("<td class=\"number {cell}</td>")), "{cell}: {}", page.body);
    }
}

#[tokio::test]
async fn a_timeline_is_searched_and_shows_the_types_of_the_configuration_that_there_are() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let page = format!("/customers/{ann}");
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let tab = |count| format!("<a href=\"{page}?type=complaint#timeline\"{count}</span></a>");
    assert!(!browser.get(&page).await.body.contains("type=complaint"), "there is none");
    let none = browser.get(&format!("{page}?type=complaint")).await;
    assert!(none.body.contains(&tab(" aria-current=\"true\">Complaint <span class=\"count\">0")), "{none:?}");
    for text in ["The lamp is broken", "The shade is late"] {
        assert_eq!(browser.fill(&page, &format!("{page}/complaint"), &[("text", text)]).await.status, 303);
    }
    for number in 0..60 {
        base.note(ann, &format!("Wants lamp {number}"), "2026-10-20T03:00:00Z").await;
    }
    let all = browser.get(&page).await;
    assert!(all.body.contains(&tab(">Complaint <span class=\"count\">2")), "{all:?}");
    let complaints = browser.get(&format!("{page}?type=complaint")).await;
    assert!(complaints.body.contains("lamp is broken") && complaints.body.contains("shade is late"), "{complaints:?}");
    assert!(!complaints.body.contains("Wants lamp"));
    assert!(complaints.body.contains("<input type=\"hidden\" name=\"type\" value=\"complaint\">"), "searched within");

    let found = browser.get(&format!("{page}?type=complaint&q=lamp")).await;
    assert!(found.body.contains("lamp is broken") && !found.body.contains("shade is late"), "{found:?}");
    assert!(found.body.contains("name=\"q\" value=\"lamp\""), "what was searched for stays in its field");
    let nothing = browser.get(&format!("{page}?q=sofa")).await;
    assert!(nothing.status == 200 && nothing.body.contains("Nothing holds these words."), "{nothing:?}");
    let (mut path, mut lamps) = (format!("{page}?q=lamp"), 0);
    loop {
        let shown = browser.get(&path).await;
        assert!(shown.status == 200 && !shown.body.contains("shade is late"), "{shown:?}");
        lamps += shown.body.matches("<p>Wants lamp ").count();
        match shown.leads("/timeline?").first() {
            Some(next) => path.clone_from(next),
            None => break,
        }
    }
    assert_eq!(lamps, 60, "older pages are searched, too");
    let long = browser.get(&format!("{page}?q={}", "x".repeat(300))).await;
    assert_eq!(long.status, 400, "{long:?}");
}

#[tokio::test]
async fn beside_each_cross_reference_stands_how_fresh_its_system_is() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    for system in ["loyalty", "online_store", "crm"] {
        base.xref(ann, system, "27", json!({})).await;
    }
    base.run(
        r#"insert into staging.sources (source, health, health_at) values
               ('home_delivery', '{"lag": 0, "stopped": []}', now() + interval '1 hour'),
               ('loyalty', '{"stopped": []}', now() + interval '1 hour'),
               ('online_store', '{"breaker": "open", "stopped": []}', now() + interval '1 hour');
           insert into staging.polls (source, match_key, email, next_at)
           values ('online_store', 'ann@x.example', 'ann@x.example', now() - interval '41 minutes 30 seconds');
           insert into staging.csv_imports
               (source, file_name, as_of, mtime, dated, full_export, sha256, state, started_at, finished_at)
           values ('loyalty', 'members.csv', '2019-11-28T02:00:00Z', now(), true, true, '1', 'imported', now(), now())"#,
    )
    .await;
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    let path = format!("/customers/{ann}");
    // Whoever looks does not wait for what nobody has asked for yet.
    let look = async || browser.get(&path).await.body;
    let page = look_until("the shapes are known", look, |page| page.contains("class=\"shape")).await;
    let (_, systems) = page.split_once("<section id=\"systems\"").unwrap();
    let rows: Vec<&str> = systems.split("</section>").next().unwrap().split("<li class=\"xref\">").skip(1).collect();
    for (system, mark, words) in [
        ("home_delivery", "ok", "Live"),
        ("loyalty", "ok", "File of 28 Nov 2019"),
        ("online_store", "failed", "Not answering, 41 min behind"),
    ] {
        let row = rows.iter().find(|row| row.contains(&format!("<span>{system}</span>"))).unwrap();
        assert!(row.contains(&format!("<svg class=\"shape {mark}\"")), "{row}");
        assert!(row.contains(&format!("</svg> {words}</span>")), "{words}: {row}");
    }
    let by_hand = rows.iter().find(|row| row.contains("<span>crm</span>")).unwrap();
    assert!(!by_hand.contains("class=\"shape"), "nobody reads it: {by_hand}");
}
