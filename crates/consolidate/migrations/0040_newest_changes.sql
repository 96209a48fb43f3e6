-- What was changed or written since a time, among years of it: an erasure looks at that while others wait, and a rebuild counts
-- what it has changed. Rows of about one time lie together, so a summary of their pages will do, which costs whoever writes next
-- to nothing.
create index changes_at on customer360.changes using brin (at) with (autosummarize = on);
create index entries_updated on customer360.entries using brin (updated_at) with (autosummarize = on);
