use crate::notification::{EVENTS, Entry, Notifications, Target};

const QUEUE: &str = "arn:aws:sqs:local::new-data";

fn entry(id: &str, events: &[&str], prefix: &str, suffix: &str) -> Entry {
    Entry {
        id: id.to_owned(),
        target: Target::Queue(QUEUE.to_owned()),
        events: events.iter().map(|e| (*e).to_owned()).collect(),
        prefix: prefix.to_owned(),
        suffix: suffix.to_owned(),
    }
}

fn told(entries: &[Entry], event: &str, key: &str) -> Vec<String> {
    let notifications = Notifications::new(entries.to_vec(), false);
    notifications.matches(event, key).map(|e| e.id.clone()).collect()
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
        ("s3:ObjectCreated:Put", "images/a.jpg", vec!["images"]),
        ("s3:ObjectCreated:CompleteMultipartUpload", "images/x/a.jpg", vec!["images"]),
        ("s3:ObjectCreated:Put", "images/a.png", vec![]),
        ("s3:ObjectCreated:Put", "data/x", vec!["puts"]),
        ("s3:ObjectCreated:Copy", "data/x", vec![]),
        ("s3:ObjectTagging:Delete", "data/x", vec!["puts"]),
        ("s3:ObjectRemoved:DeleteMarkerCreated", "anything", vec!["gone"]),
        ("s3:LifecycleTransition", "k", vec!["moved"]),
    ] {
        assert_eq!(told(&entries, event, key), expected, "{event} {key}");
    }
}

#[test]
fn wrong_configurations_are_refused() {
    let created = ["s3:ObjectCreated:*"];
    let topic = Entry { target: Target::Topic(QUEUE.to_owned()), ..entry("t", &created, "", "") };
    let short = Entry { target: Target::Queue("arn:aws:sqs".to_owned()), ..entry("q", &created, "", "") };
    for (entries, code) in [
        (vec![entry("a", &[], "", "")], "MalformedXML"),
        (vec![entry("", &created, "", "")], "InvalidArgument"),
        (vec![entry(&"x".repeat(256), &created, "", "")], "InvalidArgument"),
        (vec![entry("a", &["s3:ObjectCreated:Get"], "", "")], "InvalidArgument"),
        (vec![entry("a", &["s3:*"], "", "")], "InvalidArgument"),
        (vec![entry("a", &["s3:Object*"], "", "")], "InvalidArgument"),
        (vec![entry("a", &created, &"x".repeat(1025), "")], "InvalidArgument"),
        (vec![topic], "InvalidArgument"),
        (vec![short], "InvalidArgument"),
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
