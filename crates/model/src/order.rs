//! Orders, products and interactions as they travel through staging: typed once, at landing.

use std::collections::BTreeMap;

use bigdecimal::BigDecimal;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a mapping reads out of an order; the JSON in `staging.records.attributes` of an order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OrderFields {
    /// The same system's id of the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_external_id: Option<String>,
    /// The time of purchase as far as it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purchased_at: Option<DateTime<Utc>>,
    /// The time of purchase as the source writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purchased_at_text: Option<String>,
    /// The total that the source gives; without one the lines are summed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<BigDecimal>,
    /// The source's word for its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Whether that word says that it is cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// `None` keeps the lines that are known, an empty list clears them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<OrderLine>>,
}

/// One line of an order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OrderLine {
    /// The system's id of the product.
    pub product_id: Option<String>,
    /// How many; never a float.
    pub quantity: Option<BigDecimal>,
    /// Price of one; never a float.
    pub unit_price: Option<BigDecimal>,
}

impl OrderFields {
    /// Whether every number fits Postgres' `numeric`. One that does not could not be stored, and a sum with it would not
    /// even fit into memory.
    pub fn fits_numeric(&self) -> bool {
        let lines = self.lines.iter().flatten().flat_map(|line| [&line.quantity, &line.unit_price]);
        lines.chain([&self.total]).flatten().all(fits_numeric)
    }

    /// The total of an order with these lines: the source's own, else the sum of the lines, `None` if one lacks a number.
    pub fn total_of(given: Option<&BigDecimal>, lines: &[OrderLine]) -> Option<BigDecimal> {
        given.cloned().or_else(|| sum(lines))
    }

    /// What the lines add up to, to be compared with a total that is given: `None` without lines, or if one lacks a number.
    pub fn lines_total(lines: &[OrderLine]) -> Option<BigDecimal> {
        if lines.is_empty() { None } else { sum(lines) }
    }
}

fn sum(lines: &[OrderLine]) -> Option<BigDecimal> {
    lines.iter().map(|line| Some(line.quantity.as_ref()? * line.unit_price.as_ref()?)).sum()
}

/// What a mapping reads out of a product; the JSON in `staging.records.attributes` of a product.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProductFields {
    /// The product's name.
    pub name: Option<String>,
    /// The rest of what the source says.
    pub attributes: BTreeMap<String, Value>,
}

/// What a mapping reads out of an interaction; the JSON in `staging.records.attributes` of an interaction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InteractionFields {
    /// The conversation that it names, or the first message that it refers to; without either, its thread follows from the
    /// message that it replies to.
    pub thread_id: Option<String>,
    /// By what other messages refer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The message that it replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<String>,
    /// Email, meeting, call or another word of the source.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The source's word for its state.
    pub status: Option<String>,
    /// When it took place.
    pub at: Option<DateTime<Utc>>,
    /// What it was about.
    pub subject: Option<String>,
    /// Who took part; the interaction belongs to every customer among them.
    pub participants: Vec<Participant>,
    /// The rest of what the mapping names.
    pub attributes: BTreeMap<String, Value>,
}

/// Somebody who took part in an interaction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Participant {
    /// As the source writes it.
    pub email: String,
    /// Sender, recipient or another word of the source.
    pub role: Option<String>,
}

/// Postgres keeps up to 131072 digits before the point and 16383 behind it.
pub(crate) const MAX_INTEGER_DIGITS: i64 = 131_072;
pub(crate) const MAX_FRACTION_DIGITS: i64 = 16_383;

/// Whether a number fits Postgres' `numeric`.
pub fn fits_numeric(number: &BigDecimal) -> bool {
    let digits = i64::try_from(number.digits()).unwrap_or(i64::MAX);
    let scale = number.fractional_digit_count();
    scale <= MAX_FRACTION_DIGITS && digits.saturating_sub(scale) <= MAX_INTEGER_DIGITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_numeric_are_seen_without_writing_them_out() {
        let with_total = |total: &str| OrderFields { total: total.parse().ok(), ..OrderFields::default() };
        for fits in ["0", "87.81", "-1e131071", "1e-16383"] {
            assert!(with_total(fits).fits_numeric(), "{fits}");
        }
        for beyond in ["1e131072", "1e999999999999", "1e-16384", "-1e-999999999999"] {
            assert!(!with_total(beyond).fits_numeric(), "{beyond}");
        }
        let fields = OrderFields { lines: Some(vec![line("1", "1"), line("1e200000", "1")]), ..OrderFields::default() };
        assert!(!fields.fits_numeric());
    }

    fn line(quantity: &str, unit_price: &str) -> OrderLine {
        OrderLine { product_id: None, quantity: quantity.parse().ok(), unit_price: unit_price.parse().ok() }
    }

    #[test]
    fn totals_are_exact_and_null_when_a_number_is_missing() {
        let total = |lines: &[OrderLine]| OrderFields::total_of(None, lines).map(|total| total.to_string());
        assert_eq!(total(&[line("2", "87.81"), line("1", "0.10")]).as_deref(), Some("175.72"));
        assert_eq!(total(&[line("2", "87.81"), line("1", "?")]), None);
        assert_eq!(total(&[]).as_deref(), Some("0"));
    }
}
