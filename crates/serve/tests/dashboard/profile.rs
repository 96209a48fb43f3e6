//! The page of one customer.

use chrono::Utc;
use embedded_postgres::test::look_until;
use serde_json::json;
use serve::keys::Role;

use crate::support::base::Base;
use crate::support::browser::Browser;

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
    let location = format!("location: {page}?did=asked&silent=online_store");
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
async fn an_old_id_leads_to_the_new_one_also_for_forms() {
    let base = Base::new().await;
    let old = base.customer("old@x.example", json!({"name": "Old"})).await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    base.merged(old, ann).await;
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
