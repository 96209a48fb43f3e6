-- Redirects that follow whoever left. Invariant held here: a redirect leads where the last cross-reference of its customer is
-- now, nowhere while that one belongs to nobody, and is there only while its customer has nobody.

alter table customer360.redirects
    -- The cross-reference that left last. Null in rows of a version that did not note it: those stay as they are.
    add column system text,
    add column external_id text,
    -- Null while that cross-reference belongs to nobody.
    alter column to_customer_id drop not null;

create index redirects_xref on customer360.redirects (system, external_id);

-- They would be followed again once their customer has nobody, wherever whoever left is by then.
delete from customer360.redirects r
using customer360.customers c
where c.customer_id = r.customer_id and c.deleted_at is null;
