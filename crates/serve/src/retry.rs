//! Retrying dead letters, as the server is handed it: that takes the readers of all sources, which it does not know.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

/// In lines for people, what became of the letters; or why it was not finished, for the log.
pub(crate) type Retried = Result<Vec<String>, Box<dyn Error + Send + Sync>>;

/// Retries the dead letters of these numbers, as `c360 dead-letters retry` does.
#[derive(Clone)]
pub struct Retry(Arc<dyn Fn(Vec<i64>) -> BoxFuture<'static, Retried> + Send + Sync>);

impl Retry {
    /// One that does this. It must be safe to repeat, and to drop before it has ended.
    pub fn new<F>(retry: impl Fn(Vec<i64>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Vec<String>, Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        Self(Arc::new(move |ids| retry(ids).boxed()))
    }

    pub(crate) fn run(&self, ids: Vec<i64>) -> BoxFuture<'static, Retried> {
        (self.0)(ids)
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Retry")
    }
}
