//! The home-delivery system's rows, for the MySQL of docker-compose.
//!
//! As that system has them to begin with. The recorded events in `fixtures/home_delivery` begin with the same rows and
//! go on from there.

use c360_tests::people::{self, Person, System};

const HEADER: &str = "\
-- Run once by the mysql image, on an empty volume, as root: the people of the demo. Written by demo_fixtures.

set names utf8mb4;

insert into inventory.customers
  (id, name, email, password, address_line_1, address_line_2, city, state, zipcode, phonenumber)
values
";

/// One `insert` of everybody.
pub(crate) fn rows() -> Vec<u8> {
    let rows: Vec<String> = people::all().iter().map(row).collect();
    format!("{HEADER}{};\n", rows.join(",\n")).into()
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
    let columns = columns.map(|text| text.map_or_else(|| "null".to_owned(), |text| literal(&text)));
    format!("  ({}, {})", person.id(System::HomeDelivery), columns.join(", "))
}

/// A text as MySQL reads it, where a backslash escapes too.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}
