//! The rules of the house that no compiler knows: which crate may use which, whose tables are whose, and that documents
//! name only what exists.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Every member of the workspace, with the members that it may use outside of its tests. Data flows one way.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("model", &[]),
    ("embedded-postgres", &[]),
    ("staging", &["model"]),
    ("ingest-kafka", &["model", "staging"]),
    ("ingest-csv", &["model", "staging"]),
    ("poll-rest", &["model", "staging"]),
    ("consolidate", &["model", "staging"]),
    ("status", &["staging", "consolidate"]),
    ("serve", &["model", "staging", "consolidate", "status"]),
    (
        "c360",
        &[
            "model",
            "embedded-postgres",
            "staging",
            "ingest-kafka",
            "ingest-csv",
            "poll-rest",
            "consolidate",
            "status",
            "serve",
        ],
    ),
];
/// Uses whatever it likes; nobody uses it.
const TESTS: &str = "c360-tests";

/// What a crate that is pure must not use.
const IMPURE: [&str; 4] = ["sqlx", "tokio", "reqwest", "rdkafka"];

/// Whose statements may not name the tables of which schemas.
const NO_TABLES_OF: [(&str, &[&str]); 9] = [
    ("staging", &["customer360"]),
    ("ingest-kafka", &["customer360"]),
    ("ingest-csv", &["customer360"]),
    ("poll-rest", &["customer360"]),
    ("consolidate", &["staging"]),
    ("status", &["customer360", "staging"]),
    ("serve", &["staging"]),
    ("c360", &["staging"]),
    ("embedded-postgres", &["customer360", "staging"]),
];

/// What people write through the API: of the tables of golden records, those that crate serve writes. All others it reads.
const WRITTEN_BY_SERVE: [&str; 6] = ["api_keys", "audit_log", "entries", "lists", "list_members", "views"];

/// Files that documents may name although a clone lacks them: c360 or `make secrets` makes them, or the user does.
const MADE_LATER: [&str; 3] = ["data/", "deploy/secrets/", "drop/"];

/// Where the paths in a document begin, for those in blocks of code.
const TOP: [&str; 7] = [".ci/", "crates/", "deploy/", "docs/", "fixtures/", "scripts/", "tests/"];
const EXTENSIONS: [&str; 8] = [".rs", ".toml", ".md", ".sh", ".sql", ".yml", ".json", ".jsonl"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The members of the workspace, as cargo describes them.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn name(value: &Value) -> String {
    value["name"].as_str().unwrap().to_owned()
}

/// The members of the workspace: name and what they use outside of their tests.
fn members() -> BTreeMap<String, BTreeSet<String>> {
    let uses = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap();
        dependencies.iter().filter(|dependency| dependency["kind"] != "dev").map(name).collect()
    };
    packages().iter().map(|package| (name(package), uses(package))).collect()
}

/// Files below a directory whose names end so, without what is built.
fn files(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files(&path, extension, found);
        } else if name.ends_with(extension) && path.is_file() {
            found.push(path);
        }
    }
}

fn documents() -> Vec<(String, String)> {
    let mut paths = vec![];
    files(&root().join("docs"), ".md", &mut paths);
    let mut names: Vec<String> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(str::to_owned).into();
    names.extend(paths.iter().map(|path| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()));
    names.into_iter().map(|name| (name.clone(), read(&name))).collect()
}

/// The names of all functions of the workspace.
fn functions() -> BTreeSet<String> {
    let mut sources = vec![];
    files(&root().join("crates"), ".rs", &mut sources);
    files(&root().join("tests"), ".rs", &mut sources);
    let mut names = BTreeSet::new();
    for source in sources {
        let text = fs::read_to_string(&source).unwrap();
        let declared =
            text.lines().filter_map(|line| line.split_once("fn ").and_then(|(_, rest)| rest.split_once('(')));
        names.extend(declared.map(|(name, _)| name.to_owned()));
    }
    names
}

/// A line of a document, with the path of the crate that its section is about.
struct Line<'a> {
    text: &'a str,
    about: Option<&'a str>,
    is_code: bool,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let (mut about, mut is_code) = (None, false);
    let mut lines = vec![];
    for text in text.lines() {
        if text.starts_with("```") {
            is_code = !is_code;
        } else if text.starts_with('#') && !is_code {
            about = quoted(text).into_iter().find(|name| name.starts_with("crates/") || *name == "tests");
        }
        lines.push(Line { text, about, is_code });
    }
    lines
}

/// What stands between back ticks.
fn quoted(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// Where the links of a line lead, without their anchors.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets
        .map(|(target, _)| target.split_once('#').map_or(target, |(file, _)| file))
        .filter(|target| !target.is_empty())
}

fn begins_at_the_top(word: &str) -> bool {
    TOP.iter().any(|top| word.starts_with(top))
}

fn looks_like_a_path(word: &str) -> bool {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte));
    let is_name = !word.starts_with(['.', '/']) && EXTENSIONS.iter().any(|extension| word.ends_with(extension));
    is_plain && (is_name || begins_at_the_top(word))
}

/// The paths that a line names, wherever they may begin.
fn named_paths<'a>(line: &Line<'a>) -> Vec<&'a str> {
    if line.is_code {
        let words = line.text.split(|char: char| char.is_whitespace() || "\"'(),:;=".contains(char));
        return words.filter(|word| begins_at_the_top(word) && looks_like_a_path(word)).collect();
    }
    quoted(line.text).into_iter().flat_map(str::split_whitespace).filter(|word| looks_like_a_path(word)).collect()
}

fn exists(path: &str, document: &str, about: Option<&str>) -> bool {
    let root = root();
    let beside = root.join(document).parent().unwrap().join(path);
    let in_crate = about.map(|about| [root.join(about).join("src").join(path), root.join(about).join(path)]);
    let is_later = MADE_LATER.iter().any(|directory| path.starts_with(directory));
    is_later
        || root.join(path).exists()
        || beside.exists()
        || in_crate.is_some_and(|paths| paths.iter().any(|p| p.exists()))
}

#[test]
fn dependencies_run_one_way() {
    let members = members();
    let known: BTreeSet<&str> = MAY_USE.iter().map(|(name, _)| *name).chain([TESTS]).collect();
    let all: BTreeSet<&str> = members.keys().map(String::as_str).collect();
    assert_eq!(all, known, "a crate that is new needs a line in MAY_USE, one that is gone loses it");
    for (name, may_use) in MAY_USE {
        let uses: BTreeSet<&str> = members[name].iter().map(String::as_str).filter(|used| all.contains(used)).collect();
        let forbidden: Vec<_> = uses.iter().filter(|used| !may_use.contains(used)).collect();
        assert!(forbidden.is_empty(), "{name} must not use {forbidden:?}");
    }
}

#[test]
fn every_dependency_is_used() {
    let (mut inherited, mut unused) = (BTreeSet::new(), vec![]);
    for package in packages() {
        let mut sources = vec![];
        files(Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap(), ".rs", &mut sources);
        let text: String = sources.iter().map(|source| fs::read_to_string(source).unwrap()).collect();
        let words: BTreeSet<&str> = text.split(|char| !is_of_a_name(char)).collect();
        for dependency in package["dependencies"].as_array().unwrap().iter().map(name) {
            if !words.contains(&*dependency.replace('-', "_")) {
                unused.push(format!("{dependency} by {}", name(&package)));
            }
            inherited.insert(dependency);
        }
    }
    let manifest = read("Cargo.toml");
    let section = manifest.split("\n[").find(|section| section.starts_with("workspace.dependencies]")).unwrap();
    let listed = section.lines().filter_map(|line| line.split_once(" = ").map(|(name, _)| name));
    unused.extend(listed.filter(|name| !inherited.contains(*name)).map(|name| format!("{name} by any member")));
    assert!(unused.is_empty(), "not used: {unused:#?}");
}

#[test]
fn the_model_is_pure() {
    let uses = &members()["model"];
    let impure: Vec<_> = IMPURE.iter().filter(|name| uses.contains(**name)).collect();
    assert!(impure.is_empty(), "model must not use {impure:?}");
}

#[test]
fn no_crate_reaches_into_tables_that_are_not_its_own() {
    for (name, schemas) in NO_TABLES_OF {
        let mut sources = vec![];
        for extension in [".rs", ".sql"] {
            files(&root().join("crates").join(name).join("src"), extension, &mut sources);
        }
        assert!(!sources.is_empty(), "{name} has no sources");
        for source in sources {
            let text = fs::read_to_string(&source).unwrap();
            for schema in schemas {
                for word in ["from", "join", "into", "update", "copy", "table"] {
                    let statement = format!("{word} {schema}.");
                    assert!(!text.contains(&statement), "{}: `{statement}`", source.display());
                }
            }
        }
    }
}

#[test]
fn the_api_writes_what_people_say_and_no_golden_record() {
    let mut sources = vec![];
    files(&root().join("crates/serve/src"), ".rs", &mut sources);
    for source in sources {
        let text = fs::read_to_string(&source).unwrap();
        for word in ["insert into customer360.", "update customer360.", "delete from customer360."] {
            for table in text.split(word).skip(1).filter_map(|rest| rest.split(|c| !is_of_a_name(c)).next()) {
                assert!(WRITTEN_BY_SERVE.contains(&table), "{}: {word}{table}", source.display());
            }
        }
    }
}

#[test]
fn documents_name_only_files_that_exist() {
    let mut missing = vec![];
    let mut count = 0;
    for (document, text) in documents() {
        for line in lines(&text) {
            let linked = links(line.text).filter(|target| !line.is_code && !target.contains("://"));
            for path in named_paths(&line).into_iter().chain(linked) {
                count += 1;
                if !exists(path, &document, line.about) {
                    missing.push(format!("{document}: {path}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(count > 50, "only {count} paths were found: does this test still read the documents?");
}

#[test]
fn make_demo_writes_what_the_demo_writes_and_nothing_else() {
    let makefile = read("Makefile");
    let demo = makefile.split("\ndemo:").nth(1).unwrap();
    let recipe: Vec<&str> = demo.lines().skip(1).take_while(|line| line.starts_with('\t')).collect();
    let loud: Vec<&&str> = recipe.iter().filter(|line| !line.starts_with("\t@")).collect();
    assert!(!recipe.is_empty() && loud.is_empty(), "the README reads its output with jq: {loud:?}");
}

#[test]
fn documents_name_only_targets_that_the_makefile_has() {
    let makefile = read("Makefile");
    for (document, text) in documents() {
        let in_code = |line: &Line<'_>| if line.is_code { line.text.to_owned() } else { quoted(line.text).join("\n") };
        for line in lines(&text).iter().map(in_code) {
            for rest in line.split("make ").skip(1) {
                let target: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
                let is_there = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
                assert!(is_there, "{document}: make {target}");
            }
        }
    }
}

#[test]
fn documents_name_only_metrics_that_exist() {
    let mut sources = vec![];
    files(&root().join("crates"), ".rs", &mut sources);
    let sources: String = sources.iter().map(|source| fs::read_to_string(source).unwrap()).collect();
    for (document, text) in documents() {
        for (_, rest) in text.lines().flat_map(quoted).filter_map(|word| word.split_once("c360_")) {
            let name = format!("c360_{}", rest.split(|char| !is_of_a_name(char)).next().unwrap_or_default());
            let is_pattern = name == "c360_";
            assert!(is_pattern || sources.contains(&format!("\"{name}\"")), "{document}: nothing is called {name}");
        }
    }
}

fn is_of_a_name(char: char) -> bool {
    char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_'
}

#[test]
fn the_architecture_has_every_table() {
    let architecture = read("ARCHITECTURE.md");
    let mut migrations = vec![];
    files(&root().join("crates"), ".sql", &mut migrations);
    migrations.retain(|path| path.parent().is_some_and(|directory| directory.ends_with("migrations")));
    let mut count = 0;
    for migration in migrations {
        let text = fs::read_to_string(&migration).unwrap();
        let names = text.lines().filter_map(|line| line.strip_prefix("create table ")?.split_once(" ("));
        for (schema, table) in names.filter_map(|(name, _)| name.split_once('.')) {
            let title = format!("Schema `{schema}`");
            let section = architecture.split("\n### ").find(|section| section.starts_with(&title)).expect("a section");
            assert!(section.contains(&format!("`{table}`")), "ARCHITECTURE.md lacks the table {schema}.{table}");
            count += 1;
        }
    }
    assert!(count > 10, "only {count} tables were found");
}

#[test]
fn the_architecture_has_every_crate() {
    let architecture = read("ARCHITECTURE.md");
    for name in members().keys().filter(|name| *name != TESTS) {
        assert!(architecture.contains(&format!("`crates/{name}`")), "ARCHITECTURE.md does not name crates/{name}");
    }
}

#[test]
fn the_tests_of_the_invariants_exist_and_are_all_named() {
    let functions = functions();
    let architecture = read("ARCHITECTURE.md");
    let section = architecture.split("\n## ").find(|section| section.starts_with("Invariants")).expect("a section");
    // A sentence has more words than a column or a key.
    let is_test = |word: &&str| {
        word.bytes().filter(|byte| *byte == b'_').count() >= 4
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let named: BTreeSet<&str> = section.lines().flat_map(quoted).filter(is_test).collect();
    assert!(!named.is_empty());
    let gone: Vec<_> = named.iter().filter(|name| !functions.contains(**name)).collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md names tests that do not exist: {gone:#?}");
    let bears_a_name = |name: &&String| {
        let rest = name.strip_prefix("invariant_").unwrap_or_default();
        rest.starts_with(|first: char| first.is_ascii_digit())
    };
    let unnamed: Vec<_> = functions.iter().filter(bears_a_name).filter(|name| !named.contains(name.as_str())).collect();
    assert!(unnamed.is_empty(), "ARCHITECTURE.md, section Invariants, lacks {unnamed:#?}");
}
