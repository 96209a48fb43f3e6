//! What an installation keeps for good: its key, and how a source is read.

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

/// Refuses sources of Kafka under whose names files or answers of REST have landed: positions of times, which come after all
/// positions of a log.
pub async fn require_heard(connection: &mut PgConnection, kafka_sources: &[&str]) -> Result<(), Error> {
    let unheard: Option<String> = sqlx::query_scalar(
        "select source
         from unnest($1::text[]) as s (source)
         where exists (select from staging.csv_imports i where i.source = s.source and i.state = 'imported')
            or exists (select from staging.polls p where p.source = s.source and p.external_id is not null)
            or exists (select from staging.lists l where l.source = s.source and l.finished_at is not null)
         limit 1",
    )
    .bind(kafka_sources)
    .fetch_optional(connection)
    .await
    .map_err(Error::database("looking how sources were read"))?;
    unheard.map_or(Ok(()), |source| Err(Error::Unheard(source)))
}
