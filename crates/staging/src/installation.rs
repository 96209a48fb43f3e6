//! Recognising the installation's key.

use model::InstallationKey;
use sqlx::PgConnection;

use crate::Error;

/// Notes the key's fingerprint in a new database, and refuses a key that is not the one noted.
pub async fn adopt_key(connection: &mut PgConnection, key: &InstallationKey) -> Result<(), Error> {
    let adopted: String = sqlx::query_scalar(
        "insert into staging.installation (key_fingerprint) values ($1)
         on conflict (only_row) do update set key_fingerprint = staging.installation.key_fingerprint
         returning key_fingerprint",
    )
    .bind(key.fingerprint())
    .fetch_one(connection)
    .await
    .map_err(Error::database("reading the installation's fingerprint"))?;
    if adopted == key.fingerprint() { Ok(()) } else { Err(Error::WrongKey) }
}
