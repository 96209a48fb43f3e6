//! Whole pages.

use serde_json::json;
use staging::imports::State;
use staging::overview::{LedgerFile, PollsDue};

use super::{ago, calm, letters, now, refused, report, say, waits};
use crate::{Paint, page};

#[test]
fn the_page_of_a_calm_night() {
    let mut facts = calm();
    facts.last_files.insert("loyalty".to_owned(), LedgerFile { state: State::Imported, ..refused() });
    facts.storage = [("staging.batches", 40 << 10), ("customer360.xrefs", 3 << 29), ("staging.records", 2 << 20)]
        .map(|(table, bytes)| (table.to_owned(), bytes))
        .into();
    facts.unmatched = [("no_email".to_owned(), 1_200), ("blocked".to_owned(), 3)].into();
    insta::assert_snapshot!(page(&report(&facts), now(), Paint::Plain), @r#"
    Nothing needs attention.

    SOURCE         KIND   STATE    TO LAND  TO CONSOLIDATE  DEAD LETTERS  LAST FILE
    home_delivery  kafka  running  -        -               -             -
    loyalty        csv    running  -        -               -             loyalty_members_2026-03-01.csv: imported 50 min ago, 400 rows
    online_store   rest   running  -        -               -             -

    Daemon        running, heard 2 s ago
    Backlog       nothing waits to be consolidated
    Unmatched     blocked 3, no_email 1,200
    Expiry        26 partitions, 3.0 MiB in staging; nothing is overdue
    Storage       customer360.xrefs 1.5 GiB, staging.records 2.0 MiB, staging.batches 40.0 KiB
    Stopping      safe: progress is stored with the data; open batches are finished or rolled back, and read again
    "#);
}

#[test]
fn colours_are_for_terminals_whose_user_has_not_refused_them_and_change_no_word() {
    use std::ffi::OsStr;
    for (is_terminal, no_color, expected) in [
        (true, None, Paint::Colours),
        (true, Some(""), Paint::Colours),
        (true, Some("1"), Paint::Plain),
        (false, None, Paint::Plain),
    ] {
        assert_eq!(Paint::of(is_terminal, no_color.map(OsStr::new)), expected, "{is_terminal} {no_color:?}");
    }
    let mut facts = calm();
    say(&mut facts, "online_store", 2, json!({"breaker": "open", "stopped": []}));
    let stopped = json!([{"topic": "t", "partition": 3, "reason": "gone"}]);
    say(&mut facts, "home_delivery", 2, json!({ "stopped": stopped }));
    let report = report(&facts);
    let (plain, colours) = (page(&report, now(), Paint::Plain), page(&report, now(), Paint::Colours));
    for painted in ["\u{1b}[1;31mstopped ", "\u{1b}[33mbreaker open", "\u{1b}[32mrunning"] {
        assert!(colours.contains(painted), "{painted:?}\n{colours}");
    }
    let mut words = colours;
    for code in ["1;31", "1", "31", "32", "33", "0"] {
        words = words.replace(&format!("\u{1b}[{code}m"), "");
    }
    let trimmed = |page: &str| page.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(trimmed(&words), trimmed(&plain));
}

#[test]
fn the_page_of_a_bad_night() {
    let mut facts = calm();
    let stopped = json!([{"topic": "dbserver1.inventory.customers", "partition": 3, "reason": "the topic now begins at \
        offset 900, behind the stored progress 120: retention has passed it"}]);
    let word = json!({"lag": 1_500, "lag_seconds": 700, "oldest_unlanded_seconds": 690, "stopped": stopped});
    say(&mut facts, "home_delivery", 2, word);
    say(&mut facts, "online_store", 2, json!({"breaker": "open", "stopped": []}));
    let polls = PollsDue { source: "online_store".to_owned(), due: 35, oldest: ago(4_000) };
    facts.polls_due.insert("online_store".to_owned(), polls);
    facts.refused_files.insert("loyalty".to_owned(), vec![refused()]);
    facts.last_files.insert("loyalty".to_owned(), refused());
    facts.backlog.insert("home_delivery".to_owned(), waits("home_delivery", 700));
    facts.dead_letters = vec![letters("not_json", 3, 2), letters("no_external_id", 1, 0)];
    facts.orders_total_differs = [("online_store".to_owned(), 17)].into();
    facts.expiry.held_back_since = Some(ago(8_000));
    facts.expiry.overdue_since = Some(ago(8_000));
    insta::assert_snapshot!(page(&report(&facts), now(), Paint::Plain), @r#"
    6 things need a look:

     1. home_delivery: partition 3 of dbserver1.inventory.customers is stopped: the topic now begins at offset 900, behind the stored progress 120: retention has passed it.
        What comes on it is not landed; other partitions go on. Say from which offset to go on, with --new-epoch if the source's log has begun again.
          $ c360 replay home_delivery --partition 3 --from-offset OFFSET

     2. loyalty: the file loyalty_members_2026-03-01.csv was refused: 212 of 400 rows are bad.
        Nothing of it is published: its records stay as the file before left them. If it is right after all:
          $ c360 import loyalty /mnt/drop/loyalty_members_2026-03-01.csv --accept

     3. online_store: the circuit breaker is open: the source keeps failing.
        35 polls due; c360 tries again by itself. Failures are counted by kind.
          $ curl -s http://127.0.0.1:8360/metrics | grep c360_rest_requests_total

     4. Consolidation is behind: 1,204 records to do, the oldest for 11 min.
        Profiles are late by that. It is being worked on: see whether the number falls.
          $ watch c360 status

     5. Expiry has been held back for 2 h 13 min by records that are not consolidated.
        Nothing is lost, but personal data stays longer than its time to live, and staging grows.
          $ c360 run --once

     6. home_delivery: 2 dead letters within a day: not_json 2.
        These records are kept, and are in no profile, until somebody retries or discards them.
          $ c360 dead-letters list --source home_delivery

    SOURCE         KIND   STATE         TO LAND                 TO CONSOLIDATE         DEAD LETTERS  LAST FILE
    home_delivery  kafka  stopped       1,500 messages, 11 min  1,204 records, 11 min  4             -
    loyalty        csv    running       -                       -                      -             loyalty_members_2026-03-01.csv: refused 50 min ago, 400 rows
    online_store   rest   breaker open  35 polls, 66 min        -                      -             -

    Daemon        running, heard 2 s ago
    Backlog       1,204 records to be consolidated, the oldest for 11 min
    Dead letters  home_delivery: no_external_id 1, not_json 3
    Unmatched     no cross-reference
    Expiry        26 partitions, 3.0 MiB in staging; held back for 2 h 13 min
    Orders        total is not that of the lines: online_store 17
    Stopping      safe: progress is stored with the data; open batches are finished or rolled back, and read again; 1,204 records wait to be consolidated until it runs again
    "#);
}
