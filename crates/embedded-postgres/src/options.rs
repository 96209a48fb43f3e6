//! What kind of cluster to start.

use std::path::{Path, PathBuf};

/// What kind of cluster to start: begin with [`Options::temporary`] or [`Options::persistent`].
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) home: Option<PathBuf>,
    pub(crate) durable: bool,
    pub(crate) tcp: bool,
    pub(crate) settings: Vec<(String, String)>,
}

impl Options {
    /// A throw-away cluster: in a directory of its own that ends with it, as fast as Postgres gets because nothing in it
    /// needs to survive a crash.
    pub fn temporary() -> Self {
        Self { home: None, durable: false, tcp: false, settings: Vec::new() }
    }

    /// A cluster that keeps its data in `home` (made at the first start) and survives crashes.
    ///
    /// `home` gets `data/` (the cluster), `password` (mode 0600), `postgres.log` and `lock`.
    pub fn persistent(home: impl AsRef<Path>) -> Self {
        Self { home: Some(home.as_ref().to_owned()), durable: true, ..Self::temporary() }
    }

    /// Whether a commit survives a crash of the machine. Off, Postgres never waits for the disk.
    #[must_use]
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Whether to listen on a free port of 127.0.0.1 too, for programs that cannot use a Unix socket.
    #[must_use]
    pub fn tcp(mut self, tcp: bool) -> Self {
        self.tcp = tcp;
        self
    }

    /// A setting of `postgresql.conf`, such as `("max_connections", "50")`; it wins over the ones of this crate.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// All settings for the server's command line; of two with one name Postgres takes the later.
    pub(crate) fn server_settings(&self) -> Vec<(String, String)> {
        let mut settings = Vec::new();
        let mut set = |name: &str, value: &str| settings.push((name.to_owned(), value.to_owned()));
        set("timezone", "UTC");
        set("log_timezone", "UTC");
        set("lc_messages", "C");
        set("max_connections", "200");
        // A failing statement and the DETAIL of an error ("Key (email)=(...) already exists") hold personal data.
        set("log_min_error_statement", "panic");
        set("log_error_verbosity", "terse");
        set("log_parameter_max_length_on_error", "0");
        if !self.durable {
            set("fsync", "off");
            set("synchronous_commit", "off");
            set("full_page_writes", "off");
        }
        if self.home.is_none() {
            // Nobody replicates it: less to write.
            set("wal_level", "minimal");
            set("max_wal_senders", "0");
        }
        settings.extend(self.settings.iter().cloned());
        settings
    }
}
