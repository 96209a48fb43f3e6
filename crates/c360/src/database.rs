//! The database of commands that need no installation key: it is found, and neither made nor migrated.

use sqlx::postgres::PgConnectOptions;

use crate::config::Config;
use crate::installation::Installation;

/// Where the database is.
pub struct Opened {
    /// Where it is.
    pub database: PgConnectOptions,
    /// Holds an embedded cluster up that this process runs.
    _installation: Option<Installation>,
}

/// Finds the database that is configured. An embedded one is started for it, unless a daemon runs it, and not made:
/// `None`.
pub async fn open(config: &Config) -> anyhow::Result<Option<Opened>> {
    if let Some(database) = config.database.connect_options()? {
        return Ok(Some(Opened { database, _installation: None }));
    }
    if !config.embedded_directory().exists() {
        return Ok(None);
    }
    let installation = Installation::open(config.clone()).await?;
    Ok(Some(Opened { database: installation.database.clone(), _installation: Some(installation) }))
}
