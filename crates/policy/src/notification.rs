//! Which events of a bucket are told.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, first_version};

pub const ENTRIES_MAX: usize = 100;
/// Longest id, in characters, and longest prefix or suffix, in bytes.
const ID_MAX: usize = 255;
const FILTER_MAX: usize = 1024;

/// The one destination: the bucket's own stream of events, as a queue.
pub const STREAM: &str = "arn:muonic:sqs:::events";

/// As stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notifications {
    #[serde(default = "first_version")]
    pub version: u32,
    #[serde(default)]
    pub entries: Vec<Entry>,
    /// All events, beside those of the entries.
    #[serde(default)]
    pub event_bridge: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub id: String,
    /// Such as `s3:ObjectCreated:*`.
    pub events: Vec<String>,
    #[serde(default)]
    pub prefix: String,
    #[serde(default)]
    pub suffix: String,
}

/// All events that there are.
pub const EVENTS: &[&str] = &[
    "s3:ObjectCreated:Put",
    "s3:ObjectCreated:Post",
    "s3:ObjectCreated:Copy",
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectRemoved:Delete",
    "s3:ObjectRemoved:DeleteMarkerCreated",
    "s3:ObjectRestore:Post",
    "s3:ObjectRestore:Completed",
    "s3:ObjectRestore:Delete",
    "s3:ReducedRedundancyLostObject",
    "s3:Replication:OperationFailedReplication",
    "s3:Replication:OperationMissedThreshold",
    "s3:Replication:OperationReplicatedAfterThreshold",
    "s3:Replication:OperationNotTracked",
    "s3:LifecycleExpiration:Delete",
    "s3:LifecycleExpiration:DeleteMarkerCreated",
    "s3:LifecycleTransition",
    "s3:IntelligentTiering",
    "s3:ObjectTagging:Put",
    "s3:ObjectTagging:Delete",
    "s3:ObjectAcl:Put",
];

impl Notifications {
    pub fn new(entries: Vec<Entry>, event_bridge: bool) -> Self {
        Self { version: first_version(), entries, event_bridge }
    }

    /// Checks what is to be put.
    ///
    /// # Errors
    /// `Invalid` for a value that is not allowed, or two entries that could
    /// both take the same event of a key; `Malformed` for too many, or an entry
    /// without events.
    pub fn check(&self) -> Result<()> {
        if self.entries.len() > ENTRIES_MAX {
            let count = self.entries.len();
            return Err(Error::Malformed(format!(
                "there are {count} notifications; at most {ENTRIES_MAX} are allowed"
            )));
        }
        let mut ids = std::collections::BTreeSet::new();
        for entry in &self.entries {
            entry.check()?;
            if !ids.insert(&entry.id) {
                return Err(Error::Invalid(format!("two notifications have the id {:?}", entry.id)));
            }
        }
        for (n, one) in self.entries.iter().enumerate() {
            if let Some(other) = self.entries[..n].iter().find(|other| one.overlaps(other)) {
                return Err(Error::Invalid(format!(
                    "the notifications {:?} and {:?} overlap: an event of one key would fit both",
                    other.id, one.id
                )));
            }
        }
        Ok(())
    }

    /// Whether an event of a key, such as `s3:ObjectCreated:Put`, is told: the
    /// id of the entry that asks for it, if one does.
    pub fn tells(&self, event: &str, key: &str) -> Option<Option<&str>> {
        let entry = self.entries.iter().find(|e| {
            e.events.iter().any(|want| covers(want, event)) && key.starts_with(&e.prefix) && key.ends_with(&e.suffix)
        });
        match entry {
            Some(entry) => Some(Some(&entry.id)),
            None => self.event_bridge.then_some(None),
        }
    }
}

impl Entry {
    fn check(&self) -> Result<()> {
        let id = &self.id;
        let invalid = |what: String| Err(Error::Invalid(format!("notification {id:?}: {what}")));
        if id.is_empty() || id.chars().count() > ID_MAX {
            return invalid(format!("an id has 1 to {ID_MAX} characters"));
        }
        if self.events.is_empty() {
            return Err(Error::Malformed(format!("notification {id:?} names no event")));
        }
        if let Some(event) = self.events.iter().find(|e| !is_event(e)) {
            return invalid(format!("the event {event:?} is not supported for notifications"));
        }
        let (prefix, suffix) = (self.prefix.len(), self.suffix.len());
        if prefix > FILTER_MAX || suffix > FILTER_MAX {
            return invalid(format!("a prefix or suffix is longer than {FILTER_MAX} bytes"));
        }
        Ok(())
    }

    /// Whether one event of one key could fit both.
    fn overlaps(&self, other: &Self) -> bool {
        let ends = |a: &str, b: &str| a.ends_with(b) || b.ends_with(a);
        let begins = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
        self.events.iter().any(|a| other.events.iter().any(|b| covers(a, b) || covers(b, a)))
            && begins(&self.prefix, &other.prefix)
            && ends(&self.suffix, &other.suffix)
    }
}

/// Refuses all destinations but [`STREAM`].
///
/// # Errors
/// `Invalid`, with the sentence that S3 has for it, and what to do.
pub fn check_destination(arn: &str) -> Result<()> {
    if arn == STREAM {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "Unable to validate the following destination configurations: {arn:?}; events go to the queue {STREAM}, or with \
         EventBridgeConfiguration"
    )))
}

/// A known event, or a group of them with `*` at its end.
fn is_event(text: &str) -> bool {
    EVENTS.contains(&text) || (text.ends_with(":*") && text != "s3:*" && EVENTS.iter().any(|e| covers(text, e)))
}

fn covers(want: &str, event: &str) -> bool {
    match want.strip_suffix('*') {
        // A group names its plain event too: LifecycleTransition has no kinds.
        Some(group) => event.starts_with(group),
        None => want == event,
    }
}
