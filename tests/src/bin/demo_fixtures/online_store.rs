//! The sample online store's data: a record a line, as its API answers them.

use serde_json::{Value, json};

use super::{
    cast,
    chance::{below, word},
    loyalty,
};

const CUSTOMERS: usize = 150;
const ORDERS: usize = 250;
const FIRST_PRODUCT: usize = 200;
const PASSWORD_LETTERS: &[u8] = b"abcdefghijkmnopqrstuvwxyz23456789";

/// The first two orders are the reference customer's; the date of the very first lacks the dot before its fraction, as
/// the reference scenario has it.
const FIRST_DATES: [&str; 2] = ["2019-04-25T15:15:5800838522", "2019-05-02T09:41:17.2041953"];
const ORDER_WITHOUT_ITEMS: usize = 100;
/// The months of the other orders, from January 2024.
const MONTHS: usize = 34;

/// `{"customers": [...], "orders": [...], "products": [...]}`
pub fn data() -> Vec<u8> {
    let customers = list((1..=CUSTOMERS).map(customer));
    let orders = list((1..=ORDERS).map(order));
    let products = list((0..PRODUCTS.len()).map(product));
    format!("{{\n\"customers\":[\n{customers}\n],\n\"orders\":[\n{orders}\n],\n\"products\":[\n{products}\n]\n}}\n").into()
}

fn list(records: impl Iterator<Item = String>) -> String {
    records.collect::<Vec<_>>().join(",\n")
}

fn customer(id: usize) -> String {
    let someone = match id {
        1 => cast::reference(),
        id if id % 16 == 0 => loyalty::newcomer(id / 16),
        id => cast::other(id, 11),
    };
    let name = match below(9, "short name", id) {
        0 if id != 1 => format!("{}. {}", someone.first_name.chars().next().unwrap_or('X'), someone.last_name),
        _ => format!("{} {}", someone.first_name, someone.last_name),
    };
    let password = if id == 1 { "edzchzmatv5".to_owned() } else { word(PASSWORD_LETTERS, 11, "store password", id) };
    let (name, email) = (Value::from(name), Value::from(someone.email));
    format!(r#"{{"Id":{id},"Name":{name},"Email":{email},"Password":"{password}"}}"#)
}

fn order(id: usize) -> String {
    let customer = if id <= FIRST_DATES.len() { 1 } else { 1 + below(CUSTOMERS, "customer of order", id) };
    let items = items(id).into_iter().map(|(product, quantity)| {
        let (number, price) = (FIRST_PRODUCT + product, price(product));
        format!(r#"{{"OrderId":{id},"ProductId":{number},"Quantity":{quantity},"Price":{price}}}"#)
    });
    let items = items.collect::<Vec<_>>().join(",");
    let date = purchase_date(id);
    format!(r#"{{"OrderId":{id},"PurchaseDate":"{date}","CustomerId":{customer},"Items":[{items}]}}"#)
}

/// Products, counted from 0, and how many of each.
fn items(order: usize) -> Vec<(usize, usize)> {
    match order {
        1 => vec![(0, 2), (7, 1)],
        2 => vec![(12, 1), (0, 1), (31, 3)],
        ORDER_WITHOUT_ITEMS => Vec::new(),
        order => {
            let first = below(PRODUCTS.len(), "first product", order);
            let step = 1 + below(9, "next product", order);
            let count = 1 + below(4, "lines", order);
            let product = |line: usize| (first + line * step) % PRODUCTS.len();
            (0..count).map(|line| (product(line), 1 + below(3, "quantity", order * 8 + line))).collect()
        }
    }
}

/// Mostly without a zone and with seven digits behind the second, as the store's own platform writes times.
fn purchase_date(order: usize) -> String {
    if let Some(date) = FIRST_DATES.get(order - 1) {
        return (*date).to_owned();
    }
    let month = (order - FIRST_DATES.len() - 1) * MONTHS / (ORDERS - FIRST_DATES.len());
    let (year, month) = (2024 + month / 12, 1 + month % 12);
    let [day, hour] = [1 + below(28, "day", order), 6 + below(17, "hour", order)];
    let [minute, second] = [below(60, "minute", order), below(60, "second", order)];
    let fraction = if order % 25 == 0 { "Z".to_owned() } else { format!(".{:07}", below(10_000_000, "ticks", order)) };
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}")
}

fn product(n: usize) -> String {
    let (id, (name, category, _)) = (FIRST_PRODUCT + n, PRODUCTS[n]);
    let (price, stock) = (price(n), below(120, "stock", n));
    let record = json!({ "Name": name, "Category": category });
    format!(
        r#"{{"ProductId":{id},"Name":{},"Category":{},"Price":{price},"InStock":{stock}}}"#,
        record["Name"], record["Category"]
    )
}

/// With two digits behind the point, always: 40.00 is not 40.
fn price(product: usize) -> String {
    let cents = PRODUCTS[product].2;
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// Name, category and price in cents.
const PRODUCTS: [(&str, &str, usize); 40] = [
    ("Oak side table", "Furniture", 8_781),
    ("Café chair, beech", "Furniture", 6_450),
    ("Folding stool", "Furniture", 2_400),
    ("Wall shelf, 80 cm", "Furniture", 3_199),
    ("Coat rack", "Furniture", 4_999),
    ("Linen table cloth", "Textiles", 3_850),
    ("Wool blanket", "Textiles", 7_900),
    ("Tea towels, set of 3", "Textiles", 1_495),
    ("Cushion cover", "Textiles", 1_290),
    ("Bath mat", "Textiles", 2_250),
    ("Cast-iron pan, 26 cm", "Kitchen", 5_995),
    ("Chopping board", "Kitchen", 2_790),
    ("Coffee mill", "Kitchen", 4_425),
    ("Storage jar, 1 l", "Kitchen", 850),
    ("Kitchen scale", "Kitchen", 3_060),
    ("Bread knife", "Kitchen", 1_975),
    ("Pepper mill", "Kitchen", 2_610),
    ("Enamel jug", "Kitchen", 1_850),
    ("Salad bowl", "Kitchen", 3_340),
    ("Tea pot, 0.8 l", "Kitchen", 3_725),
    ("Desk lamp", "Lighting", 5_480),
    ("Floor lamp", "Lighting", 11_900),
    ("Night light", "Lighting", 1_599),
    ("Candle holder", "Lighting", 1_120),
    ("Lantern", "Lighting", 2_875),
    ("Garden gloves", "Garden", 990),
    ("Watering can, 5 l", "Garden", 2_199),
    ("Hand trowel", "Garden", 1_345),
    ("Herb seeds, mixed", "Garden", 475),
    ("Planter, 30 cm", "Garden", 2_680),
    ("Bird feeder", "Garden", 1_760),
    ("Notebook, dotted", "Desk", 780),
    ("Fountain pen", "Desk", 3_495),
    ("Pencil case", "Desk", 1_230),
    ("Letter tray", "Desk", 1_915),
    ("Paper weight \"Globe\"", "Desk", 2_105),
    ("Umbrella", "Travel", 2_950),
    ("Luggage tag", "Travel", 695),
    ("Weekend bag", "Travel", 8_890),
    ("Drinking bottle, 0.7 l", "Travel", 1_999),
];
