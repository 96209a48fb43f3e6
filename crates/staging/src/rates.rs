//! `staging.request_rates`: the turns to ask a REST source, shared by all processes.
//!
//! Turns are moments, evenly spaced by the database's clock, and the row says which is the next that nobody has. A process
//! takes a few of them by one statement and uses them when they come; so the rate holds over all processes however many
//! there are, no clock but the database's is compared with another, and of a process that dies only the turns that it had
//! taken are lost.

use std::time::Duration;

use sqlx::PgExecutor;

use crate::Error;

/// The longest [`hold`].
pub const LONGEST_HOLD: Duration = Duration::from_mins(1);

/// Takes the next `turns` turns of a source, `interval` apart, and returns how far the first of them is ahead (or behind, in
/// negative seconds: at most `saved_up`, the time for which unused turns are kept).
pub async fn take(
    executor: impl PgExecutor<'_>,
    source: &str,
    turns: u32,
    interval: Duration,
    saved_up: Duration,
) -> Result<f64, Error> {
    let taken = interval.as_secs_f64() * f64::from(turns);
    // What a hundred processes may be ahead with; further ahead only leads a clock that was set back.
    let horizon = LONGEST_HOLD.as_secs_f64() + 100.0 * taken;
    // statement_timestamp and not clock_timestamp: Citus takes no volatile functions here.
    sqlx::query_scalar(
        "insert into staging.request_rates as known (source, next_at)
         values ($1, statement_timestamp() + make_interval(secs => $2))
         on conflict on constraint request_rates_pkey do update
         set next_at = make_interval(secs => $2) + greatest(
             statement_timestamp() - make_interval(secs => $3),
             least(known.next_at, statement_timestamp() + make_interval(secs => $4))
         )
         returning extract(epoch from next_at - make_interval(secs => $2) - statement_timestamp())::double precision",
    )
    .bind(source)
    .bind(taken)
    .bind(saved_up.as_secs_f64())
    .bind(horizon)
    .fetch_one(executor)
    .await
    .map_err(Error::database("taking turns to ask a source"))
}

/// Gives no turn to anybody for a while, because the source asks for that. Turns that were taken before stay good.
pub async fn hold(executor: impl PgExecutor<'_>, source: &str, pause: Duration) -> Result<(), Error> {
    sqlx::query(
        "insert into staging.request_rates as known (source, next_at)
         values ($1, statement_timestamp() + make_interval(secs => $2))
         on conflict on constraint request_rates_pkey do update
         set next_at = greatest(known.next_at, statement_timestamp() + make_interval(secs => $2))",
    )
    .bind(source)
    .bind(pause.min(LONGEST_HOLD).as_secs_f64())
    .execute(executor)
    .await
    .map_err(Error::database("holding requests back"))?;
    Ok(())
}
