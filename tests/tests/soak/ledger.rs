//! The ledger: every message that was sent, and what it means.

use std::collections::BTreeMap;

/// The topic of customers.
pub(crate) const CUSTOMERS: &str = "dbserver1.inventory.customers";
/// The topic of orders.
pub(crate) const ORDERS: &str = "dbserver1.inventory.orders";
/// Of which there are these partitions all the time.
pub(crate) const ORDER_PARTITIONS: i32 = 2;
/// What Debezium writes for a value that has not changed and was not sent.
pub(crate) const UNAVAILABLE: &str = "__debezium_unavailable_value";

/// A message: where it is meant to lie, what it is, and what its source says of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) topic: &'static str,
    pub(crate) partition: i32,
    /// Place in the source database's log: file and byte. `None` for what has none of its own.
    pub(crate) log: Option<(u32, u64)>,
    pub(crate) ts_ms: i64,
    pub(crate) kind: Kind,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    /// The key that a row has from now on.
    pub(crate) new_key: Option<Vec<u8>>,
    /// Whether the broker has acknowledged it; else it may be there or not.
    pub(crate) is_sure: bool,
}

/// What a message means.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A customer as it is now. Deeper than c360 reads at first: parked until it is retried under another limit.
    Customer { id: i64, row: Row, is_too_deep: bool },
    /// A customer's row is gone; or lives on under another id.
    Gone { id: i64, moved_to: Option<i64> },
    /// An order as it is now: its customer and its lines of product, quantity, price in cents.
    Order { id: i64, customer: i64, lines: Vec<(i64, i64, i64)> },
    /// An order's row is gone.
    OrderGone { id: i64 },
    /// Nothing that can be read: a dead letter for good.
    Poison,
    /// Nothing to land.
    Skip,
}

/// Columns of a customer.
pub(crate) type Row = BTreeMap<&'static str, Option<String>>;

/// Every message that was sent, by the number that it carries in a header.
#[derive(Debug, Default)]
pub(crate) struct Ledger(pub(crate) Vec<Entry>);

/// How a message leaves c360's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Record,
    Letter,
    Skip,
}

impl Entry {
    /// What becomes of it as it lands.
    pub(crate) fn fate(&self) -> Fate {
        match &self.kind {
            Kind::Poison | Kind::Customer { is_too_deep: true, .. } => Fate::Letter,
            Kind::Skip => Fate::Skip,
            _ => Fate::Record,
        }
    }
}
