-- Counts, made once more. Invariants held here:
--   * whatever orders say of their totals, values can be added up;
--   * whoever writes orders of a customer sees those that others have written, also of one who is only coming into being.

-- A total that no shop has is counted without its value: of two of them numeric could not hold the sum, and nobody could write
-- an order any more.
create or replace function customer360.measures_of_order(
    customer_id uuid, purchased_at timestamptz, total numeric, cancelled boolean, deleted_at timestamptz)
returns table (measure text, key text, count bigint, value numeric)
language sql stable parallel safe rows 1 as $$
    select 'orders', to_char(purchased_at at time zone 'UTC', 'YYYY-MM'), 1::bigint,
           case when abs(total) < 1e30 then total else 0 end
    where customer_id is not null and not cancelled and deleted_at is null
$$;

-- Waits for whoever moves cross-references, with their orders, redirects and members of lists, and lets nobody else do so until
-- the end of the transaction. False in one that is only looked at and rolled back, which sets c360.foreseen: nobody waits for it.
create function customer360.hold_moves() returns boolean
language plpgsql as $$
begin
    if current_setting('c360.foreseen', true) = 'on' then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtext('c360.redirects'));
    return true;
end
$$;

-- Counts the orders of the customers of whom a statement has written orders. Under the lock of moves, because rows of customers
-- would be locked in no order that two agree on.
create or replace function customer360.keep_buyers() returns trigger
language plpgsql as $$
declare
    who uuid[];
begin
    execute format(
        'select array_agg(distinct customer_id) from (%s) r where customer_id is not null',
        case tg_op when 'INSERT' then 'table arrived' when 'DELETE' then 'table departed'
                   else 'table arrived union all table departed' end)
    into who;
    if who is null or not customer360.hold_moves() then
        return null;
    end if;
    insert into customer360.buyers as b
    select * from customer360.bought(who)
    on conflict on constraint buyers_pkey do update
        set orders = excluded.orders, first_month = excluded.first_month, months = excluded.months
        where (b.orders, b.first_month, b.months) is distinct from (excluded.orders, excluded.first_month, excluded.months);
    delete from customer360.buyers b
    where b.customer_id = any (who)
      and not exists (select from customer360.orders o
                      where o.customer_id = b.customer_id and not o.cancelled and o.deleted_at is null);
    return null;
end
$$;

-- What was written while 0013 counted, or by two at a time, may be missing.
do $$
begin
    if (select relkind from pg_class where oid = 'customer360.counts'::regclass) <> 'r' then
        return;
    end if;
    lock table customer360.customers, customer360.customer_search, customer360.orders, customer360.buyers, customer360.counts
        in share row exclusive mode;
    delete from customer360.buyers;
    insert into customer360.buyers select * from customer360.bought(null);
    delete from customer360.counts;
    insert into customer360.counts
    select measure, key, sum(count), sum(value) from customer360.measured group by measure, key;
end
$$;
