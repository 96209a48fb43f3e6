//! The program under test, as a user runs it: a process of its own, told by a file and the environment.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

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
    // What cargo tells a test about its package would seem to build scripts (ring's) to have changed, and all be built anew.
    let of_this_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars().filter(|(name, _)| of_this_package(name)) {
        cargo.env_remove(name);
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

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(c360()?);
        command.args(arguments).current_dir(self.path()).env_remove("DATABASE_URL").envs(self.environment.clone());
        Ok(command)
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(arguments)?.stdin(Stdio::null()).output()?)
    }

    /// Starts a command that stays; what it logs goes to `log` in the installation's directory.
    pub fn start(&self, arguments: &[&str], log: &str) -> Result<Running> {
        let log = std::fs::File::options().create(true).append(true).open(self.path().join(log))?;
        let mut command = self.command(arguments)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Running(command.spawn()?))
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
        ensure!(Command::new("kill").arg(self.0.id().to_string()).status()?.success(), "the process is gone already");
        let ended = self.0.wait()?;
        Ok((ended.code(), asked.elapsed()))
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
