//! Which member of its Kafka groups a process is, over its restarts.
//!
//! A group gives a member that comes back by the same name (`group.instance.id`) its partitions at once, instead of waiting
//! until the dead one's session has ended. So a process takes a place in `data_dir/members`: the lowest of the files `1`,
//! `2`, ... that nobody has locked. The kernel ends the lock with the process, however it ends; what the file says is the
//! name. Processes that share a data directory therefore have different names, and directories that are not shared have
//! names of their own: they are made at random.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

use rand::RngCore;
use sha2::{Digest, Sha256};

/// More processes than this do not share a data directory.
const PLACES: u32 = 1_000;
/// Bytes of a name, which is twice as many digits.
const NAME_BYTES: usize = 8;

/// A place that this process holds as long as it lives.
#[derive(Debug)]
pub struct Member {
    name: String,
    _locked: File,
}

impl Member {
    /// Takes the lowest place that is free.
    pub fn take(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        for place in 1..=PLACES {
            let path = directory.join(place.to_string());
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            match file.try_lock() {
                Ok(()) => return Ok(Self { name: name(&mut file)?, _locked: file }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::other(format!("all {PLACES} places are taken")))
    }

    /// The name for the group of a source. It changes with the topics: a group believes a member that comes back by its old
    /// name to want what it wanted before.
    pub fn instance_id(&self, source: &str, topics: &[&str]) -> String {
        let topics = hex::encode(&Sha256::digest(topics.join("\n"))[..4]);
        format!("c360-{}-{source}-{topics}", self.name)
    }
}

/// What the file says, or a new name where it says none.
fn name(file: &mut File) -> io::Result<String> {
    let mut name = String::new();
    file.read_to_string(&mut name)?;
    let is_name = name.len() == 2 * NAME_BYTES && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_name {
        let mut bytes = [0; NAME_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        name = hex::encode(bytes);
        file.set_len(0)?;
        io::Seek::rewind(file)?;
        file.write_all(name.as_bytes())?;
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_has_its_old_name_and_nobody_else_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let members = directory.path().join("members");
        let id = |member: &Member| member.instance_id("home_delivery", &["customers"]);
        let (one, two) = (Member::take(&members).unwrap(), Member::take(&members).unwrap());
        let (first, second) = (id(&one), id(&two));
        assert_ne!(first, second);
        drop(one);
        let again = Member::take(&members).unwrap();
        assert_eq!(id(&again), first);
        drop((again, two));
        let elsewhere = Member::take(&directory.path().join("others")).unwrap();
        assert_ne!(id(&elsewhere), first);
        assert_ne!(id(&elsewhere), second);
    }

    #[test]
    fn a_member_that_wants_other_topics_is_another_one() {
        let directory = tempfile::tempdir().unwrap();
        let member = Member::take(directory.path()).unwrap();
        let id = |topics: &[&str]| member.instance_id("home_delivery", topics);
        assert_eq!(id(&["customers"]), id(&["customers"]));
        assert_ne!(id(&["customers"]), id(&["customers", "orders"]));
        assert_ne!(id(&["customers"]), member.instance_id("shop", &["customers"]));
    }

    #[test]
    fn a_file_that_was_cut_short_gets_a_new_name() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("1"), "c360").unwrap();
        let name = Member::take(directory.path()).unwrap().name;
        assert_eq!(name.len(), 16);
        assert_eq!(Member::take(directory.path()).unwrap().name, name);
    }
}
