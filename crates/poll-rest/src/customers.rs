//! A poll for a customer: who has this email, and what belongs to whoever that is.

use model::Record;
use model::mapping::Mapping;
use staging::polls::{Poll, State};

use crate::answer::{One, complete_order, no_email, products_of, same_email};
use crate::ask::{Asker, Found, Request};
use crate::draft::Draft;
use crate::error::Failure;

impl Asker {
    /// Asks for the customer, then for the customer's lists. Where the source has several customers under one email, it is
    /// all of them.
    pub(crate) async fn ask_customer(
        &self,
        poll: &Poll,
        draft: &mut Draft,
    ) -> Result<(State, Option<String>), Failure> {
        let Some(request) = &self.requests.customer else { return Ok((State::Unknown, None)) };
        let url = request.template.fill(&[("email", &poll.email)]);
        // Without the ids that the last answer had, "not modified" would say too little.
        let knows_ids = poll.external_id.is_some() && !draft.validators.customers().is_empty();
        let (ids, mut state) = match self.find(request, url, knows_ids, draft).await? {
            Found::Unusable => return Ok((State::Failing, None)),
            Found::Nothing => {
                draft.validators.lists_of(&[]);
                return Ok((State::Unknown, None));
            }
            Found::NotModified => (draft.validators.customers().to_vec(), State::Known),
            Found::Records { records, is_new } => self.take_customers(request, poll, records, is_new, draft),
        };
        for id in &ids {
            for list in &self.requests.lists {
                if !self.ask_list(list, id, &poll.email, draft).await {
                    // The customer is kept; the rest is asked for again soon.
                    state = State::Due;
                }
            }
        }
        Ok((state, ids.into_iter().next()))
    }

    /// The customers that were found, with what lies in their records. An answer without an email has the asked one; one
    /// with another email goes where that belongs, and the asked one stays unknown.
    fn take_customers(
        &self,
        request: &Request,
        poll: &Poll,
        mut records: Vec<Record>,
        is_new: bool,
        draft: &mut Draft,
    ) -> (Vec<String>, State) {
        let mut is_known = false;
        for record in &mut records {
            match record.mapped.email.as_deref() {
                email if no_email(email) => {
                    record.mapped.email = Some(poll.email.clone());
                    is_known = true;
                }
                email => is_known |= email.is_some_and(|email| same_email(email, &poll.email)),
            }
        }
        let ids: Vec<String> = records.iter().map(|record| record.mapped.external_id.as_str().to_owned()).collect();
        draft.validators.lists_of(&ids);
        if is_new {
            for record in &records {
                self.take_nested(request, record, draft);
            }
            draft.records.extend(records);
        }
        (ids, if is_known { State::Known } else { State::Unknown })
    }

    /// Orders and the like that lie in a customer's own record.
    fn take_nested(&self, request: &Request, customer: &Record, draft: &mut Draft) {
        let id = customer.mapped.external_id.as_str();
        draft.customer = Some(id.to_owned());
        for mapping in &self.requests.nested {
            for element in self.nested(mapping, customer) {
                match element {
                    One::Record(mut record) => {
                        draft.products.extend(self.complete(&mut record, id));
                        draft.records.push(record);
                    }
                    One::Bad(bad) | One::Unusable(bad) => draft.park_nested(request, mapping, &self.settings, bad),
                }
            }
        }
    }

    /// What lies in a customer's record by a mapping; nothing where the record lacks it.
    pub(crate) fn nested(&self, mapping: &Mapping, customer: &Record) -> Vec<One> {
        self.reader(mapping).within(customer.payload.as_deref().unwrap_or_default(), customer.observed_at)
    }

    /// Products that an order names, if they are asked about.
    pub(crate) fn named_products(&self, record: &Record) -> Vec<String> {
        if self.asks_products() { products_of(record) } else { Vec::new() }
    }

    /// Gives an order that names no customer the one that it was found with. Returns products to ask about.
    pub(crate) fn complete(&self, record: &mut Record, customer: &str) -> Vec<String> {
        if record.mapped.entity != model::Entity::Order {
            return Vec::new();
        }
        complete_order(record, customer);
        self.named_products(record)
    }
}
