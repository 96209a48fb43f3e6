//! What holds for every page: where its files are from, what is text, what an error looks like, what is noted.

use embedded_postgres::test::look_until;
use serde_json::json;
use serve::keys::Role;

use crate::support::base::Base;
use crate::support::browser::Browser;

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
    assert!(answer.body.contains("Nothing is lost: sources wait."), "{answer:?}");
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
        ("DELETE /sign-in", 0, 405, "This page has no such step"),
        (nul, 0, 400, "This cannot be asked for"),
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
