//! Customers, their timelines, and lists of them.

use std::sync::Arc;

use serde_json::{Value, json};
use serve::keys::Role;

use crate::support::base::Base;
use crate::support::browser::Browser;

fn emails(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["email"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_order_of_a_list_is_complete_over_pages_also_where_sort_keys_are_equal() {
    let base = Base::new().await;
    for number in 0..23 {
        let day = 1 + number / 5;
        let profile = json!({"name": format!("Name {}", number % 3), "at": format!("2026-11-0{day}T00:00:00Z")});
        base.customer(&format!("c{number:02}@x.example"), profile).await;
    }
    base.run("update customer360.customers set deleted_at = now() where email = 'c07@x.example'").await;
    base.run("update customer360.customers set email = null where email = 'c09@x.example'").await;
    let key = base.key(Role::Viewer, None).await;
    for sort in ["name", "email", "updated_at", "created_at"] {
        let up = base.server.all_pages(&key, &format!("/customers?sort={sort}"), 4).await;
        let mut down = base.server.all_pages(&key, &format!("/customers?sort=-{sort}"), 5).await;
        assert_eq!(up.len(), 22, "{sort}");
        down.reverse();
        assert_eq!(up, down, "{sort}");
        let keys: Vec<&str> = up
            .iter()
            .map(|item| {
                if sort == "name" { &item["profile"]["name"] } else { &item[sort] }.as_str().unwrap_or_default()
            })
            .collect();
        assert!(keys.is_sorted(), "{sort}: {keys:?}");
    }
}

#[tokio::test]
async fn filters_count_and_fields_say_what_they_are_asked_for() {
    let base = Base::new().await;
    for (email, state, points) in
        [("a@x.example", "NH", json!(47)), ("b@x.example", "VT", json!("47")), ("c@x.example", "ME", json!(3))]
    {
        base.customer(email, json!({"name": "N", "state": state, "loyaltyPoints": points})).await;
    }
    let key = base.key(Role::Viewer, None).await;
    let found = async |query: &str| base.server.ask(&key, &format!("/customers?sort=email&{query}")).await.json();
    let named = |page: &Value| emails(page["items"].as_array().unwrap()).join(" ");
    assert_eq!(named(&found("state=NH&state=ME").await), "a@x.example c@x.example");
    assert_eq!(named(&found("loyaltyPoints=47").await), "a@x.example b@x.example", "a number, however it is sent");
    assert_eq!(named(&found("loyaltyPoints=47&state=VT").await), "b@x.example");
    assert_eq!(named(&found("system=loyalty").await), "");
    assert_eq!(named(&found("system=loyalty&system=home_delivery&state=NH").await), "a@x.example");
    base.run(
        "update customer360.customer_search s set systems = '{crm,home_delivery}'
         from customer360.customers c where c.customer_id = s.customer_id and c.email = 'b@x.example'",
    )
    .await;
    assert_eq!(named(&found("system=crm").await), "b@x.example", "made by hand");

    let page = found("count=true&limit=1&fields=email,systems").await;
    assert_eq!(page["items"], json!([{"email": "a@x.example", "systems": ["home_delivery"]}]));
    assert_eq!(page["total"], 3);
    assert_eq!(found("state=XX&count=true").await, json!({"items": [], "next_cursor": null, "total": 0}));

    assert_eq!(found("state=&count=true").await["total"], 3, "an empty value filters nothing");

    let first = found("limit=1").await;
    let cursor = first["next_cursor"].as_str().unwrap();
    for (query, field) in [
        ("limit=0", "limit"),
        ("sort=phone", "sort"),
        ("stat=NH", "stat"),
        ("fields=pass", "fields"),
        ("system=phone_book", "system"),
        ("count=yes", "count"),
        ("cursor=x", "cursor"),
        ("q=a%00b", "q"),
        (&format!("q={}", "a".repeat(201)), "q"),
        (&format!("state=NH&cursor={cursor}"), "cursor"),
    ] {
        let answer = base.server.ask(&key, &format!("/customers?{query}")).await;
        assert_eq!((answer.status, answer.json()["errors"][0]["field"].as_str()), (400, Some(field)), "{query}");
    }
    let answer = base.server.ask(&key, "/customers?stat=NH").await;
    assert!(answer.json()["errors"][0]["detail"].as_str().unwrap().contains("did you mean `state`?"));
}

#[tokio::test]
async fn search_forgives_accents_case_punctuation_and_typing_errors_and_names_the_best_first() {
    let base = Base::new().await;
    base.customer("jose@x.example", json!({"name": "José Müller", "phone": "+1 (603) 555-1007", "city": "Łódź"})).await;
    base.customer("josephine@x.example", json!({"name": "Josephine Baker", "address1": "600 Sporer Curve"})).await;
    base.customer("100%@x.example", json!({"name": "Per_cent"})).await;
    base.customer("stephine@x.example", json!({"name": "Stephine Rowe"})).await;
    base.customer("bob@zq.example", json!({"name": "Qwyzzerman, Bob"})).await;
    base.customer("zuxar@x.example", json!({"name": "Katerina Zuxar"})).await;
    let key = base.key(Role::Viewer, None).await;
    let found = async |q: &str| {
        let q: String = form_urlencoded::byte_serialize(q.as_bytes()).collect();
        let page = base.server.ask(&key, &format!("/customers?q={q}")).await.json();
        emails(page["items"].as_array().unwrap()).join(" ")
    };
    assert_eq!(found("jose").await, "jose@x.example josephine@x.example");
    assert_eq!(found("JOSÉ mull").await, "jose@x.example");
    assert_eq!(found("muler").await, "jose@x.example", "a letter is missing");
    assert_eq!(found("josefine bakker").await, "josephine@x.example");
    assert_eq!(found("lodz").await, "jose@x.example");
    assert_eq!(found("603.555.1007").await, "jose@x.example");
    assert_eq!(found("sporer 600").await, "josephine@x.example");
    assert_eq!(found("josephine").await, "josephine@x.example", "nobody with only the end of a long word");
    assert_eq!(found("josephine@x").await, "josephine@x.example");
    assert_eq!(found("josephine@x.example").await, "josephine@x.example");
    for (misspelt, meant) in [
        ("jsephine@x.example", "josephine@x.example"),
        ("josephne@x.example", "josephine@x.example"),
        ("josephine@x.exmple", "josephine@x.example"),
        ("bob@zq.exmple", "bob@zq.example"),
        ("bob@zqq.example", "bob@zq.example"),
        ("zuyar@x.example", "zuxar@x.example"),
        ("kterin", "zuxar@x.example"),
        ("qxyzzerman", "bob@zq.example"),
    ] {
        assert!(found(misspelt).await.starts_with(meant), "{misspelt}: {}", found(misspelt).await);
    }
    assert_eq!(found("100%").await, "100%@x.example", "what stands for anything elsewhere stands for itself");
    assert_eq!(found("r_c").await, "100%@x.example");
    assert_eq!(found("zzzzqqq").await, "");
    assert_eq!(found("' or 1=1 --").await, "");
}

#[tokio::test]
async fn whoever_has_the_name_is_found_before_whoever_lives_in_a_street_of_that_name() {
    let base = Base::new().await;
    for number in 0..8 {
        let profile = json!({"name": "Matthew O'Brien", "address1": format!("{number} Groves Street")});
        base.customer(&format!("obrien{number}@x.example"), profile).await;
    }
    base.customer("matthew@x.example", json!({"name": "Matthew Groves", "address1": "1 Main Street"})).await;
    base.customer("other@x.example", json!({"name": "Matthew Rowe", "address1": "2 Main Street"})).await;
    let key = base.key(Role::Viewer, None).await;
    for (q, found) in [("groves", 9), ("groves+matthew", 9), ("gro", 9), ("matthew+gro", 9), ("mathew+grov", 9)] {
        let page = base.server.ask(&key, &format!("/customers?q={q}")).await.json();
        let emails = emails(page["items"].as_array().unwrap());
        assert_eq!((emails[0], emails.len()), ("matthew@x.example", found), "{q}: {emails:?}");
    }
}

/// A base with more customers of one name than a search looks at.
async fn smiths() -> Arc<Base> {
    let base = Base::new().await;
    base.run(
        "insert into customer360.customers (customer_id, match_key, email, profile, provenance, created_at, updated_at)
         select gen_random_uuid(), n || '@y.example', n || '@y.example', '{\"name\": \"Smith\"}', '{}', now(), now()
         from generate_series(1, 1100) as n;
         insert into customer360.customer_search (customer_id, name, search, systems)
         select c.customer_id, 'smith', customer360.search_text(c.profile, c.email), '{loyalty}'
         from customer360.customers c where c.email like '%@y.example'",
    )
    .await;
    base
}

#[tokio::test]
async fn a_search_that_finds_more_than_it_looks_at_says_so() {
    let base = smiths().await;
    base.customer("first@x.example", json!({"name": "Ann Smith", "state": "NH"})).await;
    let key = base.key(Role::Viewer, None).await;
    let asked = async |query: &str| base.server.ask(&key, &format!("/customers?{query}")).await.json();
    for query in ["q=smith&limit=1", "q=smith&count=true", "q=smith&system=loyalty"] {
        assert_eq!(asked(query).await["is_cut"], true, "{query}");
    }
    for query in ["q=ann+smith", "count=true", "q=nobodyatall&count=true", "q=smith&city=Nowhere&count=true"] {
        assert_eq!(asked(query).await["is_cut"], json!(null), "{query}");
    }
}

#[tokio::test]
async fn whose_name_begins_with_what_is_written_is_met_before_others_who_have_the_word() {
    let base = smiths().await;
    base.customer("corp@z.test", json!({"name": "Example & Sons", "state": "NH"})).await;
    let key = base.key(Role::Viewer, None).await;
    let page = base.server.ask(&key, "/customers?q=example&limit=1").await.json();
    assert_eq!(emails(page["items"].as_array().unwrap()), ["corp@z.test"]);
    assert_eq!(page["is_cut"], true, "everybody here has an email with that word");
}

#[tokio::test]
async fn a_search_is_for_whom_some_system_knows() {
    let base = Base::new().await;
    let gone = base.customer("annelise@x.example", json!({"name": "Annelise"})).await;
    base.run(&format!(
        "update customer360.customers set deleted_at = now(), profile = '{{}}' where customer_id = '{gone}';
         update customer360.customer_search set name = '', systems = '{{}}' where customer_id = '{gone}'"
    ))
    .await;
    base.customer("annelies@x.example", json!({"name": "Annelies"})).await;
    let key = base.key(Role::Viewer, None).await;
    let page = base.server.ask(&key, "/customers?q=annelise@x.example").await.json();
    assert_eq!(emails(page["items"].as_array().unwrap()), ["annelies@x.example"], "who is like that one");
}

#[tokio::test]
async fn what_happened_in_a_year_that_json_has_no_time_for_has_none_on_a_timeline() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    for (order, year) in [("1", "0001-12-31 23:00:00+00 BC"), ("2", "50000-01-01 00:00:00+00")] {
        base.order(ann, order, None, "p").await;
        base.run(&format!("update customer360.orders set purchased_at = '{year}' where order_id = '{order}'")).await;
    }
    let key = base.key(Role::Viewer, None).await;
    for path in [format!("/customers/{ann}/timeline"), format!("/customers/{ann}")] {
        let answer = base.server.ask(&key, &path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body.matches("\"order_id\"").count(), 2, "{answer:?}");
    }
    let timeline = base.server.ask(&key, &format!("/customers/{ann}/timeline?type=order")).await.json();
    assert_eq!((&timeline["items"][0]["at"], &timeline["items"][1]["at"]), (&json!(null), &json!(null)));
}

#[tokio::test]
async fn a_filtered_search_finds_whoever_passes_among_any_number_of_others() {
    let base = smiths().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann Smith", "state": "NH", "loyaltyPoints": 7})).await;
    base.run("update customer360.customer_search set disagreeing = '{name}' where name = 'ann smith'").await;
    let key = base.key(Role::Agent, None).await;
    for put in ["PUT /lists/mine".to_owned(), format!("PUT /lists/mine/customers/{ann}")] {
        assert!(base.server.request(&key, &put, "", "").await.status < 300, "{put}");
    }
    let limited = base.key(Role::Viewer, Some("state in ('NH')")).await;
    for filter in ["state=NH", "loyaltyPoints=7", "system=home_delivery", "disagreeing=name", "list=mine"] {
        for (key, q) in [(&key, "smith"), (&key, "smyth"), (&limited, "smith")] {
            let page = base.server.ask(key, &format!("/customers?q={q}&{filter}&count=true")).await.json();
            assert_eq!(emails(page["items"].as_array().unwrap()), ["ann@x.example"], "{q}&{filter}");
            assert_eq!((&page["total"], &page["is_cut"]), (&json!(1), &json!(null)), "{q}&{filter}");
        }
    }
    let none = base.server.ask(&key, "/customers?q=smith&state=NH&system=loyalty&count=true").await.json();
    assert_eq!(none["total"], 0, "all filters hold");
}

#[tokio::test]
async fn search_under_a_row_filter_finds_all_of_what_it_lets_through_also_with_typing_errors() {
    let base = Base::new().await;
    for (email, city, points) in [("a@x.example", "São_Paulo", json!(5)), ("b@x.example", "Rio", json!("5"))] {
        let profile = json!({"name": "Josephine Baker", "city": city, "loyaltyPoints": points});
        base.customer(email, profile).await;
    }
    for (only, expected) in [
        ("city in ('São_Paulo')", "a@x.example"),
        ("city in ('Rio', 'São_Paulo')", "a@x.example b@x.example"),
        ("loyaltyPoints in ('5') and city in ('Rio')", "b@x.example"),
        ("loyaltyPoints in ('5')", "a@x.example b@x.example"),
        ("city in ('SãoXPaulo')", ""),
    ] {
        let key = base.key(Role::Viewer, Some(only)).await;
        for q in ["josephine", "josefine+bakker", "josephin+baker", "baler", "jos"] {
            let page = base.server.ask(&key, &format!("/customers?q={q}&sort=email")).await.json();
            assert_eq!(emails(page["items"].as_array().unwrap()).join(" "), expected, "{q} of {only}");
        }
    }
}

#[tokio::test]
async fn a_customer_comes_with_everything_in_one_answer() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "state": "NH"})).await;
    base.order(ann, "7", Some("2026-11-03T10:00:00Z"), "p1").await;
    base.order(ann, "8", None, "p2").await;
    base.interaction("m1", "2026-11-04T10:00:00Z", "Hello", &[("ann@x.example", Some(ann)), ("b@y.example", None)])
        .await;
    base.note(ann, "called", "2026-11-05T10:00:00Z").await;
    let key = base.key(Role::Viewer, None).await;
    for named in [ann.to_string(), "Ann@X.example".to_owned()] {
        let answer = base.server.ask(&key, &format!("/customers/{named}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let customer = answer.json();
        assert_eq!(customer["customer_id"], json!(ann));
        assert_eq!(customer["profile"], json!({"name": "Ann", "state": "NH"}));
        assert_eq!(customer["provenance"]["name"]["system"], "home_delivery");
        assert_eq!(customer["xrefs"][0]["attributes"]["state"], "NH");
        assert!(!answer.body.contains("digest-of-a-password"), "no credential, not even its digest");
        let types: Vec<&str> = customer["timeline"]["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["type"].as_str().unwrap())
            .collect();
        assert_eq!(types, ["note", "interaction", "order", "order"]);
        let order = &customer["timeline"]["items"][2];
        assert_eq!((&order["id"], &order["content"]["total"]), (&json!("online_store:7"), &json!("12.5")));
        assert_eq!(order["content"]["lines"][0]["product_id"], "p1");
        let undated = &customer["timeline"]["items"][3];
        assert_eq!((&undated["at"], &undated["content"]["purchased_at_text"]), (&json!(null), &json!("some day")));
    }
    let answer = base.server.ask(&key, &format!("/customers/{ann}?fields=email")).await;
    assert_eq!(answer.json(), json!({"email": "ann@x.example"}));
    for (named, status) in [("nobody@x.example", 404), ("00000000-0000-4000-8000-000000000000", 404), ("nobody", 400)] {
        assert_eq!(base.server.ask(&key, &format!("/customers/{named}")).await.status, status, "{named}");
        assert_eq!(base.server.ask(&key, &format!("/customers/{named}/timeline")).await.status, status, "{named}");
    }
}

#[tokio::test]
async fn long_numbers_are_found_and_those_that_were_there_before_they_were() {
    let base = Base::new().await;
    let ann =
        base.customer("ann@x.example", json!({"name": "Ann", "phone": 6_035_551_008_i64, "loyaltyPoints": 47.5})).await;
    base.customer("bob@x.example", json!({"name": "Bob"})).await;
    base.run(&format!(
        "insert into customer360.entries (customer_id, entry_id, type, content, author, created_at, updated_at)
         values ('{ann}', gen_random_uuid(), 'complaint', '{{\"order\": 4711}}', 'ann', now(), now())"
    ))
    .await;
    let key = base.key(Role::Viewer, None).await;
    let are_found = async || {
        for q in ["6035551008", "(603)+555-1008", "555100", "ann+603"] {
            let page = base.server.ask(&key, &format!("/customers?q={q}")).await.json();
            assert_eq!(emails(page["items"].as_array().unwrap()), ["ann@x.example"], "{q}");
        }
        let timeline = base.server.ask(&key, &format!("/customers/{ann}/timeline?q=4711")).await.json();
        assert_eq!(timeline["items"].as_array().unwrap().len(), 1, "{timeline}");
    };
    are_found().await;
    // As they were before.
    base.run("update customer360.customer_search set search = split_part(search, ' 6035551008', 1)").await;
    base.run(include_str!("../../consolidate/migrations/0027_numbers_are_found.sql")).await;
    are_found().await;
}

#[tokio::test]
async fn a_timeline_is_complete_over_pages_and_keeps_the_types_that_are_asked_for() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    // All at one moment, and two that have none.
    for number in 0..9 {
        let at = "2026-11-03T10:00:00Z";
        base.order(ann, &number.to_string(), (number < 7).then_some(at), "p").await;
        base.interaction(
            &format!("m{number}"),
            at,
            "Hello",
            &[("ann@x.example", Some(ann)), ("ann@x.example", Some(ann))],
        )
        .await;
        base.note(ann, "called", at).await;
    }
    let key = base.key(Role::Viewer, None).await;
    let path = format!("/customers/{ann}/timeline");
    let all = base.server.all_pages(&key, &path, 100).await;
    assert_eq!(all.len(), 27);
    assert_eq!(base.server.all_pages(&key, &path, 4).await, all);
    let some = base.server.all_pages(&key, &format!("{path}?type=order&type=note"), 4).await;
    let expected: Vec<&Value> = all.iter().filter(|item| item["type"] != "interaction").collect();
    assert_eq!(some.iter().collect::<Vec<_>>(), expected);
    let answer = base.server.ask(&key, &format!("{path}?type=letter")).await;
    assert_eq!((answer.status, answer.json()["errors"][0]["field"].as_str()), (400, Some("type")));
    // And those that hold all words.
    base.order(ann, "lamp-7", Some("2026-11-03T10:00:00Z"), "p").await;
    base.note(ann, "Café: 100% of the lamps are broken", "2026-11-04T10:00:00Z").await;
    let found = async |q: &str| {
        let items = base.server.all_pages(&key, &format!("{path}?q={q}"), 1).await;
        items.iter().map(|item| item["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(found("LAMP").await, "note order");
    assert_eq!(found("lamps+cafe").await, "note");
    assert_eq!(found("100%25").await, "note");
    assert_eq!(found("hello&type=interaction").await, ["interaction"; 9].join(" "));
    assert_eq!(found("lamps+hello").await, "");
    base.run(
        "update customer360.orders set document = '{\"Items\": [{\"ProductId\": 4711}]}' where order_id = 'lamp-7'",
    )
    .await;
    assert_eq!(found("4711").await, "order", "numbers, too");
    // Counted are those on all pages.
    let counted = async |query: &str| {
        let answer = base.server.ask(&key, &format!("{path}?count=true&limit=1{query}")).await.json();
        let cursor = answer["next_cursor"].as_str().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let next = base.server.ask(&key, &format!("{path}?count=true&limit=1{query}{cursor}")).await.json();
        assert_eq!(next["total"], answer["total"], "on every page");
        answer["total"].clone()
    };
    assert_eq!(counted("").await, json!(29));
    assert_eq!(counted("&type=order&type=note").await, json!(20));
    assert_eq!(counted("&type=interaction").await, json!(9));
    assert_eq!(counted("&q=lamp").await, json!(2));
    assert_eq!(counted("&type=complaint").await, json!(0));
    base.run("delete from customer360.entries where content ->> 'text' like 'Caf%'; delete from customer360.orders where order_id = 'lamp-7'").await;
    // The timeline that comes with a customer goes on with its cursor.
    let customer = base.server.ask(&key, &format!("/customers/{ann}")).await.json();
    let cursor = customer["timeline"]["next_cursor"].as_str().unwrap();
    let rest = base.server.ask(&key, &format!("{path}?cursor={cursor}")).await.json();
    let by_email = base.server.ask(&key, &format!("/customers/ann@x.example/timeline?cursor={cursor}")).await;
    assert_eq!((by_email.status, by_email.json()), (200, rest.clone()), "however the customer is named");
    let both = [&customer["timeline"]["items"], &rest["items"]].map(|items| items.as_array().unwrap().clone()).concat();
    assert_eq!(both, all);
}

#[tokio::test]
async fn an_old_id_leads_to_the_new_one_and_what_was_written_there_is_read_here() {
    let base = Base::new().await;
    let (old, older, ann) = (
        base.customer("old@x.example", json!({})).await,
        base.customer("older@x.example", json!({})).await,
        base.customer("ann@x.example", json!({"name": "Ann"})).await,
    );
    base.note(older, "written long ago", "2026-01-05T10:00:00Z").await;
    let people = [("old@x.example", None), ("older@x.example", None)];
    base.interaction("m-1", "2026-01-04T10:00:00Z", "Sent to the old addresses", &people).await;
    base.interaction("m-2", "2026-01-04T11:00:00Z", "Not hers", &[("stranger@x.example", None)]).await;
    base.run(&format!(
        "update customer360.customers set deleted_at = now() where customer_id in ('{old}', '{older}');
         update customer360.xrefs set deleted_at = now() where customer_id in ('{old}', '{older}');
         insert into customer360.redirects values ('{older}', '{old}', '2026-02-01'), ('{old}', '{ann}', '2026-03-01')"
    ))
    .await;
    let key = base.key(Role::Viewer, None).await;
    for (named, rest) in [(older.to_string(), ""), ("old@x.example".to_owned(), "/timeline")] {
        let answer = base.server.ask(&key, &format!("/customers/{named}{rest}")).await;
        assert_eq!(answer.status, 308, "{answer:?}");
        assert!(answer.head.contains(&format!("location: /api/v1/customers/{ann}{rest}")), "{}", answer.head);
    }
    let answer = base.server.ask(&key, &format!("/customers/{old}")).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"), "a merge can be undone");
    let filtered = "/timeline?type=order&limit=5&q=a%20b";
    let answer = base.server.ask(&key, &format!("/customers/{old}{filtered}")).await;
    assert_eq!((answer.status, answer.location()), (308, format!("/api/v1/customers/{ann}{filtered}").as_str()));
    let timeline = base.server.all_pages(&key, &format!("/customers/{ann}/timeline"), 50).await;
    let says: Vec<&Value> = timeline.iter().map(|item| &item["content"]).collect();
    assert_eq!(says[0]["from_customer_id"], json!(old));
    assert_eq!(says[1]["from_customer_id"], json!(older));
    assert_eq!(says[2]["text"], "written long ago");
    assert_eq!((says.len(), &says[3]["subject"]), (4, &json!("Sent to the old addresses")));
    let paged = base.server.all_pages(&key, &format!("/customers/{ann}/timeline"), 1).await;
    assert_eq!(paged, timeline);
    let page = Browser::signed_in(&base, Role::Viewer, None).await.get(&format!("/customers/{ann}")).await;
    assert!(page.body.contains(r#"Interactions <span class="count">1</span>"#), "{page:?}");
    // Who lives again is nobody else any more.
    base.run(&format!("update customer360.customers set deleted_at = null where customer_id = '{old}'")).await;
    assert_eq!(base.server.ask(&key, &format!("/customers/{older}")).await.status, 308);
    assert_eq!(base.server.ask(&key, &format!("/customers/{old}")).await.status, 200);
}

#[tokio::test]
async fn interactions_of_a_list_are_complete_over_pages_also_where_somebody_took_part_twice() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    for (id, at) in [("m1", "2026-11-01T10:00:00Z"), ("m2", "2026-11-02T10:00:00Z"), ("m3", "2026-11-03T10:00:00Z")] {
        let twice = [("ann@x.example", Some(ann)), ("Ann <ann@x.example>", Some(ann)), ("ANN@x.example", Some(ann))];
        base.interaction(id, at, "Hello", &twice).await;
    }
    base.run(&format!(
        "insert into customer360.lists values ('team', 'ann', now());
         insert into customer360.list_members values ('{ann}', 'team', now())"
    ))
    .await;
    let key = base.key(Role::Viewer, Some("list team")).await;
    for (path, expected) in [("/interactions", ["m3", "m2", "m1"]), ("/interactions?sort=at", ["m1", "m2", "m3"])] {
        let items = base.server.all_pages(&key, path, 1).await;
        let ids: Vec<&str> = items.iter().map(|item| item["interaction_id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{path}");
    }
}

#[tokio::test]
async fn interactions_of_many_on_a_list_come_in_one_order_whoever_took_part() {
    let base = Base::new().await;
    let mut people = Vec::new();
    base.run("insert into customer360.lists values ('team', 'ann', now())").await;
    for email in ["ann@x.example", "bob@x.example", "cyd@x.example", "dan@x.example"] {
        people.push((email, base.customer(email, json!({"name": email})).await));
    }
    for (_, listed) in &people[..3] {
        base.run(&format!("insert into customer360.list_members values ('{listed}', 'team', now())")).await;
    }
    // Who took part, one after the other; two at the same time; and dan, who is on no list, alone and with others.
    let took_part = [&[0][..], &[0], &[1, 0], &[2], &[3], &[2, 3], &[1], &[1], &[0, 1, 2], &[0], &[0], &[2]];
    for (n, who) in took_part.into_iter().enumerate() {
        let present: Vec<_> = who.iter().map(|&who| (people[who].0, Some(people[who].1))).collect();
        base.interaction(&format!("m{n:02}"), &format!("2026-11-{:02}T10:00:00Z", 1 + n - n % 2), "Hello", &present)
            .await;
    }
    let mut expected: Vec<String> = (0..took_part.len()).filter(|n| *n != 4).map(|n| format!("m{n:02}")).collect();
    let key = base.key(Role::Viewer, Some("list team")).await;
    for path in ["/interactions?sort=at", "/interactions?sort=-at"] {
        for limit in [1, 2, 3, 50] {
            let items = base.server.all_pages(&key, path, limit).await;
            let ids: Vec<&str> = items.iter().map(|item| item["interaction_id"].as_str().unwrap()).collect();
            assert_eq!(ids, expected, "{path}, {limit} on a page");
        }
        expected.reverse();
    }
}

#[tokio::test]
async fn interactions_are_filtered_sorted_and_paged_with_who_took_part() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    for day in 1..=7 {
        let other = if day % 2 == 0 { Some(ann) } else { None };
        base.interaction(&format!("m{day}"), &format!("2026-11-0{day}T10:00:00Z"), "Hi", &[("ann@x.example", other)])
            .await;
    }
    base.run("update customer360.interactions set type = 'call', at = null where interaction_id = 'm7'").await;
    let key = base.key(Role::Viewer, None).await;
    let ids = async |query: &str| {
        let items = base.server.all_pages(&key, &format!("/interactions{query}"), 2).await;
        items.iter().map(|item| item["interaction_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids("").await, "m6 m5 m4 m3 m2 m1 m7");
    assert_eq!(ids("?sort=at&type=email").await, "m1 m2 m3 m4 m5 m6");
    assert_eq!(ids("?from=2026-11-03&to=2026-11-05T10:00:00Z").await, "m4 m3");
    assert_eq!(ids("?customer=ann@x.example").await, "m6 m4 m2");
    assert_eq!(ids("?thread=thread-m3").await, "m3");
    assert_eq!(ids("?type=call&type=meeting&status=sent").await, "m7");
    let page = base.server.ask(&key, "/interactions?limit=1&count=true&type=email").await.json();
    assert_eq!(page["total"], 6);
    let theirs = base.server.ask(&key, "/interactions?limit=1&count=true&customer=ann@x.example").await.json();
    assert_eq!((&theirs["total"], &theirs["items"][0]["interaction_id"]), (&json!(3), &json!("m6")));
    let nobody = base.server.ask(&key, "/interactions?count=true&customer=nobody@x.example").await.json();
    assert_eq!(nobody, json!({"items": [], "next_cursor": null, "total": 0}));
    assert_eq!(page["items"][0]["participants"], json!([{"email": "ann@x.example", "role": "to", "customer_id": ann}]));
    assert_eq!(base.server.ask(&key, "/interactions?form=2026-11-03").await.status, 400);
}

#[tokio::test]
async fn only_the_members_that_are_asked_for_are_answered() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    base.note(ann, "called", "2026-11-04T10:00:00Z").await;
    base.interaction("m1", "2026-11-03T10:00:00Z", "Hello", &[("ann@x.example", Some(ann))]).await;
    base.run("insert into customer360.products values ('online_store', 'p1', 'Lamp', '{}', '')").await;
    let key = base.key(Role::Viewer, None).await;
    for (path, fields, expected) in [
        (
            format!("/customers/{ann}/timeline"),
            "at,type",
            json!([
                {"at": "2026-11-04T10:00:00Z", "type": "note"},
                {"at": "2026-11-03T10:00:00Z", "type": "interaction"},
            ]),
        ),
        ("/interactions".to_owned(), "subject,at", json!([{"subject": "Hello", "at": "2026-11-03T10:00:00Z"}])),
        ("/products/online_store/p1".to_owned(), "name", json!({"name": "Lamp"})),
    ] {
        let mut answer = base.server.ask(&key, &format!("{path}?fields={fields}")).await.json();
        if let Some(items) = answer.get_mut("items") {
            answer = items.take();
        }
        assert_eq!(answer, expected, "{path}");
        let refused = base.server.ask(&key, &format!("{path}?fields=pass")).await;
        assert_eq!((refused.status, &refused.json()["errors"][0]["field"]), (400, &json!("fields")), "{path}");
    }
}

#[tokio::test]
async fn a_product_is_found_by_system_and_id() {
    let base = Base::new().await;
    base.run(
        "insert into customer360.products (system, product_id, name, attributes, position)
         values ('online_store', 'p/1', 'Lamp', '{\"Price\": 9.90}', ''), ('online_store', 'gone', 'Gone', '{}', '');
         update customer360.products set deleted_at = now() where product_id = 'gone'",
    )
    .await;
    let key = base.key(Role::Viewer, None).await;
    let answer = base.server.ask(&key, "/products/online_store/p%2F1").await;
    assert!(answer.body.contains(r#""Price":9.90"#), "numbers stay as they are: {}", answer.body);
    for unknown in ["/products/online_store/gone", "/products/loyalty/p%2F1"] {
        assert_eq!(base.server.ask(&key, unknown).await.status, 404);
    }
}
