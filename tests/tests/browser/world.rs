//! An installation with the cast of all fixtures in it, and c360 serving it.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use c360_tests::people::{self, Person, System};
use c360_tests::program::{Installation, Running};
use sqlx::PgPool;

const PATIENCE: Duration = Duration::from_mins(1);

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

impl World {
    pub(crate) async fn new() -> Self {
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
        buy_and_talk(&database.pool().await).await;
        let served = installation.start_with(&["serve"], "c360.log", &[ASKED]).unwrap();
        let url = format!("http://{listen}");
        let deadline = Instant::now() + PATIENCE;
        while !reqwest::get(format!("{url}/readyz")).await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(Instant::now() < deadline, "c360 does not serve");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { url, installation, _served: served }
    }

    /// Runs a journey in a real browser, as somebody with a new key of this role.
    pub(crate) fn travel(&self, journey: &str, role: &str) {
        let key = self.installation.run(&["keys", "add", "Dana Reyes", "--role", role]).unwrap();
        assert!(key.status.success(), "{}", String::from_utf8_lossy(&key.stderr));
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let modules = Command::new(root.join("../scripts/fetch-browser.sh")).stderr(Stdio::inherit()).output().unwrap();
        assert!(modules.status.success());
        let travelled = Command::new("node")
            .arg(root.join("browser/journeys.mjs"))
            .arg(journey)
            .env("C360_URL", &self.url)
            .env("C360_KEY", String::from_utf8(key.stdout).unwrap().trim())
            .env("C360_MODULES", String::from_utf8(modules.stdout).unwrap().trim())
            .env("C360_PICTURES", pictures())
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

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// What three systems say of the cast: not everybody is known to all of them.
fn drop_files(home: &Path) {
    let mut home_delivery = "id,email,name,phone,address1,address2,city,state,zipcode\n".to_owned();
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
            writeln!(home_delivery, "{},{email},{columns}", person.id(System::HomeDelivery)).unwrap();
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

/// Orders, products and emails of the reference customer, over years.
async fn buy_and_talk(pool: &PgPool) {
    sqlx::raw_sql(
        "insert into customer360.products (system, product_id, name, attributes, position)
         select 'online_store', n::text, name, '{}', ''
         from unnest(array['Cast-iron skillet, 26 cm', 'Salt cellar, large', 'Linen apron, slate', 'Oak serving board, 40 cm',
                           'Stoneware ramekins, set of 4']) with ordinality as p (name, n);
         insert into customer360.orders
             (system, order_id, customer_id, purchased_at, purchased_at_text, total, document, position)
         select 'online_store', (120 - 7 * n)::text, c.customer_id, now() - interval '1 day' * (n * n + 2), null, 5 * 21.75 + n * 12,
                '{}', ''
         from generate_series(1, 14) n, customer360.customers c where c.email = 'matthew.groves@couchbase.com';
         insert into customer360.order_lines (system, order_id, line_no, product_id, quantity, unit_price)
         select 'online_store', (120 - 7 * n)::text, l, ((n + l) % 5 + 1)::text, l, 21.75 * l + 12 * n * (2 - l)
         from generate_series(1, 14) n, generate_series(1, 2) l;
         insert into customer360.interactions
             (system, interaction_id, thread_id, type, status, at, subject, attributes, position)
         select 'support_mail', n::text, 't-881' || n / 3, case n % 4 when 0 then 'call' else 'email' end,
                case n % 2 when 0 then 'resolved' else 'open' end, now() - interval '7 hours' * n * n,
                case n % 4 when 0 then null else 'About order ' || n end, '{}', ''
         from generate_series(1, 24) n;
         insert into customer360.interaction_participants
             (system, interaction_id, participant_no, email, match_key, role, customer_id)
         select 'support_mail', n::text, 1, c.email, c.email, 'from', c.customer_id
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
