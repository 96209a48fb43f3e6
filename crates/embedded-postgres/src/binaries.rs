//! Where `initdb` and `postgres` are.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, io};

/// The oldest major version that c360 runs on.
const OLDEST: u32 = 15;
/// Debian and Ubuntu keep every version here, and none in PATH.
const DEBIAN: &str = "/usr/lib/postgresql";

/// One installation of Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binaries {
    pub(crate) directory: PathBuf,
    pub(crate) major: u32,
}

impl Binaries {
    pub(crate) fn initdb(&self) -> PathBuf {
        self.directory.join("initdb")
    }

    pub(crate) fn postgres(&self) -> PathBuf {
        self.directory.join("postgres")
    }

    /// The installation to use: `C360_PG_BIN` if set, else the first of PATH and Debian's directories (newest first).
    ///
    /// `data` is a cluster that exists already and the major version that made it; only that version can run it.
    pub(crate) fn find(data: Option<(&Path, u32)>) -> Result<Self, Error> {
        let forced = std::env::var_os("C360_PG_BIN").filter(|path| !path.is_empty());
        let directories = match forced {
            Some(path) => vec![checked(PathBuf::from(path))?],
            None => complete(&candidates(std::env::var_os("PATH").as_deref(), Path::new(DEBIAN))),
        };
        let found = directories.into_iter().map(with_version).collect::<Result<Vec<_>, _>>()?;
        choose(found, data)
    }
}

/// `C360_PG_BIN` is an order: it is used, or refused, and nothing else is looked at.
fn checked(directory: PathBuf) -> Result<PathBuf, Error> {
    match ["initdb", "postgres"].into_iter().find(|program| !directory.join(program).is_file()) {
        Some(program) => Err(Error::NotABinDirectory { path: directory, program }),
        None => Ok(directory),
    }
}

fn candidates(path: Option<&OsStr>, debian: &Path) -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    // An empty entry of PATH means the current directory; nobody wants a server from there.
    directories.retain(|directory| directory.is_absolute());
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(debian)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_unstable_by_key(|(version, _)| Reverse(*version));
    directories.extend(versions.into_iter().map(|(_, bin)| bin));
    directories
}

/// The directories that hold both programs, by their real path: `initdb` looks for `postgres` beside itself, which a
/// symbolic link in PATH may not have.
fn complete(directories: &[PathBuf]) -> Vec<PathBuf> {
    let mut complete = Vec::new();
    for directory in directories {
        let Ok(initdb) = directory.join("initdb").canonicalize() else { continue };
        let Some(real) = initdb.parent() else { continue };
        for directory in [real, directory] {
            let both = directory.join("initdb").is_file() && directory.join("postgres").is_file();
            if both && !complete.iter().any(|known| known == directory) {
                complete.push(directory.to_owned());
                break;
            }
        }
    }
    complete
}

fn with_version(directory: PathBuf) -> Result<Binaries, Error> {
    let postgres = directory.join("postgres");
    let output = Command::new(&postgres).arg("--version").output().map_err(io("run", &postgres))?;
    let major = major(&String::from_utf8_lossy(&output.stdout)).unwrap_or(0);
    Ok(Binaries { directory, major })
}

/// The major version in `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`, also of `18beta1`.
fn major(version: &str) -> Option<u32> {
    let number = version.split_once(") ")?.1;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

fn choose(found: Vec<Binaries>, data: Option<(&Path, u32)>) -> Result<Binaries, Error> {
    let Some(newest) = found.iter().max_by_key(|binaries| binaries.major).cloned() else {
        return Err(Error::NotInstalled { looked_in: format!("C360_PG_BIN, PATH and {DEBIAN}/*/bin") });
    };
    if let Some((dir, data)) = data {
        let versions: Vec<String> = found.iter().map(|binaries| binaries.major.to_string()).collect();
        return found.into_iter().find(|binaries| binaries.major == data).ok_or_else(|| Error::OtherVersion {
            dir: dir.to_owned(),
            data,
            found: versions.join(", "),
        });
    }
    found
        .into_iter()
        .find(|binaries| binaries.major >= OLDEST)
        .ok_or(Error::TooOld { path: newest.directory, major: newest.major })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn install(directory: &Path) -> PathBuf {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("initdb"), "").unwrap();
        fs::write(directory.join("postgres"), "").unwrap();
        directory.to_owned()
    }

    fn version(major: u32) -> Binaries {
        Binaries { directory: format!("/pg/{major}").into(), major }
    }

    #[test]
    fn reads_the_major_version() {
        assert_eq!(major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major("nonsense"), None);
    }

    #[test]
    fn path_comes_before_debian_and_the_newest_version_first() {
        let root = tempfile::tempdir().unwrap();
        let (nine, sixteen) = (root.path().join("9/bin"), root.path().join("16/bin"));
        fs::create_dir_all(&nine).unwrap();
        fs::create_dir_all(&sixteen).unwrap();
        let found = candidates(Some(OsStr::new("/somewhere/bin::relative")), root.path());
        assert_eq!(found, [PathBuf::from("/somewhere/bin"), sixteen, nine]);
    }

    #[test]
    fn follows_a_link_to_the_directory_that_has_both_programs() {
        let root = tempfile::tempdir().unwrap();
        let real = install(&root.path().canonicalize().unwrap().join("real"));
        let linked = root.path().join("linked");
        fs::create_dir(&linked).unwrap();
        std::os::unix::fs::symlink(real.join("initdb"), linked.join("initdb")).unwrap();
        assert_eq!(complete(&[linked, root.path().join("absent"), real.clone()]), [real]);
    }

    #[test]
    fn refuses_a_directory_without_the_programs() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("initdb"), "").unwrap();
        let error = checked(root.path().to_owned()).unwrap_err();
        assert!(matches!(error, Error::NotABinDirectory { program: "postgres", .. }), "{error}");
    }

    #[test]
    fn an_existing_cluster_gets_the_version_that_made_it() {
        let data = Path::new("/data");
        assert_eq!(choose(vec![version(17), version(15)], Some((data, 15))).unwrap(), version(15));
        let error = choose(vec![version(17)], Some((data, 16))).unwrap_err().to_string();
        assert!(error.contains("install postgresql-16") && error.contains("found: 17"), "{error}");
    }

    #[test]
    fn says_what_to_install() {
        let error = choose(Vec::new(), None).unwrap_err().to_string();
        assert!(error.contains("apt-get install postgresql"), "{error}");
        let error = choose(vec![version(14)], None).unwrap_err().to_string();
        assert!(error.contains("Postgres 14") && error.contains("15 or newer"), "{error}");
    }
}
