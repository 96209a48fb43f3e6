-- Changes of a profile are read with whom redirects lead to, as what people write down is: the policy that showed those of the
-- customer alone goes, and limited.sql makes the one that follows redirects.

drop policy if exists row_filter on customer360.changes;
