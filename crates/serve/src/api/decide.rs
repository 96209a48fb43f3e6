//! What operators decide: who is who, and who is erased; and what they export. It is the library of `c360 customer`, in the
//! name of a caller and noted in the audit log, by the transaction that decides where one does.

use axum::http::StatusCode;
use chrono::Utc;
use consolidate::decide::{self, Outcome, Recorded, Request};
use consolidate::erase;
use consolidate::explain::{self, Explained};
use consolidate::export;
use consolidate::{Error, Key, Refusal};
use serde_json::Value;
use sqlx::Connection as _;
use sqlx::types::Uuid;
use staging::Seal;

use super::edit::followed;
use super::{Api, Caller, Settings, audit};
use crate::keys::Role;
use crate::problem::Problem;

impl Caller {
    /// Whether this is somebody who decides.
    pub(crate) fn is_operator(&self) -> bool {
        self.key.role >= Role::Operator && self.key.only.is_none()
    }

    /// Refuses whoever decides nothing.
    pub(crate) fn decides(&self) -> Result<(), Problem> {
        self.at_least(Role::Operator)?;
        self.sees_everybody("decisions are about customers whom a row filter may hide")
    }
}

/// Why a customer is as he is, and which decisions stand; `None` where all that is known is held back.
pub(crate) async fn explain(api: &Api, caller: &Caller, customer_id: Uuid) -> Result<Option<Explained>, Problem> {
    caller.decides()?;
    let mut session = api.whole().await?;
    match explain::explain(&mut session, &api.settings.rules, &Key::CustomerId(customer_id)).await {
        Ok(explained) => Ok(Some(explained)),
        Err(Error::Refused(Refusal::HeldBack)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What would come of a request.
pub(crate) async fn foresee(api: &Api, caller: &Caller, request: &Request) -> Result<Outcome, Problem> {
    caller.decides()?;
    let (settings, by) = (&api.settings, &caller.key.name);
    let outcome = decide::foresee(&settings.database, &settings.rules, request, by, Utc::now()).await?;
    for effect in &outcome.customers {
        api.audit.read(caller, "preview_decision", effect.customer.customer_id).await;
    }
    Ok(outcome)
}

/// Carries a request out and waits until profiles have followed; whether they have.
pub(crate) async fn carry_out(api: &Api, caller: &Caller, request: &Request) -> Result<(Recorded, bool), Problem> {
    caller.decides()?;
    let mut transaction = api.begin().await?;
    let (rules, by) = (&api.settings.rules, &caller.key.name);
    let recorded = decide::record(&mut transaction, rules, request, by, Utc::now()).await?;
    for customer_id in &recorded.customers {
        audit::written(&mut transaction, caller, action(request), *customer_id).await?;
    }
    transaction.commit().await?;
    let look = || async {
        let mut session = api.whole().await?;
        Ok(decide::has_followed(&mut session, &recorded).await?)
    };
    let has_followed = followed(look).await?;
    Ok((recorded, has_followed))
}

/// As the audit log calls it.
fn action(request: &Request) -> &'static str {
    match request {
        Request::Merge(..) => "merge_customers",
        Request::Split(_) => "split_customer",
        Request::Block(_) => "block_customer",
        Request::Unblock(_) => "unblock_customer",
        Request::Allow(_) => "allow_customer",
        Request::Undo(_) | Request::UndoLast(_) => "undo_decision",
    }
}

/// One at a time looks through everything.
static LOOKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Erases a customer, on a task of its own: it may take minutes, and one that was asked for is done, whether somebody still waits
/// for the answer or not. With `dry_run`, all is done and taken back, as long as somebody waits.
pub(crate) async fn erase(
    api: &Api,
    caller: &Caller,
    customer_id: Uuid,
    dry_run: bool,
) -> Result<erase::Outcome, Problem> {
    caller.decides()?;
    if dry_run {
        return erased(&api.settings, caller, customer_id, dry_run).await;
    }
    let (settings, caller) = (api.settings.clone(), caller.clone());
    let erasing = tokio::spawn(async move { erased(&settings, &caller, customer_id, false).await });
    erasing.await.unwrap_or_else(|error| {
        tracing::error!(%error, "an erasure was not finished");
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR)
            .with_detail("the erasure was not finished: nothing is erased"))
    })
}

async fn erased(
    settings: &Settings,
    caller: &Caller,
    customer_id: Uuid,
    dry_run: bool,
) -> Result<erase::Outcome, Problem> {
    let _one_at_a_time = LOOKING.lock().await;
    let (seal, whom) = (Seal::new(&settings.key), Key::CustomerId(customer_id));
    // Apart from the sessions of requests, whose statements may not take long: it looks through everything.
    let mut session = staging::connect(&settings.database).await.map_err(|error| Problem::unanswered(&error))?;
    let mut transaction = session.begin().await?;
    let outcome =
        erase::erase(&mut transaction, &settings.rules, &seal, &whom, settings.erased_orders, dry_run).await?;
    if !dry_run && matches!(outcome, erase::Outcome::Erased(_)) {
        audit::written(&mut transaction, caller, "erase_customer", customer_id).await?;
        transaction.commit().await?;
    }
    Ok(outcome)
}

/// Everything that is kept about a customer, as one document.
pub(crate) async fn export(api: &Api, caller: &Caller, customer_id: Uuid) -> Result<Value, Problem> {
    caller.decides()?;
    let settings = &api.settings;
    // As for an erasure.
    let mut session = staging::connect(&settings.database).await.map_err(|error| Problem::unanswered(&error))?;
    let document = export::export(&mut session, &settings.rules, &Key::CustomerId(customer_id)).await?;
    let mut document = document.ok_or_else(Problem::not_found)?;
    settings.mask.apply(&mut document);
    api.audit.read(caller, "export_customer", customer_id).await;
    Ok(document)
}
