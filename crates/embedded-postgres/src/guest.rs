//! Using a cluster that another process runs.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::initdb;
use crate::pidfile::Pidfile;
use crate::url;

/// A cluster that **another** process runs: it has one owner, and everybody else is its guest. It ends with its owner, and the
/// next owner listens elsewhere.
#[derive(Debug)]
pub struct Guest {
    run: PathBuf,
    port: u16,
    password: String,
}

impl Guest {
    /// The cluster of `home`; `None` when nobody runs it.
    pub fn find(home: &Path) -> Result<Option<Self>, Error> {
        let Some(pidfile) = Pidfile::read(&home.join("data")).filter(|pidfile| pidfile.ready) else { return Ok(None) };
        let guest = Self { run: pidfile.socket_dir, port: pidfile.port, password: initdb::kept_password(home, true)? };
        // A crash leaves the file behind; whether somebody listens is the proof.
        Ok(if guest.has_ended() { None } else { Some(guest) })
    }

    /// The URL of `database`, over the Unix socket. It holds a password: do not log it.
    pub fn url_for(&self, database: &str) -> String {
        url::socket(&self.run, self.port, Some(&self.password), database)
    }

    /// Whether nobody listens any more. It does not come back.
    pub fn has_ended(&self) -> bool {
        let socket = self.run.join(format!(".s.PGSQL.{}", self.port));
        let gone = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
        UnixStream::connect(socket).is_err_and(|error| gone.contains(&error.kind()))
    }
}
