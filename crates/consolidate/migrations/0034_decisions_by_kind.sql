-- Each fold looks for splits and undone blocks of its keys; most decisions are merges.
create index decisions_kind on customer360.decisions (kind) where kind in ('block', 'split');
