//! The list of dead letters: which are asked for, and how they are drawn. What they hold stays sealed.

use std::collections::BTreeMap;

use askama::Template;
use staging::dead_letters::{self, Letter, Selection, State};

use super::parts::render;
use crate::dashboard::Dashboard;
use crate::dashboard::locale::{Locale, Moment};
use crate::dashboard::systems::{Badge, counted};
use crate::problem::Problem;
use crate::watch::Snapshot;

/// Letters on a page.
pub(super) const PAGE: usize = 50;
const STATES: [State; 3] = [State::Parked, State::Retried, State::Discarded];

/// Which letters are asked for.
#[derive(Clone)]
pub(super) struct Asked {
    state: State,
    source: Option<String>,
    reason: Option<String>,
    /// With a smaller number than this: further pages.
    before: Option<i64>,
}

impl Asked {
    pub(super) fn of(query: &BTreeMap<String, String>) -> Result<Self, Problem> {
        let word = |name: &str| query.get(name).filter(|word| !word.is_empty()).cloned();
        let state = match word("state") {
            None => State::Parked,
            Some(word) => STATES
                .into_iter()
                .find(|state| state.as_str() == word)
                .ok_or_else(|| Problem::bad("state", "parked, retried or discarded"))?,
        };
        let before = word("before").map(|before| before.parse()).transpose();
        let before = before.map_err(|_| Problem::bad("before", "the number of a dead letter"))?;
        Ok(Self { state, source: word("source"), reason: word("reason"), before })
    }

    /// As a query, so that it can be asked for again.
    pub(super) fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if self.state != State::Parked {
            query.append_pair("state", self.state.as_str());
        }
        for (name, value) in [("source", &self.source), ("reason", &self.reason)] {
            query.extend_pairs(value.iter().map(|value| (name, value)));
        }
        query.extend_pairs(self.before.map(|before| ("before", before.to_string())));
        query.finish()
    }

    fn link(&self) -> String {
        let query = self.query();
        if query.is_empty() { "/operations#letters".to_owned() } else { format!("/operations?{query}#letters") }
    }

    fn selection(&self) -> Selection {
        Selection {
            source: self.source.clone(),
            reason: self.reason.clone(),
            state: Some(self.state),
            ..Selection::default()
        }
    }
}

#[derive(Template)]
#[template(path = "operations/letters.html")]
struct Letters {
    token: String,
    parked: String,
    tabs: Vec<Tab>,
    /// What the list is narrowed down to, and the link to all.
    only: Option<(String, String)>,
    groups: Vec<Group>,
    rows: Vec<Row>,
    is_parked: bool,
    first: Option<String>,
    next: Option<String>,
}

/// Letters in a state.
struct Tab {
    label: &'static str,
    link: String,
    is_current: bool,
}

/// Parked letters of a source and reason.
struct Group {
    badge: Badge,
    reason: String,
    count: String,
    link: String,
}

pub(super) struct Row {
    pub(super) id: i64,
    pub(super) reason: String,
    pub(super) badge: Badge,
    pub(super) place: String,
    pub(super) detail: String,
    /// What else there is to know.
    pub(super) remark: &'static str,
    pub(super) landed: Moment,
    pub(super) handled: Option<Moment>,
}

/// Draws the list.
pub(super) async fn drawn(
    dashboard: &Dashboard,
    locale: &Locale,
    snapshot: &Snapshot,
    asked: &Asked,
    token: &str,
) -> Result<String, Problem> {
    let session = dashboard.api.whole().await?;
    let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
    let mut letters = dead_letters::list(session, &asked.selection(), asked.before, limit).await?;
    let has_more = letters.len() > PAGE;
    letters.truncate(PAGE);
    let next = letters.last().filter(|_| has_more).map(|last| last.dead_letter_id);
    let whole = Asked { source: None, reason: None, before: None, ..asked.clone() };
    let parked: i64 = snapshot.facts.dead_letters.iter().map(|letters| letters.parked).sum();
    let group = |letters: &staging::overview::DeadLetters| Group {
        badge: dashboard.systems.badge(&letters.source),
        reason: letters.reason.clone(),
        count: locale.count(letters.parked),
        link: Asked {
            state: State::Parked,
            source: Some(letters.source.clone()),
            reason: Some(letters.reason.clone()),
            before: None,
        }
        .link(),
    };
    let tab = |state: State| Tab {
        label: label(state),
        link: Asked { state, before: None, ..asked.clone() }.link(),
        is_current: asked.state == state,
    };
    let only: Vec<&str> = [&asked.source, &asked.reason].into_iter().flatten().map(String::as_str).collect();
    render(&Letters {
        token: token.to_owned(),
        parked: counted(locale, parked, "parked", "parked"),
        tabs: STATES.map(tab).into(),
        only: (!only.is_empty()).then(|| (only.join(", "), whole.link())),
        groups: snapshot.facts.dead_letters.iter().map(group).collect(),
        rows: rows(dashboard, locale, &letters),
        is_parked: asked.state == State::Parked,
        first: asked.before.map(|_| Asked { before: None, ..asked.clone() }.link()),
        next: next.map(|before| Asked { before: Some(before), ..asked.clone() }.link()),
    })
}

pub(super) fn rows(dashboard: &Dashboard, locale: &Locale, letters: &[Letter]) -> Vec<Row> {
    let row = |letter: &Letter| Row {
        id: letter.dead_letter_id,
        reason: letter.reason.clone(),
        badge: dashboard.systems.badge(&letter.source),
        place: letter.place(),
        detail: letter.detail.clone(),
        remark: if letter.truncated { "Only a part of it was kept, so it cannot be retried." } else { "" },
        landed: locale.ago(letter.landed_at),
        handled: letter.handled_at.map(|at| locale.ago(at)),
    };
    letters.iter().map(row).collect()
}

fn label(state: State) -> &'static str {
    match state {
        State::Parked => "Parked",
        State::Retried => "Retried",
        State::Discarded => "Discarded",
    }
}
