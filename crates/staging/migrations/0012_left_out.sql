-- Members of full exports whose rows are left out because they name somebody who is erased.
alter table staging.batches
    -- Ids of such rows, but of the erased: a full export has them all the same, so they have not left.
    add column left_out text[] not null default '{}';
