//! The base in aggregate, and what people who bought the same bought.

use serde_json::{Value, json};
use serve::keys::Role;

use crate::support::base::Base;

#[tokio::test]
async fn the_base_is_counted_as_it_is_and_as_far_as_the_key_sees_it() {
    let base = Base::new().await;
    for (email, state, points) in
        [("a@x.example", "NH", json!("47")), ("b@x.example", "NH", json!(5)), ("c@x.example", "VT", json!("many"))]
    {
        base.customer(email, json!({"name": "N", "state": state, "loyaltyPoints": points})).await;
    }
    let (a, c) = (base.id("a@x.example"), base.id("c@x.example"));
    let month = |ago: u32| {
        let today = chrono::Utc::now().date_naive();
        today.checked_sub_months(chrono::Months::new(ago)).unwrap().format("%Y-%m").to_string()
    };
    for (customer, order, ago) in [(a, "1", 2), (a, "2", 2), (a, "3", 1), (c, "4", 1), (c, "cancelled", 0)] {
        base.order(customer, order, Some(&format!("{}-01T00:00:00Z", month(ago))), "p").await;
    }
    base.order(c, "undated", None, "p").await;
    base.run(
        "update customer360.orders set cancelled = true where order_id = 'cancelled';
         insert into customer360.xrefs (system, external_id, unmatched_reason, external_id_json, attributes, position,
                                        observed_at, first_seen_at, last_seen_at)
         values ('loyalty', '1', 'no_email', '1', '{}', '', now(), now(), now());
         update customer360.customer_search set disagreeing = '{name,phone}'",
    )
    .await;
    base.run(&format!(
        "update customer360.customer_search set disagreeing = '{{name}}' where customer_id = '{c}';
         update customer360.customer_search set disagreeing = '{{}}' where customer_id = '{a}'"
    ))
    .await;
    let everybody = base.key(Role::Viewer, None).await;
    let all = base.server.ask(&everybody, "/insights").await.json();
    assert_eq!(all["customers"]["total"], 3);
    assert_eq!(all["customers"]["by_state"], json!([{"value": "NH", "customers": 2}, {"value": "VT", "customers": 1}]));
    assert_eq!(all["customers"]["by_systems"], json!([{"systems": 1, "customers": 3}]));
    let points = json!([{"from": 1, "below": 10, "customers": 1}, {"from": 10, "below": 100, "customers": 1}]);
    assert_eq!(all["customers"]["by_loyalty"], points);
    let orders = &all["orders"];
    assert_eq!(
        (&orders["total"], &orders["value"], &orders["buyers"], &orders["repeat_buyers"]),
        (&json!(5), &json!("62.5"), &json!(2), &json!(2))
    );
    let newest = json!({"month": month(1), "orders": 2, "value": "25"});
    assert_eq!(orders["by_month"][0], newest);
    assert_eq!(all["quality"]["unmatched"], json!([{"reason": "no_email", "xrefs": 1}]));
    assert!(all["quality"]["missing"].as_array().unwrap().contains(&json!({"attribute": "city", "customers": 3})));
    let disagreements = json!([{"attribute": "name", "customers": 2}, {"attribute": "phone", "customers": 1}]);
    assert_eq!((&all["quality"]["disagreeing"], &all["quality"]["disagreements"]), (&json!(2), &disagreements));
    let cohorts = json!([
        {"month": month(1), "customers": 1, "ordered": [1, 0]},
        {"month": month(2), "customers": 1, "ordered": [1, 1, 0]},
    ]);
    assert_eq!(all["cohorts"], cohorts);

    let limited = base.key(Role::Viewer, Some("state in ('VT')")).await;
    let some = base.server.ask(&limited, "/insights").await.json();
    assert_eq!(some["customers"]["by_state"], json!([{"value": "VT", "customers": 1}]));
    assert_eq!((&some["customers"]["total"], &some["orders"]["total"]), (&json!(1), &json!(2)));
    assert_eq!(some["quality"]["unmatched"], json!([]));
    assert_eq!(some["systems"][0]["customers"], 1);
    assert_eq!(some["quality"]["disagreements"], json!([{"attribute": "name", "customers": 1}]));

    for (key, query, expected) in [
        (&everybody, "disagreeing=name", "b@x.example c@x.example"),
        (&everybody, "disagreeing=phone", "b@x.example"),
        (&everybody, "disagreeing=phone&disagreeing=name&state=VT", "c@x.example"),
        (&everybody, "disagreeing=city", ""),
        (&limited, "disagreeing=name", "c@x.example"),
        (&limited, "disagreeing=phone", ""),
    ] {
        let page = base.server.ask(key, &format!("/customers?{query}&sort=email&count=true")).await.json();
        let found: Vec<&str> =
            page["items"].as_array().unwrap().iter().map(|item| item["email"].as_str().unwrap()).collect();
        assert_eq!(found.join(" "), expected, "{query}");
        assert_eq!(page["total"], found.len(), "{query}");
    }
    let unknown = base.server.ask(&everybody, "/customers?disagreeing=shoes").await;
    assert_eq!((unknown.status, &unknown.json()["errors"][0]["field"]), (400, &json!("disagreeing")));
}

#[tokio::test]
async fn an_empty_base_has_insights_too() {
    let base = Base::new().await;
    let empty = base.server.ask(&base.key(Role::Viewer, None).await, "/insights").await;
    assert_eq!((empty.status, &empty.json()["orders"]["value"]), (200, &json!("0")));
}

#[tokio::test]
async fn recommended_is_what_at_least_five_who_bought_the_same_bought_and_the_customer_has_not() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "state": "NH"})).await;
    base.order(ann, "ann", None, "lamp").await;
    // Five bought bulbs with a lamp, four a shade; everybody else bought bread.
    for number in 0..10 {
        let customer = base.customer(&format!("c{number}@x.example"), json!({"name": "C", "state": "ME"})).await;
        for (product, below) in [("lamp", 5), ("bulb", 5), ("shade", 4)] {
            if number < below {
                base.order(customer, &format!("{number}{product}"), None, product).await;
            }
        }
        base.order(customer, &format!("{number}bread"), None, "bread").await;
    }
    base.run("insert into customer360.products values ('online_store', 'bulb', 'Bulb', '{}', '')").await;
    consolidate::count_pairs(&base.options).await.unwrap();
    let key = base.key(Role::Viewer, Some("state in ('NH')")).await;
    let path = format!("/customers/{ann}/recommendations");
    let items = base.server.ask(&key, &path).await.json()["items"].clone();
    let named: Vec<&Value> = items.as_array().unwrap().iter().map(|item| &item["product_id"]).collect();
    assert_eq!(named, ["bulb", "bread"], "a shade has too few buyers; the lamp is hers already");
    assert_eq!(
        (&items[0]["name"], &items[0]["buyers"], &items[0]["because"]["product_id"]),
        (&json!("Bulb"), &json!(5), &json!("lamp"))
    );
    let one = base.server.ask(&key, &format!("{path}?limit=1&count=true")).await.json();
    assert_eq!((&one["items"][0], &one["total"]), (&items[0], &json!(2)), "those that a limit cuts off are counted");
    // 11 people, 6 with a lamp, 5 with bulbs.
    assert!((items[0]["lift"].as_f64().unwrap() - 5.0 * 11.0 / (6.0 * 5.0)).abs() < 1e-9);

    assert_eq!(consolidate::count_pairs(&base.options).await.unwrap(), consolidate::PairsCounted::Changed(0));
    base.run("update customer360.orders set cancelled = true where order_id = '0bulb'").await;
    consolidate::count_pairs(&base.options).await.unwrap();
    let items = base.server.ask(&key, &path).await.json()["items"].clone();
    assert_eq!(items.as_array().unwrap().len(), 1, "an order that was cancelled counts no more");
    assert_eq!(base.server.ask(&key, &path).await.json().get("next_cursor"), Some(&Value::Null));
    base.run(
        "insert into customer360.products (system, product_id, attributes, position, deleted_at)
         values ('online_store', 'bread', '{}', '', now())",
    )
    .await;
    assert_eq!(base.server.ask(&key, &path).await.json()["items"], json!([]), "a product that is gone");
    for unseen in ["/customers/c1@x.example/recommendations", "/customers/nobody@x.example/recommendations"] {
        assert_eq!(base.server.ask(&key, unseen).await.status, 404);
    }
}
