//! What pages say and how they say it, as a browser without JavaScript has them.

use serde_json::json;
use serve::keys::Role;

use crate::support::base::Base;
use crate::support::browser::Browser;

#[tokio::test]
async fn what_matched_stands_beside_the_city() {
    let base = Base::new().await;
    base.customer("ann@x.example", json!({"name": "Ann", "city": "Keene", "address1": "12 West <b> Street"})).await;
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    let found = browser.get("/customers?q=west").await;
    assert!(found.body.contains("Keene <span class=\"detail\">12 West &#60;b&#62; Street</span>"), "{found:?}");
    assert!(!browser.get("/customers?q=ann").await.content().contains("West"));
}
