//! The dashboard in a real Chromium: what agents, managers and operators do in a day and in a night, with and without JavaScript, and
//! what axe-core finds.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod world;

use world::World;

#[tokio::test]
async fn an_agent_finds_a_customer_and_keeps_notes_with_the_keyboard() {
    World::new().await.travel("agent", "agent");
}

#[tokio::test]
async fn an_agent_does_the_same_without_javascript() {
    World::new().await.travel("agent-without-script", "agent");
}

#[tokio::test]
async fn a_manager_goes_from_a_number_of_the_insights_to_the_customers_behind_it() {
    World::new().await.travel("manager", "viewer");
}

#[tokio::test]
async fn an_operator_merges_two_customers_undoes_it_and_erases_one() {
    World::new().await.travel("decisions", "operator");
}

#[tokio::test]
async fn an_operator_does_the_same_without_javascript() {
    World::new().await.travel("decisions-without-script", "operator");
}

#[tokio::test]
async fn axe_finds_nothing_on_the_pages_of_decisions() {
    World::new().await.travel("look-at-decisions", "operator");
}

#[tokio::test]
async fn an_operator_sees_what_is_wrong_and_handles_dead_letters_while_the_page_follows() {
    World::after_a_bad_night().await.travel("operator", "operator");
}

#[tokio::test]
async fn an_operator_handles_dead_letters_without_javascript() {
    World::after_a_bad_night().await.travel("operator-without-script", "operator");
}

#[tokio::test]
async fn axe_finds_nothing_on_the_pages_of_operators() {
    World::after_a_bad_night().await.travel("look-of-operations", "operator");
}

#[tokio::test]
async fn axe_finds_nothing_on_any_page_in_light_and_dark_on_desktop_and_phone() {
    World::new().await.travel("look", "agent");
}
