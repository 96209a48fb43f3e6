//! Everything that is kept about one person, as one document, for whoever asks for their data.

use serde_json::{Map, Value, json};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::error::database;
use crate::matching::Matching;
use crate::person::Person;
use crate::{Error, Key, Rules};

/// What is read of each table: `$1` and `$2` systems and ids in pairs, `$3` customers, `$4` match keys. No credential.
const PARTS: [(&str, &str); 9] = [
    (
        "customers",
        "select c.customer_id, c.email, c.profile, c.provenance, c.created_at, c.updated_at, c.version, c.deleted_at
         from customer360.customers c where c.customer_id = any ($3) order by c.deleted_at nulls first, c.customer_id",
    ),
    (
        "xrefs",
        "select x.system, x.external_id_json as external_id, x.customer_id, x.unmatched_reason, x.email, x.attributes,
                x.observed_at, x.first_seen_at, x.last_seen_at, x.deleted_at
         from customer360.xrefs x join ids i on i.system = x.system and i.external_id = x.external_id
         order by x.system, x.external_id",
    ),
    (
        "orders",
        "select o.system, o.order_id, o.customer_external_id, o.purchased_at, o.purchased_at_text, o.total, o.document,
                o.deleted_at,
                array(
                    select jsonb_build_object('line_no', l.line_no, 'product_id', l.product_id, 'quantity', l.quantity,
                                              'unit_price', l.unit_price)
                    from customer360.order_lines l
                    where l.system = o.system and l.order_id = o.order_id
                    order by l.line_no
                ) as lines
         from customer360.orders o
         where o.customer_id = any ($3) or (o.system, o.customer_external_id) in (select system, external_id from ids)
         order by o.purchased_at, o.system, o.order_id",
    ),
    (
        "interactions",
        "select n.system, n.interaction_id, n.thread_id, n.type, n.status, n.at, n.subject, n.attributes, p.email, p.role
         from customer360.interaction_participants p
         join customer360.interactions n on n.system = p.system and n.interaction_id = p.interaction_id
         where p.match_key = any ($4) or p.customer_id = any ($3)
         order by n.at, n.system, n.interaction_id",
    ),
    (
        "changes",
        "select c.customer_id, c.at, c.attribute, c.old, c.new, c.system, c.external_id, c.cause
         from customer360.changes c where c.customer_id = any ($3) order by c.at, c.change_id",
    ),
    (
        "entries",
        "select e.customer_id, e.entry_id, e.type, e.content, e.author, e.created_at, e.updated_at, e.version, e.deleted_at,
                e.history
         from customer360.entries e where e.customer_id = any ($3) order by e.created_at, e.entry_id",
    ),
    (
        "lists",
        "select m.list, m.customer_id, m.added_at, m.put_on
         from customer360.list_members m where m.customer_id = any ($3) order by m.list, m.customer_id",
    ),
    (
        "edits",
        "select e.system, e.external_id, e.attribute, e.value, e.replaced, e.superseded, e.at, e.by
         from customer360.edits e join ids i on i.system = e.system and i.external_id = e.external_id
         order by e.at, e.attribute",
    ),
    (
        "decisions",
        "select d.kind, d.subject, d.made_at, d.made_by, d.undone_at
         from customer360.decisions d
         where d.subject && $4 or d.kind = 'split' and (d.subject[1], d.subject[2]) in (select system, external_id from ids)
         order by d.decision_id",
    ),
];

/// Reads everything about somebody; `None` if nothing is known of such a person. Payloads of raw records are as they were
/// landed, with digests for credentials: whoever knows the mapping has to take those out.
pub async fn export(connection: &mut PgConnection, rules: &Rules, whom: &Key) -> Result<Option<Value>, Error> {
    let matching = Matching::read(connection, rules).await?;
    let person = Person::find(connection, &matching, whom).await?;
    let mut document = Map::new();
    let names = person.names();
    for (name, select) in PARTS {
        let rows = names
            .about(&format!("select to_jsonb(part) as document from ({select}) part"))
            .map(|row: PgRow| row.get::<Value, _>("document"))
            .fetch_all(&mut *connection)
            .await
            .map_err(database("exporting a customer"))?;
        document.insert(name.to_owned(), json!(rows));
    }
    let [polls, outbox, records] = staging::erase::kept(connection, &person.staged(Vec::new())).await?;
    document.insert("polls".to_owned(), json!(polls));
    document.insert("outbox".to_owned(), json!(outbox));
    document.insert("staged".to_owned(), json!(records));
    let is_known = document.values().any(|rows| rows.as_array().is_some_and(|rows| !rows.is_empty()));
    Ok(is_known.then_some(Value::Object(document)))
}
