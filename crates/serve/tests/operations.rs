//! The page for operators: who sees it, what it says, and what it does to dead letters.

use std::time::Duration;

use chrono::Utc;
use embedded_postgres::test::until_waiting;
use serve::keys::{self, Role};
use status::{Asked, Lags, Report};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::base::Base;
use crate::support::browser::Browser;
use crate::support::{Answer, read_to_end, setup};

/// For ever, on a machine that is slow.
const PATIENCE: Duration = Duration::from_mins(2);
const CONTENT: &str = "the-content-of-a-record";

/// Parks this many letters, and returns their numbers.
async fn park(base: &Base, reason: &str, detail: &str, count: i32) -> Vec<i64> {
    sqlx::query_scalar(
        "insert into staging.dead_letters (source, origin, reason, detail, payload, external_id, landed_at)
         select 'loyalty', jsonb_build_object('file', 'members.csv', 'line', 8000 + n), $1, $2,
                convert_to($3, 'UTF8'), 'an-id-of-somebody', now()
         from generate_series(1, $4) n
         returning dead_letter_id",
    )
    .bind(reason)
    .bind(detail)
    .bind(CONTENT)
    .bind(count)
    .fetch_all(&base.pool)
    .await
    .unwrap()
}

async fn states(base: &Base) -> Vec<(i64, String, bool)> {
    let sql = "select dead_letter_id, state, payload = '' from staging.dead_letters order by 1";
    sqlx::query_as(sql).fetch_all(&base.pool).await.unwrap()
}

async fn audited(base: &Base, what: &str) -> Vec<String> {
    let sql =
        "select action from customer360.audit_log where action like $1 || '%' and customer_id is null order by at";
    sqlx::query_scalar(sql).bind(what).fetch_all(&base.pool).await.unwrap()
}

fn letter(id: i64) -> String {
    format!("letter-{id}")
}

/// The text of a page.
fn text(answer: &Answer) -> String {
    let signs = [("&#39;", "'"), ("&#34;", "\""), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")];
    signs.into_iter().fold(answer.body.clone(), |text, (escaped, sign)| text.replace(escaped, sign))
}

#[tokio::test]
async fn only_operators_who_see_everybody_have_the_page() {
    let base = Base::new().await;
    let id = park(&base, "nul", "column name", 1).await[0];
    let mut operator = Browser::signed_in(&base, Role::Operator, None).await;
    let page = operator.get("/operations").await;
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(operator.get("/customers").await.leads("/operations").len(), 1);
    for (role, only) in [(Role::Viewer, None), (Role::Agent, None), (Role::Operator, Some("state in ('NH')"))] {
        let mut browser = Browser::signed_in(&base, role, only).await;
        let home = browser.get("/customers").await;
        assert!(home.leads("/operations").is_empty(), "{role}");
        let token = home.token();
        for path in ["/operations", "/operations/live"] {
            let refused = browser.get(path).await;
            assert!(refused.status == 403 && refused.body.contains("<h1>Not allowed</h1>"), "{role}: {refused:?}");
        }
        for path in ["/operations/dead-letters/retry", "/operations/dead-letters/discard"] {
            let fields = [("token", token.as_str()), (&letter(id), "on"), ("sure", "yes")];
            assert_eq!(browser.post(path, &fields).await.status, 403, "{role}: {path}");
        }
    }
    assert_eq!(Browser::new(&base.server).get("/operations/live").await.status, 303);
    assert_eq!(states(&base).await, [(id, "parked".to_owned(), false)]);
}

#[tokio::test]
async fn the_page_needs_attention_for_what_status_does_and_shows_every_part() {
    let base = Base::new().await;
    park(&base, "ragged_row", "5 columns instead of 6", 7).await;
    base.run(
        r#"insert into staging.sources (source, health, health_at) values
               ('home_delivery', '{"lag": 1204, "lag_seconds": 9, "oldest_unlanded_seconds": 61, "stopped":
                   [{"topic": "inventory", "partition": 2, "reason": "retention has passed it"}]}', now() + interval '1 hour'),
               ('online_store', '{"breaker": "open", "stopped": []}', now() + interval '1 hour');
           insert into staging.csv_imports
               (source, file_name, as_of, mtime, dated, full_export, sha256, state, row_count, dead_letter_count, reason,
                started_at, finished_at)
           select 'loyalty', 'members-' || n || '.csv', now() - interval '1 day' * n, now(), true, true, n::text,
                  case n when 1 then 'refused' else 'imported' end, 41300 + n, 0, case n when 1 then 'too few <rows>' end,
                  now() - interval '3800 ms', now()
           from generate_series(7, 1, -1) n;
           insert into customer360.xrefs
               (system, external_id, unmatched_reason, external_id_json, attributes, position, observed_at, first_seen_at,
                last_seen_at)
           select 'loyalty', n::text, 'crowded', to_jsonb(n), '{}', '', now(), now(), now() from generate_series(1, 41) n"#,
    )
    .await;
    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    let page = browser.get("/operations").await;
    let body = text(&page);

    let mut connection = staging::connect(&base.options).await.unwrap();
    let asked = status::ask(&mut connection, &setup()).await.unwrap();
    let Asked::Facts(facts) = asked else { panic!("the database is migrated") };
    let looks = Report::new(&setup(), &facts, &Lags::new(), Utc::now()).looks;
    assert!(looks.len() >= 4, "{looks:#?}");
    for look in &looks {
        assert!(body.contains(&look.sentence()) && body.contains(&look.effect), "{look:?} is not on {body}");
        assert!(look.of_dead_letters || body.contains(&look.command), "{look:?}");
    }
    let of_letters = page.leads("/operations?source=loyalty#letters");
    assert_eq!(of_letters.len(), 2, "to be reviewed, and in the table of sources");
    for shown in [
        "Stopped: 1 partition",
        "1,204 messages",
        "Breaker open",
        "members-1.csv",
        "members-5.csv",
        "41,301",
        "3.8 s",
        "too few &#60;rows&#62;",
        "Too many share one email",
        "Nothing held back",
        "c360 dead-letters show",
    ] {
        assert!(page.body.contains(shown), "{shown} is not on {}", page.body);
    }
    assert!(!page.body.contains("members-6.csv"), "of each source five files");
    assert!(page.body.len() < 100_000);
    let needs = format!("</svg> {}<span class=\"unseen\"> need attention", looks.len());
    let elsewhere = browser.get("/insights").await.body;
    assert!(elsewhere.contains(&needs), "{elsewhere}");
}

#[tokio::test]
async fn what_dead_letters_hold_is_nowhere_and_the_list_has_pages_and_filters() {
    let base = Base::new().await;
    park(&base, "nul", "column <name>", 1).await;
    park(&base, "ragged_row", "5 columns instead of 6", 60).await;
    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    let rows = |page: &Answer| page.body.matches("<th scope=\"row\" class=\"number\">").count();
    let first = browser.get("/operations").await;
    assert_eq!(rows(&first), 50);
    assert!(first.body.contains("members.csv line 8060") && first.body.contains("61 parked"), "{first:?}");
    let next = first.leads("before=")[0].clone();
    let second = browser.get(next.split('#').next().unwrap()).await;
    assert_eq!(rows(&second), 11);
    assert!(second.body.contains("column &#60;name&#62;"), "{second:?}");
    let nul = browser.get("/operations?source=loyalty&reason=nul").await;
    assert_eq!(rows(&nul), 1);
    assert!(nul.body.contains("Only loyalty, nul."), "{nul:?}");
    assert_eq!(rows(&browser.get("/operations?state=discarded").await), 0);
    for wrong in ["state=gone", "before=x", "before=99999999999999999999"] {
        assert_eq!(browser.get(&format!("/operations?{wrong}")).await.status, 400, "{wrong}");
    }
    let fields: Vec<(i64, String, bool)> = states(&base).await;
    let one = letter(fields[0].0);
    let preview = browser.fill("/operations", "/operations/dead-letters/discard", &[(&one, "on")]).await;
    for page in [&first, &second, &nul, &preview] {
        assert_eq!(page.status, 200);
        assert!(!page.body.contains(CONTENT) && !page.body.contains("an-id-of-somebody"), "{page:?}");
    }
}

#[tokio::test]
async fn a_retry_is_handed_the_selected_letters_and_is_in_the_audit_log() {
    let base = Base::new().await;
    let ids = park(&base, "nul", "column name", 51).await;
    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    let path = "/operations/dead-letters/retry";
    let (one, two) = (letter(ids[3]), letter(ids[5]));
    let refused = browser.post(path, &[("token", "AAAA"), (&one, "on")]).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    let all: Vec<String> = ids.iter().map(|id| letter(*id)).collect();
    let all: Vec<(&str, &str)> = all.iter().map(|name| (name.as_str(), "on")).collect();
    for wrong in [&[][..], &[("letter-x", "on")], &all] {
        let answer = browser.fill("/operations", path, wrong).await;
        assert!(answer.status == 422 && answer.body.contains("select 1 to 50"), "{answer:?}");
    }
    assert!(audited(&base, "retry_dead_letters").await.is_empty());
    let answer = browser.fill("/operations", path, &[(&one, "on"), (&two, "on")]).await;
    let said = format!("retried [{}, {}]", ids[3], ids[5]);
    assert!(browser.get(answer.location()).await.body.contains(&said), "{answer:?}");
    let other = browser.get("/operations?did=retried&count=7").await;
    assert!(other.body.contains("Retried.") && !other.body.contains(&said), "of another retry: {other:?}");
    assert_eq!(audited(&base, "retry_dead_letters").await, [format!("retry_dead_letters {} {}", ids[3], ids[5])]);
}

#[tokio::test]
async fn discarding_shows_what_it_would_do_and_wipes_with_its_audit_or_not_at_all() {
    let base = Base::new().await;
    let ids = park(&base, "nul", "column name", 3).await;
    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    let path = "/operations/dead-letters/discard";
    let (one, two) = (letter(ids[0]), letter(ids[1]));
    let parked = |id: i64| (id, "parked".to_owned(), false);
    let wiped = |id: i64| (id, "discarded".to_owned(), true);

    let preview = browser.fill("/operations", path, &[(&one, "on"), (&two, "on")]).await;
    assert!(preview.status == 200 && preview.body.contains("<h1>Discard 2 dead letters</h1>"), "{preview:?}");
    assert!(preview.body.contains("members.csv line 8001") && !preview.body.contains("line 8003"), "{preview:?}");
    assert_eq!(states(&base).await, [parked(ids[0]), parked(ids[1]), parked(ids[2])]);

    let fields = [("token", preview.token()), (&one, "on".to_owned()), (&two, "on".to_owned())]
        .map(|(name, value)| (name.to_owned(), value));
    let mut fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    fields.push(("sure", "yes"));
    base.run("alter table customer360.audit_log add constraint none_today check (action not like 'discard%')").await;
    assert_eq!(browser.post(path, &fields).await.status, 500);
    assert_eq!(states(&base).await, [parked(ids[0]), parked(ids[1]), parked(ids[2])]);
    base.run("alter table customer360.audit_log drop constraint none_today").await;

    let done = browser.post(path, &fields).await;
    assert_eq!((done.status, done.location()), (303, "/operations?did=discarded&count=2"));
    assert_eq!(states(&base).await, [wiped(ids[0]), wiped(ids[1]), parked(ids[2])]);
    assert_eq!(audited(&base, "discard").await, [format!("discard_dead_letters {} {}", ids[0], ids[1])]);
    let page = browser.get(done.location()).await;
    assert!(page.body.contains("2 dead letters discarded.") && page.body.contains("1 parked"), "{page:?}");
    let again = browser.fill("/operations", path, &[(&one, "on")]).await;
    assert!(again.status == 409 && again.body.contains("not parked any more"), "{again:?}");
}

/// A stream of changes, as far as it has been read.
struct Stream {
    socket: TcpStream,
    read: String,
}

impl Stream {
    async fn open(base: &Base, browser: &Browser<'_>) -> Self {
        let cookie = browser.cookie("c360_session").unwrap();
        let request = format!("GET /operations/live HTTP/1.1\r\nhost: c360\r\ncookie: c360_session={cookie}\r\n\r\n");
        let mut socket = base.server.connect().await;
        socket.write_all(request.as_bytes()).await.unwrap();
        Self { socket, read: String::new() }
    }

    /// Reads until this has come.
    async fn until(&mut self, part: &str) {
        let reading = async {
            let mut chunk = vec![0; 1 << 16];
            while !self.read.contains(part) {
                let read = self.socket.read(&mut chunk).await.unwrap();
                assert!(read > 0, "the stream ended without {part}: {}", self.read);
                self.read += &String::from_utf8_lossy(&chunk[..read]);
            }
        };
        timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("no {part}"));
    }
}

#[tokio::test]
async fn a_stream_has_the_parts_that_change_and_ends_with_the_key() {
    let base = Base::new().await;
    park(&base, "nul", "column name", 1).await;
    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    let mut stream = Stream::open(&base, &browser).await;
    // The last of them.
    stream.until("id=\"unmatched\"").await;
    assert!(stream.read.contains("content-type: text/event-stream"), "{}", stream.read);
    assert!(stream.read.contains("event: parts") && stream.read.contains("1 parked"), "{}", stream.read);
    stream.read.clear();
    park(&base, "ragged_row", "5 columns\r\ninstead of 6", 1).await;
    stream.until("2 parked").await;
    stream.until("instead of 6").await;
    assert!(!stream.read.contains("id=\"unmatched\""), "what is the same is not sent: {}", stream.read);

    let prefix: String = sqlx::query_scalar("select prefix from customer360.api_keys where role = 'operator'")
        .fetch_one(&base.pool)
        .await
        .unwrap();
    keys::revoke(&mut staging::connect(&base.options).await.unwrap(), &prefix, Utc::now()).await.unwrap();
    read_to_end_of(&mut stream).await;
    assert_eq!(browser.get("/operations").await.status, 303);
}

/// A stream that has ended leaves its connection to other requests.
async fn read_to_end_of(stream: &mut Stream) {
    stream.read.clear();
    stream.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let base = Base::new().await;
    let browser = Browser::signed_in(&base, Role::Operator, None).await;
    let mut stream = Stream::open(&base, &browser).await;
    stream.until("id=\"attention\"").await;
    base.server.cancel.cancel();
    let rest = read_to_end(&mut stream.socket).await;
    assert!(String::from_utf8_lossy(&rest).ends_with("0\r\n\r\n"), "it is ended, not cut off");
}

#[tokio::test]
async fn there_are_only_so_many_streams_and_one_asks_for_all() {
    let base = Base::new().await;
    let mut browser = Browser::signed_in(&base, Role::Operator, None).await;
    assert_eq!(browser.get("/operations").await.status, 200);
    let mut rival = base.pool.begin().await.unwrap();
    sqlx::query("lock table staging.csv_imports in access exclusive mode").execute(&mut *rival).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..64 {
        let mut stream = Stream::open(&base, &browser).await;
        // Of what is known; then each wants the next.
        stream.until("id=\"attention\"").await;
        streams.push(stream);
    }
    let refused = browser.get("/operations/live").await;
    assert!(refused.status == 429 && refused.body.contains("Too many pages are live"), "{refused:?}");
    let waits = "select count(*) from pg_stat_activity
        where datname = current_database() and backend_type = 'client backend' and wait_event_type = 'Lock'";
    let waiting = async || sqlx::query_scalar::<_, i64>(waits).fetch_one(&base.pool).await.unwrap();
    until_waiting(&base.pool, 1).await;
    for _ in 0..200 {
        assert_eq!(waiting().await, 1, "one asks");
    }
    rival.rollback().await.unwrap();
    park(&base, "nul", "column name", 1).await;
    for stream in &mut streams {
        stream.until("1 parked").await;
    }
    // Whoever goes makes room.
    drop(streams);
    let has_room = async { while browser_refused(&base, &browser).await {} };
    timeout(PATIENCE, has_room).await.expect("there is room again");
}

async fn browser_refused(base: &Base, browser: &Browser<'_>) -> bool {
    let mut stream = Stream::open(base, browser).await;
    stream.until("HTTP/1.1").await;
    stream.until("\r\n").await;
    stream.read.starts_with("HTTP/1.1 429")
}
