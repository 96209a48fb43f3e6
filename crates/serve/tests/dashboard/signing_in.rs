//! Who may come in, and for whom a form counts.

use chrono::{TimeDelta, Utc};
use embedded_postgres::test::eventually;
use secrecy::ExposeSecret as _;
use serde_json::json;
use serve::keys::{self, NewKey, Role};

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
