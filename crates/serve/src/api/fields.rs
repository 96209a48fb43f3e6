//! `fields=`: only some members of what is answered.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::page::Page;
use super::params::Params;
use crate::problem::Problem;

/// The members that a request asks for; none: all.
pub(crate) struct Fields(Option<Vec<String>>);

impl Fields {
    /// Takes `fields` from a request; `allowed` are the members that there are.
    pub(crate) fn take(params: &mut Params, allowed: &[&str]) -> Result<Self, Problem> {
        let Some(fields) = params.one("fields")? else { return Ok(Self(None)) };
        let fields: Vec<String> = fields.split(',').map(|field| field.trim().to_owned()).collect();
        if fields.iter().all(|field| allowed.contains(&field.as_str())) {
            return Ok(Self(Some(fields)));
        }
        Err(Problem::bad("fields", format!("some of {}, with commas between", allowed.join(", "))))
    }

    /// Leaves what was asked for of each item of a page.
    pub(crate) fn of_each<T: Serialize>(&self, page: Page<T>) -> Result<Page<Box<RawValue>>, Problem> {
        let Page { items, next_cursor, total, is_cut } = page;
        let items = items.iter().map(|item| self.of(item)).collect::<Result<_, _>>()?;
        Ok(Page { items, next_cursor, total, is_cut })
    }

    /// Leaves what was asked for, as JSON.
    pub(crate) fn of(&self, item: &impl Serialize) -> Result<Box<RawValue>, Problem> {
        let kept = || match &self.0 {
            None => to_raw_value(item),
            Some(fields) => {
                let mut item = serde_json::to_value(item)?;
                if let Value::Object(members) = &mut item {
                    members.retain(|name, _| fields.contains(name));
                }
                to_raw_value(&item)
            }
        };
        kept().map_err(|error| sqlx::Error::Encode(error.into()).into())
    }
}
