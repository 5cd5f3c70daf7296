//! Which events of a bucket are told to whom.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, first_version};

pub const ENTRIES_MAX: usize = 100;
/// Longest id, in characters, and longest prefix or suffix, in bytes.
const ID_MAX: usize = 255;
const FILTER_MAX: usize = 1024;

/// As stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notifications {
    #[serde(default = "first_version")]
    pub version: u32,
    #[serde(default)]
    pub entries: Vec<Entry>,
    /// All events go to the platform's own stream too.
    #[serde(default)]
    pub event_bridge: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub id: String,
    pub target: Target,
    /// Such as `s3:ObjectCreated:*`.
    pub events: Vec<String>,
    #[serde(default)]
    pub prefix: String,
    #[serde(default)]
    pub suffix: String,
}

/// By ARN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    Queue(String),
    Topic(String),
    Function(String),
}

impl Target {
    pub fn arn(&self) -> &str {
        match self {
            Self::Queue(arn) | Self::Topic(arn) | Self::Function(arn) => arn,
        }
    }
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
    /// `Invalid` for a value that is not allowed, or two entries of one kind of
    /// target that could both take the same event of a key; `Malformed` for
    /// too many, or an entry without events.
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

    /// The entries that are to be told of an event, such as
    /// `s3:ObjectCreated:Put`, of a key.
    pub fn matches<'a>(&'a self, event: &'a str, key: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |e| {
            e.events.iter().any(|want| covers(want, event)) && key.starts_with(&e.prefix) && key.ends_with(&e.suffix)
        })
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
        let arn = self.target.arn();
        let service = match self.target {
            Target::Queue(_) => "sqs",
            Target::Topic(_) => "sns",
            Target::Function(_) => "lambda",
        };
        let mut parts = arn.split(':');
        let valid = parts.next() == Some("arn") && parts.next().is_some() && parts.next() == Some(service);
        if !valid || arn.split(':').count() < 6 || arn.len() > 2048 {
            return invalid(format!("{arn:?} is not an ARN of {service}"));
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
