//! Orders: their owners, their lines, their totals, in any order of arrival.

use serde_json::{Value, json};

use crate::support::World;
use crate::support::events::{Event, Says, customer, event, order};

async fn lines(world: &World, order_id: &str) -> Vec<Value> {
    let lines = "select line_no, product_id as product, quantity::text, unit_price::text from customer360.order_lines";
    world.rows(&format!("{lines} where order_id = '{order_id}' order by line_no")).await
}

fn line(line_no: i64, product: &str, quantity: &str, unit_price: &str) -> Value {
    json!({"line_no": line_no, "product": product, "quantity": quantity, "unit_price": unit_price})
}

#[tokio::test]
async fn invariant_5_an_order_exists_once_whether_it_or_its_customer_came_first() {
    let buys = || order(10, 1).of_customer("1").lines(&[("p", "2", "87.81")]).document(json!({"OrderId": 10}));
    let ann = || customer(1, 2).email("ann@x.example");
    for deliveries in [
        vec![vec![buys()], vec![ann()], vec![buys()]],
        vec![vec![ann()], vec![buys()], vec![buys()]],
        vec![vec![buys(), ann(), buys()]],
    ] {
        let mut world = World::new().await;
        for events in deliveries {
            world.land("store", &events).await;
            world.consolidate().await;
        }
        let ann = world.customer("ann@x.example").await.unwrap();
        let orders = world.rows("select order_id, customer_id, total::text from customer360.orders").await;
        assert_eq!(orders, [json!({"order_id": "10", "customer_id": ann["customer_id"], "total": "175.62"})]);
        assert_eq!(lines(&world, "10").await, [line(1, "p", "2", "87.81")]);
        let documents = world.rows("select key, document from customer360.order_documents").await;
        assert_eq!(documents, [json!({"key": "order::store:10", "document": {"OrderId": 10}})]);
    }
}

#[tokio::test]
async fn an_order_waits_for_its_customer_and_the_same_id_of_another_system_is_somebody_else() {
    let mut world = World::new().await;
    world.land("store", &[order(10, 1).of_customer("1")]).await;
    world.land("shop", &[customer(1, 1).email("ann@x.example"), order(10, 1).of_customer("1")]).await;
    world.consolidate().await;
    assert_eq!(world.order("store", "10").await["customer_id"], Value::Null);
    assert_ne!(world.order("shop", "10").await["customer_id"], Value::Null);
}

/// Three versions of an order: with lines, with others, and without a word of them.
fn versions() -> [Event; 3] {
    [
        order(10, 1).of_customer("1").lines(&[("a", "1", "10"), ("b", "2", "0.10")]).document(json!({"v": 1})),
        order(10, 2).of_customer("1").lines(&[("c", "3", "0.33")]).document(json!({"v": 2})),
        order(10, 3).of_customer("2").document(json!({"v": 3})),
    ]
}

#[tokio::test]
async fn lines_are_replaced_as_a_set_and_absent_lines_keep_in_any_order_of_arrival() {
    for permutation in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for together in [true, false] {
            let mut world = World::new().await;
            let arrived = permutation.map(|at| versions()[at].clone());
            for events in arrived.chunks(if together { 3 } else { 1 }) {
                world.land("store", events).await;
                world.consolidate().await;
            }
            let found = world.order("store", "10").await;
            let when = format!("{permutation:?}, together: {together}");
            assert_eq!((&found["customer_external_id"], &found["document"]), (&json!("2"), &json!({"v": 3})), "{when}");
            assert_eq!(lines(&world, "10").await, [line(1, "c", "3", "0.33")], "{when}");
            assert_eq!(found["total"].to_string(), "0.99", "{when}");
        }
    }
}

#[tokio::test]
async fn a_total_that_is_given_belongs_to_its_own_record() {
    let given = order(10, 1).total("99.90").lines(&[("a", "1", "10")]);
    let silent = order(10, 2);
    for arrived in [[given.clone(), silent.clone()], [silent, given]] {
        let mut world = World::new().await;
        for event in arrived {
            world.land("store", &[event]).await;
            world.consolidate().await;
        }
        assert_eq!(world.order("store", "10").await["total"].to_string(), "10", "the lines that are kept, summed");
        world.land("store", &[order(10, 3).total("7.5")]).await;
        world.consolidate().await;
        assert_eq!(world.order("store", "10").await["total"].to_string(), "7.5");
        assert_eq!(lines(&world, "10").await.len(), 1);
    }
}

#[tokio::test]
async fn a_total_that_is_not_that_of_the_lines_is_counted_and_refuses_nothing() {
    let differs = async |world: &World| {
        consolidate::overview::orders_total_differs(&world.pool)
            .await
            .unwrap()
            .get("store")
            .copied()
            .unwrap_or_default()
    };
    let right = order(10, 1).total("20.0").lines(&[("a", "2", "10.00")]);
    let wrong = order(11, 1).total("25").lines(&[("a", "2", "10.00")]);
    let unknown = order(12, 1).total("25").lines(&[("a", "?", "10.00")]);
    let mut world = World::new().await;
    world.land("store", &[right, wrong, unknown, order(13, 1).total("25").lines(&[])]).await;
    world.consolidate().await;
    assert_eq!(differs(&world).await, 1);
    assert_eq!(world.order("store", "11").await["total"].to_string(), "25", "the source's word stands");
    // Lines that are kept are compared with a newer total; lines that come late with the total that is known.
    world.land("store", &[order(11, 3).total("30")]).await;
    world.consolidate().await;
    assert_eq!(differs(&world).await, 1);
    world.land("store", &[order(11, 2).lines(&[("a", "3", "10.00")])]).await;
    world.consolidate().await;
    assert_eq!(differs(&world).await, 0);
    world.land("store", &[order(11, 4).total("31")]).await;
    world.consolidate().await;
    assert_eq!(differs(&world).await, 1);
    world.land("store", &[event(11, 5, Says::OrderGone)]).await;
    world.consolidate().await;
    assert_eq!(differs(&world).await, 0);
}

#[tokio::test]
async fn a_cancelled_order_is_marked_and_stays() {
    let mut world = World::new().await;
    world.land("store", &[order(10, 1).lines(&[("a", "1", "10")]).cancelled()]).await;
    world.consolidate().await;
    let found = world.order("store", "10").await;
    assert_eq!((&found["status"], &found["cancelled"]), (&json!("Cancelled"), &json!(true)));
    assert_eq!(world.value("select count(*) from customer360.order_documents").await, 1);
    world.land("store", &[order(10, 2)]).await;
    world.consolidate().await;
    let found = world.order("store", "10").await;
    assert_eq!((&found["status"], &found["cancelled"]), (&Value::Null, &json!(false)), "the newest record says so");
}

#[tokio::test]
async fn no_lines_clear_and_a_number_that_is_missing_leaves_no_total() {
    let mut world = World::new().await;
    world.land("store", &[order(10, 1).lines(&[("a", "1", "10"), ("b", "?", "2")]), order(11, 1)]).await;
    world.consolidate().await;
    assert_eq!(world.order("store", "10").await["total"], Value::Null);
    assert_eq!(world.order("store", "11").await["total"], Value::Null, "nobody said anything of lines");
    world.land("store", &[order(10, 2).lines(&[])]).await;
    world.consolidate().await;
    assert!(lines(&world, "10").await.is_empty());
    assert_eq!(world.order("store", "10").await["total"], 0);
}

/// Two cross-references of somebody new, in two lanes, to each of which orders have waited.
#[tokio::test]
async fn orders_that_waited_for_somebody_new_are_all_counted() {
    let mut world = World::new().await;
    world.land("store", &(0..3_000).map(|id| order(id, 1).of_customer(&id.to_string())).collect::<Vec<_>>()).await;
    world.consolidate().await;
    let customer = |id: i64| customer(id, 1).email(&format!("{}@x.example", id / 2));
    world.land("store", &(0..3_000).map(customer).collect::<Vec<_>>()).await;
    world.consolidate().await;
    assert_eq!(world.value("select sum(orders)::bigint from customer360.buyers").await, json!(3_000));
    world.assert_counts_are_right("attached").await;
}

#[tokio::test]
async fn totals_are_exact_where_floats_are_not() {
    let mut world = World::new().await;
    let tenths: Vec<(&str, &str, &str)> = vec![("a", "3", "0.1"); 1000];
    let vast = [("a", "1", "123456789012345678901234567890.01"), ("b", "1", "0.000000000000000000000000000001")];
    world.land("store", &[order(10, 1).lines(&tenths), order(11, 1).lines(&vast)]).await;
    world.consolidate().await;
    let totals = world.rows("select total::text from customer360.orders order by order_id").await;
    let exact = "123456789012345678901234567890.010000000000000000000000000001";
    assert_eq!(totals, [json!({"total": "300.0"}), json!({"total": exact})]);
}

#[tokio::test]
async fn a_deleted_order_is_no_document_and_only_newer_records_bring_it_back() {
    let deleted = || event(10, 5, Says::OrderGone);
    let first = || order(10, 4).of_customer("1").lines(&[("a", "1", "10")]).document(json!({"v": 1}));
    for arrived in [[first(), deleted()], [deleted(), first()]] {
        let mut world = World::new().await;
        for event in arrived {
            world.land("store", &[event]).await;
            world.consolidate().await;
        }
        assert_ne!(world.order("store", "10").await["deleted_at"], Value::Null);
        assert!(lines(&world, "10").await.is_empty());
        assert_eq!(world.value("select count(*) from customer360.order_documents").await, 0);
        world.land("store", &[order(10, 6).of_customer("1").document(json!({"v": 2}))]).await;
        world.consolidate().await;
        assert_eq!(world.value("select document from customer360.order_documents").await, json!({"v": 2}));
        assert!(lines(&world, "10").await.is_empty(), "it starts from nothing");
    }
}
