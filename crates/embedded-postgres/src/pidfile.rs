//! `postmaster.pid`: who runs a cluster, where it listens and whether it is ready.

use std::path::{Path, PathBuf};

/// What the file says. A crash leaves it behind, so compare what it says with what you know.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pidfile {
    pub(crate) pid: u32,
    pub(crate) port: u16,
    pub(crate) socket_dir: PathBuf,
    pub(crate) ready: bool,
}

impl Pidfile {
    /// `None` when there is none, or only the beginning of one.
    pub(crate) fn read(data: &Path) -> Option<Self> {
        parse(&std::fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }
}

/// Lines: pid, data directory, start time, port, socket directory, listen address, shared memory key, status. The last
/// one is documented in Postgres's `pidfile.h` and is what `pg_ctl --wait` looks at.
fn parse(text: &str) -> Option<Pidfile> {
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    let port = lines.nth(2)?.trim().parse().ok()?;
    let socket_dir = lines.next()?.into();
    let ready = lines.nth(2).is_some_and(|status| status.trim() == "ready");
    Some(Pidfile { pid, port, socket_dir, ready })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_pidfile_as_far_as_it_is_written() {
        let whole = "4711\n/data\n1700000000\n5432\n/run/pg\n\n  123  456\nready   \n";
        let ready = Pidfile { pid: 4711, port: 5432, socket_dir: "/run/pg".into(), ready: true };
        assert_eq!(parse(whole), Some(ready));
        let starting = whole.replace("ready   ", "starting");
        assert!(!parse(&starting).unwrap().ready);
        assert!(!parse("4711\n/data\n1700000000\n5432\n/run/pg\n").unwrap().ready);
        assert_eq!(parse("4711\n/data\n"), None);
    }
}
