//! Asks a REST source about the customers that are known, and reads its lists.
//!
//! Whom to ask is in `staging.polls`: consolidation offers the emails of all living cross-references, whatever system they
//! came from. A poll asks for the customer by email, then for the lists (orders, interactions) by the id that came back;
//! products that landed orders name are asked about in turn. What comes back lands as records together with what became
//! of the poll, in one transaction under the poll's lease: an answer is never landed twice, and never without its poll.
//!
//! A source that can list what it has is read page by page, in place of that or beside it. A page lands together with the
//! place of the next one, under the list's lease: whoever comes after a crash goes on there.
//!
//! * New emails come before all others, then whatever is due longest.
//! * An answer equal to the last one (by `ETag` or content) lands nothing but the poll's own state.
//! * 404 is an answer: unknown, asked again at growing intervals; never an error, never a delete.
//! * What cannot be used advances nothing: the poll is failing and is asked again, and what was no JSON or could not be
//!   mapped is a dead letter, once. [`reread`] makes records of it once they can be made.
//! * A source in trouble is left alone: retries with growing pauses, `Retry-After`, a circuit breaker, and a full stop with
//!   one alarm when it refuses our credentials.
//!
//! Several processes that poll one source share its polls, its lists and its `requests_per_second`.
//!
//! Requests go to the configured host and nowhere else: no redirect is followed, a page that is said to be on another host
//! is not asked for, and a name that leads to a private address is refused unless the configuration says otherwise.
//!
//! Errors, logs and metrics name the request by its configured path; never a URL, an email or a body. This crate knows
//! nothing of profiles.
//!
//! Start with [`run`] and [`poll_due`], then `Asker::ask` for what one poll does and `Gate` for how requests are paced.

mod answer;
mod ask;
mod body;
mod breaker;
mod client;
mod customers;
mod draft;
mod error;
mod gate;
mod guard;
mod land;
mod lists;
mod metrics;
mod outbox;
mod pace;
mod per_customer;
mod pipeline;
mod reread;
mod run;
mod schedule;
mod settings;
mod template;
mod token;
mod validators;
mod write;

pub use ask::check;
pub use breaker::BreakerState;
pub use error::{ConfigError, Error};
pub use reread::reread;
pub use run::{Summary, poll_due, refresh, run};
pub use settings::{Auth, List, OAuth2, Settings};
