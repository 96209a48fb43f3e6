-- What an operator needs to take up a file that was refused. Both are null in rows of before.
alter table staging.csv_imports
    -- Where the file was, as the process saw it that took it: also elsewhere than in the source's directory.
    add column directory text,
    -- Of a refused file: whether there is something to import if an operator accepts it.
    add column may_be_accepted boolean;
