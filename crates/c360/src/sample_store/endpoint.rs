//! The three questions that the store answers.

use std::borrow::Cow;

use serde::Deserialize;

/// One question of the store's API.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// Who has this email?
    Customer,
    /// What did this customer order?
    Orders,
    /// What is this product?
    Product,
}

impl Endpoint {
    pub(super) const ALL: [Self; 3] = [Self::Customer, Self::Orders, Self::Product];

    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Customer => "/api/onlineStore/getCustomerDetailsByEmail",
            Self::Orders => "/api/onlineStore/getOrdersByCustomerId",
            Self::Product => "/api/onlineStore/getProductDetailsByProductId",
        }
    }

    /// The query parameter that carries the key.
    pub(super) const fn parameter(self) -> &'static str {
        match self {
            Self::Customer => "customerEmail",
            Self::Orders => "customerId",
            Self::Product => "productId",
        }
    }

    /// A key in the form in which keys are compared: emails trimmed and without case, ids as they are.
    pub(super) fn key(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Customer => Cow::Owned(text.trim().to_lowercase()),
            Self::Orders | Self::Product => Cow::Borrowed(text),
        }
    }
}
