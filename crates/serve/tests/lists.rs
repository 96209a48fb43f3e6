//! Named lists of customers on the dashboard.

use embedded_postgres::test::until_waiting;
use serde_json::json;
use serve::keys::Role;

use crate::support::base::Base;
use crate::support::browser::Browser;

#[tokio::test]
async fn lists_are_kept_on_the_page_by_whom_the_api_lets() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann", "state": "NH"})).await;
    base.run("insert into customer360.lists values ('team-7', 'ann', now()), ('team-8', 'ann', now())").await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let (page, lists) = (format!("/customers/{ann}"), format!("/customers/{ann}/lists"));
    let put = browser.fill(&page, &lists, &[("list", "team-7")]).await;
    let shown = browser.get(put.location().split('#').next().unwrap()).await;
    assert!(shown.body.contains("Lists changed.") && !shown.leads("/customers?list=team-7").is_empty(), "{shown:?}");
    assert!(shown.body.contains("<option>team-8</option>") && !shown.body.contains("<option>team-7</option>"));
    assert!(browser.get("/customers?list=team-7").await.body.contains("Ann</a>"));
    assert_eq!(browser.fill(&page, &lists, &[("list", "team-9")]).await.status, 404);
    assert_eq!(browser.post(&lists, &[("list", "team-8")]).await.status, 403, "a form without its token");
    let mut limited = Browser::signed_in(&base, Role::Agent, Some("state in ('NH')")).await;
    assert!(!limited.get(&page).await.body.contains("<option>"));
    assert_eq!(limited.fill(&page, &lists, &[("list", "team-8")]).await.status, 403);
    browser.fill(&page, &format!("{lists}/remove"), &[("list", "team-7")]).await;
    assert!(browser.get(&page).await.leads("/customers?list=").is_empty());
}

#[tokio::test]
async fn a_list_is_made_and_removed_on_the_page_of_lists() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    assert_eq!(browser.get("/customers").await.leads("/lists"), ["/lists"]);
    assert!(browser.get("/lists").await.body.contains("No lists yet"));
    let made = browser.fill("/lists", "/lists", &[("name", " team-7 ")]).await;
    assert_eq!((made.status, made.location()), (303, "/lists?did=made"), "{made:?}");
    browser.fill("/customers", &format!("/customers/{ann}/lists"), &[("list", "team-7")]).await;
    let shown = browser.get(made.location()).await;
    assert!(shown.body.contains("List made.") && shown.body.contains("<td class=\"number\">1</td>"), "{shown:?}");
    assert!(browser.get(&shown.leads("/customers?list=team-7")[0]).await.body.contains("Ann</a>"));
    for (name, says) in [
        ("team 7", "Write letters, digits"),
        ("", "Write letters, digits"),
        ("team-7", "Write a name that no list has yet"),
        ("<script>", "Write letters, digits"),
    ] {
        let refused = browser.fill("/lists", "/lists", &[("name", name)]).await;
        assert!(refused.status == 422 && refused.body.contains(says), "{name}: {refused:?}");
        assert!(refused.body.contains("aria-invalid") && !refused.body.contains("<script>"), "{name}: {refused:?}");
        assert!(refused.field("name").replace("&#60;", "<").replace("&#62;", ">") == name, "what was written stays");
    }

    let sure = browser.get(&shown.leads("/lists/remove")[0]).await;
    assert!(sure.body.contains("Customers on it: 1.") && sure.body.contains("sees nobody from then on"), "{sure:?}");
    assert!(browser.get("/lists").await.leads("/lists/remove?list=team-7").len() == 1, "nothing is removed yet");
    let removed = browser.submit(&sure, &[]).await;
    assert_eq!((removed.status, removed.location()), (303, "/lists?did=removed"), "{removed:?}");
    let shown = browser.get(removed.location()).await;
    assert!(shown.body.contains("List removed.") && shown.body.contains("No lists yet"), "{shown:?}");
    assert_eq!(browser.get("/lists/remove?list=team-7").await.status, 404);
    assert_eq!(browser.fill("/lists", "/lists/remove", &[("list", "team-7")]).await.status, 404);
    let customers: i64 =
        sqlx::query_scalar("select count(*) from customer360.customers").fetch_one(&base.pool).await.unwrap();
    assert_eq!(customers, 1);
    let noted: Vec<String> = sqlx::query_scalar(
        "select action from customer360.audit_log where action like '%list' and key_id is not null order by at, action",
    )
    .fetch_all(&base.pool)
    .await
    .unwrap();
    assert_eq!(noted, ["make_list", "put_on_list", "remove_list"]);
}

#[tokio::test]
async fn lists_come_in_pages_and_are_counted() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    base.run(&format!(
        "insert into customer360.lists select 'team-' || n, 'ann', now() from generate_series(1, 5) as n;
         insert into customer360.list_members values ('{ann}', 'team-4', now())"
    ))
    .await;
    let key = base.key(Role::Viewer, None).await;
    let all = base.server.all_pages(&key, "/lists", 50).await;
    let counted: Vec<_> = all.iter().map(|list| (list["name"].as_str().unwrap(), list["customers"].as_i64())).collect();
    let one = |name, customers| (name, Some(customers));
    assert_eq!(counted, [one("team-1", 0), one("team-2", 0), one("team-3", 0), one("team-4", 1), one("team-5", 0)]);
    assert_eq!(base.server.all_pages(&key, "/lists", 2).await, all);
    let page = base.server.ask(&key, "/lists?limit=4&count=true").await.json();
    assert_eq!((page["items"].as_array().unwrap().len(), &page["total"]), (4, &json!(5)));
    // Also on a page that nothing is left for.
    base.run("delete from customer360.lists where name = 'team-5'").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = base.server.ask(&key, &format!("/lists?limit=4&count=true&cursor={cursor}")).await.json();
    assert_eq!(rest, json!({"items": [], "next_cursor": null, "total": 4}));
    assert!(base.server.ask(&key, "/lists").await.json().get("total").is_none());
    for wrong in ["limit=0", "count=maybe", "cursor=x", "sort=name"] {
        assert_eq!(base.server.ask(&key, &format!("/lists?{wrong}")).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn whoever_is_taken_off_a_list_while_a_merge_moves_him_is_off_it() {
    let base = Base::new().await;
    let old = base.customer("old@x.example", json!({})).await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    base.run(&format!(
        "insert into customer360.lists values ('mine', 'ann', now());
         insert into customer360.list_members values ('{old}', 'mine', now())"
    ))
    .await;
    let key = base.key(Role::Agent, None).await;
    let mut moving = base.pool.begin().await.unwrap();
    let a_merge = format!(
        "select customer360.hold_moves();
         update customer360.customers set deleted_at = now() where customer_id = '{old}';
         insert into customer360.redirects values ('{old}', '{ann}', now());
         select customer360.follow_lists(array['{old}'::uuid])"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(a_merge)).execute(&mut *moving).await.unwrap();
    let take = format!("DELETE /lists/mine/customers/{old}");
    let taken = base.server.request(&key, &take, "", "");
    let moved = async {
        until_waiting(&base.pool, 1).await;
        moving.commit().await.unwrap();
    };
    let (taken, ()) = tokio::join!(taken, moved);
    assert_eq!(taken.status, 204, "{taken:?}");
    let left = "select count(*) from customer360.list_members";
    assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&base.pool).await.unwrap(), 0);
}

#[tokio::test]
async fn who_is_on_a_list_by_a_merge_is_put_on_it_himself_too() {
    let base = Base::new().await;
    let bob = base.customer("bob@x.example", json!({"name": "Bob"})).await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    base.run(&format!(
        "insert into customer360.lists values ('team-7', 'ann', now());
         insert into customer360.list_members values ('{bob}', 'team-7', now(), array['{ann}'::uuid])"
    ))
    .await;
    let key = base.key(Role::Agent, None).await;
    let put = format!("PUT /lists/team-7/customers/{bob}");
    for _ in 0..2 {
        assert_eq!(base.server.request(&key, &put, "", "").await.status, 204);
    }
    let put_on = "select array(select p from unnest(put_on) as p order by p) from customer360.list_members";
    let put_on: Vec<sqlx::types::Uuid> = sqlx::query_scalar(put_on).fetch_one(&base.pool).await.unwrap();
    let mut both = vec![ann, bob];
    both.sort();
    assert_eq!(put_on, both, "so he stays on it when the merge is undone");
}

#[tokio::test]
async fn who_keeps_no_lists_sees_them_and_counts_only_customers_in_sight() {
    let base = Base::new().await;
    let nh = base.customer("nh@x.example", json!({"name": "Hampshire", "state": "NH"})).await;
    let me = base.customer("me@x.example", json!({"name": "Maine", "state": "ME"})).await;
    base.run(&format!(
        "insert into customer360.lists values ('team-7', 'ann', now()), ('team-8', 'ann', now());
         insert into customer360.list_members values ('{nh}', 'team-7', now()), ('{me}', 'team-7', now())"
    ))
    .await;
    for (role, only, counted) in
        [(Role::Viewer, None, 2), (Role::Operator, Some("state in ('NH')"), 1), (Role::Agent, Some("list team-8"), 0)]
    {
        let mut browser = Browser::signed_in(&base, role, only).await;
        let shown = browser.get("/lists").await;
        let row = format!("team-7</a></th>\n<td class=\"number\">{counted}</td>");
        assert!(shown.body.contains(&row), "{only:?}: {shown:?}");
        assert!(shown.leads("/lists/remove").is_empty() && !shown.body.contains("name=\"name\""), "{shown:?}");
        let refused = browser.get("/lists/remove?list=team-7").await;
        assert_eq!((refused.status, browser.get("/lists/remove?list=team-9").await.status), (403, 403));
        assert_eq!(browser.fill("/lists", "/lists", &[("name", "team-9")]).await.status, 403);
        assert_eq!(browser.fill("/lists", "/lists/remove", &[("list", "team-7")]).await.status, 403);
    }
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    assert_eq!(browser.post("/lists", &[("name", "team-9")]).await.status, 403, "a form without its token");
    assert_eq!(browser.post("/lists/remove", &[("list", "team-7")]).await.status, 403);
    let lists: Vec<String> =
        sqlx::query_scalar("select name from customer360.lists order by name").fetch_all(&base.pool).await.unwrap();
    assert_eq!(lists, ["team-7", "team-8"]);
}
