//! `c360 demo`: the reference scenario on embedded parts. Nothing but Postgres' programs has to be there: the fixtures are
//! in this binary, and all that is made is gone at the end.
//!
//! The pipeline is the real one, under the shipped `c360.toml`; only what it talks to is embedded (`world`). Progress goes
//! to standard error (`narrator`, `arrivals`), the result to standard output (`results` reads it, `print` writes it).

mod arrivals;
mod fixtures;
mod mock_kafka;
mod narrator;
mod print;
mod results;
mod world;

use std::io;
use std::net::{SocketAddr, TcpListener};

use chrono::Utc;
use serve::keys::{self, NewKey, Role};

use crate::cli;
use crate::exit::Exit;
use crate::{daemon, stop};
use narrator::tell;
use world::World;

/// Runs the demo: until Ctrl-C, with `--once` until the result is printed.
pub async fn run(args: cli::Demo) -> anyhow::Result<Exit> {
    let cancel = stop::on_signal()?;
    tell("The reference scenario: one retailer, three systems that do not know each other.\n");
    let (world, mut installation) = World::open().await?;
    let exit = Box::pin(arrivals::all(&mut installation, &cancel)).await?;
    anyhow::ensure!(!cancel.is_cancelled(), "stopped before everything had arrived");

    let mut database = staging::connect(&installation.database).await?;
    let printed = if args.json {
        let documents = results::documents(&mut database).await?;
        print::json(&mut io::stdout().lock(), &documents)
    } else {
        let (reference, orders) = results::reference(&mut database).await?;
        let summary = results::summary(&mut database).await?;
        print::text(&mut io::stdout().lock(), &reference, &orders, &summary)
    };
    if args.once {
        return exit.after(printed);
    }
    printed?;
    let operator = NewKey { name: "demo".to_owned(), role: Role::Operator, only: None, expires_at: None };
    let (_, key) = keys::add(&mut database, &operator, Utc::now()).await?;
    drop(database);

    let wanted = installation.config.http.listen;
    installation.config.http.listen = free(wanted);
    world.invite(&installation, &key);
    // The world must be there as long as the daemon: it ends after it.
    Box::pin(daemon::run(installation, true, cancel)).await
}

/// `wanted`, or a free port beside it when somebody else has it. Somebody may still take it before the daemon does.
fn free(wanted: SocketAddr) -> SocketAddr {
    let any = SocketAddr::new(wanted.ip(), 0);
    let free = TcpListener::bind(wanted).or_else(|_| TcpListener::bind(any));
    free.and_then(|listener| listener.local_addr()).unwrap_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_has_is_left_to_them() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = taken.local_addr().unwrap();
        assert_ne!(free(wanted).port(), wanted.port());
        drop(taken);
        assert_eq!(free(wanted), wanted);
    }
}
