//! What is to be done now.
//!
//! Days count from the moment a version was written (or became noncurrent),
//! and end at the next midnight UTC, as in S3. A day shorter than a day is for
//! tests, and nothing is rounded then.

use std::collections::BTreeMap;
use std::time::Duration;

use muonic_types::Timestamp;

use super::{Filter, Lifecycle, Rule};

const DAY_S: i64 = 86_400;

/// What is known of a version or an upload.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub key: &'a str,
    /// Bytes; of no meaning for delete markers and uploads.
    pub size: u64,
    pub tags: &'a BTreeMap<String, String>,
    /// When the version was written, or the upload began.
    pub modified_at: Timestamp,
    pub state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Current,
    /// A delete marker that is the latest. `alone`: there is no other version.
    CurrentMarker {
        alone: bool,
    },
    /// `newer`: how many noncurrent versions are newer than this one.
    Noncurrent {
        since: Timestamp,
        newer: u32,
        is_delete_marker: bool,
    },
    Upload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Delete without a version: a bucket with versions gets a delete marker.
    Expire,
    /// Remove this version for good.
    RemoveVersion,
    /// Remove the delete marker, which hides nothing.
    RemoveMarker,
    AbortUpload,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due<'a> {
    pub rule: &'a str,
    pub action: Action,
    /// Since when.
    pub at: Timestamp,
}

impl Lifecycle {
    /// What is to be done with it at `now`, by the rule that is due first.
    /// `day` is how long a day is. Locks are not looked at.
    pub fn due(&self, facts: &Facts<'_>, now: Timestamp, day: Duration) -> Option<Due<'_>> {
        let due = self.rules.iter().filter_map(|rule| rule.due(facts, day)).filter(|due| due.at <= now);
        due.min_by_key(|due| due.at)
    }

    /// Rule and time for the header `x-amz-expiration` of a current version;
    /// `None` for anything else.
    pub fn expiration_of(&self, facts: &Facts<'_>, day: Duration) -> Option<(&str, Timestamp)> {
        if facts.state != State::Current {
            return None;
        }
        let due = self.rules.iter().filter_map(|rule| rule.due(facts, day)).min_by_key(|due| due.at)?;
        Some((due.rule, due.at))
    }

    /// Whether a decision can depend on an object's tags.
    pub fn asks_for_tags(&self) -> bool {
        self.rules.iter().filter(|rule| rule.enabled).any(|rule| match &rule.filter {
            Filter::Tag(_) => true,
            Filter::And(and) => !and.tags.is_empty(),
            _ => false,
        })
    }

    /// Whether anything can ever be due.
    pub fn is_active(&self) -> bool {
        self.rules.iter().any(|rule| rule.enabled)
    }
}

impl Rule {
    fn due(&self, facts: &Facts<'_>, day: Duration) -> Option<Due<'_>> {
        if !self.enabled || !self.filter.covers(facts) {
            return None;
        }
        let due = |action, at| Some(Due { rule: &self.id, action, at });
        match facts.state {
            State::Current => due(Action::Expire, self.expires(facts.modified_at, day)?),
            State::CurrentMarker { alone: false } => None,
            State::CurrentMarker { alone: true } => {
                let expiration = self.expiration.as_ref()?;
                match expiration.expired_object_delete_marker {
                    Some(true) => due(Action::RemoveMarker, facts.modified_at),
                    _ => due(Action::RemoveMarker, self.expires(facts.modified_at, day)?),
                }
            }
            State::Noncurrent { since, newer, .. } => {
                let rule = self.noncurrent.as_ref()?;
                let kept = rule.newer_versions.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
                if newer < kept {
                    return None;
                }
                due(Action::RemoveVersion, after(since, rule.days, day)?)
            }
            State::Upload => due(Action::AbortUpload, after(facts.modified_at, self.abort_incomplete_days?, day)?),
        }
    }

    fn expires(&self, from: Timestamp, day: Duration) -> Option<Timestamp> {
        let expiration = self.expiration.as_ref()?;
        match (expiration.date, expiration.days) {
            // What is written after the date expires at once, as in S3.
            (Some(date), _) => Some(date),
            (None, Some(days)) => after(from, days, day),
            (None, None) => None,
        }
    }
}

/// `None` beyond the end of time.
fn after(from: Timestamp, days: i32, day: Duration) -> Option<Timestamp> {
    let day_ns = i128::try_from(day.as_nanos()).ok()?;
    let at = from.as_nanosecond().checked_add(day_ns.checked_mul(i128::from(days))?)?;
    if day.as_secs() < DAY_S as u64 {
        return Timestamp::from_nanosecond(at).ok();
    }
    let midnight_ns = i128::from(DAY_S) * 1_000_000_000;
    let over = at.rem_euclid(midnight_ns);
    Timestamp::from_nanosecond(if over == 0 { at } else { at - over + midnight_ns }).ok()
}

impl Filter {
    fn covers(&self, facts: &Facts<'_>) -> bool {
        let has = |tag: &super::Tag| facts.tags.get(&tag.key).is_some_and(|v| *v == tag.value);
        let sized = match facts.state {
            State::Current | State::Noncurrent { is_delete_marker: false, .. } => true,
            State::Noncurrent { .. } | State::CurrentMarker { .. } | State::Upload => !self.has_size(),
        };
        sized
            && match self {
                Self::All => true,
                Self::Legacy(prefix) | Self::Prefix(prefix) => facts.key.starts_with(prefix.as_str()),
                Self::Tag(tag) => has(tag),
                Self::SizeGreaterThan(size) => facts.size > *size,
                Self::SizeLessThan(size) => facts.size < *size,
                Self::And(and) => {
                    and.prefix.as_ref().is_none_or(|p| facts.key.starts_with(p.as_str()))
                        && and.tags.iter().all(has)
                        && and.size_greater_than.is_none_or(|size| facts.size > size)
                        && and.size_less_than.is_none_or(|size| facts.size < size)
                }
            }
    }
}
