//! The lists that belong to a customer: orders and interactions.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use model::{Reason, Reject};
use reqwest::Url;

use crate::answer::{Elements, One};
use crate::ask::{Asker, Request};
use crate::client::Content;
use crate::draft::Draft;
use crate::error::Failure;
use crate::guard::on_host_of;
use crate::lists::next_of_links;
use crate::validators::{Validator, fingerprint};

/// What came of asking for a list.
enum Pages {
    /// The pages with their times, and what validates them.
    Had { pages: Vec<(Vec<u8>, DateTime<Utc>)>, etag: Option<String> },
    /// The same as last time.
    NotModified,
    /// There is none.
    NotFound,
}

impl Asker {
    /// Asks for one list of a customer; false when the source has yet to answer. What a list lacks is not deleted.
    pub(crate) async fn ask_list(&self, request: &Request, external_id: &str, email: &str, draft: &mut Draft) -> bool {
        let (name, key) = (request.name(), draft.validators.list_key(request.name(), external_id));
        let key = key.as_str();
        draft.customer = Some(external_id.to_owned());
        let Some(url) = request.template.fill(&[("external_id", external_id), ("email", email)]) else { return true };
        let last = draft.validators.get(key).cloned().unwrap_or_default();
        let (pages, etag) = match self.ask_pages(name, url, last.etag.as_deref(), draft).await {
            Ok(Pages::Had { pages, etag }) => (pages, etag),
            Ok(Pages::NotModified) => return true,
            Ok(Pages::NotFound) => {
                draft.validators.forget(key);
                return true;
            }
            Err(Failure::TooLarge { reject, beginning }) => {
                draft.park_oversized(request, &self.settings, reject, &beginning);
                return false;
            }
            Err(failure) => {
                tracing::debug!(source = self.settings.source, request = name, %failure, "a customer's list is not had yet");
                return false;
            }
        };
        let bytes: Vec<&[u8]> = pages.iter().map(|(bytes, _)| bytes.as_slice()).collect();
        let hash = Some(fingerprint(&self.settings, &bytes.concat()));
        if last.hash == hash {
            draft.validators.set(key, Validator { etag, ..last });
            return true;
        }
        let mut elements = Vec::new();
        for (bytes, at) in &pages {
            match self.reader(&request.mapping).list(bytes, *at) {
                Elements::Each(more) => elements.extend(more),
                Elements::Bad(bad) => {
                    draft.park(request, &self.settings, bad);
                    return false;
                }
                Elements::Unusable => return false,
            }
        }
        // A bad element is a dead letter, and no reason to ask again before its time: it will be there again, and is parked
        // once.
        draft.validators.renew(key, etag, hash);
        for element in elements {
            self.take(request, element, external_id, &last, draft);
        }
        true
    }

    /// All pages of a list, if the source says by a header `Link` that there are several: together no longer than an answer
    /// may be.
    async fn ask_pages(
        &self,
        name: &'static str,
        first: Url,
        etag: Option<&str>,
        draft: &mut Draft,
    ) -> Result<Pages, Failure> {
        let (mut pages, mut asked) = (Vec::<(Vec<u8>, DateTime<Utc>)>::new(), HashSet::new());
        let (mut url, mut room) = (first, self.settings.max_body_bytes);
        loop {
            let reply = self.requester.get(name, &url, etag.filter(|_| pages.is_empty())).await?;
            let at = draft.stamp(reply.at);
            let (bytes, etag) = match reply.content {
                Content::NotModified => return Ok(Pages::NotModified),
                Content::NotFound | Content::Nothing if pages.is_empty() => return Ok(Pages::NotFound),
                Content::NotFound | Content::Nothing => return Err(Failure::Page),
                Content::Body { bytes, etag } => (bytes, etag),
            };
            let next = reply.link.as_deref().and_then(next_of_links);
            if pages.is_empty() && next.is_none() {
                return Ok(Pages::Had { pages: vec![(bytes, at)], etag });
            }
            let Some(left) = room.checked_sub(bytes.len()) else {
                let reject = Reject::new(Reason::TooLarge, format!("more than {} bytes", self.settings.max_body_bytes));
                let beginning = pages.into_iter().next().map_or(bytes, |(first, _)| first);
                return Err(Failure::TooLarge { reject, beginning });
            };
            room = left;
            pages.push((bytes, at));
            asked.insert(url.clone());
            // The first page's validator says nothing about the others.
            let Some(next) = next else { return Ok(Pages::Had { pages, etag: None }) };
            url = on_host_of(&url, &next).filter(|next| !asked.contains(next)).ok_or(Failure::Page)?;
        }
    }

    fn take(&self, request: &Request, element: One, external_id: &str, last: &Validator, draft: &mut Draft) {
        match element {
            One::Record(mut record) => {
                draft.products.extend(self.complete(&mut record, external_id));
                draft.records.push(record);
            }
            One::Bad(bad) | One::Unusable(bad) => draft.park_again(request, &self.settings, bad, last),
        }
    }
}
