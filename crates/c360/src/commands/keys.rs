//! `c360 keys`

use std::io::Write;

use anyhow::anyhow;
use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::ExposeSecret;
use serve::RowFilter;
use serve::keys::{self, Key, NewKey};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::print;
use super::table::table;
use crate::cli::{AddKey, KeysCommand, ListKeys, RevokeKey};
use crate::config::Config;
use crate::exit::Exit;
use crate::installation::Installation;
use status::words::printable;

pub(super) async fn run(command: KeysCommand, config: Config) -> anyhow::Result<Exit> {
    let installation = Installation::open(config).await?;
    installation.prepare_soon(&CancellationToken::new()).await?;
    let mut connection = staging::connect(&installation.database).await?;
    let ended = match command {
        KeysCommand::Add(args) => add(&mut connection, &installation, args).await,
        KeysCommand::List(args) => list(&mut connection, args).await,
        KeysCommand::Revoke(args) => revoke(&mut connection, &args).await,
    };
    ended.map(|()| Exit::Done).map_err(|error| {
        let exit = match error.downcast_ref() {
            Some(keys::Error::Unknown(_)) => Exit::NotFound,
            Some(keys::Error::Exists(_) | keys::Error::NoSuchList(_) | keys::Error::NoRole) => Exit::Refused,
            Some(keys::Error::Database(cause)) => cause.into(),
            None => return error,
        };
        exit.because(error)
    })
}

async fn add(connection: &mut PgConnection, installation: &Installation, args: AddKey) -> anyhow::Result<()> {
    let now = Utc::now();
    if args.expires.is_some_and(|expires_at| expires_at <= now) {
        return Err(Exit::Refused.because(anyhow!("--expires is in the past: the key would never be valid")));
    }
    let mapped = installation.attributes();
    for attribute in args.only.iter().flat_map(RowFilter::attributes).filter(|name| !mapped.contains(*name)) {
        eprintln!("c360: no source maps the attribute `{}`: the key sees nobody until one does", printable(attribute));
    }
    let new = NewKey { name: args.name, role: args.role, only: args.only, expires_at: args.expires };
    let (key, secret) = keys::add(connection, &new, now).await?;
    let name = printable(&key.name);
    let shown = if args.json {
        let mut document = serde_json::to_value(&key)?;
        document["key"] = secret.expose_secret().into();
        document.to_string()
    } else {
        secret.expose_secret().to_owned()
    };
    // A reader who has seen enough has not seen this.
    writeln!(std::io::stdout(), "{shown}")
        .map_err(|error| anyhow!("nobody has seen the key ({error}): `c360 keys revoke {name}`, and make another"))?;
    if !args.json {
        eprintln!("this is the only time that the key of `{name}` ({}) is shown", key.role);
    }
    Ok(())
}

async fn list(connection: &mut PgConnection, args: ListKeys) -> anyhow::Result<()> {
    let keys = keys::list(connection).await?;
    let mut stdout = std::io::stdout().lock();
    if args.json {
        for key in keys {
            writeln!(stdout, "{}", serde_json::to_string(&key)?)?;
        }
        return Ok(());
    }
    let now = Utc::now();
    let heads = ["NAME", "KEY", "ROLE", "STATE", "LAST USED", "ONLY"].map(str::to_owned);
    let lines = keys.iter().map(|key| line(key, now));
    stdout.write_all(table([heads.to_vec()].into_iter().chain(lines).collect()).as_bytes())?;
    Ok(())
}

fn line(key: &Key, now: DateTime<Utc>) -> Vec<String> {
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let state = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {}", time(at)),
        (None, Some(at)) if at <= now => format!("expired {}", time(at)),
        (None, Some(at)) => format!("until {}", time(at)),
        (None, None) => "valid".to_owned(),
    };
    vec![
        printable(&key.name),
        key.prefix.clone(),
        key.role.to_string(),
        state,
        key.last_used_at.map_or("never".to_owned(), time),
        key.only.as_ref().map_or(String::new(), |only| printable(&only.to_string())),
    ]
}

async fn revoke(connection: &mut PgConnection, args: &RevokeKey) -> anyhow::Result<()> {
    let key = keys::revoke(connection, &args.key, Utc::now()).await?;
    Ok(print(args.json, &key, || format!("revoked the key of `{}` ({})\n", printable(&key.name), key.prefix))?)
}
