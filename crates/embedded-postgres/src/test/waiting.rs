//! Waiting for what nobody notifies of: looking again and again.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgPool};

/// So long that it ends nothing but a test that fails, however busy the machine is.
const PATIENCE: Duration = Duration::from_mins(4);
const BETWEEN: Duration = Duration::from_millis(20);

/// Waits until something is so.
///
/// # Panics
/// When it is not within minutes.
pub async fn eventually(what: &str, is_so: impl AsyncFnMut() -> bool) {
    look_until(what, is_so, |so| *so).await;
}

/// Waits until a query counts this many; an error is no count yet.
///
/// # Panics
/// When it does not within minutes.
pub async fn until(pool: &PgPool, sql: &str, expected: i64) {
    let count = async || sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).fetch_one(pool).await;
    let is_expected = |found: &Result<i64, _>| matches!(found, Ok(found) if *found == expected);
    let _ = look_until(&format!("{expected} by {sql}"), count, is_expected).await;
}

/// Waits until this many sessions of the database wait for a lock.
///
/// # Panics
/// When they do not within minutes.
pub async fn until_waiting(pool: &PgPool, sessions: i64) {
    let sql = "select count(*) from pg_stat_activity
               where datname = current_database() and backend_type = 'client backend' and wait_event_type = 'Lock'";
    until(pool, sql, sessions).await;
}

/// Looks until what is found is right, and returns that.
///
/// # Panics
/// When nothing is right within minutes; names what was found last.
pub async fn look_until<T: Debug>(what: &str, mut look: impl AsyncFnMut() -> T, is_right: impl Fn(&T) -> bool) -> T {
    let since = Instant::now();
    loop {
        let found = look().await;
        if is_right(&found) {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; there is {found:?}");
        tokio::time::sleep(BETWEEN).await;
    }
}
