//! The three questions that the store answers, and what it can be told.

use std::borrow::Cow;

use serde::Deserialize;

/// One operation of the store's API.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// Who has this email?
    Customer,
    /// What did this customer order?
    Orders,
    /// What is this product?
    Product,
    /// This customer changes.
    Update,
    /// There is a customer with this email.
    Create,
}

impl Endpoint {
    /// Those that only ask.
    pub(super) const QUESTIONS: [Self; 3] = [Self::Customer, Self::Orders, Self::Product];

    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Customer => "/api/onlineStore/getCustomerDetailsByEmail",
            Self::Orders => "/api/onlineStore/getOrdersByCustomerId",
            Self::Product => "/api/onlineStore/getProductDetailsByProductId",
            Self::Update => "/api/onlineStore/customers/{id}",
            Self::Create => "/api/onlineStore/customers",
        }
    }

    /// What carries the key: a parameter of the query, of the path, or a member of the body.
    pub(super) const fn parameter(self) -> &'static str {
        match self {
            Self::Customer => "customerEmail",
            Self::Orders => "customerId",
            Self::Product => "productId",
            Self::Update => "id",
            Self::Create => "Email",
        }
    }

    /// A key in the form in which keys are compared: emails trimmed and without case, ids as they are.
    pub(super) fn key(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Customer | Self::Create => Cow::Owned(text.trim().to_lowercase()),
            Self::Orders | Self::Product | Self::Update => Cow::Borrowed(text),
        }
    }
}
