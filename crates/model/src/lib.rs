//! The vocabulary of c360. Pure: values in, values out; no I/O, no clock, no SQL.
//!
//! A **record** is one thing that one source said about one customer, order, product or interaction. The ingesters
//! decode bytes into [`Fields`], a mapping of the configuration turns fields into a [`Record`], and every record carries a
//! [`Position`]: an order-preserving byte string made from the source's own order.
//!
//! Consolidation applies records to a [`Xref`], a cross-reference: what one system currently says under one of its ids.
//! Every attribute of a cross-reference is a last-writer-wins register by position, so records converge in any order, with
//! any repetition and in any batching. The living cross-references that share a [`MatchKey`] are folded into a [`Profile`]
//! by [`Survivorship`].
//!
//! Nothing here ever drops a value silently: what cannot be mapped is a [`Reject`] with a [`Reason`], and its neighbours go on.
//!
//! Start with [`Record`], then [`Xref::apply`], then [`Survivorship::fold`].

mod credential;
mod decisions;
mod erasure;
mod explanation;
mod external_id;
mod fields;
mod fingerprint;
mod headers;
mod json;
pub mod mapping;
mod match_key;
mod order;
mod position;
mod profile;
mod record;
mod redact;
mod threads;
mod time;
mod xref;

pub use credential::{CredentialKey, Credentials, InstallationKey};
pub use decisions::{Decisions, Ruling};
pub use erasure::{Digest, ErasureKey, find_emails, is_in_avro};
pub use explanation::{Explanation, Lost, Why};
pub use external_id::ExternalId;
pub use fields::{Field, Fields, Object};
pub use fingerprint::fingerprint;
pub use json::{Limits, inspect, push_string};
pub use match_key::{Guards, MATCH_KEY_VERSION, MatchKey, Unmatched};
pub use order::{InteractionFields, OrderFields, OrderLine, Participant, ProductFields, fits_numeric};
pub use position::{LastSeen, LogPosition, Position};
pub use profile::{Contributor, Edit, Origin, Profile, Survivorship};
pub use record::{Entity, Mapped, Operation, Reason, Record, Reject};
pub use redact::{redact_credential, replace_values};
pub use threads::{Message, threads};
pub use time::{observed_at, parse_time};
pub use xref::{CustomerFields, Outcome, Write, Written, Xref};
