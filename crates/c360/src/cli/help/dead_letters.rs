//! The pages of `c360 dead-letters`.

pub(in crate::cli) const DEAD_LETTERS: &str = "\
Dead letters are what could not be landed or merged: a message that is no JSON, a row with a cell too few, a record that \
the database refuses. Each is kept whole until somebody decides, sealed under the installation key, because nobody knows \
what is in it. Its neighbours are not held up.

The way: `list` says what is parked and why; `show` opens one; then mend the configuration (or update c360) and `retry`, or \
have the source send it again and `discard`.";
pub(in crate::cli) const DEAD_LETTERS_END: &str = "\
Examples:
  c360 dead-letters list --source loyalty
  c360 dead-letters show 4711
  c360 dead-letters retry --source loyalty --reason not_utf8 --dry-run
  c360 dead-letters discard --source loyalty --until 2026-11-01

Exit codes:
  0   done; nothing to do is done, too
  others: see the page of each command";

pub(in crate::cli) const LIST: &str = "\
Shows how many dead letters are parked, by source and reason, and the newest of them: where each came from (topic, partition \
and offset, or file and line, or request) and what is wrong with it. Neither has a value of any record, so it can be pasted \
into a ticket. Nothing is opened and no installation key is needed.

With --json every dead letter is one JSON document a line: dead_letter_id, source, reason, detail, origin, landed_at, state, \
truncated, and once somebody has retried or discarded it handled_at and landed_batch_id.";
pub(in crate::cli) const LIST_END: &str = "\
Examples:
  c360 dead-letters list
  c360 dead-letters list --source home_delivery --reason bad_external_id --since 2026-11-20
  c360 dead-letters list --state retried --limit 10
  c360 dead-letters list --json | jq -r 'select(.origin.file) | .origin.line'

Exit codes:
  0   listed; none is fine, too
  66  no such dead letter or source
  69  the database is out of reach
  78  the configuration cannot be used, or the database is not migrated";

pub(in crate::cli) const SHOW: &str = "\
Opens dead letters and shows what they hold: the structure with every value hidden, which is mostly enough to see what is \
wrong. --values shows the values, too. The mapped credential stays hidden in any case, as far as the bytes can be read.

Bytes that cannot be read hide nothing by themselves, so they are shown only with --raw: as they came, to standard output. \
They may hold a password. What is shown is written nowhere else.";
pub(in crate::cli) const SHOW_END: &str = "\
Examples:
  c360 dead-letters show 4711
  c360 dead-letters show 4711 4712 --values
  c360 dead-letters show 4711 --raw | hexdump -C | head
  c360 dead-letters show 4711 --values --json | jq .payload

Exit codes:
  0   shown
  65  a dead letter does not open, or with --raw holds nothing any more
  66  no such dead letter
  69  the database is out of reach
  78  the configuration cannot be used, or the installation key is another";

pub(in crate::cli) const RETRY: &str = "\
Reads dead letters again under the configuration as it is now, lands those that can be read, and consolidates them. Without \
a choice that is everything that is parked.

Each lands exactly once, whoever else retries or discards it at the same time, and beside a daemon. It lands where it would \
have when it came (position in the source's log, date and row of the file, time of the answer), so it never beats what is \
newer; a row of a full export that is not the newest one any more is counted as a skip, and so is what is of somebody erased. What has landed leaves its dead \
letter empty. What is still bad stays parked with the reason of now.

What was too large and is kept only in part cannot be retried: raise max_record_bytes (or max_body_bytes) and let the \
source send it again, by `c360 replay`, `c360 import --again` or the next poll. A record that consolidation could not take \
(cannot_consolidate) lands as it was; other mappings do not change it.

Rows of a CSV source wait while files of it are imported.";
pub(in crate::cli) const RETRY_END: &str = "\
Examples:
  c360 dead-letters retry --dry-run
  c360 dead-letters retry 4711 4712
  c360 dead-letters retry --source loyalty --reason not_utf8
  c360 dead-letters retry --json | jq .still_bad

Exit codes:
  0   all of them are landed, or nothing to land; with --dry-run: would be
  1   stopped before its end; what is landed is landed, the same command does the rest
  65  some are still bad or cannot be retried, and stay parked; all others were finished
  66  no such dead letter or source
  69  the database is out of reach
  75  files of a source are being imported: its rows wait, all others were finished; try again
  78  the configuration cannot be used, or the installation key is another";

pub(in crate::cli) const DISCARD: &str = "\
Gives dead letters up: they leave the counts of what is parked, and what they hold is wiped, for it is mostly personal. It \
cannot be had back. Where they came from and why stays, so that `list --state discarded` can tell.

What a refused file has left to be looked at is wiped with it. Those of a file that is being imported are left alone.

On a terminal it asks first; elsewhere it wants --yes.";
pub(in crate::cli) const DISCARD_END: &str = "\
Examples:
  c360 dead-letters discard 4711
  c360 dead-letters discard --source loyalty --until 2026-11-01 --dry-run
  c360 dead-letters discard --reason too_large --yes

Exit codes:
  0   discarded; none is fine, too
  1   not confirmed
  2   no choice was made, or --yes is missing where there is no terminal
  66  no such dead letter or source
  69  the database is out of reach
  78  the configuration cannot be used, or the database is not migrated";
