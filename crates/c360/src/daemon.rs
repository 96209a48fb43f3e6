//! The daemon: every source, consolidation, expiry and HTTP, each supervised by itself.

use std::time::Duration;

use anyhow::Context;
use chrono::Utc;
use consolidate::Rules;
use sqlx::postgres::PgConnectOptions;
use staging::{Lander, Seal};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Retention, SourceKind};
use crate::exit::Exit;
use crate::installation::Installation;
use crate::members::Member;
use crate::sources::{Ingester, ingester};
use crate::{gauges, telemetry, upkeep};

/// SIGTERM to exit; docker-compose and Kubernetes kill what is slower.
const STOP_WITHIN: Duration = Duration::from_secs(9);
/// A part that failed starts again after this long.
const RESTART_AFTER: Duration = Duration::from_secs(5);
/// How often what is over is looked for.
const UPKEEP_EVERY: Duration = Duration::from_mins(1);

/// How often it is counted what the same people buy.
const PAIRS_EVERY: Duration = Duration::from_mins(10);

/// A part of the daemon that ended for a reason that starting it again does not cure.
struct Hopeless(anyhow::Error);

/// Runs everything until `cancel`. One failing part never stops the others; only what no restart can cure ends the daemon.
pub async fn run(mut installation: Installation, http: bool, cancel: CancellationToken) -> anyhow::Result<Exit> {
    let metrics = telemetry::count()?;
    let rules = installation.rules()?;
    let member = member(&installation.config);
    // Made once to find out early whether the configuration works, and again for every start.
    let mut ingesters = Vec::new();
    for (name, source) in &installation.config.sources {
        let mut ingester = ingester(name, source, &installation.key)?;
        if let (Ingester::Kafka(settings), Some(member)) = (&mut ingester, &member) {
            join_as(member, settings);
        }
        ingesters.push((name, ingester));
    }
    let listener = if http { Some(listen(&installation.config).await?) } else { None };
    let serving = installation.serving(&cancel)?;
    // From here on nothing fails before there is somebody to stop what runs.
    let mut parts: JoinSet<Result<(), Hopeless>> = JoinSet::new();
    for (name, ingester) in ingesters {
        spawn_source(&mut parts, name, ingester, &installation, &cancel);
    }
    spawn_consolidator(&mut parts, rules, installation.seal(), &installation.database, &cancel);
    spawn_upkeep(&mut parts, installation.database.clone(), installation.config.retention, cancel.clone());
    spawn_pairs(&mut parts, installation.database.clone(), cancel.clone());
    let sources = installation.config.sources.keys().cloned().collect();
    spawn_gauges(&mut parts, installation.database.clone(), sources, cancel.clone());
    if let Some(listener) = listener {
        let (settings, handle, stopping) = (serving, metrics.clone(), cancel.clone());
        parts.spawn(async move {
            serve::serve(listener, settings, handle, stopping).await.map_err(|error| Hopeless(error.into()))
        });
    }
    let upkeep = tokio::spawn(telemetry::upkeep(metrics));
    let ended = supervise(&mut parts, &mut installation, &cancel).await;
    cancel.cancel();
    let stopped = tokio::time::timeout(STOP_WITHIN, async { while parts.join_next().await.is_some() {} }).await;
    if stopped.is_err() {
        tracing::warn!("not everything stopped in time; what was open is rolled back");
    }
    upkeep.abort();
    ended.map(|()| Exit::Done)
}

/// Listens where the configuration says.
pub async fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    let listen = config.http.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on {listen} (http.listen); another c360 may run here, or use --no-http")
    });
    let listener = listener.map_err(|error| Exit::Configuration.because(error))?;
    tracing::info!("serving http://{listen}");
    Ok(listener)
}

/// Which member of its groups this process is, for as long as it runs. Without a place it is a new one with each start.
fn member(config: &Config) -> Option<Member> {
    if !config.sources.values().any(|source| matches!(source.kind, SourceKind::Kafka(_))) {
        return None;
    }
    let directory = config.members_directory();
    let taken = Member::take(&directory);
    let told = |error: &std::io::Error| {
        tracing::warn!(
            %error, directory = %directory.display(),
            "cannot note which member of its Kafka groups this process is: after a crash, partitions wait for the session timeout"
        );
    };
    taken.inspect_err(told).ok()
}

fn join_as(member: &Member, settings: &mut ingest_kafka::Settings) {
    // The newer group protocol refuses a name until the session of whoever had it has ended.
    if settings.properties.get("group.protocol").is_none_or(|protocol| protocol != "consumer") {
        let id = member.instance_id(&settings.name, &settings.all_topics());
        settings.properties.entry("group.instance.id".to_owned()).or_insert(id);
    }
}

/// Waits for the end: the signal, a part that is hopeless, or an embedded database that is gone.
async fn supervise(
    parts: &mut JoinSet<Result<(), Hopeless>>,
    installation: &mut Installation,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let database_ended = installation.database_ended();
    tokio::pin!(database_ended);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            why = &mut database_ended => return Err(why),
            Some(ended) = parts.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(Hopeless(error))) => return Err(error),
                Err(panicked) => return Err(anyhow::Error::new(panicked).context("a part of the daemon panicked")),
            },
        }
    }
}

/// Starts a part again and again, unless it is hopeless or the daemon stops.
async fn keep_running(
    name: String,
    cancel: CancellationToken,
    mut start: impl AsyncFnMut() -> Result<anyhow::Result<()>, Hopeless>,
) -> Result<(), Hopeless> {
    while !cancel.is_cancelled() {
        match start().await? {
            Ok(()) if cancel.is_cancelled() => break,
            Ok(()) => tracing::error!(part = name, "ended by itself, starting it again"),
            Err(error) => tracing::error!(part = name, error = format!("{error:#}"), "failed, starting it again"),
        }
        tokio::select! {
            () = tokio::time::sleep(RESTART_AFTER) => {}
            () = cancel.cancelled() => {}
        }
    }
    Ok(())
}

fn spawn_source(
    parts: &mut JoinSet<Result<(), Hopeless>>,
    name: &str,
    ingester: Ingester,
    installation: &Installation,
    cancel: &CancellationToken,
) {
    let (database, stop) = (installation.database.clone(), cancel.clone());
    let (seal, width) = (installation.seal(), installation.config.staging.partition_width);
    let lander = move || Lander::new(database.clone(), seal.clone(), width);
    let database = installation.database.clone();
    parts.spawn(keep_running(format!("source {name}"), cancel.clone(), async move || {
        let (database, lander, stop) = (database.clone(), lander(), stop.clone());
        Ok(match &ingester {
            Ingester::Kafka(settings) => match ingest_kafka::run(settings.clone(), database, lander, stop).await {
                Err(error) if error.is_configuration() => return Err(Hopeless(Exit::Configuration.because(error))),
                ended => ended.map_err(Into::into),
            },
            Ingester::Csv(settings) => match ingest_csv::run(settings.clone(), database, lander, stop).await {
                Err(error @ ingest_csv::Error::Pattern { .. }) => {
                    return Err(Hopeless(Exit::Configuration.because(error)));
                }
                ended => ended.map_err(Into::into),
            },
            Ingester::Rest(settings) => match poll_rest::run(settings.clone(), database, lander, stop).await {
                Err(error @ poll_rest::Error::Config { .. }) => {
                    return Err(Hopeless(Exit::Configuration.because(error)));
                }
                ended => ended.map_err(Into::into),
            },
        })
    }));
}

/// Consolidation merges and folds in memory for long stretches, so it has a thread of its own.
fn spawn_consolidator(
    parts: &mut JoinSet<Result<(), Hopeless>>,
    rules: Rules,
    seal: Seal,
    database: &PgConnectOptions,
    cancel: &CancellationToken,
) {
    let (database, stop, runtime) = (database.clone(), cancel.clone(), Handle::current());
    parts.spawn_blocking(move || {
        runtime.block_on(keep_running("consolidation".to_owned(), stop.clone(), async || {
            Ok(consolidate::run(&rules, &seal, &database, &stop).await.map_err(Into::into))
        }))
    });
}

fn spawn_pairs(parts: &mut JoinSet<Result<(), Hopeless>>, database: PgConnectOptions, cancel: CancellationToken) {
    parts.spawn(async move {
        while cancel.run_until_cancelled(tokio::time::sleep(PAIRS_EVERY)).await.is_some() {
            match cancel.run_until_cancelled(consolidate::count_pairs(&database)).await {
                Some(Ok(counted)) => tracing::debug!(?counted, "counted what the same people buy"),
                Some(Err(error)) => {
                    tracing::warn!(%error, "counting what the same people buy failed, trying again later");
                }
                None => {}
            }
        }
        Ok(())
    });
}

fn spawn_upkeep(
    parts: &mut JoinSet<Result<(), Hopeless>>,
    database: PgConnectOptions,
    retention: Retention,
    cancel: CancellationToken,
) {
    parts.spawn(async move {
        while !cancel.is_cancelled() {
            match upkeep::keep(&database, retention, Utc::now()).await {
                Ok(kept) if kept.is_news() => tracing::info!(
                    dropped = kept.records.dropped,
                    held_back = kept.records.held_back,
                    changes = kept.changes.dropped,
                    dead_letters = kept.dead_letters,
                    audit = kept.audit,
                    edits = kept.edits,
                    "dropped what is over"
                ),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "dropping what is over failed, trying again in a minute"),
            }
            tokio::select! {
                () = tokio::time::sleep(UPKEEP_EVERY) => {}
                () = cancel.cancelled() => {}
            }
        }
        Ok(())
    });
}

fn spawn_gauges(
    parts: &mut JoinSet<Result<(), Hopeless>>,
    database: PgConnectOptions,
    sources: Vec<String>,
    cancel: CancellationToken,
) {
    parts.spawn(async move {
        gauges::publish(database, sources, cancel).await;
        Ok(())
    });
}
