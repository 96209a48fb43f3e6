//! The page of `c360 refresh`.

pub(in crate::cli) const REFRESH: &str = "\
Asks a REST source now, lands what it answers and consolidates that. Without it every customer is asked about again after \
refresh_every, and every list is read again in its time.

With --email it asks about that one customer and the orders and new products that belong to it, within seconds, whatever \
else is due. Without, about everybody and every product, and lists are read from their beginning: for after an outage of \
the source, or when it has changed something without dating it. An answer that is what it was before lands nothing.

It keeps to requests_per_second, together with every other process, and works beside a daemon, which takes its part of the \
polls: `asked_elsewhere` counts that part. Stopped half-way, what is due stays due: a daemon, or `c360 run --once`, goes on with it.";
pub(in crate::cli) const REFRESH_END: &str = "\
Examples:
  c360 refresh online_store --email matthew.groves@couchbase.com
  c360 refresh online_store --dry-run
  c360 refresh online_store --json

Exit codes:
  0   asked, landed and consolidated. With --dry-run: counted
  1   stopped before its end, or something unexpected
  2   the source is not of kind rest, or has nobody to ask about by email
  66  no such source, or no system knows a customer of this email
  69  the source or the database is out of reach, a list could not be read to its end, or another process has taken what is
      asked for and does not answer
  78  the configuration cannot be used";
