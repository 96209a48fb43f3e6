//! The lists that belong to a customer: orders and interactions.

use crate::answer::{Elements, One};
use crate::ask::{Asker, Request};
use crate::client::Content;
use crate::draft::Draft;
use crate::error::Failure;
use crate::validators::{Validator, fingerprint};

impl Asker {
    /// Asks for one list of a customer; false when the source has yet to answer. What a list lacks is not deleted.
    pub(crate) async fn ask_list(&self, request: &Request, external_id: &str, email: &str, draft: &mut Draft) -> bool {
        let (name, key) = (request.name(), draft.validators.list_key(request.name(), external_id));
        let key = key.as_str();
        draft.customer = Some(external_id.to_owned());
        let Some(url) = request.template.fill(&[("external_id", external_id), ("email", email)]) else { return true };
        let last = draft.validators.get(key).cloned().unwrap_or_default();
        let reply = match self.requester.get(name, &url, last.etag.as_deref()).await {
            Ok(reply) => reply,
            Err(Failure::TooLarge { reject, beginning }) => {
                draft.park_oversized(request, &self.settings, reject, &beginning);
                return false;
            }
            Err(failure) => {
                tracing::debug!(source = self.settings.source, request = name, %failure, "a customer's list is not had yet");
                return false;
            }
        };
        let at = draft.stamp(reply.at);
        let (bytes, etag) = match reply.content {
            Content::NotModified => return true,
            Content::NotFound => {
                draft.validators.forget(key);
                return true;
            }
            Content::Body { bytes, etag } => (bytes, etag),
        };
        let hash = Some(fingerprint(&self.settings.context.credentials, &bytes));
        if last.hash == hash {
            draft.validators.set(key, Validator { etag, ..last });
            return true;
        }
        match self.reader(&request.mapping).list(&bytes, at) {
            Elements::Each(elements) => {
                // A bad element is a dead letter, and no reason to ask again before its time: it will be there again, and is
                // parked once.
                draft.validators.renew(key, etag, hash);
                for element in elements {
                    self.take(request, element, external_id, &last, draft);
                }
                true
            }
            Elements::Bad(bad) => {
                draft.park(request, &self.settings, bad);
                false
            }
            Elements::Unusable => false,
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
