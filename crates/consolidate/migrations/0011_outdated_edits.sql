-- An edit stands until its source says something else, once: when a fold has seen that. It does not stand again should the
-- source say once more what the edit replaced: that is the last write.
alter table customer360.edits add column outdated_at timestamptz;
