//! Sessions of processes that froze in the middle of a transfer. Postgres waits for ever for a client that sends no more of
//! its rows, or reads no more of an answer; it counts neither session as idle, and no time limit of its own ends them.

use sqlx::PgConnection;

use crate::Error;

/// Of a session `a` of `pg_stat_activity`: it waits for rows that do not come. A transfer of ours is a few megabytes.
pub const SENDS_NO_MORE: &str =
    "(a.state = 'active' and a.wait_event = 'ClientRead' and a.query_start < now() - interval '20 seconds')";
/// Of a session `a`: its answer is not read.
pub const READS_NO_MORE: &str = "(a.wait_event = 'ClientWrite' and a.query_start < now() - interval '20 seconds')";

/// Ends what landed in this database and froze while it sent its rows: whoever waits for its locks would for ever.
pub(crate) async fn end(connection: &mut PgConnection) -> Result<(), Error> {
    let sql = format!(
        "select pg_terminate_backend(a.pid) from pg_stat_activity a
         where a.datname = current_database() and a.usename = current_user and a.application_name = 'c360'
           and {SENDS_NO_MORE}"
    );
    let ended = sqlx::query(crate::constant_sql(sql))
        .execute(connection)
        .await
        .map_err(Error::database("looking for frozen sessions"))?;
    if ended.rows_affected() > 0 {
        tracing::warn!(sessions = ended.rows_affected(), "a process froze while it sent rows: its sessions are ended");
    }
    Ok(())
}
