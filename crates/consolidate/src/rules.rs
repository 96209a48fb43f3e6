//! The rules in force: what a profile depends on beside the data.

use model::{Guards, Survivorship};

/// Rules of the configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which value wins.
    pub survivorship: Survivorship,
    /// What keeps a cross-reference away from profiles.
    pub guards: Guards,
    /// Sources that are asked about every known email.
    pub polled_sources: Vec<String>,
}
