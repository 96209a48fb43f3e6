//! The program as a shell sees it: output, messages and exit codes.

use assert_cmd::Command;

use crate::support::{self, SHIPPED, stderr, stdout};

/// c360 in an empty directory.
fn c360(directory: &tempfile::TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::from_std(support::c360());
    command.current_dir(directory).args(arguments);
    command
}

fn written(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("c360.toml"), text).expect("a file");
    directory
}

#[test]
fn the_shipped_configuration_can_be_used() {
    let said = stdout(&c360(&written(SHIPPED), &["config", "check"]).assert().code(0));
    assert!(said.contains("home_delivery (kafka), loyalty (csv), online_store (rest)"), "{said}");
}

#[test]
fn a_wrong_key_exits_with_78_and_names_what_was_meant() {
    let directory = written("[http]\nlisten = \"127.0.0.1:1\"\nlisetn = 1\n");
    let said = stderr(&c360(&directory, &["config", "check"]).assert().code(78));
    assert!(said.contains("c360.toml:3: `http.lisetn`: unknown key (did you mean `listen`?"), "{said}");
}

#[test]
fn a_directory_without_a_configuration_exits_with_78() {
    let empty = tempfile::tempdir().unwrap();
    let said = stderr(&c360(&empty, &["config", "print"]).assert().code(78));
    assert!(said.contains("--config FILE"), "{said}");
    c360(&empty, &["config", "print"]).env("DATABASE_URL", "postgres://u:s3cret@h/d").assert().code(0);
    c360(&empty, &["config", "check", "--config", "absent.toml"]).assert().code(78);
}

#[test]
fn print_hides_secrets_and_shows_what_is_in_force() {
    let directory = written(SHIPPED);
    let print = c360(&directory, &["config", "print"]).env("DATABASE_URL", "postgres://u:s3cret@h/d").assert().code(0);
    let printed = stdout(&print);
    assert!(printed.contains("postgres://u:[redacted]@h/d") && !printed.contains("s3cret"), "{printed}");
}

#[test]
fn the_file_may_be_named_by_a_variable_and_logs_may_be_json() {
    let directory = written(&SHIPPED.replace("kind = \"csv\"", "kind = \"csv\"\ncredentials = \"keep\""));
    let elsewhere = tempfile::tempdir().unwrap();
    let check = c360(&elsewhere, &["config", "check", "--log-format", "json"])
        .env("C360_CONFIG", directory.path().join("c360.toml"))
        .assert()
        .code(0);
    let line = stderr(&check);
    let warning: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
    assert_eq!(warning["level"], "WARN");
    assert!(warning["message"].as_str().unwrap().contains("keeps passwords in clear"), "{warning}");
}

#[test]
fn a_log_filter_that_is_none_is_a_configuration_error() {
    let said = stderr(&c360(&written(""), &["config", "check"]).env("C360_LOG", "c360=loud").assert().code(78));
    assert!(said.contains("C360_LOG is not a log filter"), "{said}");
}

#[test]
fn a_command_line_that_is_wrong_exits_with_2() {
    c360(&written(""), &["confg"]).assert().code(2);
    c360(&written(""), &["demo", "--json"]).assert().code(2);
    c360(&written(""), &["--help"]).assert().code(0);
}

#[test]
fn completions_know_the_commands() {
    let script = stdout(&c360(&written(""), &["completions", "bash"]).assert().code(0));
    assert!(script.contains("--no-http") && script.contains("_c360"));
}
