//! The daemon.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use staging::Lander;
use staging::health::Speaker;
use staging::offsets::Progress;
use tokio_util::sync::CancellationToken;

use crate::client::INSTANCE_ID;
use crate::consume::Plan;
use crate::session::Session;
use crate::status::Board;
use crate::{Error, Settings};

const PAUSE: Duration = Duration::from_secs(2);

/// Lands a source's messages for ever, sharing its partitions with other processes of the same group.
///
/// Brokers and a database that do not answer are waited for. Returns within seconds after `cancel`, with the batch that was
/// landing finished or dropped; returns early only with an error that waiting does not cure: of the configuration, or of
/// the database's schema.
pub async fn run(
    mut settings: Settings,
    database: PgConnectOptions,
    mut lander: Lander,
    cancel: CancellationToken,
) -> Result<(), Error> {
    settings.check()?;
    let board = Arc::new(Board::default());
    loop {
        let session = Session {
            settings: &Arc::new(settings.clone()),
            database: &database,
            lander: &mut lander,
            board: &board,
            progress: Progress::Source,
            speaker: Speaker::Daemon,
            cancel: &cancel,
        };
        match Box::pin(session.run(|_, _| Ok(Plan::Group))).await {
            Ok(()) => return Ok(()),
            Err(error @ Error::Fenced { .. }) => {
                // Not a second time: it would fence the other one, and so on for ever.
                settings.properties.remove(INSTANCE_ID);
                tracing::warn!(
                    %error,
                    "this process goes on without a name: after a crash, its partitions wait for the group's session timeout"
                );
                continue;
            }
            Err(error @ (Error::Client { .. } | Error::Thread { .. })) => {
                tracing::error!(%error, "the consumer broke, starting another one");
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = cancel.cancelled() => return Ok(()),
        }
    }
}
