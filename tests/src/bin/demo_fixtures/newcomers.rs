//! Customers whom home delivery does not know: the loyalty programme has them all, the online store a few.

use crate::chance::{pick, word};

/// What a system knows about one of them.
pub(crate) struct Newcomer {
    pub(crate) first_name: &'static str,
    pub(crate) last_name: &'static str,
    pub(crate) email: String,
    number: u32,
}

/// The `number`th of them.
pub(crate) fn newcomer(number: u32) -> Newcomer {
    let first_name = *pick(&FIRST_NAMES, "first name", number);
    let last_name = *pick(&LAST_NAMES, "last name", number);
    // The number keeps it apart from the emails of the cast, too.
    let email = format!("{}.{}.n{number}@example.net", first_name.to_lowercase(), last_name.to_lowercase());
    Newcomer { first_name, last_name, email, number }
}

impl Newcomer {
    /// For one system, in clear.
    pub(crate) fn password(&self, system: &str) -> String {
        word(10, system, self.number)
    }
}

const FIRST_NAMES: [&str; 16] = [
    "Agnes", "Bruno", "Celia", "Dimitri", "Edda", "Farid", "Greta", "Hamza", "Ilse", "Joris", "Karin", "Leonid",
    "Mira", "Nuno", "Orla", "Pavel",
];

const LAST_NAMES: [&str; 16] = [
    "Alder",
    "Birch",
    "Cedarholm",
    "Dogwood",
    "Elmsworth",
    "Fennel",
    "Gorse",
    "Hawthorne",
    "Ivy",
    "Juniper",
    "Kestrel",
    "Larch",
    "Maplewood",
    "Nettles",
    "Oakes",
    "Pinegrove",
];
