//! Reading a list that is due: leased, asked for page by page, landed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use model::Entity;
use serde_json::json;
use sqlx::PgPool;
use staging::lists::{self, Advance, Lease, Progress, Release};
use staging::{Batch, Checkpoint, Lander, Landing, Patience};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::page::{self, Page};
use super::paging::{Next, Seen};
use super::round::{self, Read};
use super::{Spec, Trouble};
use crate::answer::position_time;
use crate::ask::Asker;
use crate::client::Content;
use crate::run::Summary;
use crate::{Error, metrics, schedule};

/// How often a page that the source does not have is asked for before the round begins anew.
const TRIES_OF_A_PAGE: i32 = 3;
/// What is kept of a lease for landing.
const TO_LAND: Duration = Duration::from_secs(15);

/// The lists of a source, and what keeps them from being read.
pub(crate) struct Lists {
    pub specs: Vec<Spec>,
    troubles: Mutex<BTreeMap<&'static str, String>>,
}

impl Lists {
    pub(crate) fn new(specs: Vec<Spec>) -> Self {
        Self { specs, troubles: Mutex::default() }
    }

    /// What keeps lists from being read at the moment, in words.
    pub(crate) fn trouble(&self) -> Option<String> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let words: Vec<String> = troubles.iter().map(|(list, trouble)| format!("{list}: {trouble}")).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    fn note(&self, source: &str, list: &'static str, trouble: Option<String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match trouble.clone() {
            Some(trouble) => troubles.insert(list, trouble),
            None => troubles.remove(list),
        };
        match (before, trouble) {
            (None, Some(trouble)) => tracing::warn!(source, list, trouble, "a list cannot be read to its end"),
            (Some(_), None) => tracing::info!(source, list, "the list is read to its end again"),
            _ => {}
        }
    }
}

/// What reading needs beside the list.
pub(crate) struct Reading<'a> {
    pub asker: &'a Asker,
    pub spec: &'a Spec,
    pub database: &'a PgPool,
    pub lander: &'a mut Lander,
    /// Stops asking.
    pub cancel: &'a CancellationToken,
    /// Stops even a landing that waits for the database.
    pub patience: &'a CancellationToken,
}

/// Reads a list up to the end of its round, if it is due and nobody else reads it. `false` when there was nothing to do.
pub(crate) async fn read_due(reading: &mut Reading<'_>, summary: &mut Summary) -> Result<bool, Error> {
    let Some(mut lease) = reading.lease().await? else { return Ok(false) };
    let mut seen = Seen::default();
    loop {
        let left = (lease.leased_until - Utc::now()).to_std().unwrap_or_default().saturating_sub(TO_LAND);
        let asked = tokio::select! {
            asked = timeout(left, reading.ask(&lease.progress, &mut seen)) => asked,
            () = reading.cancel.cancelled() => {
                reading.release(&lease, Utc::now(), lease.progress.failures, false).await;
                return Ok(true);
            }
        };
        let (page, read) = match asked {
            Ok(Ok(asked)) => asked,
            Ok(Err(trouble)) => {
                summary.lists_failed += 1;
                reading.give_up(&lease, &trouble).await;
                return Ok(true);
            }
            Err(_) => {
                // It waited for the breaker, or for its turn: another lease, the same page.
                summary.lists_failed += 1;
                reading.release(&lease, Utc::now(), lease.progress.failures, false).await;
                return Ok(true);
            }
        };
        summary.reached = true;
        match reading.land(&lease, page, &read, summary).await? {
            Some(next) => {
                if pass(&next) != pass(&lease) {
                    // The second look sees it all again.
                    seen = Seen::default();
                }
                lease = next;
            }
            None => return Ok(true),
        }
    }
}

/// How far the list is read once something is landed.
struct Step {
    progress: Progress,
    next_at: DateTime<Utc>,
    is_finished: bool,
}

fn pass(lease: &Lease) -> i32 {
    lease.progress.round.as_ref().map_or(1, |round| round.pass)
}

impl Reading<'_> {
    fn source(&self) -> &str {
        &self.asker.settings.source
    }

    fn lease_time(&self) -> Duration {
        crate::pipeline::LEASE.max(TO_LAND + self.asker.settings.timeout * 4)
    }

    async fn lease(&self) -> Result<Option<Lease>, Error> {
        let mut patience = Patience::new("leasing a list");
        loop {
            let now = Utc::now();
            let (entity, rules) = (self.spec.list.entity, &self.spec.rules);
            let until = now + self.lease_time();
            let leasing = lists::lease(self.database, self.source(), entity, rules, now, until);
            match staging::in_time("leasing a list", leasing).await {
                Ok(lease) => {
                    patience.worked();
                    return Ok(lease);
                }
                Err(error) => patience.wait(self.cancel, error).await?,
            }
        }
    }

    /// Asks for the next page and reads it.
    async fn ask(&self, progress: &Progress, seen: &mut Seen) -> Result<(Page, Read), Trouble> {
        let spec = self.spec;
        let pages = progress.round.as_ref().map_or(0, |round| round.pages);
        if u32::try_from(pages).is_ok_and(|pages| pages >= spec.list.max_pages) {
            return Err(Trouble::TooLong(spec.list.max_pages));
        }
        let asked = progress.round.as_ref().and_then(|round| round.next_page.clone());
        let asked: Option<Next> = match asked {
            Some(next) => Some(serde_json::from_value(next).map_err(|_| Trouble::Next)?),
            None => None,
        };
        let url = spec.url(asked.as_ref(), progress.complete_until)?;
        let asked_at = Utc::now();
        let reply = self.asker.requester.get(spec.name(), &url, None).await?;
        let at = position_time(reply.at, progress.answered_at);
        let (page, bytes) = match reply.content {
            Content::Body { bytes, .. } => (Page::read(self.asker, spec, &bytes, at)?, bytes),
            Content::Nothing => (Page::default(), Vec::new()),
            Content::NotFound if self.ended_before(asked.as_ref(), progress, at).await? => {
                (Page::default(), Vec::new())
            }
            Content::NotFound | Content::NotModified => return Err(Trouble::NotFound),
        };
        let body = crate::answer::raw(&bytes).map_or("", |raw| raw.get());
        let next = spec.paging.next(asked.as_ref(), (body, reply.link.as_deref()), page.records)?;
        if let Some(Next::Url(url)) = &next {
            spec.of_our_host(url)?;
        }
        let records = page::records_text(spec, &bytes).map(str::as_bytes);
        let next = seen.judge(asked.as_ref(), next, records)?;
        let read = Read { at, date: reply.date, asked_at, records: page.records, next };
        Ok((page, read))
    }

    /// Whether a numbered page that is not there is the one behind the last: some sources say 404 of it. Then the page before
    /// is still there; where that is gone too, it is the source that is in trouble, and the list has not ended.
    async fn ended_before(
        &self,
        asked: Option<&Next>,
        progress: &Progress,
        at: DateTime<Utc>,
    ) -> Result<bool, Trouble> {
        let Some(Next::Page(number)) = asked else { return Ok(false) };
        let before = Next::Page(number.saturating_sub(1));
        let url = self.spec.url(Some(&before), progress.complete_until)?;
        let reply = self.asker.requester.get(self.spec.name(), &url, None).await?;
        let Content::Body { bytes, .. } = reply.content else { return Ok(false) };
        Ok(Page::read(self.asker, self.spec, &bytes, at)?.records > 0)
    }

    /// Lands a page, and returns the lease of the next one; `None` when the round has come to its end, or somebody else has
    /// the list now.
    async fn land(
        &mut self,
        lease: &Lease,
        mut page: Page,
        read: &Read,
        summary: &mut Summary,
    ) -> Result<Option<Lease>, Error> {
        page.forget_known(&self.known(&page).await?);
        let progress = round::after(&lease.progress, read, self.spec.can_shift());
        let is_finished = progress.round.is_none();
        let next_at = if is_finished {
            schedule::after_answer(Utc::now(), self.spec.list.every)
        } else {
            Utc::now() + self.lease_time()
        };
        let step = Step { progress, next_at, is_finished };
        let landed = match self.land_step(lease, &step, &page, summary).await {
            Err(Error::Staging(error)) if error.is_data() => {
                tracing::error!(source = self.source(), list = self.spec.name(), %error, "a page cannot be stored");
                self.land_one_by_one(lease, &step, page, summary).await?
            }
            landed => landed?,
        };
        if !landed {
            tracing::info!(source = self.source(), list = self.spec.name(), "a page is not landed: its lease is over");
            return Ok(None);
        }
        summary.pages += 1;
        if is_finished {
            self.asker.lists.note(self.source(), self.spec.name(), None);
            return Ok(None);
        }
        Ok(Some(Lease { progress: step.progress, leased_until: next_at }))
    }

    /// Lands a page of which the database refuses something: each record by itself, so that only the one is a dead letter;
    /// then the page, of which nothing is left but where the next one is.
    async fn land_one_by_one(
        &mut self,
        lease: &Lease,
        step: &Step,
        mut page: Page,
        summary: &mut Summary,
    ) -> Result<bool, Error> {
        let mut lease = lease.clone();
        for item in std::mem::take(&mut page.items) {
            let next_at = Utc::now() + self.lease_time();
            let stays = Step { progress: lease.progress.clone(), next_at, is_finished: false };
            let mut single = Page { items: vec![item], ..Page::default() };
            let landed = match self.land_step(&lease, &stays, &single, summary).await {
                Err(Error::Staging(error)) if error.is_data() => {
                    single.items.iter_mut().for_each(|item| item.give_up(self.spec));
                    self.land_step(&lease, &stays, &single, summary).await?
                }
                landed => landed?,
            };
            if !landed {
                return Ok(false);
            }
            lease.leased_until = next_at;
        }
        self.land_step(&lease, step, &page, summary).await
    }

    /// Lands what a page holds and the progress behind it; false when the lease was not ours any more.
    async fn land_step(
        &mut self,
        lease: &Lease,
        step: &Step,
        page: &Page,
        summary: &mut Summary,
    ) -> Result<bool, Error> {
        let settings = &self.asker.settings;
        let mut batch = Batch::new(&settings.source, settings.ttl);
        for item in &page.items {
            item.add_to(&mut batch);
        }
        for _ in 0..page.repeated {
            batch.skip();
        }
        let advance = Advance {
            entity: self.spec.list.entity,
            leased_until: lease.leased_until,
            progress: step.progress.clone(),
            next_at: step.next_at,
            is_finished: step.is_finished,
            listed: page.items.iter().map(|item| item.listed.clone()).collect(),
            products: page.products.clone(),
        };
        let (origin, checkpoint) = (json!({ "request": self.spec.label() }), Checkpoint::List(Box::new(advance)));
        let mut patience = Patience::new("landing a page of a list");
        let landing = loop {
            match self.lander.land(&mut batch, &origin, &checkpoint, Utc::now()).await {
                Ok(landing) => break landing,
                Err(error) => patience.wait(self.patience, error).await?,
            }
        };
        patience.worked();
        // Fenced by our own landing, if only the reply to its COMMIT was lost.
        let is_ours = landing != Landing::Fenced || self.is_held(step.next_at).await?;
        if is_ours {
            metrics::landed(&batch);
            summary.records += u64::try_from(batch.record_count()).unwrap_or_default();
            summary.dead_letters += u64::try_from(batch.dead_letter_count()).unwrap_or_default();
        }
        Ok(is_ours)
    }

    async fn is_held(&self, until: DateTime<Utc>) -> Result<bool, Error> {
        let mut patience = Patience::new("reading the lease of a list");
        loop {
            let reading = lists::is_held(self.database, self.source(), self.spec.list.entity, until);
            match staging::in_time("reading the lease of a list", reading).await {
                Ok(is_held) => return Ok(is_held),
                Err(error) => patience.wait(self.patience, error).await?,
            }
        }
    }

    async fn known(&self, page: &Page) -> Result<HashMap<(Entity, String), String>, Error> {
        let mut patience = Patience::new("reading what a list has brought");
        loop {
            let keys = page.keys();
            let reading = lists::known(self.database, self.source(), &keys);
            match staging::in_time("reading what a list has brought", reading).await {
                Ok(known) => return Ok(known),
                Err(error) => patience.wait(self.patience, error).await?,
            }
        }
    }

    /// Ends the lease of a list that cannot be read on.
    async fn give_up(&self, lease: &Lease, trouble: &Trouble) {
        let now = Utc::now();
        if let Trouble::Failed(failure) = trouble
            && failure.leaves_the_poll()
        {
            // It says nothing about the list; the breaker or the alarm says it all.
            return self.release(lease, now, lease.progress.failures, false).await;
        }
        self.asker.lists.note(self.source(), self.spec.name(), Some(trouble.to_string()));
        let failures = lease.progress.failures.saturating_add(1);
        let next_at = if trouble.ends_the_round() {
            schedule::after_answer(now, self.spec.list.every)
        } else {
            schedule::after_failure(now, failures)
        };
        // A cursor can be over before we come back to it.
        let is_over = trouble.is_about_the_page() && failures >= TRIES_OF_A_PAGE;
        self.release(lease, next_at, failures, trouble.ends_the_round() || is_over).await;
    }

    /// Gives the list back. If that fails, it comes back when the lease ends.
    async fn release(&self, lease: &Lease, next_at: DateTime<Utc>, failures: i32, begins_anew: bool) {
        let release = Release { leased_until: lease.leased_until, next_at, failures, begins_anew };
        let release = lists::release(self.database, self.source(), self.spec.list.entity, release);
        if !matches!(timeout(Duration::from_secs(3), release).await, Ok(Ok(()))) {
            tracing::info!(
                source = self.source(),
                list = self.spec.name(),
                "a leased list waits for the end of its lease"
            );
        }
    }
}
