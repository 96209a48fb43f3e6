//! `/api/v1`: golden records for applications, one statement to Postgres per request.
//!
//! A handler takes a [`Caller`], whom the key in the request makes, and asks the database through [`Api::ask`]: for a key
//! with a row filter that is a session under role `c360_limited`, whose policies let through what the filter does. Nothing
//! here checks rows itself.

#![expect(clippy::struct_field_names, reason = "members are called as the columns are")]

pub(crate) mod access;
pub(crate) mod audit;
pub(crate) mod customer;
pub(crate) mod customers;
pub(crate) mod decide;
pub(crate) mod edit;
pub(crate) mod entries;
pub(crate) mod etag;
mod fields;
pub(crate) mod insights;
mod interactions;
pub(crate) mod lists;
mod openapi;
pub(crate) mod page;
pub(crate) mod params;
pub(crate) mod path;
mod products;
pub(crate) mod recommendations;
pub(crate) mod refresh;
mod sessions;
pub(crate) mod timeline;
pub(crate) mod views;
pub(crate) mod written_through;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use consolidate::Rules;
use consolidate::edit::Takers;
use consolidate::erase::Orders;
use model::{InstallationKey, MatchKey};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::types::Uuid;
use sqlx::{Connection as _, PgPool, Postgres, Transaction};
use tokio::sync::OnceCell;

pub(crate) use access::Caller;
use access::Rates;
use audit::Audit;
pub(crate) use audit::Writer;
pub use audit::forget_audit;
pub use customers::PARAMS as TAKEN_ATTRIBUTES;
pub use entries::TAKEN_TYPES as TAKEN_OBJECT_TYPES;
use page::Cursors;
use sessions::{Session, Sessions};

use crate::keys::Keyring;
use crate::mask::Mask;
use crate::problem::Problem;
use crate::retry::Retry;

/// A statement that takes longer is given up; well below the time for a request.
const STATEMENT_WITHIN: Duration = Duration::from_secs(20);
/// Connections for reading by keys that see everybody, as many for keys with a row filter, which differ in their role, and as many
/// for transactions.
const MAX_CONNECTIONS: u32 = 16;
/// A connection that was not used for so long may have been cut meanwhile.
const RESTED: Duration = Duration::from_secs(1);

/// What the server needs to know of the installation.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the database is.
    pub database: PgConnectOptions,
    /// Signs cursors and cookies.
    pub key: InstallationKey,
    /// The attributes that sources are configured to give: what can be filtered by.
    pub attributes: BTreeSet<String>,
    /// The names of the sources, in the order of the configuration.
    pub systems: Vec<String>,
    /// What may be written on a customer besides notes, contacts and links.
    pub object_types: Vec<String>,
    /// The rules by which profiles are made.
    pub rules: Rules,
    /// What the status is told of the configuration.
    pub setup: status::Setup,
    /// Retries dead letters.
    pub retry: Retry,
    /// Hides credentials in what is exported of a person.
    pub mask: Mask,
    /// What becomes of the orders of a person who is erased.
    pub erased_orders: Orders,
    /// The sources that edits and customers made by hand are written through to.
    pub takers: Takers,
}

/// What handlers share.
pub(crate) struct Api {
    pub(crate) settings: Settings,
    pub(crate) cursors: Cursors,
    whole: Sessions,
    limited: Sessions,
    /// For transactions, and for what is asked and written beside requests.
    pool: PgPool,
    pub(crate) keyring: Keyring,
    rates: Rates,
    pub(crate) audit: Audit,
    namespace: OnceCell<Uuid>,
}

impl Api {
    /// What handlers share, and what writes the audit log.
    pub(crate) fn new(settings: Settings) -> (Self, Writer) {
        // Policies make statements look expensive, and compiling these takes longer than all of them.
        let options = [("statement_timeout", format!("{}s", STATEMENT_WITHIN.as_secs())), ("jit", "off".to_owned())];
        let session = staging::session(&settings.database).options(options);
        let pool = pool().connect_lazy_with(session.clone());
        let (audit, writer) = Audit::new(pool.clone());
        let api = Self {
            cursors: Cursors::new(&settings.key),
            keyring: Keyring::new(pool.clone()),
            rates: Rates::new(),
            audit,
            namespace: OnceCell::new(),
            settings,
            whole: Sessions::new(session.clone()),
            limited: Sessions::new(session.options([("role", "c360_limited")])),
            pool,
        };
        (api, writer)
    }

    /// A session that sees what this caller may see, and nothing else.
    pub(crate) async fn ask(&self, caller: &Caller) -> Result<Session, Problem> {
        let Some(only) = &caller.key.only else { return self.whole().await };
        let (lists, mut profiles) = only.settings().map_err(|error| {
            Problem::new(StatusCode::FORBIDDEN)
                .with_detail(format!("the row filter of this key cannot be used: {error}"))
        })?;
        // Profiles keep what was mapped once, and nothing changes it any more. No profile has an attribute without a name.
        if only.attributes().any(|name| !self.settings.attributes.contains(name)) {
            profiles = Some(vec![json!({"": null})]);
        }
        let mut session = self.limited.get().await?;
        sqlx::query(
            "select set_config('c360.filter_lists', $1::text[]::text, false),
                    set_config('c360.filter_profiles', coalesce($2::jsonb[]::text, ''), false)",
        )
        .bind(lists)
        .bind(profiles)
        .execute(&mut *session)
        .await?;
        Ok(session)
    }

    /// A session that sees everything: for what no row filter is about.
    pub(crate) async fn whole(&self) -> Result<Session, Problem> {
        self.whole.get().await
    }

    /// A transaction of a session that sees everything.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Postgres>, Problem> {
        begin(&self.pool).await.map_err(Problem::no_connection)
    }

    /// The customer whom a path names, by id or email: not yet whom redirects lead to.
    pub(crate) async fn customer_id(&self, named: &str) -> Result<Uuid, Problem> {
        if let Ok(id) = named.parse() {
            return Ok(id);
        }
        let key = MatchKey::of_any_email(named)
            .map_err(|_| Problem::bad("customer", "a customer's id, or an email with one @, like name@example.com"))?;
        Ok(key.customer_id(self.namespace().await?))
    }

    /// Under this, match keys make the ids of customers.
    pub(crate) async fn namespace(&self) -> Result<Uuid, Problem> {
        let ask = async || -> Result<Uuid, Problem> {
            let namespace = sqlx::query_scalar("select namespace from customer360.installation");
            Ok(namespace.fetch_one(self.whole().await?).await?)
        };
        Ok(*self.namespace.get_or_try_init(ask).await?)
    }
}

/// Begins a transaction, on a task of its own: a request may be dropped at any time, and while it begins sqlx does not know of
/// the transaction yet. It would stay open on a connection that others get. As it is, it is rolled back when nobody waits for it.
async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin().await });
    begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

/// Connections that are tried when they come back, and again before they are used only if they have rested since.
fn pool() -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(access::CONNECTED_WITHIN)
        .test_before_acquire(false)
        .before_acquire(|connection, usage| {
            Box::pin(async move {
                if usage.idle_for > RESTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

/// The routes, and the document that describes them.
pub(crate) fn router(api: Arc<Api>) -> (Router, Value) {
    let (router, document) = openapi::documented()
        .routes(utoipa_axum::routes!(customers::list, edit::make))
        .routes(utoipa_axum::routes!(customer::get, edit::change))
        .routes(utoipa_axum::routes!(timeline::list))
        .routes(utoipa_axum::routes!(recommendations::list))
        .routes(utoipa_axum::routes!(refresh::refresh))
        .routes(utoipa_axum::routes!(interactions::list))
        .routes(utoipa_axum::routes!(insights::get))
        .routes(utoipa_axum::routes!(products::get))
        .routes(utoipa_axum::routes!(entries::add))
        .routes(utoipa_axum::routes!(entries::get, entries::change, entries::remove))
        .routes(utoipa_axum::routes!(entries::undo))
        .routes(utoipa_axum::routes!(lists::list))
        .routes(utoipa_axum::routes!(lists::make, lists::remove))
        .routes(utoipa_axum::routes!(lists::put, lists::take))
        .layer(axum::middleware::from_fn(etag::tagged))
        .layer(axum::middleware::from_fn(customer::led_elsewhere))
        .split_for_parts();
    let document = openapi::finished(document);
    (router.merge(openapi::route(&document)).with_state(api), document)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn no_type_of_objects_has_the_name_of_a_path() {
        let routes = [
            include_str!("api/customer.rs"),
            include_str!("api/timeline.rs"),
            include_str!("api/recommendations.rs"),
            include_str!("api/refresh.rs"),
            include_str!("dashboard.rs"),
        ]
        .concat();
        let named: BTreeSet<&str> = routes
            .split("/customers/{customer}/")
            .skip(1)
            .filter_map(|rest| rest.split(['/', '"', '`']).next())
            .filter(|part| !part.starts_with('{'))
            .collect();
        assert!(named.contains("timeline") && named.contains("export"), "{named:?}");
        let free: Vec<_> = named.into_iter().filter(|part| !TAKEN_OBJECT_TYPES.contains(part)).collect();
        assert!(free.is_empty(), "{free:?}");
    }

    #[tokio::test]
    async fn whoever_is_dropped_while_it_begins_leaves_no_transaction_behind() {
        let database = embedded_postgres::test::database().await;
        let pool = pool().max_connections(1).connect(&database.url).await.unwrap();
        assert!(begin(&pool).now_or_never().is_none(), "the database has not answered");
        let transaction = || sqlx::query_scalar::<_, String>("select pg_current_xact_id()::text").fetch_one(&pool);
        assert_ne!(transaction().await.unwrap(), transaction().await.unwrap(), "each statement is one of its own");
    }
}
