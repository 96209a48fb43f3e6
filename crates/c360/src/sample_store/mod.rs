//! The sample online store: the third system of the reference scenario, as a small HTTP server.
//!
//! It stands in for a shop's customer API in the demo, in docker-compose and in tests. Like the real one it answers for
//! one key at a time and has no list, no paging and no authentication:
//!
//! | `GET /api/onlineStore/...` | answers |
//! |---|---|
//! | `getCustomerDetailsByEmail?customerEmail=` | one customer; the email is compared trimmed and without case |
//! | `getOrdersByCustomerId?customerId=` | the customer's orders, `[]` for a customer without any |
//! | `getProductDetailsByProductId?productId=` | one product |
//!
//! And it can be told, so that edits that are written through have somewhere to go:
//!
//! | `/api/onlineStore/...` | does |
//! |---|---|
//! | `PATCH customers/{Id}` | changes members of the record but `Id`, `Email`, `Password`, and sets `ModifiedAt` |
//! | `POST customers` | makes a customer with an `Email`, a `Name` and the next free `Id` |
//!
//! An unknown key is 404, a missing parameter 400, an email that is there already 409, a record without a `Name`, or with one of more
//! than a hundred characters, 422, all with
//! `{"error": "..."}`; `GET /healthz` is 200 while it runs.
//!
//! Records are answered as the very text they have in the data file, odd dates and all, until they change. Every answer has
//! an `ETag` made of its content, and a request that already has it (`If-None-Match`) gets 304. What it is told is forgotten
//! when it ends, and it never logs what it is asked.
//!
//! Start at [`Store::load`] and [`serve()`]; a test that wants a store to misbehave injects a [`Fault`].

mod catalog;
mod endpoint;
mod fault;
mod server;
#[cfg(test)]
mod tests;
mod write;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use chrono::Utc;
use serde_json::{Map, Value};

pub use self::endpoint::Endpoint;
pub use self::fault::Fault;
pub use self::server::serve;

use self::catalog::{Answer, Catalog};
use self::write::Refused;

/// What the store knows and how it misbehaves. A clone is another handle to the same store, so that a test can change
/// what a running server answers.
#[derive(Clone, Debug)]
pub struct Store {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    catalog: Catalog,
    faults: Vec<Fault>,
}

impl Store {
    /// Reads a data file; see [`Store::parse`] for its shape.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not a store's data", path.display()))
    }

    /// Takes `{"customers": [...], "orders": [...], "products": [...], "faults": [...]}`, the first three as the API
    /// answers them, the last optional and each a [`Fault`]. Two customers with one email and two products with one id
    /// are an error.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let (catalog, faults) = catalog::parse(text)?;
        let state = Arc::new(Mutex::new(State { catalog, faults }));
        Ok(Self { state })
    }

    /// Exchanges all data and faults, as if the shop had moved on. On an error everything stays as it was.
    pub fn replace(&self, text: &str) -> anyhow::Result<()> {
        let (catalog, faults) = catalog::parse(text)?;
        *self.state() = State { catalog, faults };
        Ok(())
    }

    /// Makes the store misbehave from now on. Where several faults fit one request, the one injected first strikes.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// The answer for a key, and the fault that strikes it, if one does.
    fn look_up(&self, endpoint: Endpoint, key: &str) -> (Option<Answer>, Option<Fault>) {
        let key = endpoint.key(key);
        let mut state = self.state();
        let answer = state.catalog.answer(endpoint, &key).cloned();
        let fault = state.faults.iter_mut().find_map(|fault| fault.strike(endpoint, &key));
        (answer, fault)
    }

    /// Does what a request tells, and returns the fault that strikes it, if one does. One that only makes the store late
    /// strikes afterwards: it is done, and the answer does not come.
    fn tell(
        &self,
        endpoint: Endpoint,
        key: &str,
        body: Map<String, Value>,
    ) -> (Option<Result<Answer, Refused>>, Option<Fault>) {
        let mut state = self.state();
        let key = endpoint.key(key);
        let fault = state.faults.iter_mut().find_map(|fault| fault.strike(endpoint, &key));
        let is_done = fault.as_ref().is_none_or(|fault| fault.status.is_none() && fault.body.is_none());
        let catalog = &mut state.catalog;
        let told = is_done.then(|| match endpoint {
            Endpoint::Update => catalog.update(&key, body, Utc::now()),
            _ => catalog.create(body, Utc::now()),
        });
        (told, fault)
    }

    /// Nothing that holds the lock can leave the state half changed, so a poisoned one is as good as any.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
