//! Starting a cluster, talking about it, stopping it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::binaries::Binaries;
use crate::error::{Error, io};
use crate::identity::Identity;
use crate::initdb::{self, SocketAuth};
use crate::keeper::Keeper;
use crate::options::Options;
use crate::pidfile::Pidfile;
use crate::rundir::RunDir;
use crate::url;

/// Recovery after a crash of a small installation takes seconds; a minute is a cluster that does not start.
const START_WITHIN: Duration = Duration::from_mins(1);
/// A server whose owner was killed needs this long to notice and to stop, before the next one can start.
const PREDECESSOR_STOPS_WITHIN: Duration = Duration::from_secs(20);
/// Shutting down writes a checkpoint.
const STOP_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
/// The port of the socket's name, where there is no other.
const SOCKET_PORT: u16 = 5432;

/// A running Postgres. It stops when this value is dropped, or when the process ends, however it ends.
#[derive(Debug)]
pub struct Cluster {
    keeper: Keeper,
    run: PathBuf,
    port: u16,
    tcp: bool,
    socket_password: Option<String>,
    password: String,
    pid: u32,
    /// Held, not read: other processes see by them that the run directory and the home are in use.
    _locks: (File, Option<File>),
}

impl Cluster {
    /// Starts Postgres, and makes the cluster first where there is none. Blocks until it takes connections: about a
    /// second at first, a tenth of one later.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let since = Instant::now();
        loop {
            match Self::attempt(options) {
                Err(Error::ExitedAtStart { log }) if may_pass(&log) => {
                    if since.elapsed() > PREDECESSOR_STOPS_WITHIN {
                        return Err(Error::ExitedAtStart { log });
                    }
                    tracing::debug!("Postgres cannot start yet, trying again: {log}");
                    std::thread::sleep(Duration::from_millis(100));
                }
                done => return done,
            }
        }
    }

    fn attempt(options: &Options) -> Result<Self, Error> {
        let run = RunDir::make()?;
        let identity = Identity::find(run.path())?;
        identity.give(run.path())?;
        let home = match &options.home {
            Some(home) => Home::open(home)?,
            None => Home { path: run.path().to_owned(), lock: None },
        };
        let (password, binaries) = home.prepare(&run, &identity, options.durable)?;
        let log = home.new_log()?;
        let port = if options.tcp { free_port()? } else { SOCKET_PORT };
        let server = server_words(&identity, &binaries, &home.data(), run.path(), port, options);
        let mut keeper = Keeper::spawn(run.path(), &server, &log)?;
        let pid = wait_until_ready(&mut keeper, run.path(), &home.data(), &log)?;
        tracing::debug!(pid, data = %home.data().display(), "the embedded Postgres is ready");

        let asks_for_password = home.auth() == SocketAuth::Password;
        let (run, run_lock) = run.hand_over();
        Ok(Self {
            keeper,
            run,
            port,
            tcp: options.tcp,
            socket_password: asks_for_password.then(|| password.clone()),
            password,
            pid,
            _locks: (run_lock, home.lock),
        })
    }

    /// The URL of the database `postgres`, over the Unix socket. It may hold a password: do not log it.
    pub fn url(&self) -> String {
        self.url_for("postgres")
    }

    /// The URL of `database`, over the Unix socket. It may hold a password: do not log it.
    pub fn url_for(&self, database: &str) -> String {
        url::socket(&self.run, self.port, self.socket_password.as_deref(), database)
    }

    /// The URL of `database` over TCP, if the cluster was started with [`Options::tcp`]. It holds a password.
    pub fn tcp_url_for(&self, database: &str) -> Option<String> {
        self.tcp.then(|| url::tcp("127.0.0.1", self.port, Some(&self.password), database))
    }

    /// The process id of the postmaster.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The directory of the Unix socket, mode 0700. It is gone when the cluster is.
    pub fn run_directory(&self) -> &Path {
        &self.run
    }

    /// Makes `name` unless there is one. `true` when it is new.
    pub async fn create_database(&self, name: &str) -> Result<bool, Error> {
        let fail = |source| Error::Sql { action: format!("create the database {name}"), source };
        // Copying the template takes seconds on a slow disk, which is no slow statement to warn of.
        let options: PgConnectOptions = self.url().parse().map_err(fail)?;
        let mut connection = options.disable_statement_logging().connect().await.map_err(fail)?;
        let quoted = name.replace('"', "\"\"");
        let created =
            sqlx::query(AssertSqlSafe(format!("create database \"{quoted}\""))).execute(&mut connection).await;
        connection.close().await.map_err(fail)?;
        match created {
            Ok(_) => Ok(true),
            // duplicate_database: somebody was here before, or at the same time.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P04") => Ok(false),
            Err(error) => Err(fail(error)),
        }
    }

    /// Whether Postgres has ended although nobody stopped it (it was killed, or its disk is gone). It does not come back.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.keeper.ended(), Ok(None))
    }

    /// Stops Postgres (fast: open transactions roll back) and waits for it. Dropping does the same, without telling you.
    pub fn stop(mut self) -> Result<(), Error> {
        self.keeper.stop(STOP_WITHIN)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.keeper.stop(STOP_WITHIN) {
            tracing::warn!(%error, "the embedded Postgres has not stopped yet");
        }
    }
}

/// Where the data, the password and the log are: the operator's directory, or the run directory of a temporary cluster.
struct Home {
    path: PathBuf,
    /// `None` for a temporary cluster, which has no rival.
    lock: Option<File>,
}

impl Home {
    fn open(path: &Path) -> Result<Self, Error> {
        // Postgres runs in another directory than we do.
        let path = std::path::absolute(path).map_err(io("find", path))?;
        fs::create_dir_all(&path).map_err(io("make", &path))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(io("make", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, lock: Some(lock) }),
            Err(fs::TryLockError::WouldBlock) => {
                let pid = Pidfile::read(&path.join("data")).map(|pidfile| pidfile.pid);
                Err(Error::InUse { dir: path, pid })
            }
            Err(fs::TryLockError::Error(error)) => Err(io("lock", lock_path)(error)),
        }
    }

    /// The password and the programs; makes the cluster where there is none.
    fn prepare(&self, run: &RunDir, identity: &Identity, durable: bool) -> Result<(String, Binaries), Error> {
        let made_by = initdb::made_by(&self.data());
        let binaries = Binaries::find(made_by.map(|major| (self.path.as_path(), major)))?;
        let password = match self.auth() {
            SocketAuth::Password => initdb::kept_password(&self.path, made_by.is_some())?,
            SocketAuth::Trust => initdb::new_password(),
        };
        if made_by.is_none() {
            let wanted = initdb::Wanted { auth: self.auth(), password: &password, durable };
            initdb::make(&self.path, run.path(), &binaries, identity, &wanted)?;
        }
        identity.check_reach(&self.data())?;
        Ok((password, binaries))
    }

    fn auth(&self) -> SocketAuth {
        if self.lock.is_some() { SocketAuth::Password } else { SocketAuth::Trust }
    }

    fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// A new log; the one before it is kept as `postgres.log.1`.
    fn new_log(&self) -> Result<File, Error> {
        let path = self.path.join("postgres.log");
        if path.exists() {
            fs::rename(&path, self.path.join("postgres.log.1")).map_err(io("rename", &path))?;
        }
        File::options().create(true).append(true).read(true).open(&path).map_err(io("make", &path))
    }
}

fn server_words(
    identity: &Identity,
    binaries: &Binaries,
    data: &Path,
    run: &Path,
    port: u16,
    options: &Options,
) -> Vec<OsString> {
    let mut words = identity.prefix_dying_with_parent();
    words.push(binaries.postgres().into());
    words.extend(["-D".into(), data.into(), "-k".into(), run.into()]);
    words.extend(["-p".into(), port.to_string().into()]);
    let addresses = if options.tcp { "127.0.0.1" } else { "" };
    words.extend(["-c".into(), format!("listen_addresses={addresses}").into()]);
    words.extend(["-c".into(), "unix_socket_permissions=0700".into()]);
    for (name, value) in options.server_settings() {
        words.extend(["-c".into(), format!("{name}={value}").into()]);
    }
    words
}

/// Waits for the word `ready` in `postmaster.pid`; gives the postmaster's pid. A file left by a crash names another
/// run directory.
fn wait_until_ready(keeper: &mut Keeper, run: &Path, data: &Path, log: &File) -> Result<u32, Error> {
    let since = Instant::now();
    loop {
        if let Some(pidfile) = Pidfile::read(data).filter(|pidfile| pidfile.ready && pidfile.socket_dir == run) {
            return Ok(pidfile.pid);
        }
        if keeper.ended()?.is_some() {
            return Err(Error::ExitedAtStart { log: tail(log) });
        }
        if since.elapsed() > START_WITHIN {
            return Err(Error::NotReady { seconds: START_WITHIN.as_secs(), log: tail(log) });
        }
        std::thread::sleep(POLL);
    }
}

/// Reasons not to start that go away: a server whose owner was killed and which is still stopping (nobody else can be
/// there: the home is locked by us), and a port that was free a moment ago.
fn may_pass(log: &str) -> bool {
    log.contains("lock file \"postmaster.pid\" already exists") || log.contains("could not bind")
}

/// The end of the server's log, read through the open file: the keeper may have removed it by name.
fn tail(log: &File) -> String {
    let length = log.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = vec![0; 2_000];
    let read = log.read_at(&mut bytes, length.saturating_sub(2_000)).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..read]).trim().to_owned()
}

/// A port that is free now. Someone may take it before Postgres does; then there is another try.
fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io("listen on", "127.0.0.1"))?;
    Ok(listener.local_addr().map_err(io("listen on", "127.0.0.1"))?.port())
}
