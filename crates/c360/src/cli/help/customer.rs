//! The pages of `c360 customer`.

pub(in crate::cli) const CUSTOMER: &str = "\
Looks at one customer, and corrects who is who.

KEY is an email in any spelling, a customer id (also one that has been merged away: redirects are followed), or a system and \
its id, as two words or as one with a colon: `loyalty 27`, `loyalty:27`.

What you decide here stands until you undo it: it survives a rebuild, a replay and a restart, and it holds for records that \
come later, too. Nothing is patched: profiles are computed anew from what the systems say and from the decisions that stand.";
pub(in crate::cli) const CUSTOMER_END: &str = "\
Examples:
  c360 customer show matthew.groves@couchbase.com
  c360 customer show loyalty 27 --json | jq .profile

Exit codes:
  0   done; nothing to do is done, too
  66  no such customer, cross-reference or decision
  others: see the page of the command";

pub(in crate::cli) const SHOW: &str = "\
Shows a customer: the profile with who supplied each value, the cross-references (tombstones are marked), the newest hundred \
orders, and the customers that lead here since they have been merged or have moved.

KEY is an email in any spelling, a customer id, or a system and its id (`loyalty 27`, `loyalty:27`). An id or an email that \
has moved on leads to whoever has its cross-references now.";
pub(in crate::cli) const SHOW_END: &str = "\
Examples:
  c360 customer show matthew.groves@couchbase.com
  c360 customer show home_delivery 1029
  c360 customer show 0d9f6a50-7c43-5c0c-9c1b-4cf0a9c4d0a1 --json

Exit codes:
  0   shown
  66  no such customer, or it has no profile because its cross-references are held back
  69  the database is out of reach
  78  the configuration cannot be used";
