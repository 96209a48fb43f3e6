//! Notes, objects of applications and what happened, by forms.

use serde_json::json;
use serve::keys::Role;

use crate::support::base::Base;
use crate::support::browser::Browser;

#[tokio::test]
async fn a_note_is_added_edited_deleted_and_undone_by_forms() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let page = format!("/customers/{ann}");
    let form = browser.get(&page).await;
    let sent = [("token", form.token()), ("once", form.field("once")), ("text", "one **lamp**".to_owned())];
    let sent: Vec<(&str, &str)> = sent.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let added = browser.post(&format!("{page}/notes"), &sent).await;
    assert_eq!(added.status, 303, "{added:?}");
    let again = browser.post(&format!("{page}/notes"), &sent).await;
    assert_eq!(again.location(), added.location(), "sent twice, written once");
    let shown = browser.get(added.location()).await;
    assert!(shown.body.contains("Note added.") && shown.body.contains("one <strong>lamp</strong>"), "{shown:?}");

    let note = shown.leads("/remove").remove(0).replace("/remove", "");
    let first = browser.get(&note).await;
    assert!(first.body.contains("one **lamp**</textarea>"), "{first:?}");
    let version = first.field("version");
    let changed = browser.fill(&note, &note, &[("version", &version), ("text", "two lamps")]).await;
    assert!(browser.get(changed.location()).await.body.contains("Note changed."));
    let late = browser.fill(&note, &note, &[("version", &version), ("text", "three")]).await;
    assert_eq!(late.status, 409, "{late:?}");
    assert!(
        late.body.contains("has changed this")
            && late.body.contains("two lamps")
            && late.body.contains("three</textarea>")
    );
    let empty = browser.fill(&note, &note, &[("version", "2"), ("text", " ")]).await;
    assert!(empty.status == 422 && empty.body.contains("Write text of 1 to 20000 characters"), "{empty:?}");

    let removed = browser.fill(&page, &format!("{note}/remove"), &[("version", "2")]).await;
    let gone = browser.get(removed.location()).await;
    assert!(gone.body.contains("Note deleted.") && !gone.body.contains("two lamps"), "{gone:?}");
    assert_eq!(browser.get(&note).await.status, 404);
    let undo = gone.leads("/undo").remove(0);
    let undone = browser.post(&undo, &[("token", &gone.token()), ("version", &gone.field("version"))]).await;
    let back = browser.get(undone.location()).await;
    assert!(back.body.contains("Last change undone.") && back.body.contains("two lamps"), "{back:?}");
    // A form without a version changes nothing.
    assert_eq!(browser.fill(&page, &format!("{note}/remove"), &[]).await.status, 412);
}

#[tokio::test]
async fn an_object_of_an_application_is_edited_member_by_member_and_keeps_what_no_field_can_say() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let content = r#"{"amount": 5, "about": "a lamp", "token": "t", "of": {"order": 7}, "tags": ["a"], "none": null}"#;
    let path = format!("/customers/{ann}/complaint");
    let added = base.server.request(&key, &format!("POST {path}"), "", content).await.json();
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let entry = format!("{path}/{}", added["entry_id"].as_str().unwrap());
    assert!(browser.get(&format!("/customers/{ann}")).await.leads("/complaint/").contains(&entry));
    let form = browser.get(&entry).await;
    assert!(form.body.contains("name=\"amount\" value=\"5\"") && !form.body.contains("name=\"tags\""), "{form:?}");
    let version = form.field("version");
    let fields = [("version", version.as_str()), ("amount", "6"), ("about", ""), ("text", "Broken")];
    let changed = browser.fill(&entry, &entry, &fields).await;
    assert!(changed.location().contains("did=changed"), "{changed:?}");
    let content = base.server.ask(&key, &entry).await.json()["content"].clone();
    assert_eq!(
        content,
        json!({"amount": 6, "text": "Broken", "token": "t", "of": {"order": 7}, "tags": ["a"], "none": null}),
        "a number stays one"
    );
    let content = r#"{"amount": 5, "text": {"en": "a"}}"#;
    let added = base.server.request(&key, &format!("POST {path}"), "", content).await.json();
    let entry = format!("{path}/{}", added["entry_id"].as_str().unwrap());
    let changed = browser.fill(&entry, &entry, &[("version", "1"), ("amount", "6")]).await;
    assert!(changed.location().contains("did=changed"), "{changed:?}");
    let content = base.server.ask(&key, &entry).await.json()["content"].clone();
    assert_eq!(content, json!({"amount": 6, "text": {"en": "a"}}));
}

#[tokio::test]
async fn what_happened_has_to_be_said() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let mut browser = Browser::signed_in(&base, Role::Agent, None).await;
    let form = browser.get(&format!("/customers/{ann}?write=complaint")).await;
    let blank = [("token", form.token()), ("once", form.field("once")), ("text", " ".to_owned())];
    let blank: Vec<(&str, &str)> = blank.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let refused = browser.post(&format!("/customers/{ann}/complaint"), &blank).await;
    assert!(refused.status == 422 && refused.body.contains("Write something"), "{refused:?}");
}

#[tokio::test]
async fn what_was_typed_is_there_to_be_sent_again_when_a_form_is_not_taken() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    let key = base.key(Role::Agent, None).await;
    let notes = format!("/customers/{ann}/notes");
    let mut browser = Browser::new(&base.server);
    let note = [("token", "of a session that has ended"), ("once", "1"), ("text", "two lines\r\nof <b>a note</b>")];
    for elsewhere in ["", "sec-fetch-site: cross-site\r\n"] {
        browser.headers = elsewhere;
        assert_eq!(browser.post(&notes, &note).await.status, 303, "no other site has us draw what it says");
    }
    browser.headers = "sec-fetch-site: same-origin\r\n";
    let out = browser.post(&notes, &note).await;
    assert!(out.status == 403 && out.body.contains("You are signed out"), "{out:?}");
    assert!(out.body.contains("two lines\r\nof &#60;b&#62;a note&#60;/b&#62;</textarea>"), "{out:?}");
    assert!(out.body.contains("href=\"/sign-in\" target=\"_blank\"") && out.token().is_empty(), "{out:?}");
    browser.sign_in(&key, "/customers").await;
    let stale = browser.submit(&out, &[note[2]]).await;
    assert!(stale.status == 403 && !stale.token().is_empty(), "{stale:?}");
    let sent = browser.submit(&stale, &[note[2]]).await;
    assert!(browser.get(sent.location()).await.body.contains("Note added."), "{sent:?}");
    let short = browser.fill("/customers", "/views", &[("query", "q=a"), ("name", &"n".repeat(300))]).await;
    assert!(short.status == 422 && short.body.contains(&"n".repeat(300)) && short.field("query") == "q=a", "{short:?}");
    let nothing = browser.post(&notes, &[("text", " ")]).await;
    assert!(nothing.status == 403 && !nothing.body.contains("textarea"), "{nothing:?}");
}

#[tokio::test]
async fn viewers_see_no_forms_and_write_nothing() {
    let base = Base::new().await;
    let ann = base.customer("ann@x.example", json!({"name": "Ann"})).await;
    base.note(ann, "a note", "2026-11-20T03:00:00Z").await;
    let mut browser = Browser::signed_in(&base, Role::Viewer, None).await;
    let page = format!("/customers/{ann}");
    let shown = browser.get(&page).await;
    assert!(shown.body.contains("a note") && !shown.body.contains("<textarea") && shown.leads("/remove").is_empty());
    let refused = browser.fill(&page, &format!("{page}/notes"), &[("text", "a")]).await;
    assert!(refused.status == 403 && refused.body.contains("Not allowed"), "{refused:?}");
}
