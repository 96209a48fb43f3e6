//! The pages of `c360 keys`.

pub(in crate::cli) const KEYS: &str = "\
Makes, lists and revokes the keys with which applications and people ask the API.

A key has a role: a viewer reads; an agent also writes on customers; an operator also decides who is who, sees how all sources \
are, and handles dead letters, on the dashboard. It may be limited to \
some customers; Postgres itself keeps it from all others. Only digests of keys are stored.";
pub(in crate::cli) const KEYS_END: &str = "\
Examples:
  c360 keys add reports --role viewer
  c360 keys list
  c360 keys revoke reports

Exit codes:
  0   done
  66  no such key
  others: see the page of the command";

pub(in crate::cli) const ADD: &str = "\
Makes an API key and prints it. It is shown this once: what is stored cannot be turned back into it.

With --only the key sees some customers, and everything that is theirs, in every answer, count and aggregate. A filter is \
`ATTRIBUTE in ('VALUE', ...)` or `list NAME` (a list of customers that is kept through the API), with `and` between several. \
It needs the role c360_limited in Postgres: c360 makes it where it may, deploy/roles/owner.sql elsewhere.";
pub(in crate::cli) const ADD_END: &str = "\
Examples:
  c360 keys add reports --role viewer
  c360 keys add ann --role agent --only \"state in ('NH', 'VT')\"
  c360 keys add team-7 --role agent --only \"list team-7\" --expires 2027-06-30
  C360_KEY=$(c360 keys add check --role viewer)

Exit codes:
  0   made
  2   the filter, role or time cannot be read
  65  there is a key of this name, or the filter cannot be applied
  69  the database is out of reach
  78  the configuration cannot be used";

pub(in crate::cli) const LIST: &str = "\
Lists all API keys, revoked ones too: name, beginning, role, whom they may see, until when they are valid and when they were \
last used.";
pub(in crate::cli) const LIST_END: &str = "\
Examples:
  c360 keys list
  c360 keys list --json

Exit codes:
  0   listed
  69  the database is out of reach
  78  the configuration cannot be used";

pub(in crate::cli) const REVOKE: &str = "\
Makes a key invalid, in every process within two seconds. It cannot be taken back: make another one.";
pub(in crate::cli) const REVOKE_END: &str = "\
Examples:
  c360 keys revoke reports
  c360 keys revoke c360_3f9a01c2

Exit codes:
  0   revoked
  66  no such key, or it was revoked before
  69  the database is out of reach
  78  the configuration cannot be used";
