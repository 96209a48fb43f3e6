//! The directory of a cluster: found, or made whole.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rand::Rng;
use rand::distr::Alphanumeric;

use crate::binaries::Binaries;
use crate::error::{Error, io};
use crate::identity::Identity;
use crate::url::USER;

/// Who must give a password on the Unix socket. Over TCP everybody must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketAuth {
    /// Nobody: the directory of the socket is closed to others and the data worth nothing.
    Trust,
    /// Everybody: the data is worth something.
    Password,
}

/// What a new cluster shall be like.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) auth: SocketAuth,
    pub(crate) password: &'a str,
    pub(crate) durable: bool,
}

/// The major version that made the cluster in `data`; `None` when there is none yet.
pub(crate) fn made_by(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("PG_VERSION")).ok()?.trim().parse().ok()
}

/// Makes a cluster in `home/data`. One that was interrupted half-way leaves nothing that looks like a cluster.
pub(crate) fn make(
    home: &Path,
    run: &Path,
    binaries: &Binaries,
    identity: &Identity,
    wanted: &Wanted<'_>,
) -> Result<(), Error> {
    let (unfinished, data) = (home.join("data.new"), home.join("data"));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(io("remove", &unfinished))?;
    }
    make_private(&unfinished)?;
    identity.give(&unfinished)?;
    identity.check_reach(&unfinished)?;

    let password_file = run.join("initdb-password");
    write_secret(&password_file, wanted.password)?;
    identity.give(&password_file)?;
    let socket_auth = match wanted.auth {
        SocketAuth::Trust => "trust",
        SocketAuth::Password => "scram-sha-256",
    };
    // Order by bytes, as Rust does; case and accents of every language all the same.
    let ctype = if cfg!(target_os = "macos") { "UTF-8" } else { "C.UTF-8" };
    let initdb = identity
        .command(&binaries.initdb())
        .arg("--pgdata")
        .arg(&unfinished)
        .arg(format!("--username={USER}"))
        .arg(format!("--auth-local={socket_auth}"))
        .args(["--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C"])
        .arg(format!("--lc-ctype={ctype}"))
        .arg("--no-instructions")
        .args((!wanted.durable).then_some("--no-sync"))
        .arg("--pwfile")
        .arg(&password_file)
        .output()
        .map_err(io("run", binaries.initdb()))?;
    fs::remove_file(&password_file).map_err(io("remove", &password_file))?;
    if !initdb.status.success() {
        let output = String::from_utf8_lossy(&initdb.stderr).trim().to_owned();
        return Err(Error::Initdb { output });
    }
    fs::rename(&unfinished, &data).map_err(io("make", &data))?;
    File::open(home).and_then(|home| home.sync_all()).map_err(io("sync", home))
}

/// A new password: 190 bits, and nothing that a URL would have to escape.
pub(crate) fn new_password() -> String {
    rand::rng().sample_iter(Alphanumeric).take(32).map(char::from).collect()
}

/// The password of a cluster that stays: read, or made and kept before the cluster is, so that there is never a cluster
/// whose password nobody knows.
pub(crate) fn kept_password(home: &Path, cluster_exists: bool) -> Result<String, Error> {
    let path = home.join("password");
    match fs::read_to_string(&path) {
        Ok(password) if !password.trim().is_empty() => Ok(password.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("read", &path)(error)),
        _ if cluster_exists => Err(Error::NoPassword { path }),
        _ => {
            let password = new_password();
            write_secret(&path, &password)?;
            Ok(password)
        }
    }
}

fn make_private(directory: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(directory).map_err(io("make", directory))
}

/// Mode 0600 from the beginning, on disk before anybody relies on it.
fn write_secret(path: &Path, secret: &str) -> Result<(), Error> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(io("make", path))?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(io("protect", path))?;
    writeln!(file, "{secret}").and_then(|()| file.sync_all()).map_err(io("write", path))
}
