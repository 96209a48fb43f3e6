//! A drop directory and an empty database.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use embedded_postgres::test::TestDatabase;
use ingest_csv::{Error, FileReport, ImportOptions, Settings};
use model::mapping::{Context, CustomerMapping, Mapping};
use model::{Credentials, InstallationKey};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use staging::{Lander, Seal};
use tokio_util::sync::CancellationToken;

pub(crate) struct Shop {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) database: TestDatabase,
    pub(crate) pool: PgPool,
    pub(crate) settings: Settings,
}

pub(crate) const HEADER: &str = "id,password,firstName,lastName,email,points\n";

pub(crate) fn mapping() -> Mapping {
    let mapping: CustomerMapping = serde_json::from_str(
        r#"{"external_id": "id", "email": "email", "credential": "password",
            "attributes": {"firstName": "firstName", "lastName": "lastName", "name": ["firstName", "lastName"],
                           "loyaltyPoints": "points"}}"#,
    )
    .unwrap();
    Mapping::Customer(mapping)
}

pub(crate) fn key() -> InstallationKey {
    InstallationKey::new([7; 32])
}

pub(crate) fn context() -> Context {
    Context { credentials: Credentials::digest(&key()), timezone: chrono_tz::UTC }
}

impl Shop {
    /// The loyalty source, full exports.
    pub(crate) async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = embedded_postgres::test::database().await;
        let pool = database.pool().await;
        staging::migrate(&mut pool.acquire().await.unwrap()).await.unwrap();
        let mut settings = Settings::new("loyalty", directory.path(), "loyalty_members*.csv", mapping(), context());
        settings.full_export = true;
        settings.settle = Duration::from_millis(100);
        settings.scan_every = Duration::from_millis(200);
        Self { directory, database, pool, settings }
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        self.database.url.parse().unwrap()
    }

    pub(crate) fn lander(&self) -> Lander {
        Lander::new(self.options(), Seal::new(&key()), staging::DEFAULT_PARTITION_WIDTH)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file as it is, last modified long ago.
    pub(crate) fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        self.put_at(name, bytes, 1_700_000_000)
    }

    pub(crate) fn put_at(&self, name: &str, bytes: impl AsRef<[u8]>, mtime: u64) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        touch(&path, mtime);
        path
    }

    pub(crate) async fn import(&self, options: &ImportOptions) -> Result<Vec<FileReport>, Error> {
        self.import_files(&[], options).await
    }

    pub(crate) async fn import_files(
        &self,
        files: &[PathBuf],
        options: &ImportOptions,
    ) -> Result<Vec<FileReport>, Error> {
        let cancel = CancellationToken::new();
        ingest_csv::import(self.settings.clone(), self.options(), self.lander(), files, options, &mut |_| {}, cancel)
            .await
    }

    /// Imports what is there and returns the one file's report.
    pub(crate) async fn import_one(&self) -> FileReport {
        let mut reports = self.import(&ImportOptions::default()).await.unwrap();
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports.remove(0)
    }

    /// State, rows, dead letters and skips of the ledger, in order.
    pub(crate) async fn ledger(&self) -> Vec<(String, String, i64, i64, i64)> {
        sqlx::query_as(
            "select file_name, state, row_count, dead_letter_count, skipped_count from staging.csv_imports order by import_id",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Dead letters, opened, in the order of the file.
    pub(crate) async fn letters(&self) -> Vec<staging::dead_letters::Opened> {
        let ids: Vec<i64> =
            sqlx::query_scalar("select dead_letter_id from staging.dead_letters order by origin->'line'")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        let mut opened = staging::dead_letters::open(&self.pool, &Seal::new(&key()), &ids).await.unwrap();
        opened.sort_by_key(|opened| ids.iter().position(|id| *id == opened.letter.dead_letter_id));
        opened
    }

    /// Ids of records that can be claimed, in the order landed.
    pub(crate) async fn published_ids(&self) -> Vec<String> {
        sqlx::query_scalar(
            "select r.external_id from staging.records r join staging.batches b using (batch_id)
             where b.published_at is not null and b.abandoned_at is null order by r.position",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Reason and id of parked dead letters, in the order of lines.
    pub(crate) async fn parked(&self) -> Vec<(String, Option<String>, i64)> {
        sqlx::query_as(
            "select reason, external_id, (origin->>'line')::bigint from staging.dead_letters where state = 'parked'
             order by (origin->>'line')::bigint",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }
}

pub(crate) fn touch(path: &Path, mtime: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(mtime)).unwrap();
}

/// Rows of members.
pub(crate) fn members(ids: impl IntoIterator<Item = u64>) -> String {
    let row = |id| format!("{id},secret{id},First{id},Last{id},m{id}@shop.example,{id}\n");
    HEADER.to_owned() + &ids.into_iter().map(row).collect::<String>()
}
