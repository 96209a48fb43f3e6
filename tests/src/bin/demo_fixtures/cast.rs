//! Who is in which system.

use c360_tests::people::{self, Person};

use super::chance::below;

/// What every system knows about somebody.
#[derive(Clone)]
pub struct Someone {
    pub first_name: String,
    pub last_name: String,
    pub email: String,
}

/// Matthew Groves, whom all three systems know.
pub fn reference() -> Someone {
    Someone { first_name: "Matthew".into(), last_name: "Groves".into(), email: REFERENCE_EMAIL.into() }
}

/// The `n`th of the others, in an order that depends on `stride`. Different `n` below 299 are different people where
/// the stride has no factor in common with 299, that is, is no multiple of 13 or 23.
pub fn other(n: usize, stride: usize) -> Someone {
    let others: Vec<Person> = people::all().into_iter().filter(|person| person.email != REFERENCE_EMAIL).collect();
    let person = &others[n * stride % others.len()];
    let (first_name, last_name) = person.name.split_once(' ').unwrap_or((&person.name, ""));
    Someone { first_name: first_name.into(), last_name: last_name.into(), email: person.email.clone() }
}

/// The `n`th of those whom home delivery does not know.
pub fn newcomer(n: usize) -> Someone {
    let first_name = FIRST_NAMES[below(FIRST_NAMES.len(), "newcomer's first name", n)];
    let last_name = LAST_NAMES[below(LAST_NAMES.len(), "newcomer's last name", n)];
    let email = format!("{}.{}.{n}@example.net", first_name.to_lowercase(), last_name.to_lowercase());
    Someone { first_name: first_name.into(), last_name: last_name.into(), email }
}

const REFERENCE_EMAIL: &str = "matthew.groves@couchbase.com";

const FIRST_NAMES: [&str; 16] = [
    "Agnes", "Bruno", "Celia", "Dimitri", "Edda", "Farid", "Greta", "Hamza", "Ilse", "Joris", "Karin", "Leonid", "Mira",
    "Nuno", "Orla", "Pavel",
];

const LAST_NAMES: [&str; 16] = [
    "Alder", "Birch", "Cedarholm", "Dogwood", "Elmsworth", "Fennel", "Gorse", "Hawthorne", "Ivy", "Juniper", "Kestrel",
    "Larch", "Maplewood", "Nettles", "Oakes", "Pinegrove",
];
