//! The program under test, as a user runs it: a process of its own, told by a file and the environment.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::stack::tail;

/// The `c360` of this build, built if it is not there yet.
pub fn c360() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn build() -> Result<PathBuf> {
    // This test is .../PROFILE/deps/NAME, and cargo puts programs into .../PROFILE.
    let this = std::env::current_exe()?;
    let profile = this.parent().and_then(Path::parent).context("a test runs in a target directory")?;
    // With the targets beside it that use it, cargo chooses the features of the libraries as it did for those, and builds
    // none of them again.
    let profile_words: &[&str] =
        if profile.ends_with("release") { &["--release", "--bench", "memory"] } else { &["--test", "pipeline"] };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--locked", "--workspace", "--bin", "c360"])
        .args(profile_words)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo tells a test about its own package, some build scripts take for news: half of the libraries would be built
    // anew, and once more by whoever calls cargo next.
    for (name, _) in std::env::vars_os() {
        let about_this = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_EXE_"];
        if about_this.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    ensure!(cargo.status()?.success(), "c360 does not build");
    Ok(profile.join("c360"))
}

/// An installation: a directory with a configuration, a key and a drop directory.
pub struct Installation {
    home: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Installation {
    /// An installation with this configuration.
    pub fn new(config: &str) -> Result<Self> {
        let home = tempfile::tempdir()?;
        std::fs::write(home.path().join("c360.toml"), config)?;
        Ok(Self { home, environment: Vec::new() })
    }

    /// The reference configuration, told where the database and Kafka are. Nobody listens where its store should be.
    pub fn reference(database_url: &str, brokers: &str) -> Result<Self> {
        let config = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../c360.toml"))?;
        Ok(Self::new(&config)?
            .with("C360__DATABASE__URL", database_url)
            .with("C360__SOURCES__HOME_DELIVERY__BROKERS", brokers)
            .with("C360__SOURCES__ONLINE_STORE__BASE_URL", "http://127.0.0.1:1"))
    }

    /// With a variable of the environment.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.home.path()
    }

    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Command> {
        let mut command = Command::new(c360()?);
        command.args(arguments).current_dir(self.path()).env_remove("DATABASE_URL");
        command.envs(self.environment.clone()).envs(variables.iter().copied());
        Ok(command)
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.run_with(arguments, &[])
    }

    /// [`Installation::run`] with variables of the environment that only this process has.
    pub fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
        Ok(self.command(arguments, variables)?.stdin(Stdio::null()).output()?)
    }

    /// Starts a command that stays; what it logs goes to `log` in the installation's directory.
    pub fn start(&self, arguments: &[&str], log: &str) -> Result<Running> {
        self.start_with(arguments, log, &[])
    }

    /// [`Installation::start`] with variables of the environment that only this process has.
    pub fn start_with(&self, arguments: &[&str], log: &str, variables: &[(&str, &str)]) -> Result<Running> {
        let log = std::fs::File::options().create(true).append(true).open(self.path().join(log))?;
        let mut command = self.command(arguments, variables)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Running(command.spawn()?))
    }
}

impl Drop for Installation {
    /// Whoever looks at a failed test wants to know what the processes said.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for entry in std::fs::read_dir(self.path()).into_iter().flatten().flatten() {
            let log = entry.path();
            if log.extension().is_some_and(|extension| extension == "log") {
                eprintln!("the end of {}:\n{}", log.display(), tail(&log));
            }
        }
    }
}

/// A process that stays; killed when dropped.
pub struct Running(Child);

impl Running {
    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// SIGTERM; returns the exit code and how long it took.
    pub fn terminate(mut self) -> Result<(Option<i32>, Duration)> {
        let asked = Instant::now();
        self.signal("TERM")?;
        let ended = self.0.wait()?;
        Ok((ended.code(), asked.elapsed()))
    }

    /// SIGINT, as by Ctrl-C; returns the exit code.
    pub fn interrupt(mut self) -> Result<Option<i32>> {
        self.signal("INT")?;
        Ok(self.0.wait()?.code())
    }

    /// SIGSTOP: until [`Running::thaw`] it does nothing, and its connections stay open.
    pub fn freeze(&self) -> Result<()> {
        self.signal("STOP")
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("kill").args([format!("-{name}"), self.0.id().to_string()]).status()?;
        ensure!(sent.success(), "the process is gone already");
        Ok(())
    }

    /// The most memory that it ever had resident, in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the process has ended")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
