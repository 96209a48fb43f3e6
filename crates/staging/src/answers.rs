//! What the answers of REST sources looked like: one that says the same as the last lands nothing.

use sqlx::PgConnection;

use crate::Error;

/// Forgets what answers of a source about customers looked like: what they said is retired, so the next ones have to be
/// landed though they say the same.
pub async fn forget(connection: &mut PgConnection, source: &str) -> Result<(), Error> {
    for sql in [
        "update staging.polls set validators = '{}' where source = $1 and validators <> '{}'",
        "delete from staging.listed_records where source = $1 and entity = 'customer'",
    ] {
        sqlx::query(sql)
            .bind(source)
            .execute(&mut *connection)
            .await
            .map_err(Error::database("forgetting what answers looked like"))?;
    }
    Ok(())
}
