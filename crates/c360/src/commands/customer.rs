//! `c360 customer`

mod decide;
mod erase;
mod explain;
mod export;
mod show;
mod unmatched;

use consolidate::Key;
use consolidate::decide::Request;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::cli::customer::CustomerCommand;
use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;

pub(super) async fn run(command: CustomerCommand, config: Config) -> anyhow::Result<Exit> {
    let word = |word: String| Key::parse(&[word]);
    match command {
        CustomerCommand::Show(args) => show::run(&args, config).await,
        CustomerCommand::Explain(args) => explain::run(&args, config).await,
        CustomerCommand::Merge(args) => {
            decide::confirmed(Request::Merge(word(args.from), word(args.into)), args.yes, args.deciding, config).await
        }
        CustomerCommand::Split(args) => {
            decide::confirmed(Request::Split(Key::parse(&args.xref)), args.yes, args.deciding, config).await
        }
        CustomerCommand::Block(args) => decide::run(Request::Block(args.value), args.deciding, config).await,
        CustomerCommand::Unblock(args) => decide::run(Request::Unblock(args.value), args.deciding, config).await,
        CustomerCommand::Allow(args) => {
            decide::run(Request::Allow(Key::parse(&args.whom.key)), args.deciding, config).await
        }
        CustomerCommand::Undo(args) => decide::run(undo(&args.what), args.deciding, config).await,
        CustomerCommand::Unmatched(args) => unmatched::run(&args, config).await,
        CustomerCommand::Erase(args) => erase::run(&args, config).await,
        CustomerCommand::Readmit(args) => erase::readmit(&args, config).await,
        CustomerCommand::Export(args) => export::run(&args, config).await,
    }
}

/// A number is a decision's; anything else a key.
fn undo(what: &[String]) -> Request {
    match what {
        [word] if word.parse::<i64>().is_ok() => Request::Undo(word.parse().unwrap_or_default()),
        words => Request::UndoLast(Key::parse(words)),
    }
}

/// The installation with a connection to its database, which is up to date.
struct Opened {
    installation: Installation,
    connection: PgConnection,
}

impl Opened {
    async fn open(config: Config) -> anyhow::Result<Self> {
        let installation = Installation::open(config).await?;
        installation.prepare_soon(&CancellationToken::new()).await?;
        Ok(Self { connection: staging::connect(&installation.database).await?, installation })
    }
}
