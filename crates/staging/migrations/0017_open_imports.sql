-- Each file that is begun looks for one that was interrupted, among all of years.
create index csv_imports_importing on staging.csv_imports (source) where state = 'importing';
