//! Lifecycle of objects: what expires when, and which uploads are given up.
//!
//! Rules are checked when they are put ([`Lifecycle::new`]); [`Lifecycle::due`]
//! then says of each version or upload what is to be done with it now.

mod check;
mod due;

use serde::{Deserialize, Serialize};

use crate::first_version;
use muonic_types::Timestamp;

pub use due::{Action, Due, Facts, State};

pub const RULES_MAX: usize = 1000;

/// As stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    #[serde(default = "first_version")]
    pub version: u32,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Empty in a request that leaves it out; never empty once checked.
    #[serde(default)]
    pub id: String,
    pub enabled: bool,
    pub filter: Filter,
    #[serde(default)]
    pub expiration: Option<Expiration>,
    #[serde(default)]
    pub noncurrent: Option<NoncurrentExpiration>,
    /// Days after which an upload in parts that has not ended is given up.
    #[serde(default)]
    pub abort_incomplete_days: Option<i32>,
    /// Whether the request asks to move objects to another storage class,
    /// which is refused.
    #[serde(skip)]
    pub transitions: bool,
    /// The dates of those, which are checked first.
    #[serde(skip)]
    pub transition_dates: Vec<Timestamp>,
}

/// Which objects a rule is about, in the form it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// `Prefix` in the rule itself.
    Legacy(String),
    All,
    Prefix(String),
    Tag(Tag),
    /// Bytes.
    SizeGreaterThan(u64),
    /// Bytes.
    SizeLessThan(u64),
    And(And),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    pub key: String,
    pub value: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct And {
    pub prefix: Option<String>,
    pub tags: Vec<Tag>,
    pub size_greater_than: Option<u64>,
    pub size_less_than: Option<u64>,
}

/// The elements of a filter as a request has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterParts {
    pub prefix: Option<String>,
    pub tag: Option<Tag>,
    pub size_greater_than: Option<u64>,
    pub size_less_than: Option<u64>,
    pub and: Option<And>,
}

/// Of current versions; exactly one field is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expiration {
    pub days: Option<i32>,
    /// Midnight UTC.
    pub date: Option<Timestamp>,
    /// Removes delete markers that hide nothing any more.
    pub expired_object_delete_marker: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoncurrentExpiration {
    /// Days since a newer version took its place.
    pub days: i32,
    /// So many newer noncurrent versions are kept, whatever their age.
    #[serde(default)]
    pub newer_versions: Option<i32>,
}
