//! `c360 customer erase`, `readmit` and `export`, and `c360 rebuild`, on a real Postgres, as a shell sees them.

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use serde_json::json;

use crate::support::{Home, SHIPPED, document, stdout};

const MEMBERS: &str = "id,password,firstName,lastName,email,points\n\
    27,xrinn5xp.swd,Matthew,Groves,Matthew.Groves@couchbase.com,47\n\
    28,hunter2,Bob,Builder,bob@x.example,1\n";

/// The shipped configuration on a database of one's own, with the members of one night imported.
struct Place(Home);

impl Place {
    async fn new() -> Self {
        let place = Self(Home::new(SHIPPED).await.without_brokers());
        place.0.write("loyalty_members_2026-11-20.csv", MEMBERS);
        place.import().code(0);
        place
    }

    fn import(&self) -> Assert {
        self.0.c360(&["import", "loyalty", "loyalty_members_2026-11-20.csv", "--again"])
    }

    fn c360_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Assert {
        Command::from_std(self.0.command(arguments)).envs(variables.iter().copied()).assert()
    }

    /// What is kept of a member's password.
    async fn credential(&self, id: &str) -> String {
        self.0.ask(&format!("select credential from customer360.xrefs where external_id = '{id}'")).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_exported_erased_kept_out_and_readmitted() {
    let place = Place::new().await;
    let export = ["customer", "export", "matthew.groves@COUCHBASE.com", "--json"];
    let exported = document(&place.0.c360(&export).code(0));
    assert_eq!(exported["xrefs"][0]["external_id"], json!("27"));
    assert_eq!(exported["customers"][0]["profile"]["loyaltyPoints"], json!("47"));
    assert!(exported["staged"][0]["payload"].as_str().unwrap().contains("Groves"), "as it came");
    let credential = place.credential("27").await;
    assert!(![&credential, "xrinn5xp"].iter().any(|secret| exported.to_string().contains(*secret)), "{exported}");

    let erase = ["customer", "erase", "loyalty", "27", "--json"];
    let refused = place.0.c360(&erase).code(2);
    assert!(String::from_utf8_lossy(&refused.get_output().stderr).contains("--yes"));
    let looked = document(&place.0.c360(&[erase.as_slice(), &["--dry-run"]].concat()).code(0));
    assert_eq!((&looked["dry_run"], &looked["removed"]["customer360.xrefs"]), (&json!(true), &json!(1)));
    place.0.c360(&export).code(0);

    let erase = [erase.as_slice(), &["--yes"]].concat();
    let receipt = place.0.c360(&erase).code(0);
    assert_eq!(document(&receipt)["digests"].as_array().unwrap().len(), 2);
    let said = stdout(&receipt) + &String::from_utf8_lossy(&receipt.get_output().stderr);
    assert!(!said.to_lowercase().contains("groves") && !said.contains("\"27\""), "the receipt names nobody: {said}");
    place.0.c360(&export).code(66);
    assert_eq!(document(&place.import().code(0))["files"][0]["skipped"], json!(1));
    let skipped: i64 =
        place.0.ask("select skipped_count from staging.csv_imports order by import_id desc limit 1").await;
    assert_eq!(skipped, 1);
    place.0.c360(&export).code(66);
    // A row of hers that cannot be read is skipped, too, and no dead letter besides.
    place.0.write("loyalty_members_2026-11-21.csv", format!("{MEMBERS}27,x,Matthew,Groves,short\n"));
    let file = &document(&place.0.c360(&["import", "loyalty", "loyalty_members_2026-11-21.csv"]).code(0))["files"][0];
    assert_eq!((&file["rows"], &file["skipped"], &file["dead_letters"]), (&json!(3), &json!(2), &json!(0)), "{file}");
    place.0.c360(&["customer", "export", "bob@x.example"]).code(0);
    assert_eq!(document(&place.0.c360(&erase).code(0))["already"], json!(true));
    place.0.c360(&["customer", "erase", "nobody@x.example", "--yes"]).code(66);

    let readmit = ["customer", "readmit", "Matthew Groves <matthew.groves@couchbase.com>"];
    assert!(stdout(&place.0.c360(&readmit).code(0)).contains("2 digests"));
    place.0.c360(&readmit).code(66);
    place.0.c360(&["import", "loyalty", "loyalty_members_2026-11-21.csv", "--again"]).code(4);
    place.0.c360(&export).code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_changed_are_seen_in_status_until_a_rebuild_is_done() {
    let place = Place::new().await;
    let due = |variables: &[(&str, &str)]| {
        let status = document(&place.c360_with(&["status", "--json"], variables).code(0));
        status["looks"].as_array().unwrap().iter().any(|look| look["command"] == "c360 rebuild")
    };
    assert!(!due(&[]));
    let rebuilt = document(&place.0.c360(&["rebuild"]).code(0));
    assert_eq!((&rebuilt["finished"], &rebuilt["done"]), (&json!(true), &json!(4)));
    assert_eq!(rebuilt["profiles"], json!({"appear": 0, "vanish": 0, "change": 0}));

    let blocked = [("C360__MATCHING__BLOCKED", "[\"bob@*\"]")];
    assert!(due(&blocked));
    let looked = document(&place.c360_with(&["rebuild", "--dry-run", "--json"], &blocked).code(0));
    assert_eq!(looked["profiles"], json!({"appear": 0, "vanish": 1, "change": 0}));
    assert_eq!(looked["samples"][0]["change"], json!("vanishes"));
    assert!(!looked.to_string().contains("bob"));
    assert!(due(&blocked));
    let rebuilt = document(&place.c360_with(&["rebuild", "--json"], &blocked).code(0));
    assert_eq!(rebuilt["profiles"], json!({"appear": 0, "vanish": 1, "change": 0}));
    assert!(!due(&blocked) && due(&[]), "and under the rules of before one is due again");
}
