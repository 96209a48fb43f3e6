//! The sample online store's data: a record a line, as its API answers them.

use c360_tests::people::{self, System};
use serde_json::Value;

use crate::chance::{below, pick};
use crate::newcomers::newcomer;

/// Customers whom home delivery does not know, and the number before the first of them.
const NEWCOMERS: u32 = 10;
const BEFORE_NEWCOMERS: u32 = 500;

const ORDERS: u32 = 250;
/// The first two orders are the reference customer's; the date of the very first lacks the dot before its fraction, as
/// the reference scenario has it.
const REFERENCE_DATES: [&str; 2] = ["2019-04-25T15:15:5800838522", "2019-05-02T09:41:17.2041953"];
const FIRST_OTHER_ORDER: u32 = 3;
const ORDER_WITHOUT_ITEMS: u32 = 100;
/// The months of the other orders, from January 2024.
const MONTHS: u32 = 34;

const FIRST_PRODUCT: u32 = 200;

/// `{"customers": [...], "orders": [...], "products": [...]}`
pub(crate) fn data() -> Vec<u8> {
    let customers = customers();
    let numbers: Vec<u32> = customers.iter().map(|customer| customer.id).collect();
    let customers = list(customers.iter().map(Customer::record));
    let orders = list((1..=ORDERS).map(|id| order(id, &numbers)));
    let products = list(PRODUCTS.iter().zip(FIRST_PRODUCT..).map(|(product, id)| product.record(id)));
    format!("{{\n\"customers\":[\n{customers}\n],\n\"orders\":[\n{orders}\n],\n\"products\":[\n{products}\n]\n}}\n")
        .into()
}

fn list(records: impl Iterator<Item = String>) -> String {
    records.collect::<Vec<_>>().join(",\n")
}

struct Customer {
    id: u32,
    name: String,
    email: String,
    password: String,
}

/// The reference customer, every second of the other people until there are 140, and some newcomers.
fn customers() -> Vec<Customer> {
    let people = people::all().iter().step_by(2).take(140).map(|person| Customer {
        id: person.id(System::OnlineStore),
        // Some sign with an initial only.
        name: if person.index % 18 == 6 {
            format!("{}. {}", person.first_name.chars().next().unwrap_or('X'), person.last_name)
        } else {
            person.name()
        },
        email: person.email.clone(),
        password: person.password(System::OnlineStore),
    });
    let newcomers = (1..=NEWCOMERS).map(newcomer).zip(1..).map(|(newcomer, number)| Customer {
        id: BEFORE_NEWCOMERS + number,
        name: format!("{} {}", newcomer.first_name, newcomer.last_name),
        password: newcomer.password("online store"),
        email: newcomer.email,
    });
    people.chain(newcomers).collect()
}

impl Customer {
    fn record(&self) -> String {
        let id = self.id;
        let [name, email, password] = [&self.name, &self.email, &self.password].map(|text| Value::from(text.as_str()));
        format!(r#"{{"Id":{id},"Name":{name},"Email":{email},"Password":{password}}}"#)
    }
}

fn order(id: u32, customers: &[u32]) -> String {
    // The reference customer has the two reference orders and no others.
    let customer = if id < FIRST_OTHER_ORDER { customers[0] } else { *pick(&customers[1..], "customer", id) };
    let line = |(product, quantity): (usize, u32)| {
        let (number, price) = (FIRST_PRODUCT as usize + product, PRODUCTS[product].price());
        format!(r#"{{"OrderId":{id},"ProductId":{number},"Quantity":{quantity},"Price":{price}}}"#)
    };
    let items = items(id).into_iter().map(line).collect::<Vec<_>>().join(",");
    let date = purchase_date(id);
    format!(r#"{{"OrderId":{id},"PurchaseDate":"{date}","CustomerId":{customer},"Items":[{items}]}}"#)
}

/// Products by their place in [`PRODUCTS`], and how many of each.
fn items(order: u32) -> Vec<(usize, u32)> {
    match order {
        1 => vec![(0, 2), (7, 1)],
        2 => vec![(12, 1), (0, 1), (31, 3)],
        ORDER_WITHOUT_ITEMS => Vec::new(),
        order => {
            let [first, step] = [below(40, "first product", order), 1 + below(9, "next product", order)];
            let product = |line: u32| (first + line * step) as usize % PRODUCTS.len();
            let lines = 0..=below(4, "lines", order);
            lines.map(|line| (product(line), 1 + below(3, "quantity", order * 8 + line))).collect()
        }
    }
}

/// Mostly without a zone and with seven digits behind the second, as the store's own platform writes times.
fn purchase_date(order: u32) -> String {
    if let Some(date) = REFERENCE_DATES.get(order as usize - 1) {
        return (*date).to_owned();
    }
    let month = (order - FIRST_OTHER_ORDER) * MONTHS / (ORDERS - FIRST_OTHER_ORDER + 1);
    let (year, month) = (2024 + month / 12, 1 + month % 12);
    let [day, hour] = [1 + below(28, "day", order), 6 + below(17, "hour", order)];
    let [minute, second] = [below(60, "minute", order), below(60, "second", order)];
    let end =
        if order.is_multiple_of(25) { "Z".to_owned() } else { format!(".{:07}", below(10_000_000, "ticks", order)) };
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{end}")
}

struct Product(&'static str, &'static str, u32);

impl Product {
    fn record(&self, id: u32) -> String {
        let [name, category] = [self.0, self.1].map(Value::from);
        let (price, stock) = (self.price(), below(120, "stock", id));
        format!(r#"{{"ProductId":{id},"Name":{name},"Category":{category},"Price":{price},"InStock":{stock}}}"#)
    }

    /// With two digits behind the point, always: 40.00 is not 40.
    fn price(&self) -> String {
        format!("{}.{:02}", self.2 / 100, self.2 % 100)
    }
}

/// Name, category and price in cents.
const PRODUCTS: [Product; 40] = [
    Product("Oak side table", "Furniture", 8_781),
    Product("Café chair, beech", "Furniture", 6_450),
    Product("Folding stool", "Furniture", 2_400),
    Product("Wall shelf, 80 cm", "Furniture", 3_199),
    Product("Coat rack", "Furniture", 4_999),
    Product("Linen table cloth", "Textiles", 3_850),
    Product("Wool blanket", "Textiles", 7_900),
    Product("Tea towels, set of 3", "Textiles", 1_495),
    Product("Cushion cover", "Textiles", 1_290),
    Product("Bath mat", "Textiles", 2_250),
    Product("Cast-iron pan, 26 cm", "Kitchen", 5_995),
    Product("Chopping board", "Kitchen", 2_790),
    Product("Coffee mill", "Kitchen", 4_425),
    Product("Storage jar, 1 l", "Kitchen", 850),
    Product("Kitchen scale", "Kitchen", 3_060),
    Product("Bread knife", "Kitchen", 1_975),
    Product("Pepper mill", "Kitchen", 2_610),
    Product("Enamel jug", "Kitchen", 1_850),
    Product("Salad bowl", "Kitchen", 3_340),
    Product("Tea pot, 0.8 l", "Kitchen", 3_725),
    Product("Desk lamp", "Lighting", 5_480),
    Product("Floor lamp", "Lighting", 11_900),
    Product("Night light", "Lighting", 1_599),
    Product("Candle holder", "Lighting", 1_120),
    Product("Lantern", "Lighting", 2_875),
    Product("Garden gloves", "Garden", 990),
    Product("Watering can, 5 l", "Garden", 2_199),
    Product("Hand trowel", "Garden", 1_345),
    Product("Herb seeds, mixed", "Garden", 475),
    Product("Planter, 30 cm", "Garden", 2_680),
    Product("Bird feeder", "Garden", 1_760),
    Product("Notebook, dotted", "Desk", 780),
    Product("Fountain pen", "Desk", 3_495),
    Product("Pencil case", "Desk", 1_230),
    Product("Letter tray", "Desk", 1_915),
    Product("Paper weight \"Globe\"", "Desk", 2_105),
    Product("Umbrella", "Travel", 2_950),
    Product("Luggage tag", "Travel", 695),
    Product("Weekend bag", "Travel", 8_890),
    Product("Drinking bottle, 0.7 l", "Travel", 1_999),
];
