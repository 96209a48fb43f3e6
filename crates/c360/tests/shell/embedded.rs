//! The embedded database, which the first process runs and all others use.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use embedded_postgres::test::eventually;

use crate::support::{self, Running};

/// A server over the embedded database of a directory.
fn serve(directory: &Path, log: &str) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = support::c360();
    command.current_dir(directory).arg("serve").env("C360__HTTP__LISTEN", listener.local_addr().unwrap().to_string());
    let log = fs::File::create(directory.join(log)).unwrap();
    Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

#[tokio::test]
async fn who_comes_while_the_embedded_database_starts_uses_it_and_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    // Postgres may run as another user than this test.
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    fs::write(directory.path().join("c360.toml"), "").unwrap();
    let path = |name: &str| directory.path().join(name);
    let serves = |log: &str| fs::read_to_string(path(log)).is_ok_and(|log| log.contains("serving http"));

    let mut owner = serve(directory.path(), "owner.log");
    eventually("the database begins to start", async || fs::read_dir(path("data")).is_ok_and(|data| data.count() > 1))
        .await;
    let mut guest = serve(directory.path(), "guest.log");
    eventually("both serve", async || serves("owner.log") && serves("guest.log")).await;

    Command::new("kill").args(["-TERM", &owner.0.id().to_string()]).status().unwrap();
    assert_eq!(owner.0.wait().unwrap().code(), Some(0));
    assert_eq!(
        guest.0.wait().unwrap().code(),
        Some(69),
        "a supervisor starts it again, and it finds the next database"
    );
    let told = fs::read_to_string(path("guest.log")).unwrap();
    assert!(told.contains("the embedded database has ended with the process that ran it; start again"), "{told}");
}
