//! The pages behind `--help`.

pub(super) mod customer;
pub(super) mod dead_letters;
pub(super) mod keys;
pub(super) mod rebuild;
pub(super) mod refresh;
pub(super) mod source;

pub(super) const C360: &str = "\
c360 builds one golden record per customer out of many systems, in Postgres, and keeps it right while those systems \
change.

Sources are configuration: Kafka topics (Debezium's change events), nightly CSV exports and REST APIs. What they send is \
landed in Postgres, matched by email and merged by rules that you set. `c360 run` does all of it, and serves the result \
through an API and a dashboard.

To see it at work without any set-up: `c360 demo`.
To begin with your own systems: edit c360.toml, then `c360 config check`, then `c360 run`.";

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0   done; nothing to do is done, too
  1   something unexpected
  2   the command line was not understood
  4   done, and some records are dead letters now (import only)
  65  data refused
  66  no such file, customer or id
  69  a source or the database is out of reach
  75  locked by another process; try again
  78  the configuration cannot be used

Environment:
  C360_CONFIG            the configuration file, as --config
  C360__SECTION__KEY     any key of it, as C360__HTTP__LISTEN or C360__SOURCES__LOYALTY__DIRECTORY
  DATABASE_URL           database.url, unless C360__DATABASE__URL is set
  C360_LOG, RUST_LOG     what is logged, as `debug` or `warn,c360=debug`
  C360_LOG_FORMAT        as --log-format
  C360_PG_BIN            where initdb and postgres are, for the embedded database";

pub(super) const RUN: &str = "\
Runs the daemon: reads every configured source, consolidates what it brings into golden records, drops what has expired, \
and serves the API and the dashboard on http.listen.

Without database.url it runs a Postgres of its own under data_dir. It brings the schemas up to date by itself. Several \
daemons may share one database: Kafka's partitions are shared among them, and one of them consolidates.

A source that fails does not stop the others, and a database that is away is waited for. SIGTERM and Ctrl-C end the \
daemon: open batches are finished or rolled back, within 10 seconds.

With --once it catches up and exits: Kafka up to its end as of now, the CSV directories as they are, the REST sources as \
far as they are due, and consolidation until nothing is new. That is for cron, for backfills, and for tests. It works \
beside a daemon.";
pub(super) const RUN_END: &str = "\
Examples:
  c360 run
  c360 run --config /etc/c360/c360.toml --log-format json
  c360 run --once --no-http

Exit codes:
  0   ended by a signal; with --once: everything is caught up
  65  --once: a file was refused; all others were finished
  69  --once: the sources named failed; all others were finished
  78  the configuration cannot be used";

pub(super) const DEMO: &str = "\
Shows the reference scenario: a customer who is known to a home-delivery service (MySQL, by change events), to a loyalty \
programme (a nightly CSV file) and to an online store (a REST API) becomes one golden record with three cross-references \
and two orders.

It needs no set-up: Postgres is a throw-away cluster, the online store is a small server inside this process, and Kafka \
is librdkafka's mock cluster, which is good for a demo and nothing else. All of it is gone when the command ends. No \
configuration file is read.

Without --once it serves the dashboard, prints where and a key to sign in with, and runs until Ctrl-C.";
pub(super) const DEMO_END: &str = "\
Examples:
  c360 demo
  c360 demo --once
  c360 demo --once --json | jq 'select(.profile.name == \"Matthew Groves\")'

Exit codes:
  0   done
  1   something unexpected, such as no Postgres on this machine (the message says what to install)";

pub(super) const IMPORT: &str = "\
Imports files of a CSV source now, and waits until they are landed. The daemon does the same by itself with every file \
that is dropped into the source's directory; this is for cron and for files that lie elsewhere.

Every file counts once: a copy of one that was imported is skipped (--again imports it all the same), and a full export \
older than the newest imported one is superseded. Files of several nights are imported oldest first. A file is published \
whole or not at all. One that lacks columns, has too many bad rows, or is a full export that has lost too many of its rows, \
is refused; --accept imports it all the same, and what is not there stays as it is known. A file of the directory that \
somebody still writes to, or that lacks its marker, is left to the next import.

--dry-run reads and checks everything, and says of each file what would become of it, which profiles would change, and how \
many members would leave, each file by itself against what is known now. It lands nothing.

On a terminal there is a progress bar; elsewhere one line of JSON reports all files, with what was detected: the time that \
a file is of, its delimiter and its encoding.";
pub(super) const IMPORT_END: &str = "\
Examples:
  c360 import loyalty
  c360 import loyalty /mnt/exports/loyalty_members_2024-03-01.csv
  c360 import loyalty new.csv --dry-run
  c360 import loyalty shrunk.csv --accept

Exit codes:
  0   every file was imported, or had been before; there was none
  1   stopped before the end, or something unexpected; the next import begins the file anew
  4   imported, and some rows are dead letters now
  65  a file was refused or cannot be read; the message says why
  66  no such file, or no such source
  69  the database or the directory is out of reach
  75  another process is importing this source, or somebody still writes to a file; try again
  78  the configuration cannot be used";

pub(super) const REPLAY: &str = "\
Lands messages of a Kafka source again and consolidates them. It works beside a daemon and takes none of its partitions: \
a replay has progress of its own. Records that are known change nothing, so a replay can do no harm, and it can be \
repeated; after a change of the mapping they count as it reads them now. What is landed again takes its dead letters with \
it: what is still bad has a new one.

Times are those that Kafka keeps of messages. Without --from it begins with the first message that Kafka still has; \
without --to it ends where the daemon goes on by itself.

Where the source itself cannot go on, a replay is the decision that it waits for: a partition that is stopped, because \
Kafka does not have what comes next (retention has passed it, or the topic was made again), goes on from the beginning \
of the replay. What Kafka has lost is not brought back by it.

--new-epoch is for a database whose log has begun again (a restore, a fail-over, RESET MASTER): its new changes look \
older than what is known, and `c360 status` says so. Everything landed from there on counts as newer than all before.

Ctrl-C stops it cleanly; the same command goes on from there. On a terminal it shows its progress, otherwise it prints \
one JSON line.";
pub(super) const REPLAY_END: &str = "\
Examples:
  c360 replay home_delivery --from 2026-11-20T03:00:00Z --dry-run
  c360 replay home_delivery --from 2026-11-20 --to 2026-11-21
  c360 replay home_delivery --partition 2 --from-offset 120000
  c360 replay home_delivery --from 2026-11-20T03:00:00Z --new-epoch

Exit codes:
  0   landed and consolidated; nothing to do is done, too. With --dry-run: looked through
  1   stopped before its end, or something unexpected
  2   there is no such partition or offset; the message says what there is
  66  no such source or topic
  69  Kafka or the database is out of reach, or a partition stopped on the way
  75  the source's progress moved meanwhile, or another replay took the place of this one; try again";

pub(super) const STATUS: &str = "\
Shows first what needs a look: each with what it does and the command to type. Then, of every source, whether it runs, is \
stopped or in trouble (or its circuit breaker open), what waits to be landed (messages, polls or a file, and for how \
long), what waits to be consolidated, its dead letters and its last file. Then, of the whole, whether a daemon runs, the \
backlog, dead letters by reason, cross-references that belong to no customer by reason, how late expiry is and when the time of \
what waits is over, orders whose total is not that of their lines, what the largest tables take, and what stopping c360 now \
would do.

What waits for longer than its source's `late_after` needs a look, too, and so does a night whose file does not come. On a \
terminal there are colours, unless NO_COLOR is set.

All of it is read from the database, so it works with and without a daemon and from any machine. Only the lag of a Kafka \
source that nobody reads at the moment is asked of its brokers, for 3 seconds at most. Nothing is changed.

`ready` of --json is that the database is there and migrated, and that no source is stopped. /readyz of a process is about \
the database alone: a source that is stopped is no reason to send nobody there.";
pub(super) const STATUS_END: &str = "\
Examples:
  c360 status
  c360 status --json | jq '.sources[].lag'
  c360 status --check || page-somebody

Exit codes:
  0   shown
  1   --check: something needs a look
  69  the database is out of reach
  78  the configuration cannot be used";

pub(super) const SERVE: &str = "\
Serves the API on http.listen without reading any source: for more processes that answer, beside the daemon that lands and \
consolidates (`c360 run` serves it too, unless --no-http is given).";
pub(super) const SERVE_END: &str = "\
Examples:
  c360 serve
  C360__HTTP__LISTEN=0.0.0.0:8361 c360 serve

Exit codes:
  0   ended by a signal
  69  the database is out of reach
  78  the configuration cannot be used, or the address is taken";

pub(super) const EXPIRE: &str = "\
Drops the staged records whose time (ttl) is over and which are consolidated. What is not consolidated stays, however old, \
and `c360 status` says how late that makes it. Drops the history of profiles, the audit log, and dead letters that were \
retried or discarded, when they are older than `retention` has them; parked ones stay. Edits that a source has taken go a day \
later.

The daemon does this by itself every minute; the command is for installations that run from cron. Golden records never \
expire.";
pub(super) const EXPIRE_END: &str = "\
Examples:
  c360 expire

Exit codes:
  0   done; nothing to drop is done, too
  69  the database is out of reach
  78  the configuration cannot be used";

pub(super) const MIGRATE: &str = "\
Brings the schemas `staging` and `customer360` to the version of this program. `c360 run` does so by itself; the command \
is for installations in which the daemon may not change schemas.

Migrations only go forward, and only add: processes of the version before go on working beside. One that was interrupted \
is done again, and two at a time wait for each other. --dry-run names those that would run and changes nothing.";
pub(super) const MIGRATE_END: &str = "\
Examples:
  c360 migrate --dry-run
  c360 migrate
  DATABASE_URL=postgres://owner@db/c360 c360 migrate

Exit codes:
  0   the schemas are up to date
  69  the database is out of reach
  78  the configuration cannot be used, or the database is too old";

pub(super) const CONFIG: &str = "\
Checks or prints the configuration: the file (--config, C360_CONFIG or ./c360.toml) with the environment over it. Nothing \
is connected to.";
pub(super) const CONFIG_END: &str = "\
Examples:
  c360 config check
  c360 config print

Exit codes:
  0   the configuration can be used
  78  it cannot";

pub(super) const CONFIG_CHECK: &str = "\
Says whether the configuration can be used, and if not, names every problem: the key, the file and line (or the variable) \
that said it, and what was probably meant. Warnings are for what is allowed but probably not meant.";
pub(super) const CONFIG_CHECK_END: &str = "\
Examples:
  c360 config check
  c360 config check --config /etc/c360/c360.toml && systemctl restart c360

Exit codes:
  0   it can be used
  78  it cannot";

pub(super) const CONFIG_PRINT: &str = "\
Prints the configuration in force as TOML: the file, the environment over it, and the defaults. Secrets, and passwords in \
URLs, are replaced by [redacted].";
pub(super) const CONFIG_PRINT_END: &str = "\
Examples:
  c360 config print
  C360__HTTP__LISTEN=0.0.0.0:80 c360 config print | grep listen

Exit codes:
  0   printed
  78  the configuration cannot be used";

pub(super) const COMPLETIONS: &str = "\
Prints a script that completes c360's commands and options in a shell.";
pub(super) const COMPLETIONS_END: &str = "\
Examples:
  c360 completions bash > /etc/bash_completion.d/c360
  c360 completions zsh > ~/.zfunc/_c360
  c360 completions fish > ~/.config/fish/completions/c360.fish

Exit codes:
  0   printed";

pub(super) const SAMPLE_STORE: &str = "\
Serves the online store of the reference scenario: three endpoints that answer for one customer, order list or product at \
a time, and two that change a customer and make one. For docker-compose and for trying things out; the demo has its own.";
