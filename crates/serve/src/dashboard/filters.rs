//! What of a timeline is shown: types, and what holds some words.

use sqlx::types::Uuid;

use super::counts::Counts;
use super::locale::Locale;
use super::systems::label;
use crate::api::params::Params;
use crate::problem::Problem;

/// Types that c360 keeps by itself, as they are asked for and as they are called.
const TYPES: [(&str, &str); 6] = [
    ("order", "Orders"),
    ("interaction", "Interactions"),
    ("note", "Notes"),
    ("contact", "Contacts"),
    ("link", "Links"),
    ("change", "Changes"),
];

/// A type of what happened, and the page that shows no other.
pub(super) struct Filter {
    pub(super) label: String,
    pub(super) link: String,
    pub(super) count: String,
    pub(super) is_current: bool,
}

/// What of a timeline is shown.
pub(super) struct Shown {
    /// None for all.
    pub(super) types: Vec<String>,
    /// Words that all of it holds.
    pub(super) q: String,
}

impl Shown {
    /// As a page is asked for it. `object_types` are those of the configuration.
    pub(super) fn take(params: &mut Params, object_types: &[String]) -> Result<Self, Problem> {
        let ours = TYPES.iter().map(|(kind, _)| *kind);
        let known: Vec<&str> = ours.chain(object_types.iter().map(String::as_str)).collect();
        Ok(Self { types: params.any_of("type", &known)?, q: params.words("q")?.unwrap_or_default() })
    }

    pub(super) fn only(kind: &str) -> Self {
        Self { types: vec![kind.to_owned()], q: String::new() }
    }

    /// As a timeline is asked for it, from its beginning or from a cursor on.
    pub(super) fn query(&self, cursor: Option<&str>) -> String {
        let words = Some(self.q.as_str()).filter(|q| !q.is_empty());
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(self.types.iter().map(|kind| ("type", kind.as_str())))
            .extend_pairs(words.map(|q| ("q", q)))
            .extend_pairs(cursor.map(|cursor| ("cursor", cursor)))
            .finish()
    }

    /// All, and each type of which there is something or that is shown.
    pub(super) fn filters(
        &self,
        counts: &Counts,
        customer_id: Uuid,
        object_types: &[String],
        locale: &Locale,
    ) -> Vec<Filter> {
        let path = format!("/customers/{customer_id}");
        let all = Filter {
            label: "All".to_owned(),
            link: format!("{path}#timeline"),
            count: locale.count(counts.all()),
            is_current: self.types.is_empty(),
        };
        let is_shown = |kind: &str| self.types.iter().any(|shown| shown == kind);
        let of_kind = |(kind, label): (&str, String)| Filter {
            label,
            link: format!("{path}?type={kind}#timeline"),
            count: locale.count(counts.of(kind)),
            is_current: is_shown(kind),
        };
        let ours = TYPES.into_iter().map(|(kind, label)| (kind, label.to_owned()));
        let objects = object_types.iter().map(|kind| (kind.as_str(), label(kind)));
        let kinds = ours.chain(objects).filter(|(kind, _)| counts.of(kind) > 0 || is_shown(kind));
        [all].into_iter().chain(kinds.map(of_kind)).collect()
    }
}
