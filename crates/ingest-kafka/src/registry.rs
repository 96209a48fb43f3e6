//! The schema registry of a source that writes Avro: schemas by their ids, asked for once and kept for good.
//!
//! Decoding only looks. What it does not find is fetched by a thread of its own, which asks again, with growing pauses,
//! until the registry has answered: the loop that consumes goes on answering its group meanwhile, and whoever has nothing
//! else to do waits.

mod ask;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::panic::catch_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use model::{Reason, Reject};
use secrecy::SecretString;

use crate::decode::Schema;
use crate::{Error, metrics};
use ask::{Answer, Asker, Trouble};

/// An id that the registry did not know is asked for again after this long: it may have been registered meanwhile.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// More unknown ids than anybody has schemas are not remembered.
const MAX_UNKNOWN: usize = 1_000;
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How often a wait looks up.
const LOOK: Duration = Duration::from_millis(100);

/// Where the schemas of a source are. Clones share what is known.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    source: String,
    asker: Asker,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    schemas: HashMap<u32, Arc<Schema>>,
    /// Ids without a schema that can be used, and since when that is known.
    refused: HashMap<u32, (Reject, Instant)>,
    wanted: BTreeSet<u32>,
    /// Whether the thread that asks lives.
    asks: bool,
    trouble: Option<(Trouble, Instant)>,
}

/// What is known of an id.
#[derive(Debug)]
pub(crate) enum Found {
    Schema(Arc<Schema>),
    /// There is none, or none that can be used.
    Refused(Reject),
    /// Not yet: the registry is being asked.
    Pending,
}

impl Registry {
    /// `url` is where the registry is, without user and password; these are `user`. Nothing is connected to. An error says
    /// what is wrong.
    pub fn new(source: &str, url: &str, user: Option<(String, Option<SecretString>)>) -> Result<Self, &'static str> {
        let asker = Asker::new(url, user)?;
        let (state, changed) = (Mutex::default(), Condvar::new());
        Ok(Self(Arc::new(Shared { source: source.to_owned(), asker, state, changed })))
    }

    /// A schema by its id. Returns at once.
    pub(crate) fn schema(&self, id: u32) -> Found {
        let mut state = self.0.state();
        if let Some(schema) = state.schemas.get(&id) {
            return Found::Schema(schema.clone());
        }
        match state.refused.get(&id) {
            Some((reject, since)) if since.elapsed() < UNKNOWN_FOR => return Found::Refused(reject.clone()),
            _ => {}
        }
        state.wanted.insert(id);
        if !state.asks {
            let shared = Arc::downgrade(&self.0);
            let name = format!("schemas {}", self.0.source);
            // Where no thread can be started now one is when this is asked again.
            state.asks = std::thread::Builder::new().name(name).spawn(move || fetch(&shared)).is_ok();
        }
        Found::Pending
    }

    /// Whether [`Registry::schema`] has an answer.
    pub(crate) fn knows(&self, id: u32) -> bool {
        !matches!(self.schema(id), Found::Pending)
    }

    /// Waits for an answer, unless there was none for so long. Never within a future on the only thread of a runtime.
    pub(crate) fn wait(&self, id: u32, patience: Duration) -> Result<(), Error> {
        while !self.knows(id) {
            if let Some(error) = self.given_up(patience) {
                return Err(error);
            }
            let state = self.0.state();
            drop(self.0.changed.wait_timeout(state, LOOK));
        }
        Ok(())
    }

    /// What keeps it from answering.
    pub(crate) fn trouble(&self) -> Option<&'static str> {
        self.0.state().trouble.map(|(trouble, _)| trouble.word())
    }

    /// The error of whoever does not wait for ever, once it has been in trouble for so long.
    pub(crate) fn given_up(&self, patience: Duration) -> Option<Error> {
        let (trouble, since) = self.0.state().trouble?;
        let error = Error::Registry { from: self.0.source.clone(), problem: trouble.word() };
        (since.elapsed() > patience).then_some(error)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next id to ask for; `None` when all is said, and the thread may end.
    fn next(&self) -> Option<u32> {
        let mut state = self.state();
        let next = state.wanted.first().copied();
        state.asks = next.is_some();
        next
    }

    fn note(&self, id: u32, answer: Answer) {
        let found = match answer {
            // Nobody would ask again if this thread ended here, whatever is in a schema.
            Answer::Schema { schema, references } => catch_unwind(|| Schema::read(&schema, &references))
                .unwrap_or_else(|_| Err("reading it panics".to_owned()))
                .map_err(|problem| format!("schema {id} cannot be used: {problem}")),
            Answer::NotAvro => Err(format!("schema {id} is not of Avro")),
            Answer::TooLarge => Err(format!("schema {id} is too large")),
            Answer::Unknown => Err(format!("the schema registry has no schema {id}")),
            Answer::UnknownReference => Err(format!("the schema registry lacks what schema {id} refers to")),
        };
        let mut state = self.state();
        state.wanted.remove(&id);
        if state.trouble.take().is_some() {
            tracing::info!(source = self.source, "the schema registry answers again");
        }
        match found {
            Ok(schema) => {
                state.schemas.insert(id, Arc::new(schema));
            }
            Err(refused) => {
                if state.refused.len() >= MAX_UNKNOWN {
                    state.refused.clear();
                }
                state.refused.insert(id, (Reject::new(Reason::UnknownSchema, refused), Instant::now()));
            }
        }
        self.changed.notify_all();
    }

    fn fail(&self, trouble: Trouble) {
        metrics::registry_failed(&self.source);
        let mut state = self.state();
        let since = state.trouble.map_or_else(Instant::now, |(_, since)| since);
        if state.trouble.is_none_or(|(before, _)| before != trouble) {
            tracing::warn!(source = self.source, "{}: trying again until it works", trouble.word());
        }
        state.trouble = Some((trouble, since));
    }
}

/// Asks until there is nothing to ask, or nobody who wants to know. Holds nothing while it pauses.
fn fetch(shared: &Weak<Shared>) {
    let pauses = || {
        ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(LONGEST_PAUSE)
            .with_jitter()
            // Without one of its own everybody pauses alike.
            .with_jitter_seed(rand::random())
            .without_max_times()
            .build()
    };
    // One thread without a runtime around it may wait for a future.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        if let Some(shared) = shared.upgrade() {
            shared.state().asks = false;
        }
        return;
    };
    let mut left = pauses();
    while let Some(shared) = shared.upgrade()
        && let Some(id) = shared.next()
    {
        match runtime.block_on(shared.asker.schema(id)) {
            Ok(answer) => {
                shared.note(id, answer);
                left = pauses();
            }
            Err(trouble) => {
                shared.fail(trouble);
                drop(shared);
                std::thread::sleep(left.next().unwrap_or(LONGEST_PAUSE));
            }
        }
    }
}

#[cfg(test)]
impl Registry {
    /// One that is never asked, because it knows these and refuses all others.
    pub(crate) fn knowing<'a>(schemas: impl IntoIterator<Item = (u32, &'a str)>) -> Self {
        let registry = Self::new("home_delivery", "http://127.0.0.1:1", None).unwrap();
        let read = |(id, schema)| (id, Arc::new(Schema::read(schema, &[]).unwrap()));
        registry.0.state().schemas = schemas.into_iter().map(read).collect();
        registry
    }

    /// It has said that it has no such schema.
    pub(crate) fn lacking(self, id: u32) -> Self {
        self.0.note(id, Answer::Unknown);
        self
    }
}

#[cfg(test)]
mod tests;
