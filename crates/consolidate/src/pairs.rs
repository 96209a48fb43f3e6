//! Products that the same people buy: counted over the whole base from time to time, for recommendations.

use sqlx::Connection;
use sqlx::postgres::PgConnectOptions;

use crate::Error;
use crate::error::database;

/// What a counting changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairsCounted {
    /// So many pairs are new, gone or have other numbers.
    Changed(i64),
    /// Another process is counting.
    Elsewhere,
}

/// Somebody who has bought more different products than this is no customer but a shop, and its pairs are the square of them.
const MAX_PRODUCTS: i64 = 200;
/// The best of one product are kept.
const MAX_PAIRS: i64 = 50;
/// Fewer buyers in common would say who they are.
const MIN_BUYERS: i64 = 5;

/// Counts which products the same customers bought, and writes what has changed since the last time.
pub async fn count_pairs(options: &PgConnectOptions) -> Result<PairsCounted, Error> {
    let doing = "counting what the same people buy";
    let mut connection = staging::connect(options).await?;
    let mut transaction = connection.begin().await.map_err(database(doing))?;
    let is_ours: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtext('c360.product_pairs'))")
        .fetch_one(&mut *transaction)
        .await
        .map_err(database(doing))?;
    if !is_ours {
        return Ok(PairsCounted::Elsewhere);
    }
    let changed = sqlx::query_scalar(
        "with bought as materialized (
             select distinct o.customer_id, l.system, l.product_id
             from customer360.orders o
             join customer360.order_lines l on l.system = o.system and l.order_id = o.order_id
             where o.deleted_at is null and not o.cancelled and o.customer_id is not null
               -- Two longer ones might not fit into a row of the index of pairs.
               and octet_length(l.product_id) <= 1000
         ),
         people as materialized (
             select customer_id from bought group by customer_id having count(*) <= $1
         ),
         carts as materialized (
             select b.customer_id, b.system, b.product_id from bought b join people p on p.customer_id = b.customer_id
         ),
         sold as materialized (
             select system, product_id, count(*) as buyers from carts group by system, product_id
         ),
         together as materialized (
             select a.system, a.product_id, b.system as other_system, b.product_id as other_product_id,
                    count(*) as buyers
             from carts a
             join carts b on b.customer_id = a.customer_id and (b.system, b.product_id) <> (a.system, a.product_id)
             group by 1, 2, 3, 4
             having count(*) >= $3
         ),
         ranked as materialized (
             select t.*, t.buyers::float8 * (select count(*) from people) / (s.buyers::float8 * o.buyers) as lift
             from together t
             join sold s on s.system = t.system and s.product_id = t.product_id
             join sold o on o.system = t.other_system and o.product_id = t.other_product_id
         ),
         best as materialized (
             select * from (
                 select r.*, row_number() over (
                            partition by system, product_id
                            order by lift desc, buyers desc, other_system, other_product_id) as place
                 from ranked r) n
             where place <= $2
         ),
         gone as (
             delete from customer360.product_pairs p
             -- not by `not in`, which compares each with each where the best are thought to be many
             where not exists (select from best b
                               where b.system = p.system and b.product_id = p.product_id
                                 and b.other_system = p.other_system and b.other_product_id = p.other_product_id)
             returning 1
         ),
         written as (
             insert into customer360.product_pairs as p
                 (system, product_id, other_system, other_product_id, buyers, lift)
             select system, product_id, other_system, other_product_id, buyers, lift from best
             on conflict on constraint product_pairs_pkey do update set buyers = excluded.buyers, lift = excluded.lift
             where (p.buyers, p.lift) <> (excluded.buyers, excluded.lift)
             returning 1
         )
         select (select count(*) from gone) + (select count(*) from written)",
    )
    .bind(MAX_PRODUCTS)
    .bind(MAX_PAIRS)
    .bind(MIN_BUYERS)
    .fetch_one(&mut *transaction)
    .await
    .map_err(database(doing))?;
    transaction.commit().await.map_err(database(doing))?;
    Ok(PairsCounted::Changed(changed))
}
