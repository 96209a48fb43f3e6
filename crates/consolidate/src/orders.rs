//! Orders and their lines.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use model::{Operation, OrderFields, OrderLine, Position};
use sqlx::{PgConnection, Row};
use staging::StagedRecord;

use crate::Error;
use crate::error::database;
use crate::merge::Unreadable;
use crate::xrefs::Moved;

type Id<'r> = (&'r str, &'r str);
type Said<'r> = (&'r StagedRecord, OrderFields);

/// What the table knows of an order.
struct Known {
    position: Position,
    lines_position: Position,
}

/// What is to be written of an order.
struct Change<'r> {
    id: Id<'r>,
    /// The newest record, unless the table has a newer one.
    newest: Option<&'r Said<'r>>,
    /// The newest lines, unless the table has newer ones.
    lines: Option<(Position, &'r [OrderLine])>,
}

/// Merges order records: the newest record wins, its lines replace the lines as a set, absent lines keep. Returns records
/// that cannot be read.
pub(crate) async fn merge<'r>(
    connection: &mut PgConnection,
    records: impl Iterator<Item = &'r StagedRecord>,
) -> Result<Vec<(&'r StagedRecord, Unreadable)>, Error> {
    let mut unreadable = Vec::new();
    let mut said: BTreeMap<Id<'r>, Vec<Said<'r>>> = BTreeMap::new();
    for record in records {
        match serde_json::from_str::<OrderFields>(&record.attributes) {
            Ok(fields) if !fields.fits_numeric() => {
                unreadable.push((record, "a number is beyond what Postgres numeric can hold".to_owned()));
            }
            Ok(fields) => said.entry((&record.source, record.external_id.as_str())).or_default().push((record, fields)),
            Err(_) => unreadable.push((record, "attributes are no order".to_owned())),
        }
    }
    if said.is_empty() {
        return Ok(unreadable);
    }
    let known = read(connection, said.keys().copied()).await?;
    let changes: Vec<Change<'_>> = said
        .iter_mut()
        .map(|(id, said)| {
            said.sort_by(|(a, _), (b, _)| a.position.cmp(&b.position));
            change(*id, said, known.get(&(id.0.to_owned(), id.1.to_owned())))
        })
        .collect();
    write_orders(connection, &changes).await?;
    write_lines(connection, &changes).await?;
    note_late_lines(connection, &changes).await?;
    sum_kept_lines(connection, &changes).await?;
    Ok(unreadable)
}

fn change<'r>(id: Id<'r>, said: &'r [Said<'r>], known: Option<&Known>) -> Change<'r> {
    let newest = said.last().filter(|(record, _)| known.is_none_or(|known| known.position < record.position));
    let clears = |(record, _): &&Said<'_>| record.operation == Operation::Delete;
    let cleared_at = said.iter().rfind(clears).map(|(record, _)| &record.position);
    let with_lines = said.iter().rev().find_map(|(record, fields)| match (record.operation, &fields.lines) {
        (Operation::Delete, _) => Some((record.position.clone(), &[][..])),
        (Operation::Upsert, Some(lines)) => Some((record.position.clone(), lines.as_slice())),
        (Operation::Upsert, None) => None,
    });
    let lines = with_lines.filter(|(position, _)| {
        known.is_none_or(|known| known.lines_position < *position) && cleared_at.is_none_or(|at| at <= position)
    });
    Change { id, newest, lines }
}

async fn read<'r>(
    connection: &mut PgConnection,
    ids: impl Iterator<Item = Id<'r>>,
) -> Result<HashMap<(String, String), Known>, Error> {
    let (systems, order_ids): (Vec<&str>, Vec<&str>) = ids.unzip();
    let rows = sqlx::query(
        "select o.system, o.order_id, o.position, coalesce(o.lines_position, o.position)
         from unnest($1::text[], $2::text[]) as named (system, order_id)
         join customer360.orders o on o.system = named.system and o.order_id = named.order_id",
    )
    .bind(systems)
    .bind(order_ids)
    .fetch_all(connection)
    .await
    .map_err(database("reading orders"))?;
    let known = |row: &sqlx::postgres::PgRow| {
        let position = |column| Position::from(row.get::<Vec<u8>, _>(column));
        ((row.get(0), row.get(1)), Known { position: position(2), lines_position: position(3) })
    };
    Ok(rows.iter().map(known).collect())
}

async fn write_orders(connection: &mut PgConnection, changes: &[Change<'_>]) -> Result<(), Error> {
    let newest: Vec<(&Change<'_>, &Said<'_>)> = changes.iter().filter_map(|c| Some((c, c.newest?))).collect();
    if newest.is_empty() {
        return Ok(());
    }
    let total = |(change, (_, fields)): &(&Change<'_>, &Said<'_>)| match &change.lines {
        Some((_, lines)) => OrderFields::total_of(fields.total.as_ref(), lines),
        // Without a total of its own it is the sum of the lines that are kept, which is taken later.
        None => fields.total.clone(),
    };
    // Lines that are older than the order keep a position of their own.
    let lines_position = |(change, (record, _)): &(&Change<'_>, &Said<'_>)| match &change.lines {
        Some((position, _)) if *position == record.position => None,
        Some((position, _)) => Some(position.as_bytes().to_vec()),
        None => None,
    };
    sqlx::query(include_str!("orders_upsert.sql"))
        .bind(newest.iter().map(|(change, _)| change.id.0).collect::<Vec<_>>())
        .bind(newest.iter().map(|(change, _)| change.id.1).collect::<Vec<_>>())
        .bind(newest.iter().map(|(_, (_, fields))| fields.customer_external_id.as_deref()).collect::<Vec<_>>())
        .bind(newest.iter().map(|(_, (_, fields))| fields.purchased_at).collect::<Vec<_>>())
        .bind(newest.iter().map(|(_, (_, fields))| fields.purchased_at_text.as_deref()).collect::<Vec<_>>())
        .bind(newest.iter().map(total).collect::<Vec<_>>())
        .bind(newest.iter().map(|(_, (record, _))| record.payload.as_deref()).collect::<Vec<_>>())
        .bind(newest.iter().map(|(_, (record, _))| record.position.as_bytes()).collect::<Vec<_>>())
        .bind(newest.iter().map(lines_position).collect::<Vec<_>>())
        .bind(newest.iter().map(|(change, _)| change.lines.is_some()).collect::<Vec<_>>())
        .bind(newest.iter().map(|(_, (record, _))| deleted_at(record)).collect::<Vec<_>>())
        .bind(newest.iter().map(|(_, (_, fields))| fields.total.as_ref()).collect::<Vec<_>>())
        .bind(newest.iter().map(|(_, (_, fields))| fields.status.as_deref()).collect::<Vec<_>>())
        .bind(newest.iter().map(|(_, (_, fields))| fields.cancelled).collect::<Vec<_>>())
        .bind(newest.iter().map(|(change, _)| OrderFields::lines_total(change.lines.as_ref()?.1)).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map_err(database("writing orders"))?;
    Ok(())
}

fn deleted_at(record: &StagedRecord) -> Option<DateTime<Utc>> {
    (record.operation == Operation::Delete).then_some(record.observed_at)
}

/// Replaces the lines of the orders that have new ones.
async fn write_lines(connection: &mut PgConnection, changes: &[Change<'_>]) -> Result<(), Error> {
    let replaced: Vec<(Id<'_>, &(Position, &[OrderLine]))> =
        changes.iter().filter_map(|change| Some((change.id, change.lines.as_ref()?))).collect();
    if replaced.is_empty() {
        return Ok(());
    }
    let (systems, order_ids): (Vec<&str>, Vec<&str>) = replaced.iter().map(|(id, _)| *id).unzip();
    sqlx::query(
        "delete from customer360.order_lines l
         using unnest($1::text[], $2::text[]) as replaced (system, order_id)
         where l.system = replaced.system and l.order_id = replaced.order_id",
    )
    .bind(&systems)
    .bind(&order_ids)
    .execute(&mut *connection)
    .await
    .map_err(database("replacing order lines"))?;
    let lines: Vec<(Id<'_>, i32, &OrderLine)> =
        replaced.iter().flat_map(|(id, (_, lines))| (1..).zip(*lines).map(|(no, line)| (*id, no, line))).collect();
    sqlx::query(
        "insert into customer360.order_lines (system, order_id, line_no, product_id, quantity, unit_price)
         select * from unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::numeric[], $6::numeric[])",
    )
    .bind(lines.iter().map(|(id, _, _)| id.0).collect::<Vec<_>>())
    .bind(lines.iter().map(|(id, _, _)| id.1).collect::<Vec<_>>())
    .bind(lines.iter().map(|(_, no, _)| *no).collect::<Vec<_>>())
    .bind(lines.iter().map(|(_, _, line)| line.product_id.as_deref()).collect::<Vec<_>>())
    .bind(lines.iter().map(|(_, _, line)| line.quantity.as_ref()).collect::<Vec<_>>())
    .bind(lines.iter().map(|(_, _, line)| line.unit_price.as_ref()).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(database("writing order lines"))?;
    Ok(())
}

/// Lines that came later than a newer record of their order, which had none to say.
async fn note_late_lines(connection: &mut PgConnection, changes: &[Change<'_>]) -> Result<(), Error> {
    let late: Vec<(Id<'_>, &(Position, &[OrderLine]))> = changes
        .iter()
        .filter(|change| change.newest.is_none())
        .filter_map(|change| Some((change.id, change.lines.as_ref()?)))
        .collect();
    if late.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update customer360.orders o
         set lines_position = late.position, total = coalesce(o.given_total, late.total), lines_total = late.lines_total
         from unnest($1::text[], $2::text[], $3::bytea[], $4::numeric[], $5::numeric[])
             as late (system, order_id, position, total, lines_total)
         where o.system = late.system and o.order_id = late.order_id",
    )
    .bind(late.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
    .bind(late.iter().map(|(id, _)| id.1).collect::<Vec<_>>())
    .bind(late.iter().map(|(_, (position, _))| position.as_bytes()).collect::<Vec<_>>())
    .bind(late.iter().map(|(_, (_, lines))| OrderFields::total_of(None, lines)).collect::<Vec<_>>())
    .bind(late.iter().map(|(_, (_, lines))| OrderFields::lines_total(lines)).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(database("noting late order lines"))?;
    Ok(())
}

/// Orders whose newest record has neither lines nor a total: the lines are kept, and their sum is the total.
async fn sum_kept_lines(connection: &mut PgConnection, changes: &[Change<'_>]) -> Result<(), Error> {
    let keeping: Vec<Id<'_>> = changes
        .iter()
        .filter(|change| change.lines.is_none() && change.newest.is_some_and(|(_, fields)| fields.total.is_none()))
        .map(|change| change.id)
        .collect();
    if keeping.is_empty() {
        return Ok(());
    }
    let (systems, order_ids): (Vec<&str>, Vec<&str>) = keeping.into_iter().unzip();
    sqlx::query(
        "with keeping as materialized (
             select * from unnest($1::text[], $2::text[]) as k (system, order_id)
         ),
         -- null if a line lacks a number
         sums as materialized (
             select l.system, l.order_id,
                    case when count(*) = count(l.quantity * l.unit_price) then sum(l.quantity * l.unit_price) end as total
             from customer360.order_lines l
             join keeping k on k.system = l.system and k.order_id = l.order_id
             group by l.system, l.order_id
         ),
         totals as materialized (
             select k.system, k.order_id, s.order_id is not null as has_lines, s.total
             from keeping k
             left join sums s on s.system = k.system and s.order_id = k.order_id
         )
         update customer360.orders o
         set total = case when t.has_lines then t.total when o.lines_position <> '' then 0 end
         from totals t
         where o.system = t.system and o.order_id = t.order_id",
    )
    .bind(systems)
    .bind(order_ids)
    .execute(connection)
    .await
    .map_err(database("summing order lines"))?;
    Ok(())
}

/// Whether there are orders whose customer's cross-reference is not known, or matches nobody.
pub(crate) async fn waiting(connection: &mut PgConnection) -> Result<bool, Error> {
    sqlx::query_scalar(
        "select exists (
             select from customer360.orders where customer_id is null and customer_external_id is not null
         )",
    )
    .fetch_one(connection)
    .await
    .map_err(database("looking for waiting orders"))
}

/// Lets orders follow their customers' cross-references: whoever gives a cross-reference
/// another customer, or none, has to take its orders along.
pub(crate) async fn attach(connection: &mut PgConnection, moved: &[Moved<'_>]) -> Result<(), Error> {
    if moved.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update customer360.orders o
         set customer_id = owner.customer_id
         from unnest($1::text[], $2::text[], $3::uuid[]) as owner (system, external_id, customer_id)
         where o.system = owner.system and o.customer_external_id = owner.external_id
           and o.customer_id is distinct from owner.customer_id",
    )
    .bind(moved.iter().map(|moved| moved.system).collect::<Vec<_>>())
    .bind(moved.iter().map(|moved| moved.external_id).collect::<Vec<_>>())
    .bind(moved.iter().map(|moved| moved.to).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(database("attaching orders"))?;
    Ok(())
}
