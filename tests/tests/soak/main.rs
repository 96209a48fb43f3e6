//! The soak: three c360 on one Postgres read a real broker, a directory and a store, while everything that can go wrong
//! goes wrong at random. At the end all is let to rest, and what is stored is compared with a ledger of what was sent.
//!
//! `C360_SOAK_SEED` and `C360_SOAK_SECONDS` (of faults) come from the environment; `make soak` sets them. One seed gives the
//! same messages and the same faults, though not the same moments. A failure names the seed and what was done.

mod actions;
mod feed;
mod files;
mod golden;
mod landing;
mod ledger;
mod model;
mod nights;
mod rest;
mod table;
mod topic;
mod world;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use c360_tests::bench::number;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::actions::{Deck, Stage};
use crate::feed::Feed;
use crate::nights::Nights;
use crate::world::World;

const PARTITIONS: u16 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_goes_wrong_at_random_every_message_counts_once_and_customers_are_those_of_the_model() {
    let (seed, seconds) = (number("C360_SOAK_SEED", 360) as u64, number("C360_SOAK_SECONDS", 120) as u64);
    println!("seed {seed}, {seconds} s");
    let mut history = Vec::new();
    if let Err(error) = soak(seed, Duration::from_secs(seconds), &mut history).await {
        panic!("{error:#}\n\nafter, with C360_SOAK_SEED={seed} C360_SOAK_SECONDS={seconds}:\n{}", history.join("\n"));
    }
}

async fn soak(seed: u64, time: Duration, history: &mut Vec<String>) -> Result<()> {
    let began = Instant::now();
    let mut note = |text: String| {
        println!("{:7.1} s {text}", began.elapsed().as_secs_f64());
        history.push(format!("{:7.1} s {text}", began.elapsed().as_secs_f64()));
    };
    tokio::task::block_in_place(c360_tests::program::c360)?;
    note("c360 is built".to_owned());
    let world = World::start(PARTITIONS).await?;
    note("the parts have started".to_owned());
    let feed = Feed::start(&world.broker, seed, i32::from(PARTITIONS))?;
    let mut nights = Nights::new(StdRng::seed_from_u64(seed ^ 2));
    nights.next(&world.drop_directory())?;
    let mut stage = Stage { world, feed, nights, replayed: Vec::new() };
    rest::until_something_is_merged(&stage.world.pool).await;
    note("everything runs".to_owned());

    let (mut deck, faults) = (Deck::new(StdRng::seed_from_u64(seed ^ 3), time), Instant::now());
    while faults.elapsed() < time {
        let (pause, action) = deck.deal();
        tokio::time::sleep(pause).await;
        note(action.to_string());
        stage.act(action).await.with_context(|| action.to_string())?;
        rest::all_run(&mut stage.world)?;
    }
    note("no more faults".to_owned());
    let outcome = rest::settle_and_compare(stage, &mut note).await;
    note("done".to_owned());
    outcome
}
