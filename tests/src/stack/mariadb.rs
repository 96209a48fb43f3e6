//! A MariaDB server with a row binlog, as Debezium asks for it.

use std::{
    env,
    net::Ipv4Addr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use super::{
    daemon::{Daemon, tail, tied_command},
    directory, ports,
};

const START_TIMEOUT: Duration = Duration::from_mins(1);
/// The user that Debian's package makes; the server refuses to run as root.
const UNPRIVILEGED_USER: &str = "mysql";
const SCHEMA: &str = include_str!("inventory.sql");

/// A running (or stopped) server with its data, and in it the database `inventory` with an empty table `customers`.
pub struct MariaDb {
    // Before the directory: fields are dropped in order, and the process writes there.
    process: Option<Daemon>,
    directory: TempDir,
    port: u16,
    user: Option<&'static str>,
}

impl MariaDb {
    /// The account Debezium reads with: name and password.
    pub const DEBEZIUM_ACCOUNT: (&'static str, &'static str) = ("debezium", "dbz");

    /// Starts a server on an empty data directory. When this returns, it answers and has the table.
    pub async fn start() -> Result<Self> {
        let directory = directory::new("mariadb")?;
        let user = if id(&["-u"]).await? == 0 { Some(UNPRIVILEGED_USER) } else { None };
        if let Some(user) = user {
            let (uid, gid) = (id(&["-u", user]).await?, id(&["-g", user]).await?);
            chown(directory.path(), Some(uid), Some(gid))?;
        }
        let mut mariadb = Self { process: None, directory, port: ports::free()?, user };
        mariadb.install().await?;
        mariadb.restart().await?;
        mariadb.run(SCHEMA, None).await?;
        Ok(mariadb)
    }

    /// The port on 127.0.0.1. It stays the same over stop and restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id while the server runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Daemon::pid)
    }

    /// Runs statements, separated by semicolons, in the database `inventory`. Returns what they print: a line for each
    /// row, columns separated by tabs, without a heading.
    ///
    /// Each statement is a transaction of its own unless the text says otherwise; the first that fails is the last.
    pub async fn execute(&self, sql: &str) -> Result<String> {
        self.run(sql, Some("inventory")).await
    }

    /// Stops the server as an operator would. Its data and its port stay.
    pub async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// Ends the server as a power failure would. Its data and its port stay.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts a server that was stopped or killed (or kills it first) on its old data and port.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        let mut process = Daemon::spawn("mariadbd", self.server(), &self.directory.path().join("mariadb.log"))?;
        process.ready(START_TIMEOUT, async || self.run("select 1", None).await.is_ok()).await?;
        self.process = Some(process);
        Ok(())
    }

    fn server(&self) -> Command {
        let mut command = tied_command(find("mariadbd"), self.user);
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", self.data().display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--pid-file={}", self.directory.path().join("mariadb.pid").display()))
            .arg(format!("--bind-address={}", Ipv4Addr::LOCALHOST))
            .arg(format!("--port={}", self.port))
            .args(["--skip-name-resolve", "--performance-schema=OFF"])
            .args(["--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci"])
            .args(["--server-id=223344", "--log-bin=mysql-bin", "--gtid-strict-mode=ON"])
            .args(["--binlog-format=ROW", "--binlog-row-image=FULL"])
            // The data outlives the process, not the machine: no need to wait for the disk.
            .args(["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2"])
            .args(["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M"]);
        command
    }

    async fn install(&self) -> Result<()> {
        let mut command = tied_command(find("mariadb-install-db"), self.user);
        command.arg("--no-defaults").arg(format!("--datadir={}", self.data().display())).args([
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ]);
        let log = self.directory.path().join("install.log");
        let output = std::fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let status = tokio::process::Command::from(command).kill_on_drop(true).status().await;
        ensure!(status.context("cannot run mariadb-install-db")?.success(), "no data directory:\n{}", tail(&log));
        Ok(())
    }

    /// By the socket, as root, whose password is empty in a data directory of our own.
    async fn run(&self, sql: &str, database: Option<&str>) -> Result<String> {
        let mut client = tokio::process::Command::new(find("mariadb"))
            .args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"])
            // Otherwise it takes what the locale says, and under LANG=C an emoji is refused.
            .arg("--default-character-set=utf8mb4")
            .arg(format!("--socket={}", self.socket().display()))
            .args(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run the mariadb client")?;
        let mut stdin = client.stdin.take().context("the client has no input")?;
        let sql = sql.to_owned();
        // Beside the reading, so that neither side waits for the other with full pipes. A client that does not want
        // the rest says why itself.
        let write = tokio::spawn(async move { stdin.write_all(sql.as_bytes()).await });
        let output = client.wait_with_output().await?;
        let written = write.await?;
        ensure!(output.status.success(), "MariaDB refused: {}", String::from_utf8_lossy(&output.stderr).trim());
        written?;
        Ok(String::from_utf8(output.stdout)?)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("mariadb.sock")
    }
}

/// Debian keeps servers in a directory that is not in everybody's PATH.
fn find(program: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = env::split_paths(&path).collect();
    directories.push("/usr/sbin".into());
    let found = directories.iter().map(|directory| directory.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| Path::new(program).to_owned())
}

async fn id(arguments: &[&str]) -> Result<u32> {
    let output = tokio::process::Command::new("id").args(arguments).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
