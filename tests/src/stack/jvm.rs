//! How Kafka's programs are run: the jars, the JVM's flags, the log.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use tokio::sync::OnceCell;

use super::daemon::tied_command;

/// For a quick start rather than a high throughput: on two cores these halve the time until a JVM answers.
const FLAGS: [&str; 6] = [
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Xms128m",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
];

const LOG4J: &str = r#"<Configuration status="WARN">
  <Appenders>
    <Console name="stderr" target="SYSTEM_ERR"><PatternLayout pattern="%d %p [%t] %m (%c)%n"/></Console>
  </Appenders>
  <Loggers>
    <Root level="INFO"><AppenderRef ref="stderr"/></Root>
    <Logger name="org.apache.kafka.common.config" level="WARN"/>
    <Logger name="org.apache.kafka.clients.consumer.ConsumerConfig" level="WARN"/>
    <Logger name="org.apache.kafka.clients.producer.ProducerConfig" level="WARN"/>
    <Logger name="org.apache.kafka.clients.admin.AdminClientConfig" level="WARN"/>
  </Loggers>
</Configuration>
"#;

/// Where the jars are. Fetches them when they are not there or no longer match the poms, which takes a minute.
pub(super) async fn jars() -> Result<&'static Path> {
    static JARS: OnceCell<PathBuf> = OnceCell::const_new();
    let jars = JARS.get_or_try_init(|| async {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/fetch-jars.sh");
        let output =
            tokio::process::Command::new(&script).output().await.context("cannot run scripts/fetch-jars.sh")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "scripts/fetch-jars.sh failed: {errors}");
        let stdout = String::from_utf8(output.stdout)?;
        Ok(PathBuf::from(stdout.trim_end()))
    });
    Ok(jars.await?)
}

/// A JVM that runs `main` on the broker's class path, tied to this process, with its heap limited to `heap` MiB.
///
/// `directory` gets the JVM's log configuration.
pub(super) fn java(jars: &Path, directory: &Path, heap: u32, main: &str) -> Result<Command> {
    java_with(jars, directory, heap, &[], main)
}

/// The same, with flags that win over ours.
pub(super) fn java_with(jars: &Path, directory: &Path, heap: u32, flags: &[&str], main: &str) -> Result<Command> {
    let log4j = directory.join("log4j2.xml");
    fs::write(&log4j, LOG4J)?;
    let java = env::var_os("JAVA_HOME").map_or_else(|| "java".into(), |home| Path::new(&home).join("bin/java"));
    let mut command = tied_command(java, None);
    command
        .args(FLAGS)
        .args(flags)
        .arg(format!("-Xmx{heap}m"))
        .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
        .arg("-cp")
        .arg(jars.join("broker/*"))
        .arg(main);
    Ok(command)
}

/// Writes a properties file of `key=value` lines.
pub(super) fn write_properties(path: &Path, properties: &[(impl AsRef<str>, String)]) -> Result<()> {
    let lines: Vec<String> = properties.iter().map(|(key, value)| format!("{}={value}", key.as_ref())).collect();
    Ok(fs::write(path, lines.join("\n"))?)
}
