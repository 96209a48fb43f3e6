//! `c360 customer`

mod show;

use sqlx::PgConnection;

use crate::cli::customer::CustomerCommand;
use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;

pub(super) async fn run(command: CustomerCommand, config: Config) -> anyhow::Result<Exit> {
    let ended = match command {
        CustomerCommand::Show(args) => show::run(&args, config).await,
    };
    // Whoever reads, such as `head`, has seen enough.
    let has_seen_enough = |error: &anyhow::Error| {
        error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    };
    match ended {
        Err(error) if has_seen_enough(&error) => Ok(Exit::Done),
        ended => ended,
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
        installation.prepare_soon().await?;
        let connection = staging::connect(&installation.database).await;
        Ok(Self { connection: connection.map_err(|error| with_exit(error.into()))?, installation })
    }
}

fn with_exit(error: consolidate::Error) -> anyhow::Error {
    match &error {
        consolidate::Error::Refused(refusal) if refusal.is_unknown() => Exit::NotFound.because(error),
        consolidate::Error::Refused(_) => Exit::Refused.because(error),
        error_ if error_.is_transient() => Exit::OutOfReach.because(error),
        _ => error.into(),
    }
}
