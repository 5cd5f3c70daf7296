use crate::notification::{EVENTS, Entry, Notifications, STREAM, check_destination};

fn entry(id: &str, events: &[&str], prefix: &str, suffix: &str) -> Entry {
    Entry {
        id: id.to_owned(),
        events: events.iter().map(|e| (*e).to_owned()).collect(),
        prefix: prefix.to_owned(),
        suffix: suffix.to_owned(),
    }
}

fn told(entries: &[Entry], event: &str, key: &str) -> Option<String> {
    let notifications = Notifications::new(entries.to_vec(), false);
    let told = notifications.tells(event, key).map(|id| id.unwrap().to_owned());
    let all = Notifications::new(entries.to_vec(), true);
    assert_eq!(all.tells(event, key), Some(told.as_deref()), "an event bridge is told all, {event} {key}");
    told
}

#[test]
fn events_go_to_those_who_asked() {
    let entries = [
        entry("images", &["s3:ObjectCreated:*"], "images/", ".jpg"),
        entry("puts", &["s3:ObjectCreated:Put", "s3:ObjectTagging:*"], "data/", ""),
        entry("gone", &["s3:ObjectRemoved:*"], "", ""),
        entry("moved", &["s3:LifecycleTransition"], "", ""),
    ];
    assert_eq!(Notifications::new(entries.to_vec(), true).check(), Ok(()));
    for (event, key, expected) in [
        ("s3:ObjectCreated:Put", "images/a.jpg", Some("images")),
        ("s3:ObjectCreated:CompleteMultipartUpload", "images/x/a.jpg", Some("images")),
        ("s3:ObjectCreated:Put", "images/a.png", None),
        ("s3:ObjectCreated:Put", "data/x", Some("puts")),
        ("s3:ObjectCreated:Copy", "data/x", None),
        ("s3:ObjectTagging:Delete", "data/x", Some("puts")),
        ("s3:ObjectRemoved:DeleteMarkerCreated", "anything", Some("gone")),
        ("s3:LifecycleTransition", "k", Some("moved")),
    ] {
        assert_eq!(told(&entries, event, key).as_deref(), expected, "{event} {key}");
    }
}

#[test]
fn wrong_configurations_are_refused() {
    let created = ["s3:ObjectCreated:*"];
    for (entries, code) in [
        (vec![entry("a", &[], "", "")], "MalformedXML"),
        (vec![entry("", &created, "", "")], "InvalidArgument"),
        (vec![entry(&"x".repeat(256), &created, "", "")], "InvalidArgument"),
        (vec![entry("a", &["s3:ObjectCreated:Get"], "", "")], "InvalidArgument"),
        (vec![entry("a", &["s3:*"], "", "")], "InvalidArgument"),
        (vec![entry("a", &["s3:Object*"], "", "")], "InvalidArgument"),
        (vec![entry("a", &created, &"x".repeat(1025), "")], "InvalidArgument"),
        (vec![entry("a", &created, "x", ""), entry("a", &created, "y", "")], "InvalidArgument"),
        (vec![entry("a", &created, "x", ""), entry("b", &["s3:ObjectCreated:Put"], "xy", "")], "InvalidArgument"),
        ((0..101).map(|n| entry(&n.to_string(), &created, &format!("{n:03}"), "")).collect(), "MalformedXML"),
    ] {
        let found = Notifications::new(entries.clone(), false).check().map_err(|e| e.code());
        assert_eq!(found, Err(code), "{:?}", entries[0]);
    }
    let apart = vec![
        entry("a", &created, "x", ".jpg"),
        entry("b", &created, "x", ".png"),
        entry("c", &created, "y", ""),
        entry("d", &["s3:ObjectRemoved:*"], "x", ".jpg"),
    ];
    assert_eq!(Notifications::new(apart, false).check(), Ok(()));
    assert_eq!(Notifications::new(vec![], false).check(), Ok(()));
    for event in EVENTS {
        assert_eq!(Notifications::new(vec![entry("a", &[event], "", "")], false).check(), Ok(()), "{event}");
    }
}

#[test]
fn stored_configurations_are_read_back() {
    let all = Notifications::new(vec![entry("a", &["s3:ObjectCreated:*"], "x", "y")], true);
    let text = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Notifications>(&text).unwrap(), all);
    assert_eq!(serde_json::from_str::<Notifications>(r#"{"later":1}"#).unwrap(), Notifications::new(vec![], false));
}

#[test]
fn events_go_to_no_queue_elsewhere() {
    assert_eq!(check_destination(STREAM), Ok(()));
    for arn in ["", "arn:aws:sqs:eu-west-1:123456789012:q", "arn:aws:sns:::events", "arn:muonic:sqs:::events2"] {
        let refused = check_destination(arn).unwrap_err();
        assert_eq!(refused.code(), "InvalidArgument");
        assert!(refused.to_string().contains(STREAM), "{refused}");
    }
}
