//! Why a command about a customer changes nothing. Messages name decisions by number, and no personal value.

/// What was asked for cannot be found, or cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody has or had this.
    #[error("no customer is known by that")]
    Unknown,
    /// It is nothing by which a customer can be found.
    #[error("that is neither a customer id, nor a SYSTEM and its ID, nor a usable email")]
    NoKey,
    /// The email is blocked.
    #[error("that email is blocked and belongs to no customer: `c360 customer unmatched blocked` lists who has it")]
    Blocked,
    /// The cross-reference belongs to nobody.
    #[error("that cross-reference belongs to no customer ({reason}): see `c360 customer unmatched {reason}`")]
    Unmatched {
        /// A word of `xrefs.unmatched_reason`.
        reason: String,
    },
    /// All cross-references of the match key are held back.
    #[error("its cross-references are all held back (crowded): see `c360 customer unmatched crowded`")]
    HeldBack,
    /// No decision has that number.
    #[error("there is no decision {0}")]
    NoDecision(i64),
    /// A system or id that is not there.
    #[error("no such cross-reference is known")]
    NoXref,
    /// A merge with oneself.
    #[error("nobody can be merged with himself: both keys are the same customer's")]
    Oneself,
    /// A merge that leads back to where it begins.
    #[error("that would be a circle: the second already leads to the first by earlier merges")]
    Circle,
    /// Another decision stands in the way.
    #[error("decision {decision_id} ({kind}) says otherwise and stands: `c360 customer undo {decision_id}` first")]
    Contradicts {
        /// The decision that stands.
        decision_id: i64,
        /// Its kind.
        kind: &'static str,
    },
    /// The configuration stands in the way.
    #[error("the configuration blocks that email: `matching.blocked` would have to be changed")]
    BlockedByConfiguration,
    /// A pattern where a value is wanted.
    #[error("one email is blocked at a time: patterns belong into `matching.blocked` in the configuration")]
    Pattern,
    /// A split that would leave nobody behind.
    #[error("it is the only living cross-reference of its customer: there is nothing to split it off from")]
    OnlyOne,
    /// An erasure by an id or an email of before.
    #[error(
        "that customer has moved on to {customer_id}, who may be somebody else by now: look with `c360 customer show {customer_id}`, and erase by that id"
    )]
    MovedOn {
        /// Where the redirect leads.
        customer_id: sqlx::types::Uuid,
    },
    /// A split of a cross-reference with a very long id.
    #[error("its id is too long for a customer of its own: system and id may have 1,998 bytes together")]
    TooLong,
    /// A split of a tombstone.
    #[error("its system has deleted it: there is nothing to split off")]
    Tombstone,
}

impl Refusal {
    /// Whether something was named that is not there, rather than something asked for that cannot be.
    pub fn is_unknown(&self) -> bool {
        matches!(
            self,
            Self::Unknown
                | Self::NoKey
                | Self::Blocked
                | Self::Unmatched { .. }
                | Self::HeldBack
                | Self::NoDecision(_)
                | Self::NoXref
        )
    }
}
