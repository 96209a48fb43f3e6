//! How far a list is read behind a page. Pure.

use chrono::{DateTime, Utc};
use staging::lists::{Progress, Round};

use super::paging::Next;

/// A page that was read.
pub(super) struct Read {
    /// When it was answered, by our clock and by the source's.
    pub at: DateTime<Utc>,
    pub date: Option<DateTime<Utc>>,
    /// When it was asked for.
    pub asked_at: DateTime<Utc>,
    /// How many records it has.
    pub records: usize,
    /// The page behind it.
    pub next: Option<Next>,
}

/// The progress behind a page; without a round once the list is read to its end. `can_shift`: of several pages, a second
/// look is taken.
pub(super) fn after(before: &Progress, page: &Read, can_shift: bool) -> Progress {
    // What changes from here on is the next round's: by the source's clock, or ours where that is earlier, because some
    // clock must be wrong then.
    let begins_at = page.date.map_or(page.asked_at, |date| date.min(page.asked_at));
    let first = Round { began_at: begins_at, next_page: None, pass: 1, pages: 0, records: 0 };
    let mut round = before.round.clone().unwrap_or(first);
    round.pages = round.pages.saturating_add(1);
    round.records = round.records.saturating_add(i64::try_from(page.records).unwrap_or(i64::MAX));
    round.next_page = page.next.as_ref().and_then(|next| serde_json::to_value(next).ok());
    let mut progress = Progress { failures: 0, answered_at: Some(page.at), ..before.clone() };
    if round.next_page.is_some() {
        progress.round = Some(round);
    } else if can_shift && round.pass == 1 && has_several(&round, page) {
        progress.round = Some(Round { pass: 2, pages: 0, records: 0, ..round });
    } else {
        progress.complete_until = progress.complete_until.max(Some(round.began_at));
        progress.round = None;
    }
    progress
}

/// Whether there were several pages with records: an empty one only ends the list.
fn has_several(round: &Round, last: &Read) -> bool {
    round.pages > if last.records == 0 { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn page(seconds: i64, records: usize, next: Option<u32>) -> Read {
        let date = Some(at(seconds - 30));
        Read { at: at(seconds), date, asked_at: at(seconds - 1), records, next: next.map(Next::Page) }
    }

    fn fresh() -> Progress {
        Progress { complete_until: Some(at(5)), round: None, failures: 3, answered_at: None }
    }

    #[test]
    fn a_round_is_complete_until_it_began_by_the_earlier_clock() {
        let done = after(&fresh(), &page(100, 7, None), true);
        assert_eq!(
            done,
            Progress { complete_until: Some(at(70)), round: None, failures: 0, answered_at: Some(at(100)) }
        );
        let ahead = Read { date: Some(at(900)), ..page(100, 7, None) };
        assert_eq!(after(&fresh(), &ahead, true).complete_until, Some(at(99)));
        let silent = Read { date: None, ..page(100, 7, None) };
        assert_eq!(after(&fresh(), &silent, true).complete_until, Some(at(99)));
        let back = Read { date: Some(at(1)), ..page(100, 7, None) };
        assert_eq!(after(&fresh(), &back, true).complete_until, Some(at(5)), "it never goes back");
    }

    #[test]
    fn a_list_that_can_shift_is_read_twice_if_it_has_several_pages() {
        let first = after(&fresh(), &page(100, 7, Some(2)), true);
        assert_eq!(first.complete_until, Some(at(5)), "only a whole round counts");
        let second = after(&first, &page(200, 3, None), true);
        let round = second.round.clone().unwrap();
        assert_eq!((round.pass, round.pages, round.began_at, &round.next_page), (2, 0, at(70), &None));
        let third = after(&second, &page(300, 7, Some(2)), true);
        let done = after(&third, &page(400, 4, None), true);
        assert_eq!((done.round, done.complete_until), (None, Some(at(70))));
        assert_eq!(after(&first, &page(200, 3, None), false).round, None);
        assert_eq!(after(&first, &page(200, 0, None), true).round, None, "one page, and an empty one behind it");
    }
}
