//! What `deploy/` ships fits the program: metrics, labels, commands; and the cron line does what it says.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use c360::cli::Cli;
use clap::Parser;
use regex::Regex;
use serde_json::Value;

const CONFIG: &str = r#"
[sources.loyalty]
kind = "csv"
directory = "DROP"
settle = "10ms"
[sources.loyalty.customer]
external_id = "id"
email = "email"
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap()
}

/// All Rust below a directory, as one text.
fn sources(directory: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

/// What stands in the brackets that open at the end of a pattern, wherever it matches.
fn arguments<'a>(text: &'a str, pattern: &Regex) -> Vec<(usize, &'a str)> {
    let within = |start: usize| {
        let mut depth = 1;
        let end = text[start..].find(|char| {
            depth += match char {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0
        });
        end.map(|end| (start, &text[start..start + end]))
    };
    pattern.find_iter(text).filter_map(|found| within(found.end())).collect()
}

/// Every metric of a crate with its labels, as the code emits it.
fn metrics_of(text: &str, metrics: &mut BTreeMap<String, BTreeSet<String>>) {
    let constants = regex(r#"const ([A-Z_]+): &str = "(c360_[a-z0-9_]+)";"#);
    let emitting = regex(r"(?:counter!|gauge!|histogram!|gauges\.set)\(");
    let label = regex(r#""([a-z]+)" =>|\("([a-z]+)","#);
    let emissions = arguments(text, &emitting);
    for (_, [constant, name]) in constants.captures_iter(text).map(|captures| captures.extract()) {
        let is_it = regex(&format!(r"\b{constant}\b"));
        for (at, emission) in emissions.iter().filter(|(_, emission)| is_it.is_match(emission)) {
            let labels: &mut BTreeSet<String> = metrics.entry(name.to_owned()).or_default();
            // `&labels` are those that stand before it.
            let named = emission.contains("&labels").then(|| &text[text[..*at].rfind("let labels").unwrap()..*at]);
            for text in named.into_iter().chain([*emission]) {
                let found = label.captures_iter(text).map(|captures| captures.extract::<1>().1[0].to_owned());
                labels.extend(found);
            }
        }
    }
}

/// Every metric that c360 exposes, with its labels.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let mut metrics = BTreeMap::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        metrics_of(&sources(&entry.unwrap().path().join("src")), &mut metrics);
    }
    assert!(metrics.len() > 25, "only {} metrics were found: does this test still read the code?", metrics.len());
    metrics
}

/// A metric that an expression names; of histograms without their suffix, and `le` among the labels.
fn known<'m>(name: &str, metrics: &'m BTreeMap<String, BTreeSet<String>>) -> Option<(&'m BTreeSet<String>, bool)> {
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    let histogram = base.filter(|base| base.ends_with("_seconds")).and_then(|base| metrics.get(base));
    histogram.map(|labels| (labels, true)).or_else(|| metrics.get(name).map(|labels| (labels, false)))
}

/// What is wrong with the names in an expression. Labels of a legend or a summary are given as `shown`.
fn problems(
    expression: &str,
    shown: &[String],
    metrics: &BTreeMap<String, BTreeSet<String>>,
    code: &str,
) -> Vec<String> {
    let mut problems = Vec::new();
    let names = regex(r"\b(c360_[a-z0-9_]+)(?:\{([^}]*)\})?");
    let matcher = regex(r#"([a-z]+) ?(=~|!~|=|!=) ?"([^"]*)""#);
    let by = regex(r"\bby \(([^)]*)\)");
    let mut common: Option<BTreeSet<String>> = None;
    for found in names.captures_iter(expression) {
        let Some((labels, is_histogram)) = known(&found[1], metrics) else {
            problems.push(format!("nothing is called {}", &found[1]));
            continue;
        };
        let mut labels = labels.clone();
        labels.extend(is_histogram.then(|| "le".to_owned()));
        for matched in matcher.captures_iter(found.get(2).map_or("", |selector| selector.as_str())) {
            if !labels.contains(&matched[1]) {
                problems.push(format!("{} has no label {}", &found[1], &matched[1]));
            }
            let values = matched[3].split('|').filter(|value| !value.starts_with('$'));
            let unknown = values.filter(|value| !code.contains(&format!("\"{value}\"")));
            problems.extend(unknown.map(|value| format!("no {} is called {value}", &matched[1])));
        }
        common = Some(common.map_or(labels.clone(), |common| common.intersection(&labels).cloned().collect()));
    }
    let common = common.unwrap_or_default();
    let kept: Vec<BTreeSet<String>> = by
        .captures_iter(expression)
        .map(|by| by[1].split(',').map(|label| label.trim().to_owned()).collect())
        .collect();
    let unknown = kept.iter().flatten().filter(|label| !common.contains(*label));
    problems.extend(unknown.map(|label| format!("by {label}, which is no label")));
    let lost = shown.iter().filter(|label| kept.is_empty() || !kept.iter().all(|kept| kept.contains(*label)));
    problems.extend(lost.map(|label| format!("{label} is shown and aggregated away")));
    problems.into_iter().map(|problem| format!("{problem}: {expression}")).collect()
}

fn all_code() -> String {
    sources(&root().join("crates"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is missing in {value:#}"))
}

/// Whether the program takes these words; what stands for a value is given one.
fn is_a_command(command: &str) -> Result<(), String> {
    let command = regex(r"\{\{ \$labels\.[a-z]+ \}\}|%i").replace_all(command, "loyalty").into_owned();
    Cli::try_parse_from(command.split_whitespace()).map(|_| ()).map_err(|error| format!("{command}: {error}"))
}

#[test]
fn alarms_name_only_metrics_labels_and_commands_that_there_are() {
    let alerts: Value = serde_norway::from_str(&read("deploy/prometheus/alerts.yml")).unwrap();
    let (metrics, code) = (metrics(), all_code());
    let shown = regex(r"\$labels\.([a-z]+)");
    let (mut names, mut wrong) = (BTreeSet::new(), Vec::new());
    for rule in alerts["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        let name = text(rule, "alert");
        assert!(names.insert(name.to_owned()), "{name} is there twice");
        assert!(["critical", "warning"].contains(&text(&rule["labels"], "severity")), "{name}");
        assert!(!text(rule, "for").is_empty());
        let annotations = &rule["annotations"];
        let words = ["summary", "description", "command"].map(|key| text(annotations, key)).join("\n");
        let labels: Vec<String> = shown.captures_iter(&words).map(|label| label[1].to_owned()).collect();
        let problems = problems(text(rule, "expr"), &labels, &metrics, &code);
        wrong.extend(problems.into_iter().map(|problem| format!("{name}: {problem}")));
        wrong.extend(is_a_command(text(annotations, "command")).err().map(|error| format!("{name}: {error}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(names.len() > 15, "{names:?}");
    let tests = read("deploy/prometheus/alerts_test.yml");
    serde_norway::from_str::<Value>(&tests).unwrap();
    for name in names {
        assert!(tests.matches(&format!("\"{name}\"")).count() > 0, "alerts_test.yml lacks {name}");
    }
}

#[test]
fn what_operators_are_told_to_watch_has_an_alarm_or_a_panel() {
    let shown = read("deploy/prometheus/alerts.yml") + &read("deploy/grafana/c360.json");
    let operations = read("docs/OPERATIONS.md");
    let section = operations.split("\n## ").find(|section| section.starts_with("What to watch")).unwrap();
    for name in regex(r"c360_[a-z0-9_]+").find_iter(section) {
        assert!(shown.contains(name.as_str()), "{} is neither in alerts.yml nor in c360.json", name.as_str());
    }
}

#[test]
fn every_metric_has_an_alarm_or_a_panel_or_is_explained() {
    let told = ["deploy/prometheus/alerts.yml", "deploy/grafana/c360.json", "docs/OPERATIONS.md"].map(read).join("\n");
    let silent: Vec<String> = metrics().into_keys().filter(|name| !told.contains(name)).collect();
    assert!(silent.is_empty(), "nobody is told of {silent:?}");
}

#[test]
fn the_dashboard_shows_only_metrics_and_labels_that_there_are() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/c360.json")).unwrap();
    let (metrics, code) = (metrics(), all_code());
    let shown = regex(r"\{\{([a-z]+)\}\}");
    let (mut ids, mut rows, mut wrong) = (BTreeSet::new(), 0, Vec::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id is there twice: {panel}");
        rows += u32::from(panel["type"] == "row");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let labels = shown.captures_iter(text(target, "legendFormat")).map(|label| label[1].to_owned());
            wrong.extend(problems(text(target, "expr"), &labels.collect::<Vec<_>>(), &metrics, &code));
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let query = variables.iter().find_map(|variable| variable["definition"].as_str()).unwrap();
    let asked = regex(r"label_values\((c360_[a-z_]+), ([a-z]+)\)").captures(query).unwrap();
    assert!(metrics[&asked[1]].contains(&asked[2]), "{query}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rows >= 6, "only {rows} rows");
}

#[test]
fn units_run_commands_that_there_are() {
    for unit in ["c360.service", "c360-import@.service"] {
        let unit = read(&format!("deploy/systemd/{unit}"));
        let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/")).unwrap();
        is_a_command(command).unwrap();
    }
    // An instance of each template; the program is where it is on this machine.
    let directory = tempfile::tempdir().unwrap();
    let names = ["c360.service", "c360-import@.service", "c360-import@.timer"];
    for name in names {
        let unit = read(&format!("deploy/systemd/{name}")).replace("/usr/local/bin/c360", env!("CARGO_BIN_EXE_c360"));
        fs::write(directory.path().join(name.replace('@', "@loyalty")), unit).unwrap();
    }
    let instances = names.map(|name| directory.path().join(name.replace('@', "@loyalty")));
    let verified =
        run(Command::new("systemd-analyze").args(["verify", "--man=no", "--recursive-errors=no"]).args(&instances));
    assert!(verified.status.success() && verified.stderr.is_empty(), "{verified:?}");
    // Of 100, which a unit without any hardening nearly has. Most of what is left is that c360 needs the network.
    let hardened = ["security", "--offline=true", "--threshold=15", "--no-pager"];
    for service in instances.iter().filter(|path| path.extension().is_some_and(|extension| extension == "service")) {
        let judged = run(Command::new("systemd-analyze").args(hardened).arg(service));
        assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
    }
}

#[test]
fn prometheus_takes_the_alarms_and_they_fire_when_they_should() {
    for arguments in
        [["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]]
    {
        let output = run(Command::new("promtool").args(arguments).current_dir(root().join("deploy/prometheus")));
        assert!(output.status.success(), "{output:?}");
    }
}

/// What a program of the machine says; scripts/setup.sh installs those that are used here.
fn run(command: &mut Command) -> Output {
    let program = command.get_program().to_owned();
    command.output().unwrap_or_else(|error| panic!("{}: {error}; run scripts/setup.sh test", program.display()))
}

/// docker-compose.yml with its merge keys carried out.
fn compose() -> serde_norway::Value {
    let mut compose: serde_norway::Value = serde_norway::from_str(&read("docker-compose.yml")).unwrap();
    // Merged maps have merge keys themselves.
    for _ in 0..3 {
        compose.apply_merge().unwrap();
    }
    compose
}

#[test]
fn every_service_of_compose_is_pinned_bounded_and_without_rights() {
    let compose = compose();
    let services = compose["services"].as_mapping().unwrap();
    assert!(services.len() >= 9, "{services:?}");
    for (name, service) in services {
        let name = name.as_str().unwrap();
        let image = service["image"].as_str().unwrap_or_else(|| panic!("{name} has no image"));
        let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{name}: {image} is not pinned"));
        assert!(tag.split('.').count() >= 2, "{name}: {image} is not pinned to a release");
        assert_eq!(service["read_only"].as_bool(), Some(true), "{name} can write to its root file system");
        assert_eq!(service["cap_drop"][0].as_str(), Some("ALL"), "{name} keeps capabilities");
        assert_eq!(service["security_opt"][0].as_str(), Some("no-new-privileges:true"), "{name} may gain rights");
        assert!(service["mem_limit"].is_string() && service["logging"].is_mapping(), "{name} is not bounded");
        assert!(service["restart"].is_string(), "{name} stays down");
        for port in service["ports"].as_sequence().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name} is open to everybody: {port:?}");
        }
        for secret in service["secrets"].as_sequence().into_iter().flatten().map(|secret| secret.as_str().unwrap()) {
            let file = format!("./deploy/secrets/{secret}.txt");
            assert_eq!(compose["secrets"][secret]["file"].as_str(), Some(&*file), "{name}");
            assert!(read("scripts/secrets.sh").contains(secret), "nothing makes {file}");
        }
    }
}

#[test]
fn prometheus_hears_every_daemon_of_compose() {
    let prometheus: Value = serde_norway::from_str(&read("deploy/prometheus/prometheus.yml")).unwrap();
    let found = &prometheus["scrape_configs"][0]["dns_sd_configs"][0];
    assert_eq!((text(found, "type"), &found["port"]), ("A", &Value::from(8360)));
    let asked: Vec<&str> = found["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let compose = compose();
    let services = compose["services"].as_mapping().unwrap().iter();
    let daemons = services.filter(|(_, service)| service["command"][0].as_str() == Some("run"));
    let daemons: Vec<&str> = daemons.map(|(name, _)| name.as_str().unwrap()).collect();
    assert_eq!(asked, daemons);
    for daemon in daemons {
        let command = compose["services"][daemon]["command"].as_sequence().unwrap();
        assert!(!command.iter().any(|word| word.as_str() == Some("--no-http")), "{daemon} serves no metrics");
    }
}

#[test]
fn the_image_is_of_this_version_and_built_with_the_toolchain_of_the_tree() {
    let (dockerfile, compose) = (read("Dockerfile"), compose());
    let version = env!("CARGO_PKG_VERSION");
    assert!(dockerfile.contains(&format!("org.opencontainers.image.version=\"{version}\"")));
    for service in ["c360", "c360-more", "online-store"] {
        assert_eq!(compose["services"][service]["image"].as_str(), Some(&*format!("c360:{version}")));
    }
    let toolchain = read("rust-toolchain.toml");
    let toolchain = regex(r#"channel = "([^"]+)""#).captures(&toolchain).unwrap()[1].to_owned();
    let stage = regex("FROM rust:(.*)-bookworm AS");
    let stages: Vec<_> = stage.captures_iter(&dockerfile).map(|found| found[1].to_owned()).collect();
    assert_eq!(stages, [&*toolchain, &*toolchain]);
    assert!(dockerfile.contains(&format!("RUSTUP_TOOLCHAIN={toolchain} ")));
}

/// `deploy/cron/c360`: its environment, and its commands, those that are commented out too.
fn crontab() -> (Vec<(String, String)>, Vec<String>) {
    let variable = regex(r"^([A-Z0-9_]+)=(.*)$");
    let job = regex(r"^(?:# )?(?:[0-9*/]+ ){4}[0-9*]+  c360  (.*)$");
    let text = read("deploy/cron/c360");
    let variables = text.lines().filter_map(|line| variable.captures(line));
    let jobs = text.lines().filter_map(|line| job.captures(line));
    (
        variables.map(|found| (found[1].to_owned(), found[2].to_owned())).collect(),
        jobs.map(|found| found[1].to_owned()).collect(),
    )
}

/// Runs a job as cron does: with the environment of the crontab and nothing else, from another directory.
fn run_as_cron(job: &str, home: &Path, url: &str) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_c360")).parent().unwrap();
    let (environment, _) = crontab();
    let shell = environment.iter().find(|(name, _)| name == "SHELL").unwrap();
    let mut command = Command::new(&shell.1);
    command.env_clear().envs(environment.clone()).env("HOME", "/nonexistent").env("LOGNAME", "c360");
    let path = environment.iter().find(|(name, _)| name == "PATH").unwrap();
    command.env("PATH", format!("{}:{}", program.display(), path.1));
    command.env("C360_CONFIG", home.join("c360.toml")).env("LOG", home).env("C360__DATABASE__URL", url);
    command.env("C360__SECURITY__KEY_FILE", home.join("installation.key"));
    command.args(["-c", job]).current_dir("/").output().unwrap()
}

#[test]
fn every_job_of_the_crontab_is_a_command() {
    let (environment, jobs) = crontab();
    assert_eq!(jobs.len(), 4, "{jobs:?}");
    let c360 = regex(r"(?:^|out=\$\()(c360 [^>)]*?)(?: [0-9]?>|\)|$)");
    for job in &jobs {
        let command = c360.captures(job).unwrap_or_else(|| panic!("{job}"));
        is_a_command(command[1].trim()).unwrap();
        assert!(!job.contains('%'), "cron makes line ends of them: {job}");
    }
    assert!(environment.iter().any(|(name, _)| name == "MAILTO"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cron_jobs_print_only_what_somebody_should_read() {
    let database = embedded_postgres::test::database().await;
    let home = tempfile::tempdir().unwrap();
    let drop = home.path().join("drop");
    fs::write(home.path().join("c360.toml"), CONFIG.replace("DROP", drop.to_str().unwrap())).unwrap();
    let (_, jobs) = crontab();
    let run = |job: &str| {
        let output = run_as_cron(job, home.path(), &database.url);
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (import, check) = (&jobs[0], &jobs[1]);

    let said = run(import);
    assert!(said.starts_with("c360 import loyalty: exit code 69\n") && said.contains("/drop"), "{said}");
    fs::create_dir(&drop).unwrap();
    let night = |night: u32, text: &str| fs::write(drop.join(format!("members_2026-01-{night}.csv")), text).unwrap();
    night(10, "id,email\n1,a@x.example\n");
    assert_eq!((run(import), run(check)), (String::new(), String::new()), "no news is good news");
    night(11, "id,email\n1,a@x.example\n2\n");
    let said = run(import);
    assert!(said.starts_with("c360 import loyalty: exit code 4\n") && said.contains("\"dead_letters\":1"), "{said}");
    night(12, "number,mail\n1,a@x.example\n");
    let said = run(import);
    assert!(said.starts_with("c360 import loyalty: exit code 65\n"), "{said}");
    assert!(said.contains("required columns missing: email, id"), "{said}");
    let said = run(check);
    assert!(said.contains("members_2026-01-12.csv") && said.contains("c360 import loyalty"), "{said}");
    let log = fs::read_to_string(home.path().join("import.log")).unwrap();
    assert!(log.lines().count() > 4 && !log.contains("x.example"), "{log}");
}
