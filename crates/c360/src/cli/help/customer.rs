//! The pages of `c360 customer`.

pub(in crate::cli) mod erase;

pub(in crate::cli) const CUSTOMER: &str = "\
Looks at one customer, and corrects who is who.

KEY is an email in any spelling, a customer id (also one that has been merged away: redirects are followed), or a system and \
its id, as two words or as one with a colon: `loyalty 27`, `loyalty:27`.

What you decide here stands until you undo it: it survives a rebuild, a replay and a restart, and it holds for records that \
come later, too. Nothing is patched: profiles are computed anew from what the systems say and from the decisions that stand.";
pub(in crate::cli) const CUSTOMER_END: &str = "\
Examples:
  c360 customer show matthew.groves@couchbase.com
  c360 customer explain loyalty 27
  c360 customer merge ann@old.example ann@new.example --dry-run
  c360 customer unmatched crowded

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

pub(in crate::cli) const EXPLAIN: &str = "\
Explains a profile: for each attribute the value, the system and id that supplied it, and every other cross-reference with \
what it says and why that lost:

  no_value          it says nothing: null, the empty string, or never said
  attribute_list    survivorship.attributes ranks the winner's system first
  prefer            survivorship.prefer ranks the winner's system first
  older             equal in rank; the winner's newest record is newer
  tie               equal in rank and time; the winner comes first by system and id
  edit_elsewhere    an operator's edit of another cross-reference comes first
  replaced_by_edit  an operator's edit stands in its place
  edit_outdated     an operator's edit; the system has said something else since

Attributes of a group come whole from one cross-reference: what that one lacks is not in the profile. Then the match keys that \
lead here, the decisions in force, what is held back by a guard, and the newest two hundred changes with their causes.

It is computed by the rules in force now. Where the stored profile is another one, that is said: a rule has changed since.";
pub(in crate::cli) const EXPLAIN_END: &str = "\
Examples:
  c360 customer explain matthew.groves@couchbase.com
  c360 customer explain loyalty 27 --json | jq .attributes.name

Exit codes:
  0   explained
  66  no such customer, or it has no profile because its cross-references are held back
  69  the database is out of reach
  78  the configuration cannot be used";

pub(in crate::cli) const MERGE: &str = "\
Makes two customers one: the first one's match key leads to the second one's customer from now on, for what is known and for \
records that come later. Orders and interactions follow, and the first one's id redirects to the second.

Merges are transitive. A merge with oneself, one that would lead in a circle, and one of somebody who is merged elsewhere or \
blocked already are refused. `c360 customer undo` takes it back, and everything goes to where it was.

A key is an email in any spelling, a customer id, or `system:id`. It waits until profiles have followed; interrupted, the \
decision holds all the same. --dry-run shows the customers as they would be.";
pub(in crate::cli) const MERGE_END: &str = "\
Examples:
  c360 customer merge ann@old.example ann@new.example --dry-run
  c360 customer merge loyalty:27 matthew.groves@couchbase.com --yes --by helen

Exit codes:
  0   merged, or it was so already. With --dry-run: looked at
  1   stopped before profiles had followed, or answered with no
  2   there is no terminal to ask on, and no --yes
  65  refused; the message says why, and nothing is changed
  66  no such customer
  69  the database is out of reach
  78  the configuration cannot be used";

pub(in crate::cli) const SPLIT: &str = "\
Gives one cross-reference a customer of its own, whatever its email is or becomes: two people who share a mailbox. Its orders \
follow. The new customer's match key is `#system:id`.

The only living cross-reference of a customer is not split off. `c360 customer undo SYSTEM ID` takes it back; what was decided \
on the new customer has to be undone before.";
pub(in crate::cli) const SPLIT_END: &str = "\
Examples:
  c360 customer split loyalty 28 --dry-run
  c360 customer split loyalty:28 --yes

Exit codes:
  0   split off, or it was so already. With --dry-run: looked at
  1   stopped before profiles had followed, or answered with no
  2   there is no terminal to ask on, and no --yes
  65  refused: the only one of its customer, or deleted
  66  no such cross-reference
  69  the database is out of reach
  78  the configuration cannot be used";

pub(in crate::cli) const BLOCK: &str = "\
Lets an email match nobody: an address that many people share, or a placeholder. Cross-references that have it stay, without a \
customer; `c360 customer unmatched blocked` lists them.

One email at a time, in any spelling; patterns belong into `matching.blocked`.";
pub(in crate::cli) const BLOCK_END: &str = "\
Examples:
  c360 customer block reception@hotel.example --dry-run
  c360 customer block reception@hotel.example

Exit codes:
  0   blocked, or it was already. With --dry-run: looked at
  1   stopped before profiles had followed
  65  refused: a pattern, or another decision on that email stands
  66  no usable email
  69  the database is out of reach
  78  the configuration cannot be used";

pub(in crate::cli) const UNBLOCK: &str = "\
Lets an email match again that an operator has blocked. What the configuration blocks is unblocked there.";
pub(in crate::cli) const UNBLOCK_END: &str = "\
Examples:
  c360 customer unblock reception@hotel.example

Exit codes:
  0   unblocked, or it was not blocked. With --dry-run: looked at
  1   stopped before profiles had followed
  65  the configuration blocks it
  66  no usable email
  69  the database is out of reach
  78  the configuration cannot be used";

pub(in crate::cli) const ALLOW: &str = "\
Lets in whom a guard keeps out: where one system has more than matching.max_xrefs_per_system living cross-references under one \
match key, all of them are held back (crowded), because it is more likely a shared mailbox than one person. With this they \
belong to one customer, however many there are.";
pub(in crate::cli) const ALLOW_END: &str = "\
Examples:
  c360 customer unmatched crowded
  c360 customer allow family@example.com --dry-run
  c360 customer allow loyalty 27

Exit codes:
  0   allowed, or it was already. With --dry-run: looked at
  1   stopped before profiles had followed
  65  refused: that email is blocked
  66  nobody has that email
  69  the database is out of reach
  78  the configuration cannot be used";

pub(in crate::cli) const UNDO: &str = "\
Undoes a decision: by its number; the last one that stands on a KEY, merges in both directions included; or a split, by its \
system and id. Cross-references, orders and redirects go to where they would be without it. Decisions stay as history, \
undone.

`c360 customer explain KEY` shows the decisions in force with their numbers.";
pub(in crate::cli) const UNDO_END: &str = "\
Examples:
  c360 customer undo 17 --dry-run
  c360 customer undo ann@old.example
  c360 customer undo loyalty 28

Exit codes:
  0   undone, or there was nothing to undo. With --dry-run: looked at
  1   stopped before profiles had followed
  65  another decision builds on it and has to be undone first
  66  no such decision, customer or cross-reference
  69  the database is out of reach
  78  the configuration cannot be used";

pub(in crate::cli) const UNMATCHED: &str = "\
Lists the living cross-references that belong to no customer, by system and id, with the reason:

  no_email       the system knows no email
  invalid_email  what it knows is no email; better data resolves it
  blocked        `matching.blocked`, or an operator: `c360 customer unblock VALUE`
  crowded        too many of one system share it: `c360 customer allow KEY`

A cross-reference of any of these gets a customer of its own with `c360 customer split SYSTEM ID`.";
pub(in crate::cli) const UNMATCHED_END: &str = "\
Examples:
  c360 customer unmatched
  c360 customer unmatched crowded --system loyalty --limit 200
  c360 customer unmatched --json | jq -r .reason | sort | uniq -c

Exit codes:
  0   listed, also when there are none
  69  the database is out of reach
  78  the configuration cannot be used";
