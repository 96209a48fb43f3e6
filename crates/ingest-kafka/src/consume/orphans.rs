//! Partitions that nobody in the group reads. A member that comes back by its old name gets what it had, and nothing is shared
//! out anew: were partitions added while no process ran, nobody would notice. So a member with a name looks once, after it
//! has joined, and makes the group share out again if there are any.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;

use super::Reader;
use crate::Error;
use crate::client::INSTANCE_ID;

const TIMEOUT: Duration = Duration::from_secs(5);
/// The first look is after this long, and so is the next, if the group was busy or there were any.
const AFTER: Duration = Duration::from_secs(2);
/// So many looks in a row must find some: a partition that is handed over is nobody's for a moment.
const LOOKS: u8 = 4;

/// When to look for them, and how often some were found.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    look_at: Option<Instant>,
    found: u8,
}

impl Reader<'_> {
    /// Looks for them soon, if this member has a name.
    pub(super) fn expect_orphans(&mut self) {
        let has_name = self.settings.properties.contains_key(INSTANCE_ID);
        self.orphans = Orphans { look_at: has_name.then(|| Instant::now() + AFTER), found: 0 };
    }

    pub(super) fn look_for_orphans(&mut self) -> Result<(), Error> {
        let is_due = self.orphans.look_at.is_some_and(|at| at <= Instant::now());
        if !is_due || !self.is_assigned() {
            return Ok(());
        }
        self.orphans.look_at = Some(Instant::now() + AFTER);
        match self.count_orphans() {
            Ok(None) => self.orphans.found = 0,
            Ok(Some(0)) => self.orphans.look_at = None,
            Ok(Some(_)) if self.orphans.found + 1 < LOOKS => self.orphans.found += 1,
            Ok(Some(partitions)) => {
                self.orphans.look_at = None;
                tracing::info!(
                    source = %self.settings.name, partitions, "nobody in the group reads these partitions: joining it again"
                );
                // Without this member, and then with it, the group shares out again.
                self.client.unsubscribe();
                self.subscribe()?;
            }
            Err(error) => tracing::debug!(source = %self.settings.name, %error, "asking who reads what"),
        }
        Ok(())
    }

    /// How many there are; `None` while the group is sharing out.
    fn count_orphans(&self) -> KafkaResult<Option<usize>> {
        let groups = self.client.fetch_group_list(Some(&self.settings.group_id), TIMEOUT)?;
        let Some(group) = groups.groups().iter().find(|group| group.state() == "Stable") else { return Ok(None) };
        let assigned: Option<Vec<_>> =
            group.members().iter().map(|member| partitions(member.assignment().unwrap_or_default())).collect();
        // Of a kind that is not known here.
        let Some(assigned) = assigned else { return Ok(Some(0)) };
        let assigned: HashSet<(String, i32)> = assigned.into_iter().flatten().collect();
        let metadata = self.client.fetch_metadata(None, TIMEOUT)?;
        let topics =
            metadata.topics().iter().filter(|topic| topic.error().is_none() && self.settings.reads(topic.name()));
        let orphans =
            topics.flat_map(|topic| topic.partitions().iter().map(|partition| (topic.name(), partition.id())));
        Ok(Some(orphans.filter(|(topic, partition)| !assigned.contains(&((*topic).to_owned(), *partition))).count()))
    }
}

/// What a member has been assigned, in the format of Kafka's own consumers: a version, and topics with their partitions.
/// Nothing where there is nothing; `None` where it is something else.
fn partitions(assignment: &[u8]) -> Option<Vec<(String, i32)>> {
    let mut partitions = Vec::new();
    if assignment.is_empty() {
        return Some(partitions);
    }
    let mut rest = assignment.get(2..)?;
    for _ in 0..number(&mut rest)? {
        let (length, behind) = rest.split_first_chunk()?;
        let (topic, behind) = behind.split_at_checked(u16::from_be_bytes(*length).into())?;
        let topic = std::str::from_utf8(topic).ok()?;
        rest = behind;
        for _ in 0..number(&mut rest)? {
            partitions.push((topic.to_owned(), number(&mut rest)?));
        }
    }
    Some(partitions)
}

fn number(rest: &mut &[u8]) -> Option<i32> {
    let (number, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(i32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_as_it_is_written_and_never_beyond_its_end() {
        let written = b"\0\x01\0\0\0\x02\0\x01a\0\0\0\x01\0\0\0\x07\0\x02bc\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0";
        let expected = [("a", 7), ("bc", 0), ("bc", 1)].map(|(topic, partition)| (topic.to_owned(), partition));
        assert_eq!(partitions(written), Some(expected.to_vec()));
        assert_eq!(partitions(b""), Some(Vec::new()));
        for end in 1..written.len() - 4 {
            assert_eq!(partitions(&written[..end]), None, "{end}");
        }
    }
}
