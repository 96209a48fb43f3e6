//! What operators decide by their commands: recorded, refused, foreseen, undone.

use consolidate::decide::{self, Done, Outcome, Request};
use consolidate::explain::{Explained, explain};
use consolidate::{Change, Error, Key, Refusal, unmatched};
use embedded_postgres::test::eventually;
use model::Why;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::World;
use crate::support::events::{customer, gone, order};

const ANN: &str = "ann@x.example";
const BOB: &str = "bob@x.example";
const CYD: &str = "cyd@x.example";

fn key(word: &str) -> Key {
    Key::parse(&[word.to_owned()])
}

fn merge(from: &str, into: &str) -> Request {
    Request::Merge(key(from), key(into))
}

fn split(id: &str) -> Request {
    Request::Split(Key::Xref("store".to_owned(), id.to_owned()))
}

impl World {
    /// Decides and waits for the profiles, as a command does.
    async fn carry_out(&self, request: &Request) -> Result<Outcome, Error> {
        let cancel = CancellationToken::new();
        let outcome = decide::carry_out(&self.options, &self.rules, request, "test", &cancel).await?;
        assert!(outcome.folded);
        Ok(outcome)
    }

    async fn foresee(&self, request: &Request) -> Result<Outcome, Error> {
        decide::foresee(&self.options, &self.rules, request, "test", chrono::Utc::now()).await
    }

    /// Why a request is refused; it changes nothing, beforehand or for real.
    async fn refusal(&self, request: &Request) -> Refusal {
        let before = self.state().await;
        let foreseen = self.foresee(request).await;
        let Err(Error::Refused(refusal)) = self.carry_out(request).await else { panic!("{request:?} is not refused") };
        assert!(matches!(foreseen, Err(Error::Refused(foreseen)) if foreseen == refusal), "a dry run ends alike");
        assert_eq!(before, self.state().await, "nothing is changed");
        refusal
    }

    /// Golden records, decisions and marks, to the row version.
    async fn state(&self) -> Vec<Value> {
        let mut state = Vec::new();
        for table in ["customers", "xrefs", "orders", "redirects", "changes"] {
            state.extend(
                self.rows(&format!("select xmin::text, t::text from customer360.{table} t order by t::text")).await,
            );
        }
        state.extend(self.rows("select * from customer360.decisions order by 1").await);
        state.extend(self.rows("select * from customer360.dirty_marks order by 1").await);
        state.extend(self.rows("select p::text from staging.polls p order by 1").await);
        state
    }

    async fn explain(&self, word: &str) -> Result<Explained, Error> {
        explain(&mut self.pool.acquire().await.unwrap(), &self.rules, &key(word)).await
    }
}

/// Ann with an order, Bob and Cyd.
async fn three_people() -> World {
    let mut world = World::new().await;
    let ann = customer(1, 1).email(ANN).attribute("name", "Ann").attribute("phone", "1");
    let bob = customer(2, 1).email(BOB).attribute("name", "Bob").observed_at(9);
    let cyd = customer(3, 1).email(CYD).attribute("city", "Bern");
    world.land("store", &[ann, bob, cyd, order(10, 2).of_customer("1")]).await;
    world.consolidate().await;
    world
}

#[tokio::test]
async fn a_merge_takes_orders_and_the_old_id_along_and_its_undoing_brings_all_of_it_back() {
    let mut world = three_people().await;
    let before = world.living().await;
    let (ann, bob) = (world.customer(ANN).await.unwrap(), world.customer(BOB).await.unwrap());
    let outcome = world.carry_out(&merge(" Ann@X.example", bob["customer_id"].as_str().unwrap())).await.unwrap();
    let changes: Vec<_> =
        outcome.customers.iter().map(|effect| (effect.change, effect.customer.match_key.as_str())).collect();
    assert_eq!(changes, [(Some(Change::Changes), BOB), (Some(Change::Vanishes), ANN)]);
    assert_eq!(world.profile(BOB).await, Some(json!({"name": "Bob", "phone": "1"})));
    assert_eq!(world.order("store", "10").await["customer_id"], bob["customer_id"]);
    assert_eq!(world.follow(&ann["customer_id"]).await, bob["customer_id"]);
    let causes = world.value("select array_agg(distinct cause order by cause) from customer360.changes").await;
    assert_eq!(causes, json!(["decision", "record"]));
    world.land("loyalty", &[customer("27", 1).email(ANN).attribute("loyaltyPoints", "47")]).await;
    world.consolidate().await;
    assert_eq!(world.profile(BOB).await.unwrap()["loyaltyPoints"], "47", "it holds for later records");

    for word in [ANN, BOB, "store:1", "loyalty:27", ann["customer_id"].as_str().unwrap()] {
        let explained = world.explain(word).await.unwrap();
        assert_eq!(explained.customer.match_key, BOB, "{word} leads there");
        assert_eq!(explained.match_keys, [BOB, ANN]);
        assert!(explained.follows_rules && !explained.pending);
        assert_eq!(explained.decisions.len(), 1);
        let name = &explained.attributes["name"];
        assert_eq!((&name.origin.external_id, name.losing[0].why), (&"2".to_owned(), Why::Older));
    }

    world.land("loyalty", &[gone("27", 2)]).await;
    world.consolidate().await;
    let again = world.carry_out(&merge(ANN, BOB)).await.unwrap();
    assert_eq!((again.done, again.decision), (Done::Nothing, outcome.decision));
    let undone = world.carry_out(&Request::UndoLast(key(ANN))).await.unwrap();
    assert_eq!(undone.done, Done::Undone);
    assert_eq!(world.living().await, before, "as if it had never been");
    assert_eq!(world.follow(&ann["customer_id"]).await, ann["customer_id"]);
    assert_eq!(world.carry_out(&Request::UndoLast(key(ANN))).await.unwrap().done, Done::Nothing);
}

#[tokio::test]
async fn merges_are_transitive_and_are_undone_in_any_order() {
    let world = three_people().await;
    let before = world.living().await;
    let first = world.carry_out(&merge(ANN, BOB)).await.unwrap().decision.unwrap();
    let second = world.carry_out(&merge(BOB, CYD)).await.unwrap().decision.unwrap();
    assert_eq!(world.profile(CYD).await, Some(json!({"name": "Bob", "phone": "1", "city": "Bern"})));
    assert_eq!(world.value("select count(*) from customer360.documents").await, 1);
    world.carry_out(&Request::Undo(second.decision_id)).await.unwrap();
    assert_eq!(world.profile(BOB).await, Some(json!({"name": "Bob", "phone": "1"})));
    world.carry_out(&Request::Undo(first.decision_id)).await.unwrap();
    assert_eq!(world.living().await, before);

    let first = world.carry_out(&merge(ANN, BOB)).await.unwrap().decision.unwrap();
    let second = world.carry_out(&merge(BOB, CYD)).await.unwrap().decision.unwrap();
    world.carry_out(&Request::Undo(first.decision_id)).await.unwrap();
    assert_eq!(world.profile(ANN).await, Some(json!({"name": "Ann", "phone": "1"})));
    assert_eq!(world.profile(CYD).await, Some(json!({"name": "Bob", "city": "Bern"})));
    world.carry_out(&Request::Undo(second.decision_id)).await.unwrap();
    assert_eq!(world.living().await, before);
}

#[tokio::test]
async fn a_merge_in_a_circle_with_oneself_of_nobody_or_of_somebody_who_is_elsewhere_is_refused() {
    let world = three_people().await;
    let ann = world.customer(ANN).await.unwrap()["customer_id"].as_str().unwrap().to_owned();
    assert_eq!(world.refusal(&merge(ANN, &ann)).await, Refusal::Oneself);
    assert_eq!(world.refusal(&merge(ANN, "store:1")).await, Refusal::Oneself);
    assert_eq!(world.refusal(&merge(ANN, "nobody@x.example")).await, Refusal::Unknown);
    assert_eq!(world.refusal(&merge("nobody@x.example", ANN)).await, Refusal::Unknown);
    assert_eq!(world.refusal(&merge(ANN, "nobody")).await, Refusal::NoKey);
    assert_eq!(world.refusal(&merge(ANN, "test@x.example")).await, Refusal::BlockedByConfiguration);

    let merged = world.carry_out(&merge(ANN, BOB)).await.unwrap().decision.unwrap();
    assert_eq!(world.refusal(&merge(BOB, ANN)).await, Refusal::Circle);
    world.carry_out(&merge(BOB, CYD)).await.unwrap();
    assert_eq!(world.refusal(&merge(CYD, ANN)).await, Refusal::Circle, "a longer one");
    assert_eq!(world.carry_out(&merge(ANN, CYD)).await.unwrap().done, Done::Nothing, "they are one already");
    world.carry_out(&Request::UndoLast(key(CYD))).await.unwrap();
    let contradicts = Refusal::Contradicts { decision_id: merged.decision_id, kind: "merge" };
    assert_eq!(world.refusal(&merge(ANN, CYD)).await, contradicts);
    assert_eq!(world.refusal(&Request::Block(ANN.to_owned())).await, contradicts);
    assert_eq!(world.refusal(&Request::Undo(999)).await, Refusal::NoDecision(999));
}

#[tokio::test]
async fn a_split_leaves_somebody_behind_and_is_undone_only_before_what_was_decided_on_it() {
    let mut world = three_people().await;
    let same = customer(4, 1).email(ANN).attribute("name", "Anton");
    world.land("store", &[same, order(11, 2).of_customer("4"), gone(5, 1)]).await;
    world.consolidate().await;
    let before = world.living().await;
    assert_eq!(world.refusal(&split("2")).await, Refusal::OnlyOne);
    assert_eq!(world.refusal(&split("5")).await, Refusal::Tombstone);
    assert_eq!(world.refusal(&split("6")).await, Refusal::NoXref);
    assert_eq!(world.refusal(&Request::Split(key(ANN))).await, Refusal::NoXref);

    world.carry_out(&split("4")).await.unwrap();
    let alone = world.customer("#store:4").await.unwrap();
    assert_eq!((&alone["email"], &alone["profile"]), (&json!(ANN), &json!({"name": "Anton"})));
    assert_eq!(world.order("store", "11").await["customer_id"], alone["customer_id"]);
    assert_eq!(world.carry_out(&split("4")).await.unwrap().done, Done::Nothing);
    assert_eq!(world.refusal(&split("1")).await, Refusal::OnlyOne, "now it is");
    let left = world.explain(ANN).await.unwrap();
    assert_eq!(left.decisions.len(), 1, "what was led away is said where it is missing");

    let merged = world.carry_out(&merge("#store:4", CYD)).await.unwrap().decision.unwrap();
    assert_eq!(world.order("store", "11").await["customer_id"], world.customer(CYD).await.unwrap()["customer_id"]);
    let undo = Request::UndoLast(Key::Xref("store".to_owned(), "4".to_owned()));
    let builds = Refusal::Contradicts { decision_id: merged.decision_id, kind: "merge" };
    assert_eq!(world.refusal(&undo).await, builds);
    world.carry_out(&Request::UndoLast(key(CYD))).await.unwrap();
    world.carry_out(&undo).await.unwrap();
    assert_eq!(world.living().await, before);
    let ann = world.customer(ANN).await.unwrap();
    assert_eq!(world.follow(&alone["customer_id"]).await, ann["customer_id"]);
}

#[tokio::test]
async fn whom_a_guard_keeps_out_is_listed_and_can_be_let_in() {
    let mut world = three_people().await;
    world.rules.guards.max_xrefs_per_system = 1;
    let twin = |id: i64| customer(id, 1).email("family@x.example").attribute("name", format!("{id}"));
    let nobody = customer(8, 1).attribute("name", "?");
    world.land("store", &[twin(6), twin(7), nobody]).await;
    world.consolidate().await;
    let list = async |reason: Option<&str>| {
        let selection = unmatched::Selection { reason: reason.map(str::to_owned), system: None };
        let mut connection = world.pool.acquire().await.unwrap();
        let first = unmatched::list(&mut *connection, &selection, None, 1).await.unwrap();
        let last = first.last().map(|xref| (xref.system.as_str(), xref.external_id.as_str()));
        let rest = unmatched::list(&mut *connection, &selection, last, 9).await.unwrap();
        let all: Vec<String> = first.into_iter().chain(rest).map(|xref| xref.external_id).collect();
        assert_eq!(unmatched::count(&mut *connection, &selection).await.unwrap(), i64::try_from(all.len()).unwrap());
        all
    };
    assert_eq!(list(None).await, ["6", "7", "8"]);
    assert_eq!(list(Some("crowded")).await, ["6", "7"]);
    assert!(matches!(world.explain("family@x.example").await, Err(Error::Refused(Refusal::HeldBack))));
    assert!(matches!(world.explain("store:8").await, Err(Error::Refused(Refusal::Unmatched { .. }))));

    let foreseen = world.foresee(&Request::Allow(key("store:6"))).await.unwrap();
    assert_eq!(foreseen.customers[0].change, Some(Change::Appears));
    let allowed = world.carry_out(&Request::Allow(key("Family@X.example"))).await.unwrap().decision.unwrap();
    assert_eq!(world.document("family@x.example").await.unwrap()["xrefs"].as_array().unwrap().len(), 2);
    assert_eq!(list(Some("crowded")).await, [""; 0]);
    let contradicts = Refusal::Contradicts { decision_id: allowed.decision_id, kind: "allow" };
    assert_eq!(world.refusal(&Request::Block("family@x.example".to_owned())).await, contradicts);
    world.carry_out(&Request::Undo(allowed.decision_id)).await.unwrap();
    assert_eq!(list(Some("crowded")).await, ["6", "7"]);
    assert_eq!(world.refusal(&Request::Allow(key("nobody@x.example"))).await, Refusal::Unknown);
}

#[tokio::test]
async fn a_block_holds_an_email_back_in_every_spelling_until_it_is_undone() {
    let mut world = World::new().await;
    world.land("store", &[customer(1, 1).email("Ann@Bücher.example").attribute("name", "Ann")]).await;
    world.consolidate().await;
    let before = world.living().await;
    let block = |value: &str| Request::Block(value.to_owned());
    assert_eq!(world.refusal(&block("ann@*")).await, Refusal::Pattern);
    assert_eq!(world.refusal(&block("ann")).await, Refusal::NoKey);
    assert_eq!(world.carry_out(&block("test@x.example")).await.unwrap().done, Done::Nothing);
    let unblock = |value: &str| Request::Unblock(value.to_owned());
    assert_eq!(world.refusal(&unblock("test@x.example")).await, Refusal::BlockedByConfiguration);

    world.carry_out(&block("ann@xn--bcher-kva.example")).await.unwrap();
    assert_eq!(world.xref("store", "1").await["unmatched_reason"], "blocked");
    world.land("store", &[customer(2, 1).email("ANN@BÜCHER.example")]).await;
    world.consolidate().await;
    assert_eq!(world.xref("store", "2").await["unmatched_reason"], "blocked", "also a later one");
    world.land("store", &[gone(2, 2)]).await;
    world.consolidate().await;
    let contradicts = world.refusal(&Request::Allow(key("ann@bücher.example"))).await;
    assert!(matches!(contradicts, Refusal::Contradicts { kind: "block", .. }));
    assert_eq!(world.carry_out(&unblock("ann@bücher.example")).await.unwrap().done, Done::Undone);
    assert_eq!(world.living().await, before);
    assert_eq!(world.carry_out(&unblock("ann@bücher.example")).await.unwrap().done, Done::Nothing);
}

#[tokio::test]
async fn what_is_foreseen_is_what_comes_and_foreseeing_changes_nothing() {
    let mut world = three_people().await;
    world.land("store", &[customer(4, 1).email(ANN).attribute("name", "Anton")]).await;
    world.consolidate().await;
    let undo = Request::UndoLast(Key::Xref("store".to_owned(), "4".to_owned()));
    for request in [merge(ANN, BOB), split("4"), undo, Request::Block(CYD.to_owned()), Request::Unblock(CYD.to_owned())]
    {
        let before = world.state().await;
        let foreseen = world.foresee(&request).await.unwrap();
        assert_eq!(before, world.state().await, "{request:?}");
        let outcome = world.carry_out(&request).await.unwrap();
        let facts = |outcome: &Outcome| {
            let facts = outcome.customers.iter().map(|effect| {
                let customer = &effect.customer;
                let (profile, xrefs) = (customer.profile.clone(), customer.xrefs.len());
                (effect.change, effect.attributes.clone(), customer.match_key.clone(), profile, xrefs)
            });
            (outcome.done, facts.collect::<Vec<_>>())
        };
        assert_eq!(facts(&foreseen), facts(&outcome), "{request:?}");
    }
}

#[tokio::test]
async fn a_decision_waits_for_the_consolidator_at_work() {
    let world = three_people().await;
    let mut at_work = world.consolidator().await;
    for (request, expected) in
        [(merge(ANN, BOB), json!({"name": "Bob", "phone": "1"})), (Request::UndoLast(key(ANN)), json!({"name": "Bob"}))]
    {
        let working = async {
            let marks = async || world.value("select count(*) from customer360.dirty_marks").await;
            eventually("something is decided", async || marks().await != 0).await;
            world.consolidate_by(&mut at_work).await;
        };
        let (outcome, ()) = tokio::join!(world.carry_out(&request), working);
        let bob = outcome.unwrap().customers.into_iter().find(|effect| effect.customer.match_key == BOB).unwrap();
        assert_eq!((bob.change, bob.customer.profile), (Some(Change::Changes), expected));
    }
}

/// What a command folded while nobody else was there is not what the next one at work would make of it.
#[tokio::test]
async fn a_decision_without_a_daemon_under_other_rules_makes_a_rebuild_due() {
    let mut world = World::new().await;
    world.catch_up().await;
    let of = |(id, email)| customer(id, 1).email(email);
    world.land("store", &[(1, ANN), (2, BOB), (3, CYD)].map(of)).await;
    world.catch_up().await;
    let at_work = world.rules.fingerprint();
    let is_due = async |world: &World| consolidate::rebuild_is_due(&world.pool, &at_work).await.unwrap();
    world.carry_out(&merge(ANN, BOB)).await.unwrap();
    assert!(!is_due(&world).await);
    world.rules.guards.max_xrefs_per_system += 1;
    world.carry_out(&merge(BOB, CYD)).await.unwrap();
    assert!(is_due(&world).await);
}
