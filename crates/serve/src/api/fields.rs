//! `fields=`: only some members of what is answered.

use serde::Serialize;
use serde_json::{Map, Value};

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

    /// Leaves what was asked for.
    pub(crate) fn of(&self, item: &impl Serialize) -> Result<Value, Problem> {
        let value = serde_json::to_value(item).map_err(|error| sqlx::Error::Encode(error.into()))?;
        Ok(match (&self.0, value) {
            (Some(fields), Value::Object(members)) => {
                let kept: Map<String, Value> = members.into_iter().filter(|(name, _)| fields.contains(name)).collect();
                Value::Object(kept)
            }
            (_, value) => value,
        })
    }
}
