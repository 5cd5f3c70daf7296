//! What a lifecycle configuration must be to be put.

use std::collections::BTreeSet;

use muonic_types::Timestamp;

use super::{And, Expiration, Filter, FilterParts, Lifecycle, NoncurrentExpiration, RULES_MAX, Rule};
use crate::{Error, Result, first_version};

const ID_MAX: usize = 255;
const PREFIX_MAX: usize = 1024;
const NEWER_MAX: i32 = 100;
const DAY_S: i64 = 86_400;

impl Lifecycle {
    /// Checks the rules of a request and names those without an id.
    ///
    /// # Errors
    /// `Malformed`, `Invalid` and `InvalidRequest`, as S3 tells them apart;
    /// `NotImplemented` for transitions.
    pub fn new(mut rules: Vec<Rule>) -> Result<Self> {
        if rules.is_empty() {
            return Err(Error::Malformed("a lifecycle configuration needs at least one rule".to_owned()));
        }
        if rules.len() > RULES_MAX {
            let count = rules.len();
            return Err(Error::Malformed(format!(
                "there are {count} lifecycle rules; at most {RULES_MAX} are allowed"
            )));
        }
        let mut ids = BTreeSet::new();
        for (n, rule) in rules.iter().enumerate() {
            rule.check(n + 1)?;
            if !rule.id.is_empty() && !ids.insert(rule.id.clone()) {
                return Err(Error::Invalid(format!("rule ids must be unique; {:?} is there twice", rule.id)));
            }
        }
        let mut number = 0;
        for rule in rules.iter_mut().filter(|r| r.id.is_empty()) {
            rule.id = loop {
                number += 1;
                let id = format!("rule-{number}");
                if ids.insert(id.clone()) {
                    break id;
                }
            };
        }
        Ok(Self { version: first_version(), rules })
    }
}

impl Filter {
    /// From `Prefix` in the rule and the elements of `Filter`.
    ///
    /// # Errors
    /// `Malformed` unless exactly one of them is there, with at most one
    /// element.
    pub fn from_parts(legacy: Option<String>, filter: Option<FilterParts>) -> Result<Self> {
        let malformed = |what: &str| Err(Error::Malformed(format!("a lifecycle rule {what}")));
        let parts = match (legacy, filter) {
            (Some(prefix), None) => return Ok(Self::Legacy(prefix)),
            (None, Some(parts)) => parts,
            (Some(_), Some(_)) => return malformed("has a Filter or a Prefix, not both"),
            (None, None) => return malformed("needs a Filter; an empty one is about all objects"),
        };
        let mut found = Vec::new();
        found.extend(parts.prefix.map(Self::Prefix));
        found.extend(parts.tag.map(Self::Tag));
        found.extend(parts.size_greater_than.map(Self::SizeGreaterThan));
        found.extend(parts.size_less_than.map(Self::SizeLessThan));
        found.extend(parts.and.map(Self::And));
        match (found.pop(), found.is_empty()) {
            (None, _) => Ok(Self::All),
            (Some(only), true) => Ok(only),
            (Some(_), false) => malformed("has a Filter with more than one element; put them into And"),
        }
    }

    pub(super) fn has_tags(&self) -> bool {
        matches!(self, Self::Tag(_)) || matches!(self, Self::And(and) if !and.tags.is_empty())
    }

    pub(super) fn has_size(&self) -> bool {
        match self {
            Self::SizeGreaterThan(_) | Self::SizeLessThan(_) => true,
            Self::And(and) => and.size_greater_than.is_some() || and.size_less_than.is_some(),
            _ => false,
        }
    }

    fn check(&self) -> Result<()> {
        let long = |prefix: &str| prefix.len() > PREFIX_MAX;
        let tag = |tag: &super::Tag| {
            crate::tags::set(crate::tags::Of::Object, [(tag.key.clone(), tag.value.clone())]).map(drop)
        };
        match self {
            Self::Legacy(prefix) | Self::Prefix(prefix) if long(prefix) => too_long(),
            Self::Tag(one) => tag(one),
            Self::SizeLessThan(0) => sizes(),
            Self::And(And { prefix, tags, size_greater_than, size_less_than }) => {
                if prefix.as_deref().is_some_and(long) {
                    return too_long();
                }
                if prefix.is_none() && tags.is_empty() && size_greater_than.is_none() && size_less_than.is_none() {
                    return Err(Error::Malformed("a lifecycle rule has an empty And".to_owned()));
                }
                if size_less_than.is_some_and(|less| less <= size_greater_than.unwrap_or(0)) {
                    return sizes();
                }
                tags.iter().try_for_each(tag)?;
                let keys: BTreeSet<&str> = tags.iter().map(|t| t.key.as_str()).collect();
                if keys.len() < tags.len() {
                    return Err(Error::InvalidRequest("duplicate tag keys are not allowed in And".to_owned()));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn too_long() -> Result<()> {
    Err(Error::InvalidRequest(format!("the maximum size of a prefix is {PREFIX_MAX} bytes")))
}

fn sizes() -> Result<()> {
    Err(Error::InvalidRequest("ObjectSizeLessThan must be greater than ObjectSizeGreaterThan".to_owned()))
}

impl Rule {
    fn check(&self, n: usize) -> Result<()> {
        if self.id.chars().count() > ID_MAX {
            return Err(Error::Invalid(format!("ID length should not exceed allowed limit of {ID_MAX}")));
        }
        self.filter.check()?;
        self.transition_dates.iter().try_for_each(|date| midnight(*date))?;
        let acts = self.expiration.is_some() || self.noncurrent.is_some() || self.abort_incomplete_days.is_some();
        if !acts && !self.transitions {
            return Err(Error::InvalidRequest(format!("lifecycle rule {n} needs at least one action")));
        }
        if let Some(expiration) = &self.expiration {
            expiration.check(n)?;
            let marker = expiration.expired_object_delete_marker.is_some();
            if marker && self.filter.has_tags() {
                return Err(refused(n, "ExpiredObjectDeleteMarker cannot be specified with tags"));
            }
            if marker && self.filter.has_size() {
                return Err(refused(n, "ExpiredObjectDeleteMarker cannot be specified with object sizes"));
            }
        }
        if let Some(NoncurrentExpiration { days, newer_versions }) = &self.noncurrent {
            positive(*days, "NoncurrentDays for NoncurrentVersionExpiration action")?;
            if newer_versions.is_some_and(|newer| !(1..=NEWER_MAX).contains(&newer)) {
                return Err(Error::Invalid(format!("NewerNoncurrentVersions must be from 1 to {NEWER_MAX}")));
            }
        }
        if let Some(days) = self.abort_incomplete_days {
            positive(days, "DaysAfterInitiation for AbortIncompleteMultipartUpload action")?;
            if self.filter.has_tags() || self.filter.has_size() {
                return Err(refused(n, "AbortIncompleteMultipartUpload cannot be specified with tags or object sizes"));
            }
        }
        if self.transitions {
            return Err(Error::NotImplemented("lifecycle transitions to another storage class"));
        }
        Ok(())
    }
}

impl Expiration {
    fn check(&self, n: usize) -> Result<()> {
        let set = [self.days.is_some(), self.date.is_some(), self.expired_object_delete_marker.is_some()];
        if set.iter().filter(|s| **s).count() != 1 {
            return Err(Error::Malformed(format!(
                "lifecycle rule {n}: Expiration has exactly one of Days, Date and ExpiredObjectDeleteMarker"
            )));
        }
        if let Some(days) = self.days {
            positive(days, "Days for Expiration action")?;
        }
        self.date.map_or(Ok(()), midnight)
    }
}

fn midnight(at: Timestamp) -> Result<()> {
    if at.as_second().rem_euclid(DAY_S) == 0 && at.subsec_nanosecond() == 0 {
        return Ok(());
    }
    Err(Error::Invalid("Date must be at midnight GMT".to_owned()))
}

fn positive(days: i32, what: &str) -> Result<()> {
    if days > 0 { Ok(()) } else { Err(Error::Invalid(format!("{what} must be a positive integer"))) }
}

fn refused(n: usize, what: &str) -> Error {
    Error::InvalidRequest(format!("lifecycle rule {n}: {what}"))
}
