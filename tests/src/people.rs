//! The cast: three hundred invented customers, the same in every fixture.
//!
//! A person is made from their index alone, by a generator of fixed seed: whoever needs the loyalty programme's row, the
//! online store's customer or the home-delivery row of person 17 asks here, and all of them mean the same one. Person 0
//! is the reference customer, whose particulars are given and not generated.
//!
//! All addresses are invented; all email addresses but the reference customer's are at domains reserved for examples.

mod names;
mod random;

use std::{collections::HashSet, sync::LazyLock};

use names::{FIRST_NAMES, FOREIGN_PLACES, LAST_NAMES, STREET_KINDS, STREETS, US_PLACES};
use random::Random;

/// How many there are.
pub const COUNT: u32 = 300;

/// Who keeps a row about a person; each has its own ids and its own password for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// The system recorded in `fixtures/home_delivery`.
    HomeDelivery,
    /// The loyalty programme's nightly file.
    Loyalty,
    /// The online store's REST API.
    OnlineStore,
}

/// What the systems would say if all of them were in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// From 0 to [`COUNT`] - 1.
    pub index: u32,
    /// Given name, with its accents.
    pub first_name: String,
    /// Family name, with its accents.
    pub last_name: String,
    /// Lower case, ASCII, and nobody else's.
    pub email: String,
    /// Street and number.
    pub address_line_1: String,
    /// Flat or suite.
    pub address_line_2: Option<String>,
    /// City.
    pub city: String,
    /// State or province, where the country has them.
    pub state: Option<String>,
    /// Postal code; in New England it begins with a zero.
    pub zipcode: String,
    /// Phone number, in one of several notations.
    pub phone: String,
}

/// Everybody, by index.
pub fn all() -> &'static [Person] {
    static PEOPLE: LazyLock<Vec<Person>> = LazyLock::new(|| {
        let mut taken = HashSet::new();
        let invented = (1..COUNT).map(|index| invent(index, &mut taken));
        std::iter::once(reference_customer()).chain(invented).collect()
    });
    &PEOPLE
}

/// One person.
///
/// # Panics
///
/// If `index` is not below [`COUNT`].
pub fn person(index: u32) -> &'static Person {
    &all()[index as usize]
}

impl Person {
    /// Given name and family name.
    pub fn name(&self) -> String {
        format!("{} {}", self.first_name, self.last_name)
    }

    /// The number the system knows this person by: 1029, 27 and 1 for the reference customer.
    pub fn id(&self, system: System) -> u32 {
        let first = match system {
            System::HomeDelivery => 1029,
            System::Loyalty => 27,
            System::OnlineStore => 1,
        };
        first + self.index
    }

    /// The password in clear, as the systems are so careless to keep it. Every seventh person uses one for all three.
    pub fn password(&self, system: System) -> String {
        let (salt, suffix) = match system {
            System::HomeDelivery => (1, ".hdl"),
            System::Loyalty => (2, ".swd"),
            System::OnlineStore => (3, ""),
        };
        match (self.index, system) {
            (0, System::HomeDelivery) => "kq4mzw8t.hdl".to_owned(),
            (0, System::Loyalty) => "xrinn5xp.swd".to_owned(),
            (0, System::OnlineStore) => "edzchzmatv5".to_owned(),
            (index, _) if index % 7 == 3 => Random::new(4, index).word(10),
            (index, _) => Random::new(salt, index).word(8) + suffix,
        }
    }

    /// Loyalty points.
    pub fn points(&self) -> u32 {
        if self.index == 0 { 47 } else { Random::new(5, self.index).below(2500) }
    }

    /// What home delivery has for this person's email to begin with. It checks nothing, so this is sometimes absent,
    /// junk that several people share, in mixed case, or surrounded by spaces.
    pub fn home_delivery_email(&self) -> Option<String> {
        match self.index {
            i if i % 20 == 7 => None,
            i if i % 60 == 13 => Some("n/a".to_owned()),
            i if i % 60 == 33 => Some("not-an-email".to_owned()),
            i if i % 60 == 53 => Some("test@example.org".to_owned()),
            i if i % 10 == 4 => Some(capitalised(&self.email)),
            i if i % 30 == 16 => Some(format!("  {} ", self.email)),
            _ => Some(self.email.clone()),
        }
    }
}

fn reference_customer() -> Person {
    Person {
        index: 0,
        first_name: "Matthew".to_owned(),
        last_name: "Groves".to_owned(),
        email: "matthew.groves@couchbase.com".to_owned(),
        address_line_1: "600 Sporer Curve".to_owned(),
        address_line_2: Some("Suite 528".to_owned()),
        city: "West Evertchester".to_owned(),
        state: Some("NH".to_owned()),
        zipcode: "04006".to_owned(),
        phone: "811.128.4320 x4808".to_owned(),
    }
}

fn invent(index: u32, taken: &mut HashSet<String>) -> Person {
    let mut random = Random::new(0, index);
    let &(first_name, first_ascii) = random.pick(FIRST_NAMES);
    let &(last_name, last_ascii) = random.pick(LAST_NAMES);
    let email = invent_email(&mut random, first_ascii, last_ascii, taken);
    let place = if random.below(8) == 0 { FOREIGN_PLACES } else { US_PLACES };
    let &(city, state, zipcode) = random.pick(place);
    Person {
        index,
        first_name: first_name.to_owned(),
        last_name: last_name.to_owned(),
        email,
        address_line_1: format!("{} {} {}", 1 + random.below(9800), random.pick(STREETS), random.pick(STREET_KINDS)),
        address_line_2: invent_flat(&mut random),
        city: city.to_owned(),
        state: (!state.is_empty()).then(|| state.to_owned()),
        zipcode: random.digits(zipcode),
        phone: invent_phone(&mut random),
    }
}

fn invent_email(random: &mut Random, first: &str, last: &str, taken: &mut HashSet<String>) -> String {
    let domain = random.pick(&["example.com", "example.org", "example.net"]);
    let initial = &first[..1];
    let local = match random.below(4) {
        0 => format!("{first}.{last}"),
        1 => format!("{initial}.{last}"),
        2 => format!("{first}_{last}{}", 50 + random.below(50)),
        _ => format!("{first}{last}"),
    };
    let namesakes = (2..).map(|number| format!("{local}{number}@{domain}"));
    let mut candidates = std::iter::once(format!("{local}@{domain}")).chain(namesakes);
    // There is always a namesake's number that is free.
    candidates.find(|email| taken.insert(email.clone())).unwrap_or_default()
}

fn invent_flat(random: &mut Random) -> Option<String> {
    match random.below(6) {
        0 => Some(format!("Apt. {}", 1 + random.below(900))),
        1 => Some(format!("Suite {}", 100 + random.below(800))),
        2 => Some(String::new()),
        _ => None,
    }
}

fn invent_phone(random: &mut Random) -> String {
    // 555-01xx is reserved for fiction.
    let pattern =
        random.pick(&["(###) 555-01##", "###-555-01##", "###.555.01## x####", "+1 ### 555 01##", "1##55501##"]);
    random.digits(pattern)
}

/// `Ann.Lee@Example.com` for `ann.lee@example.com`.
fn capitalised(text: &str) -> String {
    let mut at_start = true;
    let capitalise = |letter: char| {
        let capital = if at_start { letter.to_ascii_uppercase() } else { letter };
        at_start = !letter.is_ascii_alphanumeric();
        capital
    };
    text.chars().map(capitalise).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_shares_an_email_and_only_the_reference_customer_has_a_real_domain() {
        let emails: HashSet<&str> = all().iter().map(|person| person.email.as_str()).collect();
        assert_eq!(emails.len(), COUNT as usize);
        for person in &all()[1..] {
            let (local, domain) = person.email.split_once('@').unwrap();
            assert!(["example.com", "example.org", "example.net"].contains(&domain));
            assert!(
                local.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._".contains(&byte))
            );
        }
    }

    #[test]
    fn the_cast_never_changes() {
        // The recorded fixtures hold these; a change here asks for new recordings and loyalty files.
        let summary: Vec<String> = [0, 1, 150, 299]
            .map(|index| {
                let person = person(index);
                format!("{} <{}> {}", person.name(), person.email, person.password(System::Loyalty))
            })
            .into();
        let expected = [
            "Matthew Groves <matthew.groves@couchbase.com> xrinn5xp.swd",
            "Carlos Kaya <c.kaya@example.com> rddbxtst.swd",
            "Inês Weiß <ines.weiss@example.net> u75w98ux3v",
            "Priya Walker <p.walker@example.net> rrqsutgd.swd",
        ];
        assert_eq!(summary, expected);
    }

    #[test]
    fn home_delivery_knows_every_kind_of_bad_email() {
        let known: Vec<Option<String>> = all().iter().map(Person::home_delivery_email).collect();
        for junk in ["n/a", "not-an-email", "test@example.org"] {
            assert!(known.iter().flatten().filter(|email| *email == junk).count() >= 4, "{junk}");
        }
        assert!(known.iter().any(Option::is_none));
        assert!(known.iter().flatten().any(|email| email.starts_with(' ')));
        assert!(known.iter().flatten().any(|email| email.contains("@Example.")));
    }
}
