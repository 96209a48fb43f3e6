//! The rate that several processes keep together.

#![expect(clippy::unwrap_used, reason = "what does not work here is a failed test")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use embedded_postgres::test::eventually;
use serde_json::json;
use support::{CUSTOMER, ORDERS, World, ok, somebody, status};
use tokio_util::sync::CancellationToken;
use wiremock::matchers::path;
use wiremock::{Mock, Request};

const RATE: f64 = 40.0;
/// Turns that were saved up: those of as many requests as are made at a time, and of 50 ms at least.
const BURST: f64 = 8.0;

/// When requests came.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<Vec<Instant>>>);

impl Arrivals {
    fn all(&self) -> Vec<Instant> {
        let mut all = self.0.lock().unwrap().clone();
        all.sort();
        all
    }

    /// The most requests within any stretch of this length.
    fn most_within(&self, stretch: Duration) -> usize {
        let all = self.all();
        let within = |from: &Instant| all.iter().filter(|at| **at >= *from && **at < *from + stretch).count();
        all.iter().map(within).max().unwrap_or(0)
    }
}

impl World {
    /// A store that knows everybody and notes when it is asked.
    async fn busy(customers: usize) -> (Self, Arrivals) {
        let mut world = Self::new().await;
        world.settings.requests_per_second = RATE;
        let arrivals = Arrivals::default();
        let noted = arrivals.clone();
        let customer = move |request: &Request| {
            noted.0.lock().unwrap().push(Instant::now());
            let email = request.url.query_pairs().next().unwrap().1.into_owned();
            ok(&somebody(email.split('@').next().unwrap().parse().unwrap(), &email))
        };
        Mock::given(path(CUSTOMER)).respond_with(customer).mount(&world.store).await;
        let noted = arrivals.clone();
        let orders = move |_: &Request| {
            noted.0.lock().unwrap().push(Instant::now());
            ok(&json!([]))
        };
        Mock::given(path(ORDERS)).respond_with(orders).mount(&world.store).await;
        let emails: Vec<String> = (1..=customers).map(|id| format!("{id}@x.com")).collect();
        world.offer(&emails.iter().map(String::as_str).collect::<Vec<_>>()).await;
        (world, arrivals)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
fn allowed(stretch: Duration) -> usize {
    // One more for each of the three: their clocks are read a moment after the database's.
    (RATE * stretch.as_secs_f64() + BURST + 3.0).ceil() as usize
}

#[tokio::test]
async fn three_processes_keep_the_rate_of_one_together() {
    let (world, arrivals) = World::busy(100).await;
    let since = Instant::now();

    let (one, two, three) = tokio::join!(world.poll_due(), world.poll_due(), world.poll_due());

    let took = since.elapsed().as_secs_f64();
    assert_eq!((one.known + two.known + three.known, arrivals.all().len()), (100, 200));
    assert!(one.requests > 20 && two.requests > 20 && three.requests > 20, "{one:?} {two:?} {three:?}");
    assert!(took > (200.0 - BURST) / RATE - 0.1, "200 requests within {took} s");
    assert!(took < 200.0 / RATE * 1.6 + 1.0, "the rate is used: {took} s");
    for stretch in [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(3)] {
        let most = arrivals.most_within(stretch);
        assert!(most <= allowed(stretch), "{most} requests within {stretch:?}");
    }
    // Turns are taken by the dozen: far fewer statements than requests.
    let taken =
        "select coalesce(sum(n_tup_upd + n_tup_ins), 0) from pg_stat_user_tables where relname = 'request_rates'";
    eventually("statistics", async || world.value(taken).await.as_i64() > Some(0)).await;
    let statements = world.value(taken).await.as_i64().unwrap();
    assert!(statements < 120, "{statements} statements for 200 requests");
}

#[tokio::test]
async fn a_process_that_dies_takes_no_more_of_the_rate_than_the_turns_it_had() {
    let (world, arrivals) = World::busy(80).await;
    let (settings, options, mut lander) = (world.settings.clone(), world.options(), world.lander());
    let victim = tokio::spawn(async move {
        let cancel = CancellationToken::new();
        let _ = poll_rest::poll_due(settings, options, &mut lander, cancel).await;
    });
    eventually("both are at work", async || arrivals.all().len() > 20).await;
    victim.abort();
    let _ = victim.await;
    let died = Instant::now();
    // What it had leased waits for the end of the lease, and is made due here.
    world.execute("update staging.polls set next_at = now() where checked_at is null").await;
    let before = arrivals.all().len();

    let summary = world.poll_due().await;

    let made = arrivals.all().len() - before;
    let took = died.elapsed().as_secs_f64();
    assert!(summary.known > 30, "{summary:?}");
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let needed = made as f64 / RATE;
    assert!(took < needed + 2.5, "{made} requests took {took} s");
    assert!(arrivals.most_within(Duration::from_secs(1)) <= allowed(Duration::from_secs(1)));
}

#[tokio::test]
async fn what_the_source_asks_of_one_process_the_others_do_too() {
    let (world, arrivals) = World::busy(40).await;
    let throttle = async {
        eventually("both are at work", async || arrivals.all().len() > 20).await;
        let once = Mock::given(path(CUSTOMER)).respond_with(status(429).insert_header("retry-after", "2"));
        once.up_to_n_times(1).with_priority(1).mount(&world.store).await;
    };
    let (one, other, ()) = tokio::join!(world.poll_due(), world.poll_due(), throttle);
    assert_eq!(one.known + other.known, 40);
    let all = arrivals.all();
    let longest = all.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest > Duration::from_millis(1200), "nobody waited: {longest:?}");
}

#[tokio::test]
async fn a_rate_that_no_database_could_count_out_is_one_that_stops_nobody() {
    let (mut world, arrivals) = World::busy(20).await;
    // A statement that takes turns lasts longer than they do, and they are past when it is done.
    world.settings.requests_per_second = 1_000_000.0;
    let asked = tokio::time::timeout(Duration::from_secs(20), world.poll_due()).await.unwrap();
    assert_eq!((asked.known, arrivals.all().len()), (20, 40));
}
