//! Opening files without being led astray, and telling whether they stay the same.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use chrono::{DateTime, SubsecRound, Utc};
use sha2::{Digest, Sha256};

/// What changes when somebody writes to a file or puts another in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        }
    }

    /// Modification time, to the microsecond as Postgres keeps it.
    pub(crate) fn mtime(&self) -> DateTime<Utc> {
        let nanoseconds = u32::try_from(self.nanoseconds).unwrap_or_default();
        DateTime::from_timestamp(self.seconds, nanoseconds).unwrap_or_default().trunc_subsecs(6)
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

/// Opens a regular file. With `follow` false the last part of the path must not be a symlink. FIFOs do not make us wait.
pub(crate) fn open(path: &Path, follow: bool) -> io::Result<(File, Identity)> {
    let no_follow = if follow { 0 } else { libc::O_NOFOLLOW };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY | no_follow)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, Identity::of(&metadata)))
}

/// SHA-256 of a file's bytes, in hex; `None` if `stop` says so on the way. The file is at its beginning before and after.
pub(crate) fn sha256(mut file: &File, stop: impl Fn() -> bool) -> io::Result<Option<String>> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    file.rewind()?;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                hash.update(&buffer[..read]);
                if stop() {
                    return Ok(None);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    file.rewind()?;
    Ok(Some(hex::encode(hash.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_whatever_they_were_when_they_were_found() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link, fifo) =
            (directory.path().join("file"), directory.path().join("link"), directory.path().join("fifo"));
        std::fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let why = |path: &Path, follow| open(path, follow).map(|_| ()).map_err(|error| error.raw_os_error());
        assert_eq!(why(&file, false), Ok(()));
        assert_eq!(why(&link, false), Err(Some(libc::ELOOP)), "a link that took its place");
        assert_eq!(why(&link, true), Ok(()), "an operator may name one");
        // Nobody writes to it: whoever waited for that would wait for ever.
        for odd in [&*fifo, directory.path(), Path::new("/dev/zero")] {
            assert_eq!(open(odd, true).map(|_| ()).unwrap_err().to_string(), "not a regular file", "{}", odd.display());
        }
    }
}
