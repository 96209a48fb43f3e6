//! The pages of `c360 customer erase`, `readmit` and `export`.

pub(in crate::cli) const ERASE: &str = "\
Erases one person out of everything: raw records, dead letters, cross-references, profiles, orders (unless `erasure.orders` \
keeps them without the person), interactions, history, edits, decisions, redirects and polls. It is one transaction, beside \
a daemon or without one. There is no way back.

KEY is an email in any spelling, a customer id, or a system and its id (`loyalty 27`). All match keys that lead to the \
customer are erased, by merges and moves too, and every id of every system that points there.

What stays are keyed digests of these emails and ids: whatever comes later under one of them, by a replay, a late file, a \
poll or a dead letter that is retried, is skipped and counted. Interactions with others stay, without the person. Where others \
name one of the emails, in an attribute or an order, that is taken out; a name in an order of somebody else is not found.

The receipt says how many rows went from which table, and the digests; it names nobody. --dry-run does everything and takes \
it back.";
pub(in crate::cli) const ERASE_END: &str = "\
Examples:
  c360 customer erase matthew.groves@couchbase.com --dry-run
  c360 customer erase loyalty 27 --yes --json > receipt.json

Exit codes:
  0   erased; or was erased before, and nothing has come since
  1   answered with no
  2   there is no terminal to ask on, and no --yes
  65  the customer has moved on; the message names who is to be erased instead
  66  nothing is known of such a person
  69  the database is out of reach
  78  the configuration cannot be used";

pub(in crate::cli) const READMIT: &str = "\
Lets a person in again who was erased: what comes from now on counts. Nothing that was erased comes back by itself; replay \
or import what is to be landed again.

KEY is one of the emails or ids by which the person was erased, in any spelling; all of the others are lifted with it. (A \
customer id is not remembered.)";
pub(in crate::cli) const READMIT_END: &str = "\
Examples:
  c360 customer readmit matthew.groves@couchbase.com
  c360 customer readmit loyalty 27

Exit codes:
  0   readmitted
  66  nobody was erased under that
  69  the database is out of reach
  78  the configuration cannot be used";

pub(in crate::cli) const EXPORT: &str = "\
Prints everything that is kept about one person as one JSON document, for whoever asks for their data: profile with \
provenance, cross-references, orders with lines, interactions, history, edits, decisions, polls and the raw records that have \
not expired (as they came, if their source is configured). No credential, not even its digest. Sealed dead letters are not \
in it.

KEY is as for `erase`. One that has moved on, which that refuses, finds whoever it leads to.";
pub(in crate::cli) const EXPORT_END: &str = "\
Examples:
  c360 customer export matthew.groves@couchbase.com > matthew.json
  c360 customer export home_delivery 1029 --json | jq .orders

Exit codes:
  0   printed
  66  nothing is known of such a person
  69  the database is out of reach
  78  the configuration cannot be used";
