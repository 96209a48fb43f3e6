//! Hiding credentials in raw records, as the server is handed it: that takes the mappings of all sources, which it does not
//! know.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// Takes credentials out of a person's export, as `c360 customer export` does.
#[derive(Clone)]
pub struct Mask(Arc<dyn Fn(&mut Value) + Send + Sync>);

impl Mask {
    /// One that does this with a document of [`consolidate::export::export`].
    pub fn new(mask: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self(Arc::new(mask))
    }

    pub(crate) fn apply(&self, document: &mut Value) {
        (self.0)(document);
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mask")
    }
}
