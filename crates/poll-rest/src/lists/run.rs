//! The lists of a source, all at the same time: for ever, and once.

use std::time::Duration;

use chrono::Utc;
use futures::future::try_join_all;
use sqlx::PgPool;
use staging::Lander;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Spec;
use super::read::{Reading, read_due};
use crate::Error;
use crate::ask::Asker;
use crate::run::Summary;

/// How often to look whether a list is due.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often to look whether another process has read a list.
const LOOK_FOR_OTHERS_EVERY: Duration = Duration::from_secs(1);

/// What ends reading.
#[derive(Clone, Copy)]
pub(crate) struct Ends<'a> {
    /// Nothing is begun any more.
    pub(crate) cancel: &'a CancellationToken,
    /// Then, what waits for the database is given up.
    pub(crate) patience: &'a CancellationToken,
}

/// Reads lists when they are due, until it is ended. `news` wakes whoever asks about products.
pub(crate) async fn run(
    asker: &Asker,
    lander: &Lander,
    database: &PgPool,
    news: &Notify,
    Ends { cancel, patience }: Ends<'_>,
) -> Result<(), Error> {
    let keep_reading = async |spec: &Spec| {
        let mut lander = lander.another();
        while !cancel.is_cancelled() {
            let mut reading = Reading { asker, spec, database, lander: &mut lander, cancel, patience };
            let mut summary = Summary::default();
            let was_due = read_due(&mut reading, &mut summary).await?;
            if summary.records > 0 {
                news.notify_one();
            }
            if !was_due {
                tokio::select! {
                    () = sleep(LOOK_EVERY) => {}
                    () = cancel.cancelled() => {}
                }
            }
        }
        Ok::<(), Error>(())
    };
    try_join_all(asker.lists.specs.iter().map(keep_reading)).await?;
    Ok(())
}

/// Reads the lists that are due, each to the end of its round. Another process that reads one is waited for until
/// `last_look`: it comes to its end, or it is dead and its lease runs out.
pub(crate) async fn run_once(
    asker: &Asker,
    lander: &Lander,
    database: &PgPool,
    cancel: &CancellationToken,
    last_look: Instant,
) -> Result<Summary, Error> {
    let read_once = async |spec: &Spec| {
        let (mut lander, mut summary) = (lander.another(), Summary::default());
        while !cancel.is_cancelled() {
            let mut reading = Reading { asker, spec, database, lander: &mut lander, cancel, patience: cancel };
            if read_due(&mut reading, &mut summary).await? {
                summary.lists += 1;
                break;
            }
            let (source, entity) = (&asker.settings.source, spec.list.entity);
            let looking = staging::lists::leased_elsewhere(database, source, entity, Utc::now());
            let is_read = staging::in_time("reading leases", looking).await?;
            if !is_read {
                break;
            }
            if Instant::now() > last_look {
                summary.held += 1;
                break;
            }
            tokio::select! {
                () = sleep(LOOK_FOR_OTHERS_EVERY) => {}
                () = cancel.cancelled() => {}
            }
        }
        Ok::<Summary, Error>(summary)
    };
    let mut total = Summary::default();
    for summary in try_join_all(asker.lists.specs.iter().map(read_once)).await? {
        total.add(&summary);
    }
    Ok(total)
}
