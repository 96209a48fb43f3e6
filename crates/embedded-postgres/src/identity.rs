//! Who Postgres runs as. It refuses to be root.

use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use crate::error::{Error, io};

/// Who Postgres runs as, and by what means.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The user to become; `None` means whoever we are.
    become_user: Option<User>,
    /// util-linux's setpriv, which can drop root and tie a process to its parent; absent on macOS and in `BusyBox`.
    setpriv: bool,
}

#[derive(Debug, Clone)]
struct User {
    name: &'static str,
    uid: u32,
    gid: u32,
}

impl Identity {
    /// `owned` is a directory which this process has just made: its owner is who we are, without asking libc.
    pub(crate) fn find(owned: &Path) -> Result<Self, Error> {
        let uid = owned.metadata().map_err(io("look at", owned))?.uid();
        let setpriv = has_setpriv();
        if uid != 0 {
            return Ok(Self { become_user: None, setpriv });
        }
        if !setpriv {
            return Err(Error::NoSetpriv);
        }
        let user = ["postgres", "nobody"].into_iter().find_map(look_up).ok_or(Error::NoUser)?;
        Ok(Self { become_user: Some(user), setpriv })
    }

    /// The words to put before a program so that it runs as the right user.
    pub(crate) fn prefix(&self) -> Vec<OsString> {
        let Some(user) = &self.become_user else { return Vec::new() };
        let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
        ["setpriv", "--reuid", &uid, "--regid", &gid, "--clear-groups", "--"].map(OsString::from).to_vec()
    }

    /// Like [`Identity::prefix`], for a program that must also stop (SIGINT) when its parent is gone.
    pub(crate) fn prefix_dying_with_parent(&self) -> Vec<OsString> {
        let mut prefix = self.prefix();
        if prefix.is_empty() && self.setpriv {
            prefix = vec!["setpriv".into(), "--".into()];
        }
        if !prefix.is_empty() {
            let words = prefix.len() - 1;
            prefix.splice(words..words, ["--pdeathsig", "INT"].map(OsString::from));
        }
        prefix
    }

    /// A program, run as the right user, in a directory that everyone may be in.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut words = self.prefix();
        words.push(program.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir("/");
        without_pg_variables(&mut command);
        command
    }

    /// Gives `path` to the user that Postgres runs as.
    pub(crate) fn give(&self, path: &Path) -> Result<(), Error> {
        match &self.become_user {
            Some(user) => chown(path, Some(user.uid), Some(user.gid)).map_err(io("give to another user", path)),
            None => Ok(()),
        }
    }

    /// Whether Postgres's user may write into `directory`: a home below `/root` is out of its reach.
    pub(crate) fn check_reach(&self, directory: &Path) -> Result<(), Error> {
        let Some(user) = &self.become_user else { return Ok(()) };
        let mut test = self.command(Path::new("test"));
        let reached = test.arg("-w").arg(directory).status().map_err(io("run", "setpriv"))?;
        if reached.success() {
            return Ok(());
        }
        Err(Error::Unreachable { dir: directory.to_owned(), user: user.name.to_owned() })
    }
}

/// The operator's `PGDATA`, `PGPORT`, `PGOPTIONS`... are about another server. Messages stay in English: some are read.
pub(crate) fn without_pg_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C");
}

fn has_setpriv() -> bool {
    // BusyBox has a setpriv without these options.
    let help = Command::new("setpriv").arg("--help").output();
    help.is_ok_and(|help| {
        let text = String::from_utf8_lossy(&help.stdout);
        text.contains("--pdeathsig") && text.contains("--reuid")
    })
}

/// Asks `id`, which knows users from LDAP and the like too.
fn look_up(name: &'static str) -> Option<User> {
    let id = |option: &str| {
        let output = Command::new("id").args([option, name]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    Some(User { name, uid: id("-u")?, gid: id("-g")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[OsString]) -> String {
        words.join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn drops_root_and_dies_with_its_parent() {
        let user = User { name: "postgres", uid: 101, gid: 104 };
        let root = Identity { become_user: Some(user), setpriv: true };
        assert_eq!(words(&root.prefix()), "setpriv --reuid 101 --regid 104 --clear-groups --");
        assert_eq!(
            words(&root.prefix_dying_with_parent()),
            "setpriv --reuid 101 --regid 104 --clear-groups --pdeathsig INT --"
        );
        let user = Identity { become_user: None, setpriv: true };
        assert_eq!(words(&user.prefix()), "");
        assert_eq!(words(&user.prefix_dying_with_parent()), "setpriv --pdeathsig INT --");
    }

    #[test]
    fn runs_as_it_is_where_setpriv_is_missing() {
        let macos = Identity { become_user: None, setpriv: false };
        assert_eq!(words(&macos.prefix_dying_with_parent()), "");
    }
}
