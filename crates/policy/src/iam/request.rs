//! What a policy is asked about.

use std::collections::BTreeMap;

use super::Caller;

#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub caller: Caller<'a>,
    /// Such as `s3:GetObject`.
    pub action: &'a str,
    /// `arn:aws:s3:::bucket` or `arn:aws:s3:::bucket/key`.
    pub resource: &'a str,
    pub context: &'a Context,
}

/// What is known of a request, by condition key. Keys are not case-sensitive
/// up to a `/`, after which stands the name of a tag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context(BTreeMap<String, Vec<String>>);

impl Context {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value; a key may have many.
    pub fn add(&mut self, key: &str, value: impl Into<String>) {
        self.0.entry(normal(key)).or_default().push(value.into());
    }

    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.add(key, value);
        self
    }

    /// `key` as [`normal`] makes it.
    pub(super) fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// The value of a key that has exactly one.
    pub(crate) fn one(&self, key: &str) -> Option<&str> {
        match self.values(&normal(key)) {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// The form under which a condition key is looked up.
pub(super) fn normal(key: &str) -> String {
    match key.split_once('/') {
        Some((name, tag)) => format!("{}/{tag}", name.to_ascii_lowercase()),
        None => key.to_ascii_lowercase(),
    }
}
