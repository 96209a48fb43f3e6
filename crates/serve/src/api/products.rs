//! `GET /products/{system}/{id}`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::fields::Fields;
use super::params::Params;
use super::path::Path;
use super::{Api, Caller};
use crate::problem::Problem;

const FIELDS: [&str; 4] = ["system", "product_id", "name", "attributes"];

/// A product of one system.
#[derive(Debug, Serialize, sqlx::FromRow, ToSchema)]
pub(crate) struct Product {
    system: String,
    product_id: String,
    name: Option<String>,
    /// Attribute to value.
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    attributes: Value,
}

/// A product
#[utoipa::path(
    get, path = "/api/v1/products/{system}/{product_id}", tag = "products", operation_id = "get_product",
    params(
        ("system" = String, Path, description = "The system whose product it is"),
        ("product_id" = String, Path, description = "What it is called there"),
        ("fields" = Option<String>, Query, description = "Members to answer, with commas between"),
    ),
    responses((status = 200, description = "The product", body = Product)),
)]
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((system, product_id)): Path<(String, String)>,
    mut params: Params,
) -> Result<Json<Box<RawValue>>, Problem> {
    let fields = Fields::take(&mut params, &FIELDS)?;
    params.finish(&["fields"])?;
    let session = api.ask(&caller).await?;
    let product: Option<Product> = sqlx::query_as(
        "select system, product_id, name, attributes from customer360.products
         where system = $1 and product_id = $2 and deleted_at is null",
    )
    .bind(system)
    .bind(product_id)
    .fetch_optional(session)
    .await?;
    Ok(Json(fields.of(&product.ok_or_else(Problem::not_found)?)?))
}
