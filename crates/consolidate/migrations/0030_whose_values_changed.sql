-- Whose values an entry of the history holds, so that an erasure finds them with others, too: whom a value is from that goes is
-- mostly not whom the next is from. Invariants held here:
--   * of everybody whose value is in `old` or `new`, the cross-reference is in `system` and `external_id`, or in `also_from`.
alter table customer360.changes
    -- [{system, external_id}]: other cross-references that `old`, or a whole profile, is from. Null in entries from before.
    add column also_from jsonb;
