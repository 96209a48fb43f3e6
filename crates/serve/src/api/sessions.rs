//! Sessions for reading, of which the one used last is used next: Postgres answers faster where its caches are warm, and a
//! pool that takes its connections in turn warms none.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleResult};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use sqlx::postgres::{PgConnectOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Connection as _, Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr};

use super::{MAX_CONNECTIONS, RESTED, STATEMENT_WITHIN, access};
use crate::problem::Problem;

/// A session nobody needed for so long is closed when the next one is asked for.
const IDLE_WITHIN: Duration = Duration::from_mins(10);
/// Postgres keeps what it knows of every table that a session ever met.
const LIVES_FOR: Duration = Duration::from_mins(30);

/// Sessions that are opened alike.
pub(super) struct Sessions(Pool<Opening>);

/// How they are opened.
struct Opening(PgConnectOptions);

impl Sessions {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        let pool = Pool::builder(Opening(options))
            .max_size(MAX_CONNECTIONS as usize)
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .recycle_timeout(Some(RESTED))
            .build();
        Self(pool.expect("times can be kept: a runtime is named"))
    }

    pub(super) async fn get(&self) -> Result<Session, Problem> {
        self.0.retain(|_, used| used.last_used() < IDLE_WITHIN && used.age() < LIVES_FOR);
        // In all: where a network eats packets, each session that has rested takes its time to be found dead.
        match tokio::time::timeout(access::CONNECTED_WITHIN, self.0.get()).await {
            Ok(Ok(connection)) => Ok(Session(Some(connection))),
            Ok(Err(PoolError::Backend(error))) => Err(Problem::no_connection(error)),
            Ok(Err(_)) | Err(_) => Err(Problem::no_connection(sqlx::Error::PoolTimedOut)),
        }
    }
}

impl Manager for Opening {
    type Type = PgConnection;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.0).await
    }

    async fn recycle(&self, connection: &mut PgConnection, used: &Metrics) -> RecycleResult<sqlx::Error> {
        if used.last_used() > RESTED {
            connection.ping().await?;
        }
        Ok(())
    }
}

/// A session for one statement, which takes it (`fetch_all(session)`) and gives it back with the answer. One that was only
/// borrowed, or whose request was dropped before the answer came, is given back when nothing is under way on it any more.
pub(crate) struct Session(Option<Object<Opening>>);

impl Session {
    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.0.as_deref().expect("a session is there until it is given back")
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.0.as_deref_mut().expect("a session is there until it is given back")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(mut connection) = self.0.take() else { return };
        tokio::spawn(async move {
            let settled = tokio::time::timeout(STATEMENT_WITHIN, connection.ping()).await;
            if !matches!(settled, Ok(Ok(()))) {
                drop(Object::take(connection));
            }
        });
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Executor<'static> for Session {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(mut self, statement: E) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let answer = async move {
            let answer: Vec<_> = self.deref_mut().fetch_many(statement).collect().await;
            if answer.iter().all(Result::is_ok) {
                self.give_back();
            }
            stream::iter(answer)
        };
        answer.flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(mut self, statement: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let answer = async move {
            let row = self.deref_mut().fetch_optional(statement).await?;
            self.give_back();
            Ok(row)
        };
        answer.boxed()
    }

    fn prepare_with<'e>(mut self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'static: 'e,
    {
        async move { self.deref_mut().prepare_with(sql, parameters).await }.boxed()
    }

    fn describe<'e>(mut self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'static: 'e,
    {
        async move { self.deref_mut().describe(sql).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use embedded_postgres::test::{TestDatabase, database, eventually};

    use super::*;

    const BACKEND: &str = "select pg_backend_pid()";

    async fn sessions() -> (TestDatabase, Sessions) {
        let database = database().await;
        let sessions = Sessions::new(database.url.parse().unwrap());
        (database, sessions)
    }

    async fn backend(sessions: &Sessions) -> i32 {
        sqlx::query_scalar(BACKEND).fetch_one(sessions.get().await.unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn the_session_used_last_is_used_next() {
        let (_database, sessions) = sessions().await;
        let (mut first, mut second) = (sessions.get().await.unwrap(), sessions.get().await.unwrap());
        let first_backend: i32 = sqlx::query_scalar(BACKEND).fetch_one(&mut *first).await.unwrap();
        let second_backend: i32 = sqlx::query_scalar(BACKEND).fetch_one(&mut *second).await.unwrap();
        assert_ne!(first_backend, second_backend);
        for (session, backend_of) in [(second, second_backend), (first, first_backend)] {
            sqlx::query(BACKEND).fetch_all(session).await.unwrap();
            for _ in 0..3 {
                assert_eq!(backend(&sessions).await, backend_of);
            }
        }
    }

    #[tokio::test]
    async fn what_a_dropped_request_has_asked_delays_nobody_else() {
        let (_database, sessions) = sessions().await;
        let before = backend(&sessions).await;
        let slow = sqlx::query("select pg_sleep(2)").fetch_all(sessions.get().await.unwrap());
        tokio::time::timeout(Duration::from_millis(200), slow).await.unwrap_err();
        assert_ne!(backend(&sessions).await, before, "on its session the statement goes on");
        eventually("both are there again", async || sessions.0.status().available == 2).await;
    }

    #[tokio::test]
    async fn a_session_that_was_cut_is_nobodys() {
        let (_database, sessions) = sessions().await;
        let mut cut = sessions.get().await.unwrap();
        let its_backend: i32 = sqlx::query_scalar(BACKEND).fetch_one(&mut *cut).await.unwrap();
        let cutting = sqlx::query("select pg_terminate_backend($1, 5000)").bind(its_backend);
        cutting.execute(sessions.get().await.unwrap()).await.unwrap();
        drop(cut);
        eventually("it is closed", async || sessions.0.status().size == 1).await;
        assert_ne!(backend(&sessions).await, its_backend);
    }
}
