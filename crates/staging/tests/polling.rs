//! Which polls are leased, and in which order, when there are many more than can be asked.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use staging::polls::{self, LeaseTimes, Poll, Refreshed, Subject};

use crate::support::{Staged, staged};

const SHOP: &str = "shop";
const MANY: i64 = 1_000_000;

/// Of all that is due now.
fn from(now: DateTime<Utc>) -> LeaseTimes {
    LeaseTimes { now, due_before: now, leased_until: now + TimeDelta::minutes(2) }
}

impl Staged {
    async fn lease(&self, limit: i64) -> Vec<Poll> {
        polls::lease(&self.pool, Subject::Customer, SHOP, limit, from(Utc::now()), None).await.unwrap()
    }

    async fn offer(&self, emails: &[&str]) {
        let emails: Vec<String> = emails.iter().map(|&email| email.to_owned()).collect();
        polls::offer(&self.pool, &[SHOP.to_owned()], &emails, &emails, Utc::now()).await.unwrap();
    }

    /// So many customers that were asked about before and have been due since, the highest number longest.
    async fn backlog(&self, customers: i64) {
        self.run(&format!(
            "insert into staging.polls (source, match_key, email, state, checked_at, next_at)
             select '{SHOP}', n || '@x.com', n || '@x.com', 'known', now() - interval '2 days',
                    now() - interval '1 hour' - make_interval(secs => n / 1000.0)
             from generate_series(1, {customers}) as n;
             analyze staging.polls"
        ))
        .await;
    }
}

fn keys(polls: &[Poll]) -> Vec<&str> {
    polls.iter().map(|poll| poll.key.as_str()).collect()
}

#[tokio::test]
async fn a_new_email_is_next_while_a_million_refreshes_are_due_and_those_go_by_age() {
    let staged = staged().await;
    staged.backlog(MANY).await;
    assert_eq!(keys(&staged.lease(3).await), ["1000000@x.com", "999999@x.com", "999998@x.com"]);

    staged.offer(&["new@x.com"]).await;
    staged.offer(&["newer@x.com"]).await;
    let since = Instant::now();
    let leased = staged.lease(4).await;
    assert_eq!(keys(&leased), ["new@x.com", "newer@x.com", "999997@x.com", "999996@x.com"]);
    assert!(since.elapsed() < Duration::from_millis(500), "one lease took {:?}", since.elapsed());

    // A poller goes on for a while, and what it has asked is not asked again: each lease stays as cheap as the first.
    let since = Instant::now();
    let mut expected = 999_995;
    for _ in 0..200 {
        for poll in staged.lease(16).await {
            assert_eq!(poll.key, format!("{expected}@x.com"));
            expected -= 1;
        }
    }
    assert!(since.elapsed() < Duration::from_secs(10), "200 leases took {:?}", since.elapsed());
    staged.offer(&["newest@x.com"]).await;
    assert_eq!(keys(&staged.lease(1).await), ["newest@x.com"]);
}

#[tokio::test]
async fn one_that_fails_waits_for_its_time_and_takes_nobodys_turn() {
    let staged = staged().await;
    staged.backlog(5).await;
    staged
        .run("update staging.polls set failures = 3, checked_at = null, next_at = now() + interval '1 minute' where match_key = '5@x.com'")
        .await;
    staged.run("update staging.polls set failures = 3, next_at = now() where match_key = '4@x.com'").await;
    assert_eq!(keys(&staged.lease(9).await), ["3@x.com", "2@x.com", "1@x.com", "4@x.com"]);
}

#[tokio::test]
async fn one_customer_can_be_leased_alone_and_a_refreshed_one_comes_before_all_that_were_asked() {
    let staged = staged().await;
    staged.backlog(100).await;
    let now = Utc::now();
    assert_eq!(polls::refresh(&staged.pool, SHOP, Some("7@x.com"), now).await.unwrap(), 1);
    assert_eq!(polls::refresh(&staged.pool, SHOP, Some("nobody@x.com"), now).await.unwrap(), 0);
    let only = Some("9@x.com");
    let leased = polls::lease(&staged.pool, Subject::Customer, SHOP, 10, from(now), only).await.unwrap();
    assert_eq!(keys(&leased), ["9@x.com"]);
    assert_eq!(keys(&staged.lease(2).await), ["7@x.com", "100@x.com"]);
    assert_eq!(polls::count(&staged.pool, SHOP, None).await.unwrap(), 100);
    assert_eq!(polls::count(&staged.pool, SHOP, Some("7@x.com")).await.unwrap(), 1);
    // Two of the three that are leased were made due before now, and none is answered.
    let unanswered = async |match_key| {
        let refreshed = Refreshed { match_key, since: now };
        polls::unanswered(&staged.pool, SHOP, refreshed, Utc::now()).await.unwrap()
    };
    assert_eq!(unanswered(None).await, 3);
    assert_eq!(unanswered(Some("8@x.com")).await, 0);
}
