//! `c360 refresh`

use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::anyhow;
use model::{Decisions, MatchKey};
use poll_rest::{Error, Summary};
use serde_json::json;

use crate::cli;
use crate::config::{Config, Rest, SourceKind};
use crate::exit::Exit;
use crate::installation::Installation;
use crate::sources::{Ingester, ingester};
use crate::stop;
use status::words::{age, count};

/// Asks a REST source now.
pub(super) async fn run(args: cli::Refresh, config: Config) -> anyhow::Result<Exit> {
    let source = config.source(&args.source)?.clone();
    let SourceKind::Rest(rest) = &source.kind else {
        let instead = match source.kind.name() {
            "csv" => format!("c360 import {} --again FILE", args.source),
            _ => format!("c360 replay {}", args.source),
        };
        let problem = anyhow!("source {} is not of kind rest; what does it for that kind: {instead}", args.source);
        return Err(Exit::Usage.because(problem));
    };
    let asks_customers = source.settings.customer.as_ref().is_some_and(|customer| customer.request.is_some());
    if args.email.is_some() && !asks_customers {
        let problem = anyhow!("source {} has lists only, and no customer.request: leave out --email", args.source);
        return Err(Exit::Usage.because(problem));
    }
    let cancel = stop::on_signal()?;
    let installation = Installation::open(config).await?;
    let match_key = args.email.as_deref().map(|email| match_key(&installation, email)).transpose()?;
    let Ingester::Rest(settings) = ingester(&args.source, &source, &installation.key)? else {
        unreachable!("a REST source has a REST ingester");
    };
    installation.prepare_soon(&cancel).await?;
    if args.dry_run {
        return foresee(&installation, &args, rest, match_key.as_deref()).await;
    }

    let (database, mut lander) = (installation.database.clone(), installation.lander());
    let refreshed = poll_rest::refresh(settings, database, &mut lander, match_key.as_deref(), cancel.clone()).await;
    let Some(summary) = refreshed.map_err(with_exit)? else { return Err(nobody()) };
    let rules = installation.rules()?;
    let drained = consolidate::catch_up(&rules, &installation.seal(), &installation.database, &cancel).await?;
    let lists = if args.email.is_some() { 0 } else { rest.list.each().count() };
    let printed = print(&args, &summary, lists, drained.profiles);
    if cancel.is_cancelled() {
        eprintln!("c360: stopped; what is due stays due");
        return Exit::Unexpected.after(printed);
    }
    if summary.held > 0 {
        eprintln!(
            "c360: another process has taken {} of what is asked of {} and does not answer: it may have stopped. \
             Once what it has taken is free again, in two minutes or so, the same command asks",
            summary.held, args.source
        );
        return Exit::OutOfReach.after(printed);
    }
    if summary.has_failed() {
        eprintln!("c360: {} failed; what is due stays due. `c360 status` says more", args.source);
        return Exit::OutOfReach.after(printed);
    }
    Exit::Done.after(printed)
}

/// Says how much would be asked for.
async fn foresee(
    installation: &Installation,
    args: &cli::Refresh,
    rest: &Rest,
    match_key: Option<&str>,
) -> anyhow::Result<Exit> {
    let mut connection = staging::connect(&installation.database).await?;
    let customers = staging::polls::count(&mut connection, &args.source, match_key).await?;
    if match_key.is_some() && customers == 0 {
        return Err(nobody());
    }
    let lists = if match_key.is_some() { 0 } else { rest.list.each().count() };
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = Duration::try_from_secs_f64(customers as f64 / rest.requests_per_second).unwrap_or(Duration::MAX);
    let seconds = i64::try_from(seconds.as_secs()).unwrap_or(i64::MAX);
    let document = json!({
        "source": args.source, "dry_run": true, "customers": customers, "lists": lists, "at_least_seconds": seconds,
    });
    super::print(args.json || !io::stdout().is_terminal(), &document, || {
        format!(
            "{} would be asked about {} and read {}; at {} requests a second that takes {} at least\n",
            args.source,
            count(customers, "customer"),
            count(i64::try_from(lists).unwrap_or_default(), "list"),
            rest.requests_per_second,
            age(seconds)
        )
    })?;
    Ok(Exit::Done)
}

fn print(args: &cli::Refresh, summary: &Summary, lists: usize, profiles: usize) -> io::Result<()> {
    let lists_elsewhere = (lists as u64).saturating_sub(summary.lists);
    let document = json!({
        "source": args.source, "asked": summary.asked, "known": summary.known, "unknown": summary.unknown,
        "failing": summary.failing, "asked_elsewhere": summary.asked_elsewhere,
        "lists_elsewhere": lists_elsewhere, "held": summary.held, "products": summary.products, "pages": summary.pages,
        "lists_failed": summary.lists_failed, "records": summary.records, "dead_letters": summary.dead_letters,
        "requests": summary.requests, "breaker": summary.breaker.as_str(), "profiles": profiles,
    });
    super::print(args.json || !io::stdout().is_terminal(), &document, || page(summary, lists_elsewhere, profiles))
}

fn page(summary: &Summary, lists_elsewhere: u64, profiles: usize) -> String {
    let Summary { asked, known, unknown, failing, products, pages, records, dead_letters, .. } = summary;
    let elsewhere = if summary.asked_elsewhere + lists_elsewhere > 0 {
        let customers = count(summary.asked_elsewhere.cast_signed(), "other customer");
        let lists = count(lists_elsewhere.cast_signed(), "list");
        format!(
            "Other processes, such as the daemon, have asked about {customers} and read {lists}, \
             and land what they heard.\n"
        )
    } else {
        String::new()
    };
    format!(
        "{asked} customers asked about: {known} known, {unknown} unknown; {failing} to be asked again soon; \
         {products} products, {pages} pages of lists\n\
         {records} records landed, {dead_letters} dead letters; {profiles} profiles written\n{elsewhere}"
    )
}

/// The match key of an email, by which polls are kept. The message does not repeat what was typed.
fn match_key(installation: &Installation, email: &str) -> anyhow::Result<String> {
    let guards = installation.rules()?.guards;
    match MatchKey::of_email(email, &guards, &Decisions::default()) {
        Ok(key) => Ok(key.as_str().to_owned()),
        Err(_) => Err(Exit::NotFound.because(anyhow!("what --email says is no email, or one that is nobody's"))),
    }
}

fn nobody() -> anyhow::Error {
    let problem =
        "no system knows a customer of this email: a REST source is asked about emails that others have brought";
    Exit::NotFound.because(anyhow!(problem))
}

fn with_exit(error: Error) -> anyhow::Error {
    let exit = match &error {
        Error::Config { .. } => Exit::Configuration,
        Error::Staging(error) => error.into(),
    };
    exit.because(error)
}
