//! A base of customers: rows as consolidation writes them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use serve::RowFilter;
use serve::keys::{self, NewKey, Role};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use super::{Server, server};

/// A database with customers, and a server in front of it.
pub(crate) struct Base {
    pub(crate) server: Server,
    pub(crate) pool: PgPool,
    pub(crate) options: PgConnectOptions,
    pub(crate) namespace: Uuid,
}

pub(crate) fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

impl Base {
    /// One without customers.
    pub(crate) async fn new() -> Arc<Self> {
        let database = embedded_postgres::test::database().await;
        let options: PgConnectOptions = database.url.parse().unwrap();
        let mut connection = staging::connect(&options).await.unwrap();
        staging::migrate(&mut connection).await.unwrap();
        consolidate::migrate(&mut connection).await.unwrap();
        let pool = database.pool().await;
        let namespace = sqlx::query_scalar("select namespace from customer360.installation").fetch_one(&pool).await;
        Arc::new(Self { server: server(options.clone()).await, pool, options, namespace: namespace.unwrap() })
    }

    /// A new key.
    pub(crate) async fn key(&self, role: Role, only: Option<&str>) -> String {
        let only = only.map(|only| only.parse::<RowFilter>().unwrap());
        let new = NewKey { name: format!("{role} {}", Uuid::new_v4()), role, only, expires_at: None };
        let mut connection = staging::connect(&self.options).await.unwrap();
        let (_, secret) = keys::add(&mut connection, &new, Utc::now()).await.unwrap();
        secret.expose_secret().to_owned()
    }

    pub(crate) fn id(&self, email: &str) -> Uuid {
        Uuid::new_v5(&self.namespace, email.as_bytes())
    }

    /// A customer who is known to home delivery; all of one moment unless the profile says `at`.
    pub(crate) async fn customer(&self, email: &str, mut profile: Value) -> Uuid {
        let at = profile.as_object_mut().unwrap().remove("at");
        let at = time(at.as_ref().and_then(Value::as_str).unwrap_or("2026-11-20T03:00:00Z"));
        let id = self.id(email);
        let provenance: Value = profile
            .as_object()
            .unwrap()
            .keys()
            .map(|name| (name.clone(), json!({"system": "home_delivery", "external_id": email})))
            .collect();
        sqlx::query(
            "insert into customer360.customers
                 (customer_id, match_key, email, profile, provenance, created_at, updated_at)
             values ($1, $2, $2, $3, $4, $5, $5)",
        )
        .bind(id)
        .bind(email)
        .bind(&profile)
        .bind(provenance)
        .bind(at)
        .execute(&self.pool)
        .await
        .unwrap();
        sqlx::query(
            "insert into customer360.customer_search (customer_id, name, search, systems)
             values ($1, customer360.search_name($2), customer360.search_text($2, $3), '{home_delivery}')",
        )
        .bind(id)
        .bind(&profile)
        .bind(email)
        .execute(&self.pool)
        .await
        .unwrap();
        sqlx::query(
            "insert into customer360.xrefs
                 (system, external_id, customer_id, match_key, email, external_id_json, attributes, credential, position,
                  observed_at, first_seen_at, last_seen_at)
             values ('home_delivery', $1, $2, $1, $1, to_jsonb($1::text), $3, 'digest-of-a-password', '', $4, $4, $4)",
        )
        .bind(email)
        .bind(id)
        .bind(&profile)
        .bind(at)
        .execute(&self.pool)
        .await
        .unwrap();
        id
    }

    /// One customer becomes a part of another, and the old id leads there.
    pub(crate) async fn merged(&self, old: Uuid, into: Uuid) {
        self.run(&format!(
            "update customer360.customers set deleted_at = now() where customer_id = '{old}';
             insert into customer360.redirects values ('{old}', '{into}', now())"
        ))
        .await;
    }

    /// What another system says of a customer.
    pub(crate) async fn xref(&self, customer: Uuid, system: &str, external_id: &str, attributes: Value) {
        sqlx::query(
            "insert into customer360.xrefs
                 (system, external_id, customer_id, match_key, email, external_id_json, attributes, position,
                  observed_at, first_seen_at, last_seen_at)
             select $1, $2, c.customer_id, c.match_key, c.email, to_jsonb($2::text), $3, '', now(), now(), now()
             from customer360.customers c where c.customer_id = $4",
        )
        .bind(system)
        .bind(external_id)
        .bind(attributes)
        .bind(customer)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// An order with one line.
    pub(crate) async fn order(&self, customer: Uuid, order_id: &str, at: Option<&str>, product: &str) {
        sqlx::query(
            "with o as (
                 insert into customer360.orders
                     (system, order_id, customer_id, purchased_at, purchased_at_text, total, document, position)
                 values ('online_store', $1, $2, $3::text::timestamptz, coalesce($3, 'some day'), 12.50, '{}', ''))
             insert into customer360.order_lines (system, order_id, line_no, product_id, quantity, unit_price)
             values ('online_store', $1, 1, $4, 2, 6.25)",
        )
        .bind(order_id)
        .bind(customer)
        .bind(at)
        .bind(product)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// An email between some people.
    pub(crate) async fn interaction(&self, id: &str, at: &str, subject: &str, people: &[(&str, Option<Uuid>)]) {
        sqlx::query(
            "insert into customer360.interactions
                 (system, interaction_id, thread_id, type, status, at, subject, attributes, position)
             values ('mail', $1, 'thread-' || $1, 'email', 'sent', $2::text::timestamptz, $3, '{}', '')",
        )
        .bind(id)
        .bind(at)
        .bind(subject)
        .execute(&self.pool)
        .await
        .unwrap();
        for (number, (email, customer)) in (1..).zip(people) {
            sqlx::query(
                "insert into customer360.interaction_participants
                     (system, interaction_id, participant_no, email, match_key, role, customer_id, at)
                 values ('mail', $1, $2, $3, $3, 'to', $4, $5::text::timestamptz)",
            )
            .bind(id)
            .bind::<i32>(number)
            .bind(email)
            .bind(customer)
            .bind(at)
            .execute(&self.pool)
            .await
            .unwrap();
        }
    }

    pub(crate) async fn run(&self, sql: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
    }

    /// A note on a customer.
    pub(crate) async fn note(&self, customer: Uuid, text: &str, at: &str) {
        sqlx::query(
            "insert into customer360.entries
                 (customer_id, entry_id, type, content, author, created_at, updated_at)
             values ($1, gen_random_uuid(), 'note', jsonb_build_object('text', $2::text), 'ann', $3, $3)",
        )
        .bind(customer)
        .bind(text)
        .bind(time(at))
        .execute(&self.pool)
        .await
        .unwrap();
    }
}
