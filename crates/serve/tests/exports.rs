//! What leaves the dashboard as a file.

use std::collections::BTreeSet;

use embedded_postgres::test::eventually;
use serde_json::{Value, json};
use serve::keys::Role;

use crate::support::Answer;
use crate::support::base::Base;
use crate::support::browser::Browser;

/// The cells of a file, line by line.
fn cells(answer: &Answer) -> Vec<Vec<String>> {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/csv; charset=utf-8")), "{answer:?}");
    let text = answer.body.strip_prefix('\u{feff}').unwrap();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

/// Customers by the thousand, all made and changed at one moment.
async fn many(base: &Base, count: i32) {
    base.run(&format!(
        "insert into customer360.customers (customer_id, match_key, email, profile, provenance, created_at, updated_at)
         select md5(n::text)::uuid, n || '@x.example', n || '@x.example', '{{\"state\": \"NH\"}}', '{{}}',
                '2026-11-20T03:00:00Z', '2026-11-20T03:00:00Z'
         from generate_series(1, {count}) n;
         insert into customer360.customer_search (customer_id, name, search, systems)
         select c.customer_id, '', '', '{{home_delivery}}' from customer360.customers c"
    ))
    .await;
}

#[tokio::test]
async fn customers_leave_as_a_file_with_all_that_the_filters_show_and_no_formula() {
    let base = Base::new().await;
    let name = "=HYPERLINK(\"https://x.example\";\"Anna\")\nb, c";
    let profile =
        json!({"name": name, "phone": "+1 603 555 0100", "city": "Zürich", "state": "NH", "loyaltyPoints": -5});
    let ann = base.customer("-ann@x.example", profile).await;
    base.customer("bob@x.example", json!({"name": "Bob", "state": "NH", "at": "2026-11-19T03:00:00Z"})).await;
    base.customer("cy@x.example", json!({"name": "Cy", "state": "VT"})).await;
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    let page = browser.get("/customers?state=NH&cursor=").await;
    assert!(page.body.contains("at most 10,000"), "{page:?}");
    let file = browser.get(&page.leads("/customers.csv")[0]).await;
    assert_eq!(file.header("content-disposition"), Some("attachment; filename=\"customers.csv\""));
    let head = ["customer_id", "email", "address1", "city", "loyaltyPoints", "name", "phone", "state", "systems"];
    let rows = cells(&file);
    assert_eq!(rows[0][..9], head);
    assert_eq!(rows[0][9..], ["created_at", "updated_at"]);
    let (id, at) = (ann.to_string(), "2026-11-20T03:00:00Z");
    let (name, phone) = (format!("'{name}"), "'+1 603 555 0100");
    let cells_of_ann = ["'-ann@x.example", "", "Zürich", "'-5", &name, phone, "NH", "home_delivery", at, at];
    assert_eq!(rows[1], [[id.as_str()].as_slice(), &cells_of_ann].concat());
    assert_eq!((rows.len(), rows[2][1].as_str()), (3, "bob@x.example"));

    let by_email = cells(&browser.get("/customers.csv?sort=email").await);
    assert_eq!(
        by_email.iter().map(|row| row[1].as_str()).collect::<Vec<_>>()[1..],
        ["'-ann@x.example", "bob@x.example", "cy@x.example"]
    );
    let found = cells(&browser.get("/customers.csv?q=bob").await);
    assert_eq!((found.len(), found[1][1].as_str()), (2, "bob@x.example"));
    assert_eq!(cells(&browser.get("/customers.csv?state=ME").await).len(), 1, "the names of the columns alone");
    let bad = browser.get("/customers.csv?sort=x").await;
    assert!(bad.status == 400 && bad.body.contains("<h1>"), "{bad:?}");
    assert_eq!(Browser::new(&base.server).get("/customers.csv").await.status, 303);

    let mut limited = Browser::signed_in(&base, Role::Viewer, Some("state in ('VT')")).await;
    for query in ["", "?state=NH&state=VT", "?q=x.example", "?sort=name"] {
        let rows = cells(&limited.get(&format!("/customers.csv{query}")).await);
        let emails: Vec<&str> = rows[1..].iter().map(|row| row[1].as_str()).collect();
        assert_eq!(emails, ["cy@x.example"], "{query}");
    }
    noted(&base, "export_customers", None).await;
}

#[tokio::test]
async fn a_file_of_customers_goes_over_pages_up_to_its_bound() {
    let base = Base::new().await;
    many(&base, 450).await;
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    for query in ["", "?sort=-updated_at", "?sort=name", "?state=NH&sort=email"] {
        let rows = cells(&browser.get(&format!("/customers.csv{query}")).await);
        let emails: BTreeSet<&str> = rows[1..].iter().map(|row| row[1].as_str()).collect();
        assert_eq!((rows.len(), emails.len()), (451, 450), "{query}");
    }
    let base = Base::new().await;
    many(&base, 10_001).await;
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    assert_eq!(cells(&browser.get("/customers.csv").await).len(), 10_001);
}

#[tokio::test]
async fn a_customer_leaves_as_the_document_of_the_command_for_whoever_decides() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "state": "NH"})).await;
    base.order(ann, "7", Some("2026-11-03T10:00:00Z"), "p").await;
    base.note(ann, "one lamp", "2026-11-03T10:00:00Z").await;
    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    let link = browser.get(&format!("/customers/{ann}")).await.leads("/export").remove(0);
    let file = browser.get(&link).await;
    assert_eq!((file.status, file.header("content-type")), (200, Some("application/json")), "{file:?}");
    let name = format!("attachment; filename=\"customer-{ann}.json\"");
    assert_eq!(file.header("content-disposition"), Some(name.as_str()));
    assert!(!file.body.contains("digest-of-a-password"), "{file:?}");
    let mut connection = staging::connect(&base.options).await.unwrap();
    let whom = consolidate::Key::CustomerId(ann);
    let document = consolidate::export::export(&mut connection, &crate::support::rules(), &whom).await.unwrap();
    let mut document = document.unwrap();
    assert_eq!(document["customers"][0]["provenance"]["name"]["system"], json!("home_delivery"));
    document["masked"] = Value::Bool(true);
    assert_eq!(file.json(), document);
    noted(&base, "export_customer", Some(ann)).await;

    let nobody = base.id("nobody@x.example");
    assert_eq!(browser.get(&format!("/customers/{nobody}/export")).await.status, 404);
    for (role, only) in [(Role::Viewer, None), (Role::Agent, None), (Role::Operator, Some("state in ('NH')"))] {
        let mut other = Browser::signed_in(&base, role, only).await;
        assert!(other.get(&format!("/customers/{ann}")).await.leads("/export").is_empty(), "{role} {only:?}");
        for whom in [ann, nobody] {
            let refused = other.get(&format!("/customers/{whom}/export")).await;
            assert!(refused.status == 403 && !refused.body.contains("one lamp"), "{role} {only:?}: {refused:?}");
        }
    }
}

/// Waits until the audit log says so.
async fn noted(base: &Base, action: &str, customer: Option<uuid::Uuid>) {
    let sql =
        "select exists (select from customer360.audit_log where action = $1 and customer_id is not distinct from $2)";
    let is_noted = async || sqlx::query_scalar(sql).bind(action).bind(customer).fetch_one(&base.pool).await.unwrap();
    eventually(&format!("{action} is in the audit log"), is_noted).await;
}
