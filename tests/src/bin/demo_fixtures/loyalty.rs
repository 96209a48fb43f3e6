//! The loyalty programme's nightly exports, with what such exports have in them.

use super::{
    cast::{self, Someone},
    chance::{below, word},
};

const HEADER: &str = "id,password,firstName,lastName,email,points\n";
const MEMBERS: usize = 200;
const REFERENCE: usize = 27;
/// Gone after the first night.
const LEFT: [usize; 2] = [12, 150];
/// New in the second night.
const JOINED: usize = 3;

const LOWER_CASE: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
const LOWER_CASE_AND_DIGITS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// The export of 2026-11-18: 200 members and three bad rows.
pub fn first_night() -> Vec<u8> {
    let mut file = Export::new();
    for id in 1..=MEMBERS {
        file.member(id, points(id));
        match id {
            60 => file.raw(b"1060,d5w1j0qe.xow,Ragged,ragged.row@example.org,31\n"),
            110 => file.raw(b",p0a7vvhd.lek,Empty,Number,empty.number@example.org,8\n"),
            160 => file.raw(b"1160,k2jq8mzt.urw,Jos\xe9,Latin,jose.latin@example.org,154\n"),
            _ => {}
        }
    }
    file.bytes
}

/// The export of 2026-11-19: two members have left, three have joined, some have earned or spent points, and other
/// rows are bad.
pub fn second_night() -> Vec<u8> {
    let mut file = Export::new();
    for id in (1..=MEMBERS + JOINED).filter(|id| !LEFT.contains(id)) {
        let changed = id != REFERENCE && below(8, "points changed", id) == 0;
        let earned = if changed { 1 + below(60, "points earned", id) } else { 0 };
        let spent = if changed && id % 3 == 0 { points(id) / 2 } else { 0 };
        file.member(id, points(id) + earned - spent);
        match id {
            45 => file.raw(b"1045,z8r0nfye.bqa,Ragged,Too,ragged.too@example.org,12,5,7\n"),
            99 => file.raw(b",w4c1ytgn.ivm,Still,Nobody,still.nobody@example.org,0\n"),
            170 => file.raw(b"1170,n6xe3hsb.tap,Zo\xeb,Latin,zoe.latin@example.org,73\n"),
            _ => {}
        }
    }
    file.bytes
}

/// Somebody whom only the loyalty programme knows (and perhaps the online store). The `n`th from 0.
pub fn newcomer(n: usize) -> Someone {
    cast::newcomer(7 * (n + 1))
}

struct Export {
    bytes: Vec<u8>,
}

impl Export {
    fn new() -> Self {
        Self { bytes: HEADER.into() }
    }

    fn raw(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
    }

    fn member(&mut self, id: usize, points: usize) {
        let Someone { first_name, last_name, email } = member(id);
        let password = password(id);
        let (first_name, last_name) = (field(&first_name), field(&last_name));
        let row = format!("{id},{password},{first_name},{last_name},{},{points}\n", field(&email));
        self.raw(row.as_bytes());
    }
}

/// A member as the loyalty programme writes it, which is not always how others would.
fn member(id: usize) -> Someone {
    let member = match id {
        REFERENCE => return cast::reference(),
        id if id % 7 == 0 => newcomer(id / 7 - 1),
        id => cast::other(id, 7),
    };
    match id {
        41 | 97 => Someone { email: String::new(), ..member },
        58 => Someone { email: "n/a".into(), ..member },
        121 => Someone { email: "not an email".into(), ..member },
        73 => Someone { last_name: format!("{}, Jr.", member.last_name), ..member },
        88 => Someone { first_name: format!("{} \"Sunny\"", member.first_name), ..member },
        104 => Someone { email: capitalized(&member.email), ..member },
        _ => member,
    }
}

fn points(id: usize) -> usize {
    if id == REFERENCE { 47 } else { below(2_000, "points", id) }
}

fn password(id: usize) -> String {
    if id == REFERENCE {
        return "xrinn5xp.swd".into();
    }
    format!("{}.{}", word(LOWER_CASE_AND_DIGITS, 8, "password", id), word(LOWER_CASE, 3, "password's end", id))
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
