//! `customers.jsonl`: what happened to three hundred customers of the home-delivery system.
//!
//! `fixtures/home_delivery/README.md` tells the story to those who read the file; keep it in step.

use anyhow::{Result, ensure};
use c360_tests::{
    people::{Person, System, all, person},
    stack::{CUSTOMERS_TOPIC, Message, Schemas, Stack, debezium_mariadb_config},
};

/// The people that are there when Debezium comes; the others join later.
const IN_SNAPSHOT: usize = 260;

pub(super) async fn record() -> Result<Vec<Message>> {
    let stack = Stack::start().await?;
    let (early, late) = all().split_at(IN_SNAPSHOT);
    stack.mariadb.execute(&insert(early)).await?;
    let config = debezium_mariadb_config(&stack.mariadb, &stack.broker, Schemas::Off);
    stack.connect.register("home-delivery", &config).await?;
    let mut reader = stack.broker.reader(&[CUSTOMERS_TOPIC]).await?;
    let mut messages = reader.take(early.len()).await?;

    for statement in story(late)? {
        stack.mariadb.execute(&statement).await?;
    }
    let farewell = format!(r#"{{"id":{FAREWELL_ID}}}"#);
    messages
        .extend(reader.until(|message| message.key.as_deref() == Some(&farewell) && message.value.is_none()).await?);
    Ok(messages)
}

/// A row that comes and goes, so that the recording knows its end.
const FAREWELL_ID: u32 = 9999;

fn story(late: &[Person]) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    // One by one, then several rows in one statement.
    statements.extend(late[..30].iter().map(|person| insert(std::slice::from_ref(person))));
    statements.push(insert(&late[30..]));

    // Updates of one column.
    for index in 20..30 {
        statements.push(update(index, &format!("phonenumber = '(603) 555-01{index}'")));
    }
    statements.push(update(30, "name = upper(name)"));
    statements.push(update(31, "password = 'n3w-s3cret'"));
    statements.push(update(32, "address_line_2 = null"));
    // A removal to another place.
    for index in 34..38 {
        let address = format!("'{index} Harbor Street', address_line_2 = 'Unit {index}'");
        let place = "city = 'Portsmouth', state = 'NH', zipcode = '03801'";
        statements.push(update(index, &format!("address_line_1 = {address}, {place}")));
    }

    // Emails: a new one, a first one, a corrected one, the same in capitals, none any more.
    for index in [40, 41] {
        statements.push(update(index, &format!("email = '{}'", new_email(plain(index)?))));
    }
    statements.push(update(47, &format!("email = '{}'", person(47).email)));
    statements.push(update(73, &format!("email = '{}'", person(73).email)));
    statements.push(update(42, "email = upper(email)"));
    statements.push(update(43, "email = null"));

    // Two swaps: by three updates in one transaction, and by one statement.
    let (left, right) = (plain(50)?, plain(51)?);
    let swap = [
        "begin".to_owned(),
        update(50, "email = 'swapping@example.org'"),
        update(51, &format!("email = '{}'", left.email)),
        update(50, &format!("email = '{}'", right.email)),
        "commit".to_owned(),
    ];
    statements.push(swap.join(";\n"));
    let (left, right) = (plain(55)?, plain(56)?);
    let (left_id, right_id) = (left.id(System::HomeDelivery), right.id(System::HomeDelivery));
    let emails = format!("if(id = {left_id}, '{}', '{}')", right.email, left.email);
    statements.push(format!("update customers set email = {emails} where id in ({left_id}, {right_id})"));

    // Gone; gone and back under the same id; another id; come and gone in one transaction.
    for index in 60..66 {
        statements.push(delete(index));
    }
    statements.push(delete(66));
    statements.push(insert(std::slice::from_ref(person(66))));
    statements.push(update(70, "id = 5070"));
    let visitor = "insert into customers (id, name, email) values (6000, 'Visitor', 'visitor@example.net');
        update customers set city = 'Nowhere' where id = 6000;
        delete from customers where id = 6000";
    statements.push(format!("begin;\n{visitor};\ncommit"));

    statements.push(format!("insert into customers (id) values ({FAREWELL_ID})"));
    statements.push(format!("delete from customers where id = {FAREWELL_ID}"));
    Ok(statements)
}

/// A person whose email home delivery has as it should be.
fn plain(index: u32) -> Result<&'static Person> {
    let person = person(index);
    ensure!(person.home_delivery_email().as_ref() == Some(&person.email), "person {index} has another email");
    Ok(person)
}

fn new_email(person: &Person) -> String {
    person.email.replace('@', ".new@")
}

fn update(index: u32, assignments: &str) -> String {
    format!("update customers set {assignments} where id = {}", person(index).id(System::HomeDelivery))
}

fn delete(index: u32) -> String {
    format!("delete from customers where id = {}", person(index).id(System::HomeDelivery))
}

fn insert(people: &[Person]) -> String {
    let rows: Vec<String> = people.iter().map(row).collect();
    let columns = "id, name, email, password, address_line_1, address_line_2, city, state, zipcode, phonenumber";
    format!("insert into customers ({columns}) values\n{}", rows.join(",\n"))
}

fn row(person: &Person) -> String {
    let email = person.home_delivery_email();
    let columns = [
        Some(person.name()),
        email,
        Some(person.password(System::HomeDelivery)),
        Some(person.address_line_1.clone()),
        person.address_line_2.clone(),
        Some(person.city.clone()),
        person.state.clone(),
        Some(person.zipcode.clone()),
        Some(person.phone.clone()),
    ];
    let quoted = columns.map(|column| column.map_or_else(|| "null".to_owned(), |text| quote(&text)));
    format!("({}, {})", person.id(System::HomeDelivery), quoted.join(", "))
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}
