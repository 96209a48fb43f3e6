//! An installation with the cast of all fixtures in it, and c360 serving it.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use c360_tests::people::{self, Person, System};
use c360_tests::program::{Installation, Running};
use embedded_postgres::test::eventually;
use sqlx::PgPool;

const CONFIG: &str = r#"
[survivorship]
prefer = ["home_delivery", "online_store", "loyalty"]
groups = [["address1", "address2", "city", "state", "zipcode"]]

[sources.home_delivery]
kind = "csv"
directory = "home_delivery"
[sources.home_delivery.customer]
external_id = "id"
email = "email"
credential = "password"
attributes = { name = "name", phone = "phone", address1 = "address1", address2 = "address2", city = "city", state = "state", zipcode = "zipcode" }

[sources.loyalty]
kind = "csv"
directory = "loyalty"
[sources.loyalty.customer]
external_id = "id"
email = "email"
attributes = { firstName = "firstName", lastName = "lastName", name = ["firstName", "lastName"], loyaltyPoints = "points" }

[sources.online_store]
kind = "csv"
directory = "online_store"
[sources.online_store.customer]
external_id = "id"
email = "email"
attributes = { name = "name" }
"#;

/// Whoever serves takes the online store for one that can be asked. Nobody asks it.
const ASKED: (&str, &str) = (
    "C360__SOURCES__ONLINE_STORE",
    r#"{ kind = "rest", base_url = "http://127.0.0.1:1", customer = { request = "/?email={email}", external_id = "id", email = "email", attributes = { name = "name" } } }"#,
);

/// c360 and what it serves.
pub(crate) struct World {
    url: String,
    installation: Installation,
    _served: Running,
}

/// Two more systems, for those who look at how all of them are.
const MORE: &str = r#"
[sources.support_mail]
kind = "kafka"
brokers = "127.0.0.1:1"
topics = ["support.mail"]
[sources.support_mail.interaction]
interaction_id = "id"
type = "type"
status = "status"
at = "at"
email = "from"

[sources.web_shop]
kind = "rest"
base_url = "http://127.0.0.1:1"
[sources.web_shop.customer]
request = "/customers?email={email}"
external_id = "id"
email = "email"
attributes = { name = "name" }
"#;

impl World {
    pub(crate) async fn new() -> Self {
        Self::after(async |_, _| {}, "run", &[ASKED]).await
    }

    /// One after a night in which files were bad and sources failed; by now somebody has mended the configuration of one. Nobody
    /// reads the sources, so what is wrong stays.
    pub(crate) async fn after_a_bad_night() -> Self {
        Self::after(bad_night, "serve", &[]).await
    }

    async fn after(
        happens: impl AsyncFnOnce(&Installation, &PgPool),
        command: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let database = embedded_postgres::test::database().await;
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let installation = Installation::new(CONFIG)
            .unwrap()
            .with("C360__DATABASE__URL", &database.url)
            .with("C360__HTTP__LISTEN", &listen);
        drop_files(installation.path());
        let caught_up = installation.run(&["run", "--once", "--no-http"]).unwrap();
        assert!(caught_up.status.success(), "{}", String::from_utf8_lossy(&caught_up.stderr));
        let pool = database.pool().await;
        buy_and_talk(&pool).await;
        consolidate::count_pairs(&database.url.parse().unwrap()).await.unwrap();
        happens(&installation, &pool).await;
        let served = installation.start_with(&[command], "c360.log", environment).unwrap();
        let url = format!("http://{listen}");
        let ask = async || reqwest::get(format!("{url}/readyz")).await;
        eventually("c360 serves", async || ask().await.is_ok_and(|answer| answer.status().is_success())).await;
        Self { url, installation, _served: served }
    }

    /// Runs a journey in a real browser, as somebody with a new key of this role.
    pub(crate) fn travel(&self, journey: &str, role: &str) {
        let key = self.installation.run(&["keys", "add", "Dana Reyes", "--role", role]).unwrap();
        assert!(key.status.success(), "{}", String::from_utf8_lossy(&key.stderr));
        let export = ["customer", "export", "matthew.groves@couchbase.com", "--json"];
        let exported = self.installation.run(&export).unwrap();
        assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let modules = Command::new(root.join("../scripts/fetch-browser.sh")).stderr(Stdio::inherit()).output().unwrap();
        assert!(modules.status.success());
        let travelled = Command::new("node")
            .arg(root.join("browser/journeys.mjs"))
            .arg(journey)
            .env("C360_URL", &self.url)
            .env("C360_KEY", String::from_utf8(key.stdout).unwrap().trim())
            .env("C360_MODULES", String::from_utf8(modules.stdout).unwrap().trim())
            .env(
                "C360_PEOPLE",
                people::all()[1..21].iter().map(|person| person.email.as_str()).collect::<Vec<_>>().join(","),
            )
            .env("C360_PICTURES", pictures())
            .env("C360_EXPORTED", String::from_utf8(exported.stdout).unwrap())
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&travelled.stdout).into_owned() + &String::from_utf8_lossy(&travelled.stderr);
        let log = fs::read_to_string(self.installation.path().join("c360.log")).unwrap();
        assert!(travelled.status.success(), "{said}\nthe log of c360:\n{log}");
        println!("{said}");
    }
}

/// Where pictures are left for whoever wants to look at the pages.
fn pictures() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// A file in another encoding with a row that is short, a file that is empty, and what two ingesters said last.
async fn bad_night(installation: &Installation, pool: &PgPool) {
    let drop = installation.path().join("loyalty");
    let rows = b"id,email,firstName,lastName,points\n9001,renee.cote@x.example,Ren\xe9e,C\xf4t\xe9,12\n\
        9002,noor.haddad@x.example,Noor,Haddad,40\n9003,short.row@x.example,Short\n";
    fs::write(drop.join("members_2026-03-01.csv"), rows).unwrap();
    let imported = installation.run(&["import", "loyalty"]).unwrap();
    assert_eq!(imported.status.code(), Some(4), "{}", String::from_utf8_lossy(&imported.stderr));
    fs::write(drop.join("members_2026-03-02.csv"), "").unwrap();
    let refused = installation.run(&["import", "loyalty"]).unwrap();
    assert_eq!(refused.status.code(), Some(65), "{}", String::from_utf8_lossy(&refused.stderr));
    let mended = CONFIG.replace("directory = \"loyalty\"", "directory = \"loyalty\"\nencoding = \"windows-1252\"");
    fs::write(installation.path().join("c360.toml"), mended + MORE).unwrap();
    sqlx::raw_sql(
        r#"insert into staging.sources (source, health, health_at) values
               ('support_mail', '{"lag": 1204, "lag_seconds": 41, "oldest_unlanded_seconds": 44, "stopped":
                   [{"topic": "support.mail", "partition": 2, "reason": "the broker no longer has offset 71,930"}]}', now()),
               ('web_shop', '{"breaker": "open", "stopped": []}', now());
           insert into staging.polls (source, match_key, email, next_at)
           select 'web_shop', 'a' || n, 'a' || n, now() - interval '1 minute' * n from generate_series(1, 41) n;
           -- Where this test runs is in no picture.
           update staging.csv_imports set directory = 'loyalty' where source = 'loyalty';
           update customer360.xrefs set customer_id = null, unmatched_reason = 'crowded'
           where system = 'online_store' and external_id::bigint % 9 = 0"#,
    )
    .execute(pool)
    .await
    .unwrap();
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// What three systems say of the cast: not everybody is known to all of them.
fn drop_files(home: &Path) {
    let mut home_delivery = "id,email,password,name,phone,address1,address2,city,state,zipcode\n".to_owned();
    let mut loyalty = "id,email,firstName,lastName,points\n".to_owned();
    let mut online_store = "id,email,name\n".to_owned();
    for person in people::all() {
        let Person { index, first_name, last_name, email, .. } = person;
        let (state, suite) = (person.state.as_deref().unwrap_or_default(), person.address_line_2.as_deref());
        if index % 5 != 4 {
            let columns = [
                &person.name(),
                &person.phone,
                &person.address_line_1,
                suite.unwrap_or_default(),
                &person.city,
                state,
                &person.zipcode,
            ];
            let columns = columns.map(quoted).join(",");
            writeln!(home_delivery, "{},{email},secret,{columns}", person.id(System::HomeDelivery)).unwrap();
        }
        if index % 3 != 2 {
            let (id, points) = (person.id(System::Loyalty), person.points());
            let nickname = if *index == 0 { "Matt" } else { first_name };
            writeln!(loyalty, "{id},{email},{},{},{points}", quoted(nickname), quoted(last_name)).unwrap();
        }
        if index % 4 != 3 {
            writeln!(online_store, "{},{email},{}", person.id(System::OnlineStore), quoted(&person.name())).unwrap();
        }
    }
    for (system, rows) in [("home_delivery", home_delivery), ("loyalty", loyalty), ("online_store", online_store)] {
        let directory = home.join(system);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("people.csv"), rows).unwrap();
    }
}

/// Orders, products and emails of the reference customer, over years, and what others bought. The others became known one after
/// the other, the more the later.
async fn buy_and_talk(pool: &PgPool) {
    sqlx::raw_sql(
        "update customer360.customers c
         set created_at = now() - interval '1 day' * (n.nth * (n.nth + 250) / 300)
         from (select customer_id, row_number() over (order by email) as nth from customer360.customers) n
         where n.customer_id = c.customer_id;
         insert into customer360.products (system, product_id, name, attributes, position)
         select 'online_store', n::text, name, '{}', ''
         from unnest(array['Cast-iron skillet, 26 cm', 'Salt cellar, large', 'Linen apron, slate', 'Oak serving board, 40 cm',
                           'Stoneware ramekins, set of 4', 'Stoneware baking dish, 30 cm', 'Skillet lid, 26 cm'])
              with ordinality as p (name, n);
         insert into customer360.orders
             (system, order_id, customer_id, purchased_at, purchased_at_text, total, document, position)
         select 'online_store', (120 - 7 * n)::text, c.customer_id, now() - interval '1 day' * (n * n + 2), null, 5 * 21.75 + n * 12,
                '{}', ''
         from generate_series(1, 14) n, customer360.customers c where c.email = 'matthew.groves@couchbase.com';
         insert into customer360.order_lines (system, order_id, line_no, product_id, quantity, unit_price)
         select 'online_store', (120 - 7 * n)::text, l, ((n + l) % 5 + 1)::text, l, 21.75 * l + 12 * n * (2 - l)
         from generate_series(1, 14) n, generate_series(1, 2) l;
         with others as (
             select customer_id, row_number() over (order by email) as n from customer360.customers
             where email <> 'matthew.groves@couchbase.com' and deleted_at is null
             limit 24
         ),
         orders as (
             insert into customer360.orders
                 (system, order_id, customer_id, purchased_at, purchased_at_text, total, document, position)
             select 'online_store', (1000 + n)::text, customer_id, now() - interval '1 day' * (n * n / 2), null, 60, '{}', ''
             from others
         )
         insert into customer360.order_lines (system, order_id, line_no, product_id, quantity, unit_price)
         select 'online_store', (1000 + o.n)::text, l.line_no, l.product_id, 1, 30
         from others o
         cross join lateral (values (1, (o.n % 5 + 1)::text),
                                    (2, case when o.n % 5 = 4 then '6' when o.n % 5 = 0 then '7' else '2' end))
             as l (line_no, product_id);
         insert into customer360.interactions
             (system, interaction_id, thread_id, type, status, at, subject, attributes, position)
         select 'support_mail', n::text, 't-881' || n / 3, case n % 4 when 0 then 'call' else 'email' end,
                case n % 2 when 0 then 'resolved' else 'open' end, now() - interval '7 hours' * n * n,
                case n % 4 when 0 then null else 'About order ' || n end, '{}', ''
         from generate_series(1, 24) n;
         insert into customer360.interaction_participants
             (system, interaction_id, participant_no, email, match_key, role, customer_id, at)
         select 'support_mail', n::text, 1, c.email, c.email, 'from', c.customer_id, now() - interval '7 hours' * n * n
         from generate_series(1, 24) n, customer360.customers c where c.email = 'matthew.groves@couchbase.com';
         insert into staging.outbox (source, kind, system, external_id, match_key, email, edits, edited_at, next_at)
         select x.system, 'update', x.system, x.external_id, x.match_key, x.email,
                '{\"name\": {\"value\": \"Matt Groves\", \"replaced\": []}}', now(), 'infinity'
         from customer360.xrefs x where x.system = 'online_store' and x.match_key = 'matthew.groves@couchbase.com'",
    )
    .execute(pool)
    .await
    .unwrap();
}
