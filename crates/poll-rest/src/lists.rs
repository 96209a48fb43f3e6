//! Lists: all customers, orders, products or interactions of a source, page by page.
//!
//! A list is read in rounds. A round begins at the first page and goes on from page to page; each page lands with the
//! place of the next one (`staging::lists`), so that whoever comes after a crash goes on there. A record that looks like it
//! did when it last landed lands nothing.
//!
//! Where the request says `{since}`, a round only asks for what has changed since the last complete round began, by the
//! source's own clock and less an overlap. Such a list can shift while it is read, because what is changed moves from its
//! page to the last one: a round of several pages is read twice, so that nothing stays in a gap between two of them.
//!
//! What does not end (a page or a cursor that comes twice, too many pages) is given up and said; what is said to be on
//! another host is not asked for.

mod page;
mod paging;
mod read;
mod round;
mod run;
mod spec;

pub(crate) use paging::next_of_links;
pub(crate) use read::Lists;
pub(crate) use run::{Ends, run, run_once};
pub(crate) use spec::Spec;

use crate::error::Failure;

/// Why a list could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// The source did not answer.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// There is no such list.
    #[error("status 404")]
    NotFound,
    /// The answer is none, or an error under status 200.
    #[error("the answer has no list of records where the configuration says")]
    NoRecords,
    /// What says where the next page is cannot be used.
    #[error("the answer names the next page in a way that cannot be used")]
    Next,
    /// The next page is said to be on another host.
    #[error("the next page is said to be on another host, which is not asked")]
    Elsewhere,
    /// The list comes back to where it was.
    #[error("a page has come twice: the source does not page as the configuration says")]
    Loop,
    /// The list does not end.
    #[error("it has more than max_pages = {0} pages")]
    TooLong(u32),
}

impl Trouble {
    /// Whether the source is there and only does not take this question.
    fn is_about_the_page(&self) -> bool {
        match self {
            Self::NotFound => true,
            Self::Failed(failure) => matches!(failure, Failure::Status { .. }) && !failure.is_the_sources(),
            _ => false,
        }
    }

    /// Whether asking for the same page again is of no use: the next round begins anew, at its time.
    fn ends_the_round(&self) -> bool {
        matches!(self, Self::Next | Self::Elsewhere | Self::Loop | Self::TooLong(_))
    }
}
