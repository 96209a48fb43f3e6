//! The reference scenario: three systems, one customer.

use model::{ProductFields, parse_time};
use serde_json::json;

use crate::support::World;
use crate::support::events::{Says, customer, event, member, order};

const EMAIL: &str = "matthew.groves@couchbase.com";

#[tokio::test]
async fn the_reference_scenario_gives_one_customer_three_cross_references_and_two_orders() {
    let mut world = World::new().await;
    let home = [
        ("name", "Matthew Groves"),
        ("address1", "600 Sporer Curve"),
        ("address2", "Suite 528"),
        ("city", "West Evertchester"),
        ("state", "NH"),
        ("zipcode", "04006"),
        ("phone", "811.128.4320 x4808"),
    ];
    let home = home.into_iter().fold(customer(1029, 7), |event, (name, value)| event.attribute(name, value));
    world.land("home_delivery", &[home.email(EMAIL).credential("d1")]).await;
    let loyal = member("27", 0, 1).email("Matthew.Groves@Couchbase.com ").credential("d2");
    let loyal = loyal.attribute("firstName", "Matthew").attribute("lastName", "Groves");
    world.land("loyalty", &[loyal.attribute("name", "Matthew Groves").attribute("loyaltyPoints", "47")]).await;
    let documents = [
        json!({"OrderId": 1, "PurchaseDate": "2019-04-25T15:15:5800838522", "CustomerId": 1,
               "Items": [{"OrderId": 1, "ProductId": 200, "Quantity": 2, "Price": 87.81}]}),
        json!({"OrderId": 2, "PurchaseDate": "2019-04-26T08:00:00", "CustomerId": 1, "Items": []}),
    ];
    let mut first = order(1, 9).of_customer("1").lines(&[("200", "2", "87.81")]).document(documents[0].clone());
    if let Says::Order(order) = &mut first.says {
        order.purchased_at = parse_time("2019-04-25T15:15:5800838522", "UTC".parse().unwrap());
    }
    let second = order(2, 9).of_customer("1").lines(&[]).document(documents[1].clone());
    let answer = customer(1, 9).email(EMAIL).credential("d1").attribute("name", "Matt Groves");
    let product = ProductFields { name: Some("Widget".to_owned()), ..ProductFields::default() };
    world.land("online_store", &[answer, first, second, event(200, 9, Says::Product(Some(product)))]).await;

    let drained = world.consolidate().await;

    assert_eq!((drained.records, drained.excluded, drained.profiles), (6, 0, 1));
    assert_eq!(
        world.rows("select email, document from customer360.documents").await,
        [json!({"email": EMAIL, "document": {
            "type": "user",
            "profile": {
                "name": "Matthew Groves", "firstName": "Matthew", "lastName": "Groves", "loyaltyPoints": "47",
                "address1": "600 Sporer Curve", "address2": "Suite 528", "city": "West Evertchester", "state": "NH",
                "zipcode": "04006", "phone": "811.128.4320 x4808"},
            "xrefs": [
                {"external_system": "home_delivery", "external_ID": 1029, "pass": "d1"},
                {"external_system": "loyalty", "external_ID": "27", "pass": "d2"},
                {"external_system": "online_store", "external_ID": 1, "pass": "d1"}]}})]
    );
    assert_eq!(
        world.rows("select key, document from customer360.order_documents order by key").await,
        [
            json!({"key": "order::online_store:1", "document": documents[0]}),
            json!({"key": "order::online_store:2", "document": documents[1]})
        ]
    );
    let (order, whose) = (world.order("online_store", "1").await, world.customer(EMAIL).await.unwrap());
    assert_eq!(order["customer_id"], whose["customer_id"]);
    assert_eq!(order["total"].to_string(), "175.62");
    assert_eq!(order["purchased_at"], "2019-04-25T15:15:58.008385+00:00");
    assert_eq!(whose["provenance"]["loyaltyPoints"], json!({"system": "loyalty", "external_id": "27"}));
    assert_eq!(whose["provenance"]["name"], json!({"system": "home_delivery", "external_id": "1029"}));
}
