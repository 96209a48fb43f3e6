//! What becomes of a customer, side by side: as it is now, and as it is then.

use std::collections::BTreeSet;

use super::locale::Locale;
use super::profile;
use super::systems::label;
use consolidate::Change;
use consolidate::decide::Effect;
use consolidate::show::Customer;

/// A customer that becomes another one.
pub(super) struct Table {
    pub(super) name: String,
    /// What becomes of it.
    pub(super) becomes: &'static str,
    pub(super) differing: Vec<Row>,
    pub(super) same: Vec<Row>,
}

/// Something about a customer.
pub(super) struct Row {
    pub(super) label: String,
    pub(super) now: String,
    pub(super) then: String,
}

/// The two of a customer, if they differ.
pub(super) fn table(effect: &Effect, locale: &Locale) -> Option<Table> {
    let becomes = match effect.change? {
        Change::Appears => "appears",
        Change::Changes => "changes",
        Change::Vanishes => "vanishes",
    };
    let living = |customer: &Customer| customer.deleted_at.is_none();
    let now = effect.before.as_ref().filter(|customer| living(customer));
    let then = Some(&effect.customer).filter(|customer| living(customer));
    let named = now.or(then)?;
    let row = |label: String, of: &dyn Fn(&Customer) -> String| {
        let shown = |customer: Option<&Customer>| {
            customer.map(of).filter(|text| !text.is_empty()).unwrap_or_else(|| "–".to_owned())
        };
        Row { label, now: shown(now), then: shown(then) }
    };
    let fixed = [
        row("Email".to_owned(), &|customer| customer.email.clone().unwrap_or_default()),
        row("Cross-references".to_owned(), &xrefs),
        row("Orders".to_owned(), &|customer| locale.count(customer.order_count)),
    ];
    let attributes = [now, then].into_iter().flatten().filter_map(|customer| customer.profile.as_object());
    let attributes: BTreeSet<&String> = attributes.flat_map(serde_json::Map::keys).collect();
    let attributes = attributes
        .into_iter()
        .map(|name| row(label(name), &|customer| customer.profile.get(name).map_or_else(String::new, profile::text)));
    let name = profile::name(&named.profile, named.email.as_deref(), named.customer_id);
    let email = named.email.as_ref().filter(|email| **email != name);
    let (differing, same) = fixed.into_iter().chain(attributes).partition(|row| row.now != row.then);
    Some(Table {
        name: email.map_or_else(|| name.clone(), |email| format!("{name}, {email}")),
        becomes,
        differing,
        same,
    })
}

/// The living ones, by system and id.
fn xrefs(customer: &Customer) -> String {
    let living = customer.xrefs.iter().filter(|xref| xref.deleted_at.is_none());
    living.map(|xref| format!("{} {}", xref.system, xref.external_id)).collect::<Vec<_>>().join(", ")
}
