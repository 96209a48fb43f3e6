//! The loyalty programme's nightly exports, with what such exports have in them.

use c360_tests::people::{self, Person, System};

use crate::chance::below;
use crate::newcomers::newcomer;

const HEADER: &str = "id,password,firstName,lastName,email,points\n";
/// How many of the members are in no other system, or only in the online store.
const NEWCOMERS: u32 = 28;
const FIRST_NEWCOMER_ID: u32 = 401;

/// Members of the first night who are gone in the second, by their index among the people.
const LEFT: [u32; 2] = [21, 140];
/// People who join for the second night, and with them one newcomer.
const JOINED: [u32; 2] = [8, 15];

/// The export of 2026-11-18: 200 members and three bad rows.
pub(crate) fn first_night() -> Vec<u8> {
    let people = people::all().iter().filter(|person| is_member(person.index));
    let members = people.map(Member::of).chain((0..NEWCOMERS).map(Member::newcomer));
    export(
        members,
        [
            (60, b"1060,d5w1j0qe.xow,Ragged,ragged.row@example.org,31\n"),
            (110, b",p0a7vvhd.lek,Empty,Number,empty.number@example.org,8\n"),
            (160, b"1160,k2jq8mzt.urw,Jos\xe9,Latin,jose.latin@example.org,154\n"),
        ],
    )
}

/// The export of 2026-11-19: two members have left, three have joined, some have earned or spent points, and other
/// rows are bad.
pub(crate) fn second_night() -> Vec<u8> {
    let stays = |index| is_member(index) && !LEFT.contains(&index);
    let people = people::all().iter().filter(|person| stays(person.index) || JOINED.contains(&person.index));
    let members = people.map(Member::of).chain((0..=NEWCOMERS).map(Member::newcomer));
    export(
        members.map(Member::a_day_later),
        [
            (45, b"1045,z8r0nfye.bqa,Ragged,Too,ragged.too@example.org,12,5,7\n"),
            (99, b",w4c1ytgn.ivm,Still,Nobody,still.nobody@example.org,0\n"),
            (170, b"1170,n6xe3hsb.tap,Zo\xeb,Latin,zoe.latin@example.org,73\n"),
        ],
    )
}

/// The header, the members in their order, and each bad row behind the so-manyth member.
fn export(members: impl Iterator<Item = Member>, bad_rows: [(usize, &[u8]); 3]) -> Vec<u8> {
    let mut file = HEADER.as_bytes().to_vec();
    for (row, member) in members.enumerate() {
        file.extend(member.row().as_bytes());
        for (_, bad) in bad_rows.iter().filter(|(behind, _)| *behind == row + 1) {
            file.extend_from_slice(bad);
        }
    }
    file
}

/// Four in seven of the people, the reference customer among them.
fn is_member(index: u32) -> bool {
    [0, 2, 3, 5].contains(&(index % 7))
}

struct Member {
    id: u32,
    password: String,
    first_name: String,
    last_name: String,
    email: String,
    points: u32,
}

impl Member {
    /// A member as the loyalty programme writes it, which is not always how others would.
    fn of(person: &Person) -> Self {
        let member = Self {
            id: person.id(System::Loyalty),
            password: person.password(System::Loyalty),
            first_name: person.first_name.clone(),
            last_name: person.last_name.clone(),
            email: person.email.clone(),
            points: person.points(),
        };
        match person.index {
            70 | 161 => Self { email: String::new(), ..member },
            42 => Self { email: "n/a".to_owned(), ..member },
            105 => Self { email: "not an email".to_owned(), ..member },
            84 => Self { last_name: format!("{}, Jr.", member.last_name), ..member },
            119 => Self { first_name: format!("{} \"Sunny\"", member.first_name), ..member },
            133 => Self { email: capitalized(&member.email), ..member },
            _ => member,
        }
    }

    fn newcomer(number: u32) -> Self {
        let newcomer = newcomer(number);
        Self {
            id: FIRST_NEWCOMER_ID + number,
            password: newcomer.password("loyalty"),
            first_name: newcomer.first_name.to_owned(),
            last_name: newcomer.last_name.to_owned(),
            email: newcomer.email,
            points: below(600, "newcomer's points", number),
        }
    }

    /// One in eight has other points, but not the reference customer.
    fn a_day_later(self) -> Self {
        let matthew = people::person(0).id(System::Loyalty);
        let points = match below(16, "a day later", self.id) {
            _ if self.id == matthew => self.points,
            0 => self.points + 1 + below(60, "earned", self.id),
            1 => self.points / 2,
            _ => self.points,
        };
        Self { points, ..self }
    }

    fn row(&self) -> String {
        let Self { id, password, points, .. } = self;
        let [first_name, last_name, email] = [&self.first_name, &self.last_name, &self.email].map(|text| field(text));
        format!("{id},{password},{first_name},{last_name},{email},{points}\n")
    }
}

/// `ada.king@example.org` as `Ada.King@Example.Org`.
fn capitalized(email: &str) -> String {
    let mut begins = true;
    let case = |letter: char| {
        let letter = if begins { letter.to_ascii_uppercase() } else { letter };
        begins = !letter.is_ascii_alphanumeric();
        letter
    };
    email.chars().map(case).collect()
}

/// Quoted only where it has to be.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
