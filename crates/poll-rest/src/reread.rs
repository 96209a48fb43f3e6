//! Dead letters of answers: what is kept with one, and reading it again.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use model::mapping::Mapping;
use model::{Entity, Reason, Record, Reject};
use serde::{Deserialize, Serialize};
use staging::DeadLetter;
use staging::dead_letters::{Cannot, Context, Opened, Reread};

use crate::Settings;
use crate::answer::{Bad, Elements, Form, One, Reader, complete_order, no_email, products_of};

/// What was asked and when it was answered.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Asked<'a> {
    /// The request, by what it asks for.
    pub entity: Cow<'a, str>,
    /// What the letter's bytes are of the answer.
    pub form: Form,
    /// When the answer came; the records' position.
    pub at: Option<DateTime<Utc>>,
    /// The email that was asked by.
    pub email: Option<Cow<'a, str>>,
    /// The source's id of the customer whose list it was.
    pub customer: Option<Cow<'a, str>>,
}

/// Reads the answer of a dead letter under the settings as they are now, as it was read when it came and at that time.
pub fn reread(settings: &Settings, opened: &Opened) -> Reread {
    let Ok(contents) = &opened.contents else { return Reread::Cannot(Cannot::Sealed) };
    let Some(Context::Source(context)) = &contents.context else { return Reread::Cannot(Cannot::NoContext) };
    let Ok(asked) = Asked::deserialize(context) else { return Reread::Cannot(Cannot::NoSource) };
    let (Some(mapping), Some(at)) = (mapping(settings, &asked.entity), asked.at) else {
        return Reread::Cannot(Cannot::NoSource);
    };
    let reader = Reader { context: &settings.context, limits: settings.limits, mapping: &mapping };
    let elements = match asked.form {
        Form::Record => Elements::Each(vec![reader.record(&contents.payload, at)]),
        Form::One => reader.one(&contents.payload, at),
        Form::List => reader.list(&contents.payload, at),
    };
    let elements = match elements {
        Elements::Each(elements) => elements,
        Elements::Bad(bad) => return Reread::StillBad(bad.reject),
        Elements::Unusable => return Reread::StillBad(Reject::new(Reason::UnknownShape, "no record")),
    };
    let (mut records, mut bad, mut products) = (Vec::new(), Vec::new(), Vec::new());
    for element in elements {
        match element {
            One::Record(mut record) => {
                products.extend(complete(&mut record, &asked, settings));
                records.push(record);
            }
            One::Bad(one) | One::Unusable(one) => bad.push((asked.clone(), one)),
        }
    }
    // A list of which nothing is fine stays together.
    if records.is_empty()
        && let Some((_, bad)) = bad.first()
    {
        return Reread::StillBad(bad.reject.clone());
    }
    for customer in 0..records.len() {
        for (asked, element) in nested(settings, &records[customer], &asked) {
            match element {
                One::Record(mut record) => {
                    products.extend(complete(&mut record, &asked, settings));
                    records.push(record);
                }
                One::Bad(one) | One::Unusable(one) => bad.push((asked, one)),
            }
        }
    }
    let dead_letters = bad.into_iter().map(|(asked, bad)| letter_of_part(opened, &asked, bad)).collect();
    Reread::Lands { records, dead_letters, products }
}

fn mapping(settings: &Settings, entity: &str) -> Option<Mapping> {
    match Entity::parse(entity)? {
        Entity::Customer => settings.customer.clone().map(Mapping::Customer),
        Entity::Order => settings.order.clone().map(Mapping::Order),
        Entity::Product => settings.product.clone().map(Mapping::Product),
        Entity::Interaction => settings.interaction.clone().map(Mapping::Interaction),
    }
}

/// Orders and the like that lie in a customer's own record, as if each list of them had been asked for.
fn nested<'a>(settings: &Settings, customer: &Record, asked: &Asked<'a>) -> Vec<(Asked<'a>, One)> {
    if customer.mapped.entity != Entity::Customer {
        return Vec::new();
    }
    let payload = customer.payload.as_deref().unwrap_or_default().as_bytes();
    let mut found = Vec::new();
    for mapping in settings.mappings() {
        if mapping.request().is_some() || mapping.records().is_none() {
            continue;
        }
        let asked = Asked {
            entity: mapping.entity().as_str().into(),
            form: Form::List,
            customer: Some(customer.mapped.external_id.as_str().to_owned().into()),
            ..asked.clone()
        };
        let reader = Reader { context: &settings.context, limits: settings.limits, mapping: &mapping };
        match reader.list(payload, customer.observed_at) {
            Elements::Each(elements) => found.extend(elements.into_iter().map(|element| (asked.clone(), element))),
            Elements::Bad(bad) => found.push((asked, One::Bad(bad))),
            Elements::Unusable => {}
        }
    }
    found
}

/// What an answer leaves to whoever asked; returns products to ask about.
fn complete(record: &mut Record, asked: &Asked<'_>, settings: &Settings) -> Vec<String> {
    match record.mapped.entity {
        Entity::Customer if no_email(record.mapped.email.as_deref()) => {
            record.mapped.email = asked.email.clone().map(Cow::into_owned).or(record.mapped.email.take());
            Vec::new()
        }
        Entity::Order => {
            let products = match &asked.customer {
                Some(customer) => complete_order(record, customer),
                None => products_of(record),
            };
            let asks = settings.product.as_ref().is_some_and(|product| product.request.is_some());
            if asks { products } else { Vec::new() }
        }
        Entity::Customer | Entity::Product | Entity::Interaction => Vec::new(),
    }
}

/// A part that is still bad, while another one can be read.
fn letter_of_part(opened: &Opened, asked: &Asked<'_>, bad: Bad) -> DeadLetter {
    let asked = Asked { form: bad.form, ..asked.clone() };
    DeadLetter::new(opened.letter.origin.clone(), bad.reject, &bad.bytes)
        .with_external_id(bad.external_id)
        .with_context(&asked)
}
