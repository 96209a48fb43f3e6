-- An edit of what was edited before yields only to what its source itself says, and not to the earlier edit when that arrives
-- there. `replaced` is what the cross-reference said; these are values of earlier edits that may have been sent to its source.
alter table customer360.edits add column superseded jsonb not null default '[]';
