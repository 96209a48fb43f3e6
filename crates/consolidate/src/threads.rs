//! Threads of interactions: a message that comes mends the threads of those that reply to it, and of those that reply to them.

use std::collections::BTreeSet;

use model::Message;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::Error;
use crate::error::database;

/// Messages that take their thread from those named.
const REPLIES: &str = "i.in_reply_to = named.message_id and i.given_thread_id is null";
/// The messages named.
const NAMED: &str = "i.message_id = named.message_id";

/// Messages by the system that knows them and their own id.
type Ids = BTreeSet<(String, String)>;

/// The threads that messages are in from now on: of those that are said, and of those that are known and depend on them.
#[derive(Default)]
pub(crate) struct Threads {
    /// Those that are said first, in their order.
    messages: Vec<Message>,
    said: usize,
    found: Vec<Option<String>>,
}

impl Threads {
    /// Finds what depends on the interactions that are said, and on the message ids that they no longer have. A query per
    /// generation of replies that names no references.
    pub(crate) async fn read(
        connection: &mut PgConnection,
        said: Vec<Message>,
        unsaid: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let mut taken: Ids = said.iter().map(interaction).collect();
        let mut named: Ids = said.iter().filter_map(id).chain(unsaid).collect();
        let mut threads = Self { said: said.len(), messages: said, found: Vec::new() };
        let mut seen = named.clone();
        while !named.is_empty() {
            let mut replies = read(connection, REPLIES, &named).await?;
            replies.retain(|reply| taken.insert(interaction(reply)));
            named = replies.iter().filter_map(id).filter(|id| seen.insert(id.clone())).collect();
            threads.messages.extend(replies);
        }
        let follows = threads.messages.iter().filter(|message| message.given_thread_id.is_none());
        let replied_to: Ids =
            follows.filter_map(|message| Some((message.system.clone(), message.in_reply_to.clone()?))).collect();
        let mut settled = read(connection, NAMED, &replied_to).await?;
        settled.retain(|message| !taken.contains(&interaction(message)));
        threads.found = model::threads(&threads.messages, &settled);
        Ok(threads)
    }

    /// The thread of an interaction that is said, by its number.
    pub(crate) fn of_said(&self, index: usize) -> Option<&str> {
        self.found.get(index)?.as_deref()
    }

    /// Writes the threads of those that were known, where they have changed.
    pub(crate) async fn mend(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let known = self.messages.iter().zip(&self.found).skip(self.said);
        let changed: Vec<_> = known.filter(|(message, thread)| message.thread_id != **thread).collect();
        if changed.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "update customer360.interactions i
             set thread_id = mended.thread_id
             from unnest($1::text[], $2::text[], $3::text[]) as mended (system, interaction_id, thread_id)
             where i.system = mended.system and i.interaction_id = mended.interaction_id",
        )
        .bind(changed.iter().map(|(message, _)| message.system.as_str()).collect::<Vec<_>>())
        .bind(changed.iter().map(|(message, _)| message.interaction_id.as_str()).collect::<Vec<_>>())
        .bind(changed.iter().map(|(_, thread)| thread.as_deref()).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map_err(database("mending threads"))?;
        Ok(())
    }
}

fn interaction(message: &Message) -> (String, String) {
    (message.system.clone(), message.interaction_id.clone())
}

fn id(message: &Message) -> Option<(String, String)> {
    Some((message.system.clone(), message.message_id.clone()?))
}

async fn read(connection: &mut PgConnection, which: &str, named: &Ids) -> Result<Vec<Message>, Error> {
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "select i.system, i.interaction_id, i.message_id, i.in_reply_to, i.given_thread_id, i.thread_id
         from unnest($1::text[], $2::text[]) as named (system, message_id)
         join customer360.interactions i on i.system = named.system and {which}"
    );
    let rows = sqlx::query(staging::constant_sql(sql))
        .bind(named.iter().map(|(system, _)| system.as_str()).collect::<Vec<_>>())
        .bind(named.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await
        .map_err(database("reading threads"))?;
    let message = |row: &PgRow| Message {
        system: row.get(0),
        interaction_id: row.get(1),
        message_id: row.get(2),
        in_reply_to: row.get(3),
        given_thread_id: row.get(4),
        thread_id: row.get(5),
    };
    Ok(rows.iter().map(message).collect())
}
