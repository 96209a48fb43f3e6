//! Pages of lists: cursors that are opaque, signed, and belong to one list.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use model::InstallationKey;
use serde::Serialize;
use sha2::Sha256;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};
use utoipa::ToSchema;

use super::params::Params;
use crate::problem::Problem;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// Gives the next page as `cursor`; null on the last one.
    pub(crate) next_cursor: Option<String>,
    /// With `count=true`: how many items there are on all pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<i64>,
    /// True where a search has met as many as it looks at: what sort and `total` are about, out of more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_cut: bool,
}

/// A place in a list: what the last item of a page is sorted by, as text.
pub(crate) type Place = Vec<String>;

/// Signs places, so that nobody can make one up.
pub(crate) struct Cursors(Hmac<Sha256>);

const SIGNATURE_LENGTH: usize = 16;

impl Cursors {
    pub(crate) fn new(key: &InstallationKey) -> Self {
        Self(key.mac("cursor"))
    }

    /// The place that a request asks to go on from.
    pub(crate) fn take(&self, params: &mut Params) -> Result<Option<Place>, Problem> {
        let Some(cursor) = params.one("cursor")? else { return Ok(None) };
        self.open(params.scope(), &cursor).map(Some).ok_or_else(|| {
            Problem::bad("cursor", "the `next_cursor` of a page of the same list, with the same filters and sort")
        })
    }

    pub(crate) fn seal(&self, scope: &str, place: &[String]) -> String {
        let place = serde_json::to_vec(place).unwrap_or_else(|error| unreachable!("text is JSON: {error}"));
        let mut bytes = self.signature(scope, &place).finalize().into_bytes()[..SIGNATURE_LENGTH].to_vec();
        bytes.extend(place);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn open(&self, scope: &str, cursor: &str) -> Option<Place> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (signature, place) = bytes.split_at_checked(SIGNATURE_LENGTH)?;
        self.signature(scope, place).verify_truncated_left(signature).ok()?;
        serde_json::from_slice(place).ok()
    }

    fn signature(&self, scope: &str, place: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(&(scope.len() as u64).to_be_bytes());
        mac.update(scope.as_bytes());
        mac.update(place);
        mac
    }

    /// Cuts rows that were read one too many into a page.
    pub(crate) fn page<T>(&self, scope: &str, mut rows: Vec<(Place, T)>, limit: u32, total: Option<i64>) -> Page<T> {
        let limit = limit as usize;
        let is_last = rows.len() <= limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| !is_last).map(|(place, _)| self.seal(scope, place));
        Page { items: rows.into_iter().map(|(_, item)| item).collect(), next_cursor, total, is_cut: false }
    }

    /// Makes a page of the rows of a statement that gives a `place` with each, and with `count` the `total` of all
    /// pages. Of an empty page with something about all pages there is one row, the rest of it null.
    pub(crate) fn page_of<'r, T: FromRow<'r, PgRow>>(
        &self,
        scope: &str,
        rows: &'r [PgRow],
        place: impl Fn(&PgRow) -> Place,
        limit: u32,
        count: bool,
    ) -> sqlx::Result<Page<T>> {
        let total = count.then(|| rows.first().map_or(0, |row| row.get("total")));
        let listed = rows.iter().filter(|row| row.get::<Option<&str>, _>("place").is_some());
        let listed = listed.map(|row| Ok((place(row), T::from_row(row)?))).collect::<sqlx::Result<_>>()?;
        Ok(self.page(scope, listed, limit, total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_only_in_its_own_list_and_unchanged() {
        let cursors = Cursors::new(&InstallationKey::new([7; 32]));
        let place = vec!["Ann".to_owned(), "1".to_owned()];
        let cursor = cursors.seal("/customers?a", &place);
        assert_eq!(cursors.open("/customers?a", &cursor), Some(place));
        assert_eq!(cursors.open("/customers?b", &cursor), None);
        for at in 0..cursor.len() {
            let mut other = cursor.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(cursors.open("/customers?a", std::str::from_utf8(&other).unwrap()), None, "{at}");
        }
        assert_eq!(cursors.open("/customers?a", ""), None);
    }
}
