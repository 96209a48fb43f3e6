//! An installation: its configuration, its key and its database, opened together.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use consolidate::Rules;
use consolidate::edit::Takers;
use consolidate::erase::Orders;
use embedded_postgres::{Cluster, Guest, Options};
use model::InstallationKey;
use rand::RngCore;
use sqlx::postgres::PgConnectOptions;
use staging::{Lander, Seal};
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ErasureOrders, Source, SourceKind};
use crate::exit::Exit;
use crate::mask;
use crate::retry;

/// The embedded cluster's database.
const EMBEDDED_DATABASE: &str = "c360";
/// How long a command waits for a database that does not answer; the daemon waits for ever.
const COMMAND_PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries to start a cluster that somebody else has.
const BETWEEN_STARTS: Duration = Duration::from_millis(100);

/// An opened installation.
pub struct Installation {
    /// What is configured.
    pub config: Config,
    /// The installation's key.
    pub key: InstallationKey,
    /// Where the database is.
    pub database: PgConnectOptions,
    embedded: Option<Embedded>,
}

/// An embedded cluster.
enum Embedded {
    /// This process runs it. It ends with the installation.
    Owned(Cluster),
    /// Another one does.
    Shared(Guest),
}

impl Installation {
    /// Reads the key (or makes it, at the first start) and finds or starts the database. Nothing is asked of it yet.
    pub async fn open(config: Config) -> anyhow::Result<Self> {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let key = read_or_make_key(&config.key_file())?;
        if let Some(database) = config.database.connect_options()? {
            return Ok(Self { config, key, database, embedded: None });
        }
        let (database, embedded) = embedded(&config).await?;
        Ok(Self { config, key, database, embedded: Some(embedded) })
    }

    /// Brings the schemas up to date, and makes sure that the database belongs to this key and that every source is heard.
    /// Waits for a database that does not answer until `cancel`.
    pub async fn prepare(&self, cancel: &CancellationToken) -> anyhow::Result<()> {
        self.try_to_prepare(cancel, cancel).await
    }

    /// [`Installation::prepare`] for commands: after half a minute there is no further attempt.
    pub async fn prepare_soon(&self, cancel: &CancellationToken) -> anyhow::Result<()> {
        let give_up = cancel.child_token();
        let timer = give_up.clone();
        let timeout = tokio::spawn(async move {
            tokio::time::sleep(COMMAND_PATIENCE).await;
            timer.cancel();
        });
        let prepared = self.try_to_prepare(cancel, &give_up).await;
        timeout.abort();
        prepared.context("the database cannot be used")
    }

    /// `cancel` ends an attempt that is under way, too: a database may swallow what is sent to it.
    async fn try_to_prepare(&self, cancel: &CancellationToken, give_up: &CancellationToken) -> anyhow::Result<()> {
        let mut failed_with = None;
        let prepared = staging::persist(give_up, "preparing the database", async || {
            self.prepare_once().await.inspect_err(|error| failed_with = Some(error.to_string()))
        });
        match cancel.run_until_cancelled(prepared).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) if !matches!(error, staging::Error::Cancelled) => Err(error.into()),
            _ => Err(Exit::OutOfReach.because(match failed_with.filter(|_| !cancel.is_cancelled()) {
                Some(why) => anyhow::anyhow!(why),
                None => staging::Error::Cancelled.into(),
            })),
        }
    }

    async fn prepare_once(&self) -> Result<(), staging::Error> {
        let mut connection = staging::connect(&self.database).await?;
        staging::migrate(&mut connection).await?;
        staging::adopt_key(&mut connection, &self.key).await?;
        staging::require_heard(&mut connection, &self.kafka_sources()).await?;
        consolidate::migrate(&mut connection).await
    }

    fn kafka_sources(&self) -> Vec<&str> {
        let is_kafka = |source: &Source| matches!(source.kind, SourceKind::Kafka(_));
        self.config.sources.iter().filter(|(_, source)| is_kafka(source)).map(|(name, _)| name.as_str()).collect()
    }

    /// The same, for what works beside whoever holds this one up: it does not keep an embedded cluster.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { config: self.config.clone(), key: self.key.clone(), database: self.database.clone(), embedded: None }
    }

    /// Waits until the embedded cluster has ended, if it is one: by itself, or with the process that runs it. It comes back
    /// elsewhere, so whoever uses it has to start again.
    pub async fn database_ended(&mut self) -> anyhow::Error {
        let mut look = tokio::time::interval(Duration::from_secs(1));
        loop {
            look.tick().await;
            let (has_ended, why) = match &mut self.embedded {
                Some(Embedded::Owned(cluster)) => (cluster.has_ended(), "by itself"),
                Some(Embedded::Shared(guest)) => (guest.has_ended(), "with the process that ran it; start again"),
                None => (false, ""),
            };
            if has_ended {
                return Exit::OutOfReach.because(anyhow::anyhow!("the embedded database has ended {why}"));
            }
        }
    }

    /// A lander of this installation.
    pub fn lander(&self) -> Lander {
        Lander::new(self.database.clone(), self.seal(), self.config.staging.partition_width)
    }

    /// The seal of dead letters.
    pub fn seal(&self) -> Seal {
        Seal::new(&self.key)
    }

    /// The attributes of customers that sources map.
    pub fn attributes(&self) -> BTreeSet<String> {
        let customers = self.config.sources.values().filter_map(|source| source.settings.customer.as_ref());
        customers.flat_map(|customer| customer.attributes.keys().cloned()).collect()
    }

    /// What the server needs to know. What it has begun ends with `cancel`.
    ///
    /// # Errors
    /// As [`Installation::rules`].
    pub fn serving(&self, cancel: &CancellationToken) -> anyhow::Result<serve::Settings> {
        let (installation, cancel) = (Arc::new(self.beside()), cancel.clone());
        let masking = installation.clone();
        let retry = serve::Retry::new(move |ids| {
            let (installation, cancel) = (installation.clone(), cancel.clone());
            async move { retry::some(&installation, ids, &cancel).await.map_err(Into::into) }
        });
        Ok(serve::Settings {
            rules: self.rules()?,
            database: self.database.clone(),
            key: self.key.clone(),
            attributes: self.attributes(),
            systems: self.config.sources.keys().cloned().collect(),
            object_types: self.config.objects.types.clone(),
            setup: self.config.setup()?,
            retry,
            mask: serve::Mask::new(move |document| mask::export(document, &masking.config)),
            erased_orders: self.erased_orders(),
            takers: self.takers(),
        })
    }

    /// What becomes of the orders of a person who is erased.
    pub fn erased_orders(&self) -> Orders {
        match self.config.erasure.orders {
            ErasureOrders::Delete => Orders::Delete,
            ErasureOrders::Anonymise => Orders::Anonymise,
        }
    }

    /// The sources that are written to.
    fn takers(&self) -> Takers {
        let mut takers = Takers::default();
        for (name, source) in &self.config.sources {
            let Some(customer) = &source.settings.customer else { continue };
            if let Some(update) = &customer.update {
                takers.update.insert(name.clone(), update.attributes().unwrap_or_default());
            }
            if customer.create.is_some() {
                takers.create.insert(name.clone());
            }
        }
        takers
    }

    /// The rules by which profiles are made.
    pub fn rules(&self) -> anyhow::Result<Rules> {
        let is_polled = |source: &Source| {
            let asks = source.settings.customer.as_ref().is_some_and(|customer| customer.request.is_some());
            matches!(source.kind, SourceKind::Rest(_)) && asks
        };
        let polled = self.config.sources.iter().filter(|(_, source)| is_polled(source));
        Ok(Rules {
            survivorship: self.config.survivorship.rules(),
            guards: self.config.matching.guards().map_err(|error| Exit::Configuration.because(error))?,
            polled_sources: polled.map(|(name, _)| name.clone()).collect(),
        })
    }
}

/// The embedded cluster: that of a process which runs beside this one, else one of our own. Who else starts or stops it at this
/// moment is waited for.
async fn embedded(config: &Config) -> anyhow::Result<(PgConnectOptions, Embedded)> {
    let home = config.embedded_directory();
    let unusable = |error: embedded_postgres::Error| {
        let exit = match &error {
            embedded_postgres::Error::InUse { .. } => Exit::Locked,
            error if error.is_transient() => Exit::OutOfReach,
            _ => Exit::Configuration,
        };
        exit.because(error)
    };
    let since = Instant::now();
    let cluster = loop {
        if let Some(guest) = Guest::find(&home).map_err(unusable)? {
            return Ok((guest.url_for(EMBEDDED_DATABASE).parse()?, Embedded::Shared(guest)));
        }
        let options = Options::persistent(&home);
        match tokio::task::spawn_blocking(move || Cluster::start(&options)).await? {
            Err(embedded_postgres::Error::InUse { .. }) if since.elapsed() < COMMAND_PATIENCE => {
                tokio::time::sleep(BETWEEN_STARTS).await;
            }
            started => break started.map_err(unusable)?,
        }
    };
    cluster.create_database(EMBEDDED_DATABASE).await.map_err(unusable)?;
    Ok((cluster.url_for(EMBEDDED_DATABASE).parse()?, Embedded::Owned(cluster)))
}

/// Reads the key's file: 64 hex digits, for its owner only. Makes it if there is none.
fn read_or_make_key(path: &Path) -> anyhow::Result<InstallationKey> {
    let unusable = |error: anyhow::Error| Exit::Configuration.because(error);
    let read = || std::fs::read_to_string(path);
    let text = match read() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_key(path).map_err(unusable)?;
            read()
        }
        read => read,
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            let error =
                anyhow::Error::new(error).context(format!("cannot read the installation key {}", path.display()));
            return Err(unusable(error));
        }
    };
    let mut key = [0; 32];
    hex::decode_to_slice(text.trim(), &mut key).map_err(|_| {
        unusable(anyhow::anyhow!("{} is no installation key: it must hold 64 hex digits", path.display()))
    })?;
    Ok(InstallationKey::new(key))
}

/// Makes the file as a whole: whoever starts at the same moment finds all of it or makes it, and one of them wins.
fn make_key(path: &Path) -> anyhow::Result<()> {
    let mut key = [0; 32];
    rand::rng().fill_bytes(&mut key);
    let cannot = || format!("cannot make the installation key {}", path.display());
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).with_context(cannot)?;
    // For its owner only.
    let mut file = NamedTempFile::new_in(directory).with_context(cannot)?;
    file.write_all(hex::encode(key).as_bytes()).and_then(|()| file.as_file().sync_all()).with_context(cannot)?;
    match file.persist_noclobber(path) {
        Ok(_) => tracing::info!("made the installation key {}: keep a copy of it", path.display()),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(anyhow::Error::new(error.error).context(cannot())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_only_and_read_again() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/installation.key");
        let made = read_or_make_key(&path).unwrap();
        assert_eq!(read_or_make_key(&path).unwrap().fingerprint(), made.fingerprint());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn of_many_who_start_at_once_all_have_the_same_key() {
        for _ in 0..50 {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("made/installation.key");
            let made: Vec<String> = std::thread::scope(|scope| {
                let makers: Vec<_> =
                    (0..8).map(|_| scope.spawn(|| read_or_make_key(&path).unwrap().fingerprint())).collect();
                makers.into_iter().map(|maker| maker.join().unwrap()).collect()
            });
            assert!(made.iter().all(|fingerprint| *fingerprint == made[0]), "{made:?}");
            assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_as_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("installation.key");
        std::fs::write(&path, "hunter2").unwrap();
        let error = read_or_make_key(&path).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Configuration);
        assert!(!error.to_string().contains("hunter2"));
    }
}
