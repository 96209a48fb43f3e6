//! The HTTP side of c360: the API, the dashboard, whether it lives, whether it is ready, what it counts.
//!
//! | path | answers |
//! |---|---|
//! | `/healthz` | 200 as long as the process runs |
//! | `/readyz` | 200 when the database answers within a second and its schemas are migrated, else 503; JSON with the reasons |
//! | `/metrics` | what the process counts, as Prometheus reads it |
//! | `/api/v1/...` | golden records, for whoever has an API key; see `/openapi.json` |
//! | `/`, `/customers`, ... | the dashboard: the same as pages, for whoever has signed in with an API key |
//! | `/operations` | how all sources are, and dead letters, for operators |
//!
//! Every other answer with an error is a problem of RFC 9457, or a page. No answer and no log line holds personal data.
//!
//! The server bounds what a client can make it hold: the time for its headers and for its request, their size, the size of
//! a body, and the number of connections; see `server.rs`. It never waits for a client when it is told to stop.
//!
//! Start with [`serve`].

mod api;
mod dashboard;
mod error;
pub mod keys;
mod mask;
mod metrics;
mod probes;
mod problem;
mod readiness;
mod retry;
mod routes;
mod row_filter;
mod server;
mod watch;

pub use api::{Settings, TAKEN_ATTRIBUTES, TAKEN_OBJECT_TYPES, forget_audit};
pub use error::Error;
pub use mask::Mask;
pub use retry::Retry;
pub use row_filter::{NoRowFilter, RowFilter};
pub use server::{listen, serve};
