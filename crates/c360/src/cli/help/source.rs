//! The pages of `c360 source`.

pub(in crate::cli) const SOURCE: &str = "\
What is done with a whole source, one that is configured or one that was.";
pub(in crate::cli) const SOURCE_END: &str = "\
Examples:
  c360 source retire old_shop --dry-run
  c360 source retire home_delivery --before 2026-11-20T03:00:00Z

Exit codes:
  0   done; nothing to do is done, too
  others: see the page of the command";

pub(in crate::cli) const RETIRE: &str = "\
Takes out what a source said before a time: for a system that was switched off, or a table that was emptied. (An emptied \
table is never believed by itself, because tables are emptied by mistake, too: `c360 status` says so and names the time.)

Every cross-reference of the source that last changed before that time is tombstoned. Profiles lose what it gave them, and \
those that have no other cross-reference vanish; orders stay where they are. The time is remembered: an older record that \
comes later, late or by a replay, is dead too, and a newer one lives. There is no way back but newer records: look at it \
with --dry-run first. A second retirement with an earlier time changes nothing.

The time is the source's own. Where that counts in whole seconds (MySQL, MariaDB), what changed in the very second stays. A \
member whom full exports repeat unchanged counts as of the night it last changed; it comes back with the next export. A \
REST source that is still asked brings its customers back when they are next asked about.

It works beside a daemon, which does it then, in steps; this command waits and shows how far it is. Interrupted, the \
retirement holds all the same, and whoever consolidates next goes on with it.";
pub(in crate::cli) const RETIRE_END: &str = "\
Examples:
  c360 source retire old_shop --dry-run
  c360 source retire old_shop
  c360 source retire home_delivery --before 2026-11-20T03:00:00Z --yes --json

Exit codes:
  0   retired, or there was nothing to retire. With --dry-run: looked at
  1   stopped before its end, or answered with no
  2   --before is in the future, or there is no terminal to ask on and no --yes
  66  no such source, and nothing is known of one
  69  the database is out of reach
  78  the configuration cannot be used";
