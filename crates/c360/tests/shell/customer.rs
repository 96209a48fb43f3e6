//! `c360 customer` as a shell sees it, on a real Postgres: a person is looked at, explained, merged, split, blocked and undone.

use assert_cmd::assert::Assert;
use serde_json::{Value, json};

use crate::support::{Home, stderr, stdout};

/// Two sources of files.
const CONFIG: &str = r#"
[sources.loyalty]
kind = "csv"
directory = "loyalty"
settle = "1ms"
[sources.loyalty.customer]
external_id = "id"
email = "email"
attributes = { name = "name", points = "points" }

[sources.shop]
kind = "csv"
directory = "shop"
settle = "1ms"
[sources.shop.customer]
external_id = "id"
email = "email"
attributes = { name = "name", city = "city" }

[survivorship]
prefer = ["shop"]
[survivorship.attributes]
points = ["loyalty"]
[matching]
max_xrefs_per_system = 2
"#;

const LOYALTY: &str = "id,email,name,points
27,Ann@X.example,Annie,47
28,bob@x.example,Bob,1
31,desk@x.example,Desk,
32,desk@x.example,Desk,
33,desk@x.example,Desk,
34,,Nobody,
";
const SHOP: &str = "id,email,name,city\n1,ann@x.example,Ann Secretname,Bern\n";

struct Place(Home);

impl Place {
    /// Everybody is consolidated.
    async fn with_people() -> Self {
        let home = Home::new(CONFIG).await;
        home.write("loyalty/2026-03-01.csv", LOYALTY);
        home.write("shop/2026-03-01.csv", SHOP);
        home.c360(&["run", "--once", "--no-http"]).code(0);
        Self(home)
    }

    /// A command about customers; whatever comes of it, nothing personal is on standard error.
    fn customer(&self, arguments: &[&str], code: i32) -> Assert {
        let ended = self.0.c360(&[&["customer"], arguments].concat());
        let said = stderr(&ended);
        for personal in ["@", "Ann", "Secretname", "Bern", "Bob", "Desk", "desk"] {
            assert!(!said.contains(personal), "{arguments:?}: {said}");
        }
        assert_eq!(ended.get_output().status.code(), Some(code), "{arguments:?}: {said}{}", stdout(&ended));
        ended
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.customer(&[arguments, &["--json"]].concat(), 0);
        serde_json::from_str(&stdout(&ended)).unwrap()
    }

    /// What is refused with this code says this.
    fn refused(&self, arguments: &[&str], code: i32, part: &str) {
        let said = stderr(&self.customer(arguments, code));
        assert!(said.contains(part), "{arguments:?}: {said}");
    }

    async fn value(&self, sql: &str) -> Value {
        self.0.ask(&format!("select coalesce(jsonb_agg(q), '[]') from ({sql}) q")).await
    }

    /// Every row that a decision could touch, to its version.
    async fn state(&self) -> Vec<Value> {
        let mut state = Vec::new();
        for table in ["customers", "xrefs", "redirects", "changes", "decisions", "dirty_marks"] {
            state.push(self.value(&format!("select xmin::text, t::text from customer360.{table} t order by 2")).await);
        }
        state
    }
}

#[tokio::test]
async fn a_customer_is_shown_and_explained_by_email_id_or_system_and_id() {
    let place = Place::with_people().await;
    let shown = place.json(&["show", " ANN@x.Example "]);
    assert_eq!(shown["profile"], json!({"name": "Ann Secretname", "city": "Bern", "points": "47"}));
    let xrefs: Vec<_> =
        shown["xrefs"].as_array().unwrap().iter().map(|xref| (&xref["system"], &xref["external_id"])).collect();
    assert_eq!(json!(xrefs), json!([["loyalty", "27"], ["shop", "1"]]));
    let id = shown["customer_id"].as_str().unwrap();
    for key in [&[id][..], &["loyalty", "27"], &["loyalty:27"], &["mailto:ann@x.example"]] {
        assert_eq!(place.json(&[&["show"], key].concat()), shown, "{key:?}");
    }
    let page = stdout(&place.customer(&["show", "loyalty", "27"], 0));
    assert!(page.contains(id) && page.contains("  name    Ann Secretname  shop     1\n"), "{page}");

    let explained = place.json(&["explain", id]);
    let name = &explained["attributes"]["name"];
    assert_eq!(
        json!([name["value"], name["system"], name["external_id"], name["edited"]]),
        json!(["Ann Secretname", "shop", "1", false])
    );
    let losing = json!([name["losing"][0]["system"], name["losing"][0]["value"], name["losing"][0]["why"]]);
    assert_eq!(losing, json!(["loyalty", "Annie", "prefer"]));
    assert_eq!(explained["attributes"]["points"]["losing"][0]["why"], "no_value");
    assert_eq!(json!([explained["pending"], explained["follows_rules"]]), json!([false, true]));
    assert_eq!(explained["changes"].as_array().unwrap().last().unwrap()["cause"], "record");
    let page = stdout(&place.customer(&["explain", "shop:1"], 0));
    assert!(
        page.contains("ranks behind by survivorship.prefer") && page.contains("name = Ann Secretname from shop 1"),
        "{page}"
    );

    place.0.execute("update customer360.customers set profile = '{}'").await;
    assert_eq!(place.json(&["explain", id])["follows_rules"], false, "somebody has written to the table");

    place.refused(&["show", "nobody@x.example"], 66, "no customer is known by that");
    place.refused(&["show", "ann"], 66, "neither a customer id");
    place.refused(&["show", "shop", "99"], 66, "no customer is known by that");
    place.refused(&["explain", "loyalty", "34"], 66, "(no_email)");
    place.refused(&["explain", "desk@x.example"], 66, "held back (crowded)");
}

#[tokio::test]
async fn two_customers_are_merged_as_the_dry_run_says_only_with_a_yes_and_taken_apart_again() {
    let place = Place::with_people().await;
    let documents = "select email, document from customer360.documents order by 1";
    let (before, state) = (place.value(documents).await, place.state().await);
    let bob = place.json(&["show", "bob@x.example"])["customer_id"].clone();
    let merge = ["merge", "bob@x.example", "ann@x.example"];
    let foreseen = place.json(&[&merge[..], &["--dry-run"]].concat());
    assert_eq!(json!([foreseen["dry_run"], foreseen["done"]]), json!([true, "decided"]));
    assert_eq!(foreseen["decision"]["decision_id"], json!(null));
    let page = stdout(&place.customer(&[&merge[..], &["--dry-run"]].concat(), 0));
    assert!(
        page.starts_with("A merge would be recorded; of profiles 0 would appear, 1 would vanish, 1 would change\n"),
        "{page}"
    );
    place.refused(&merge, 2, "say --yes");
    place.refused(&["split", "loyalty", "27"], 2, "say --yes");
    assert_eq!(place.state().await, state, "nothing is written");

    let merged = place.json(&[&merge[..], &["--yes", "--by", "helen"]].concat());
    assert_eq!(merged["decision"]["subject"], json!(["bob@x.example", "ann@x.example"]));
    assert_eq!(json!([merged["decision"]["made_by"], merged["folded"]]), json!(["helen", true]));
    let profiles = |document: &Value| {
        let effects = document["customers"].as_array().unwrap().iter();
        effects.map(|effect| json!([effect["change"], effect["customer"]["profile"]])).collect::<Vec<_>>()
    };
    assert_eq!(profiles(&foreseen), profiles(&merged));
    let shown = place.json(&["show", bob.as_str().unwrap()]);
    assert_eq!((&shown["email"], &shown["redirects"][0]["customer_id"]), (&json!("ann@x.example"), &bob));
    assert!(stdout(&place.customer(&[&merge[..], &["--yes"]].concat(), 0)).starts_with("Nothing to do: decision"));

    place.refused(&["merge", "ann@x.example", "bob@x.example", "--yes"], 65, "circle");
    place.refused(&["merge", "ann@x.example", "shop:1", "--yes"], 65, "himself");
    place.refused(&["merge", "ann@x.example", "nobody@x.example", "--yes"], 66, "no customer is known");
    place.refused(&["block", "bob@x.example"], 65, "(merge) says otherwise and stands");
    let id = merged["decision"]["decision_id"].to_string();
    let undone = place.json(&["undo", &id]);
    assert_eq!(undone["done"], "undone");
    assert_eq!(place.value(documents).await, before);
    assert_eq!(place.json(&["undo", &id])["done"], "nothing");
    place.refused(&["undo", "999"], 66, "there is no decision 999");
}

#[tokio::test]
async fn a_cross_reference_is_split_off_and_brought_back_but_never_the_last_one() {
    let place = Place::with_people().await;
    let split = place.json(&["split", "loyalty:27", "--yes"]);
    assert_eq!(split["decision"]["subject"], json!(["loyalty", "27"]));
    assert!(!split["decision"]["made_by"].as_str().unwrap().is_empty());
    assert_eq!(place.json(&["show", "#loyalty:27"])["profile"], json!({"name": "Annie", "points": "47"}));
    place.refused(&["split", "loyalty", "28", "--yes"], 65, "the only living cross-reference");
    place.refused(&["split", "loyalty", "99", "--yes"], 66, "no such cross-reference");
    assert_eq!(place.json(&["split", "loyalty", "27", "--yes"])["done"], "nothing");
    assert_eq!(place.json(&["undo", "loyalty", "27"])["done"], "undone");
    let together = place.json(&["show", "loyalty", "27"]);
    assert_eq!((&together["match_key"], &together["xrefs"][1]["system"]), (&json!("ann@x.example"), &json!("shop")));
    assert_eq!(place.json(&["undo", "loyalty", "27"])["done"], "nothing");
}

#[tokio::test]
async fn whom_a_guard_keeps_out_is_listed_and_let_in() {
    let place = Place::with_people().await;
    let listed = |arguments: &[&str]| {
        let ended = place.customer(&[&["unmatched", "--json"], arguments].concat(), 0);
        let lines: Vec<Value> = stdout(&ended).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.iter().map(|line| line["external_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&[]), ["31", "32", "33", "34"]);
    assert_eq!(listed(&["crowded", "--limit", "2"]), ["31", "32"]);
    assert_eq!(listed(&["no_email", "--system", "loyalty"]), ["34"]);
    assert_eq!(listed(&["--system", "shop"]), [""; 0]);
    let ended = place.customer(&["unmatched", "--limit", "1"], 0);
    assert_eq!(
        stdout(&ended),
        "4 living cross-references without a customer\n  loyalty  31  crowded  desk@x.example\n"
    );
    assert!(stderr(&ended).contains("1 of 4 are shown"), "{}", stderr(&ended));
    place.customer(&["unmatched", "odd"], 2);

    assert_eq!(place.json(&["allow", "Desk@x.example"])["customers"][0]["change"], "appears");
    assert_eq!(listed(&["crowded"]), [""; 0]);
    assert_eq!(place.json(&["undo", "desk@x.example"])["done"], "undone");
    assert_eq!(listed(&["crowded"]), ["31", "32", "33"]);
    place.refused(&["show", "desk@x.example"], 66, "held back (crowded)");

    assert_eq!(place.json(&["block", "Ann@X.example"])["customers"][0]["change"], "vanishes");
    assert_eq!(listed(&["blocked"]), ["27", "1"]);
    place.refused(&["show", "ann@x.example"], 66, "is blocked");
    place.refused(&["allow", "ann@x.example"], 65, "(block) says otherwise");
    place.refused(&["block", "*@x.example"], 65, "patterns");
    assert_eq!(place.json(&["unblock", "ann@x.example"])["done"], "undone");
    assert_eq!(place.json(&["show", "ann@x.example"])["profile"]["points"], "47");
}
