-- Whoever reads about how many customers systems disagree wants to see them, and there may be few of many. (Under a row filter the
-- policy goes first, and the index is not used.)
create index customer_search_disagreeing on customer360.customer_search using gin (disagreeing) where disagreeing <> '{}';
