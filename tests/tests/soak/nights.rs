//! The loyalty programme: a full export a night, with rows that nobody can read, copies and corrections.

use std::path::Path;

use anyhow::Result;
use chrono::{Days, NaiveDate};
use rand::Rng;
use rand::rngs::StdRng;

use crate::world::STORE_CUSTOMERS;

/// Enough that a process is killed in the middle of them now and then.
const MEMBERS: u32 = 4_000;

/// A row that can be read.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: u32,
    pub(crate) first: String,
    pub(crate) last: String,
    pub(crate) points: u32,
}

impl Member {
    pub(crate) fn email(&self) -> String {
        format!("member{}@soak.example", self.id)
    }
}

/// A file that was dropped.
#[derive(Debug)]
pub(crate) struct Night {
    pub(crate) file: String,
    pub(crate) good: usize,
    pub(crate) bad: usize,
}

/// See the module.
pub(crate) struct Nights {
    random: StdRng,
    date: NaiveDate,
    members: Vec<Member>,
    text: Vec<u8>,
    /// What was dropped, but for copies.
    pub(crate) dropped: Vec<Night>,
}

impl Nights {
    pub(crate) fn new(mut random: StdRng) -> Self {
        let member = |id| Member {
            id,
            first: "Canary".to_owned(),
            last: format!("Member {id}"),
            points: random.random_range(0..90),
        };
        let members = (0..MEMBERS).map(member).collect();
        let date = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap_or_default();
        Self { random, date, members, text: Vec::new(), dropped: Vec::new() }
    }

    /// The members of the newest night.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Another night: some collect points, some leave. Those whom the store knows stay.
    pub(crate) fn next(&mut self, directory: &Path) -> Result<String> {
        self.date = self.date.checked_add_days(Days::new(1)).unwrap_or(self.date);
        let random = &mut self.random;
        self.members.retain(|member| member.id < STORE_CUSTOMERS || random.random_bool(0.97));
        self.drop(directory, "loyalty")
    }

    /// The same night once more, with other content.
    pub(crate) fn correct(&mut self, directory: &Path) -> Result<String> {
        let name = format!("loyalty_v{}", self.dropped.len());
        self.drop(directory, &name)
    }

    /// The same content under another name.
    pub(crate) fn copy(&self, directory: &Path) -> Result<String> {
        let name = format!("loyalty_copy{}_{}.csv", self.dropped.len(), self.date);
        put(directory, &name, &self.text)?;
        Ok(name)
    }

    fn drop(&mut self, directory: &Path, prefix: &str) -> Result<String> {
        let random = &mut self.random;
        for member in &mut self.members {
            if random.random_bool(0.2) {
                member.points += random.random_range(1..50);
            }
        }
        let mut text = b"id,password,firstName,lastName,email,points\n".to_vec();
        let bad = random.random_range(0..6);
        for (row, member) in self.members.iter().enumerate() {
            let Member { id, first, last, points } = member;
            let line = format!("{id},canary-password-{id},{first},{last},{},{points}\n", member.email());
            text.extend(line.into_bytes());
            if row < bad {
                let rows: [&[u8]; 3] = [
                    b",x,No,One,canary@soak.example,1\n",
                    b"9000,x,Canary\n",
                    b"9001,x,Ca\xffnary,One,c@soak.example,1\n",
                ];
                text.extend(rows[row % rows.len()]);
            }
        }
        let name = format!("{prefix}_{}.csv", self.date);
        put(directory, &name, &text)?;
        self.text = text;
        self.dropped.push(Night { file: name.clone(), good: self.members.len(), bad });
        Ok(name)
    }
}

/// In two pieces, under a name that nobody looks at, and renamed when it is whole.
fn put(directory: &Path, name: &str, text: &[u8]) -> Result<()> {
    let part = directory.join(format!("{name}.part"));
    let (first, second) = text.split_at(text.len() / 2);
    std::fs::write(&part, first)?;
    let mut file = std::fs::File::options().append(true).open(&part)?;
    std::io::Write::write_all(&mut file, second)?;
    Ok(std::fs::rename(&part, directory.join(name))?)
}
