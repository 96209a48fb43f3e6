//! Numbers and charts.

use chrono::Utc;
use serde_json::json;
use serve::keys::Role;

use crate::support::base::Base;
use crate::support::browser::Browser;

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
