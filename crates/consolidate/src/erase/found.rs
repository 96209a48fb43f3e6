//! Finding a person where that takes long: in tables that grow with records and years.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};
use staging::erase::{self as staged, Keys, Letters, Records, Says, Seen, Table};
use staging::{Erased, Seal};

use super::erasing;
use crate::Error;
use crate::edit::BY_HAND;
use crate::person::Person;

const XREFS: Table = Table {
    name: "customer360.xrefs",
    key: &[("system", "text"), ("external_id", "text")],
    newer: "(t.system, t.external_id) in (select system, external_id from said)",
};

const CUSTOMERS: Table = Table {
    name: "customer360.customers",
    key: &[("customer_id", "uuid")],
    // Of whom no system knows any more nothing is kept.
    newer: "t.updated_at >= $2 and t.deleted_at is null",
};

pub(super) const CHANGES: Table = Table {
    name: "customer360.changes",
    key: &[("customer_id", "uuid"), ("at", "timestamptz"), ("change_id", "bigint")],
    newer: "t.at >= $2",
};

const EDITS: Table = Table {
    name: "customer360.edits",
    key: &[("system", "text"), ("external_id", "text"), ("attribute", "text")],
    newer: "(t.at >= $2 or (t.system, t.external_id) in (select system, external_id from said))",
};

const ENTRIES: Table = Table {
    name: "customer360.entries",
    key: &[("customer_id", "uuid"), ("entry_id", "uuid")],
    newer: "t.updated_at >= $2",
};

const ORDERS: Table = Table {
    name: "customer360.orders",
    key: &[("system", "text"), ("order_id", "text")],
    newer: "(t.system, t.order_id) in (select system, external_id from said)",
};

const PRODUCTS: Table = Table {
    name: "customer360.products",
    key: &[("system", "text"), ("product_id", "text")],
    newer: "(t.system, t.product_id) in (select system, external_id from said)",
};

const PARTICIPANTS: Table = Table {
    name: "customer360.interaction_participants",
    key: &[("system", "text"), ("interaction_id", "text"), ("participant_no", "integer")],
    newer: "(t.system, t.interaction_id) in (select system, external_id from said)",
};

const INTERACTIONS: Table = Table {
    name: "customer360.interactions",
    key: &[("system", "text"), ("interaction_id", "text")],
    newer: "(t.system, t.interaction_id) in (select system, external_id from said)",
};

const VIEWS: Table = Table { name: "customer360.views", key: &[("owner", "text"), ("name", "text")], newer: "true" };

const fn text(table: Table, column: &'static str) -> Says {
    Says { table, column, kind: "text" }
}

const fn json(table: Table, column: &'static str) -> Says {
    Says { table, column, kind: "jsonb" }
}

/// The email of a cross-reference.
pub(super) const EMAIL: Says = text(XREFS, "email");
/// The email of who takes part in an interaction.
pub(super) const TAKES_PART: Says = text(PARTICIPANTS, "email");

/// What others say, in which a person may be named.
const SAY: [Says; 17] = [
    EMAIL,
    TAKES_PART,
    json(XREFS, "attributes"),
    json(CUSTOMERS, "profile"),
    json(CHANGES, "old"),
    json(CHANGES, "new"),
    json(EDITS, "value"),
    json(EDITS, "replaced"),
    json(EDITS, "superseded"),
    json(ENTRIES, "content"),
    json(ENTRIES, "history"),
    json(ORDERS, "document"),
    text(PRODUCTS, "name"),
    json(PRODUCTS, "attributes"),
    text(INTERACTIONS, "subject"),
    json(INTERACTIONS, "attributes"),
    json(VIEWS, "query"),
];

/// Where a person was found. By the time that it is removed it may say something else, or be gone.
#[derive(Default)]
pub(super) struct Found {
    pub(super) records: Records,
    pub(super) letters: Letters,
    /// What others' profiles had of the person.
    pub(super) changes: Keys,
    /// The rows that name the person.
    pub(super) named: BTreeMap<Says, Keys>,
}

impl Found {
    /// The rows that name the person in this column.
    pub(super) fn naming(&self, says: &Says) -> Vec<&str> {
        self.named.get(says).into_iter().flatten().map(String::as_str).collect()
    }

    /// Looks through everything, or with `seen` through what may be newer. `only` knows this person alone. Reads only, so that
    /// nobody waits for it.
    pub(super) async fn look(
        &mut self,
        connection: &mut PgConnection,
        seal: &Seal,
        person: &Person,
        only: &Erased,
        seen: Option<&Seen>,
    ) -> Result<(), Error> {
        let staged = person.staged(Vec::new());
        self.records.find(connection, &staged, only, seen).await?;
        self.letters.find(connection, only, seal, seen).await?;
        self.changes.extend(changes(connection, person, seen).await?);
        if let Some(seen) = seen {
            self.records.said.extend(made_by_hand(connection, seen).await?);
        }
        let newer_than = seen.map(|seen| (seen, &self.records));
        for says in SAY {
            let keys = staged::naming(connection, &staged, only, &says, newer_than).await?;
            self.named.entry(says).or_default().extend(keys);
        }
        Ok(())
    }
}

/// What others' profiles had of a person's cross-references. Of entries from before that was noted, those that such a profile
/// began or ended with, and the next after theirs, which says what the value was before.
async fn changes(connection: &mut PgConnection, person: &Person, seen: Option<&Seen>) -> Result<Vec<String>, Error> {
    let statement = ", theirs as materialized (
             select t.customer_id, t.at, t.change_id, t.attribute, t.new, i.system is not null as is_said
             from customer360.changes t
             left join ids i on i.system = t.system and i.external_id = t.external_id
             where ($5::timestamptz is null or t.at >= $5) and t.customer_id <> all ($3)
               and (i.system is not null
                 or t.also_from @> any (array(
                        select jsonb_build_array(jsonb_build_object('system', system, 'external_id', external_id))
                        from ids)))
         )
         select jsonb_build_array(customer_id, at, change_id)::text from theirs
         union
         select jsonb_build_array(c.customer_id, c.at, c.change_id)::text
         from theirs t
         join customer360.changes c on c.customer_id = t.customer_id
         where t.is_said and c.also_from is null
           and (c.attribute is null or c.attribute = t.attribute and c.old = t.new)";
    let names = person.names();
    let keys =
        names.about(statement).bind(seen.map(|seen| seen.before)).fetch_all(connection).await.map_err(erasing())?;
    Ok(keys.iter().map(|row| row.get(0)).collect())
}

/// Cross-references that may be newer than what was seen, and are not of records.
async fn made_by_hand(connection: &mut PgConnection, seen: &Seen) -> Result<Vec<(String, String)>, Error> {
    sqlx::query_as("select system, external_id from customer360.xrefs where system = $1 and first_seen_at >= $2")
        .bind(BY_HAND)
        .bind(seen.before)
        .fetch_all(connection)
        .await
        .map_err(erasing())
}
