//! What has become of edits at the sources that take them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use sqlx::types::Uuid;
use staging::outbox::{self, Kind, OnTheWay, State};
use utoipa::ToSchema;

use super::Api;
use crate::problem::Problem;

/// What has become of an edit, or of a customer made by hand, at a source.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WrittenThrough {
    #[schema(example = "online_store")]
    pub(crate) system: String,
    /// The cross-reference that was edited, by system and id.
    #[serde(skip)]
    pub(crate) xref: (String, String),
    /// `update` of a customer, or `create`.
    kind: &'static str,
    pub(crate) attributes: Vec<String>,
    /// Since when.
    edited_at: DateTime<Utc>,
    /// `settled`: the source has it. `waiting`: it is sent later. `refused`: the source does not take it.
    state: &'static str,
    /// Why it waits, or is refused.
    pub(crate) reason: Option<String>,
    /// Attributes that the source has changed itself, later: its values stand.
    overruled: Vec<String>,
}

impl Api {
    /// What of the edits on these cross-references, in pairs of system and id, waits to be sent, or is refused. For those
    /// that the caller has been shown.
    pub(crate) async fn unsent(&self, xrefs: &[(String, String)]) -> Result<Vec<WrittenThrough>, Problem> {
        let (systems, ids): (Vec<&str>, Vec<&str>) = xrefs.iter().map(|(s, i)| (s.as_str(), i.as_str())).unzip();
        let edits = outbox::of_xrefs(&mut *self.whole().await?, &systems, &ids).await?;
        Ok(edits.into_iter().map(WrittenThrough::of).collect())
    }
}

impl WrittenThrough {
    /// What has become of these edits.
    pub(super) async fn read(session: &mut PgConnection, edits: &[Uuid]) -> Result<Vec<Self>, Problem> {
        Ok(outbox::of_edits(session, edits).await?.into_iter().map(Self::of).collect())
    }

    fn of(edit: OnTheWay) -> Self {
        Self {
            system: edit.source,
            xref: (edit.system, edit.external_id),
            kind: edit.kind.as_str(),
            attributes: edit.attributes,
            edited_at: edit.edited_at,
            state: edit.state.as_str(),
            reason: edit.reason,
            overruled: edit.overruled,
        }
    }

    /// Whether it is still to be sent.
    pub(crate) fn waits(&self) -> bool {
        self.state == State::Waiting.as_str()
    }

    /// Whether it makes a customer.
    pub(crate) fn creates(&self) -> bool {
        self.kind == Kind::Create.as_str()
    }

    /// Whether the first try to send it is still to come, or under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.waits() && self.reason.is_none()
    }
}
