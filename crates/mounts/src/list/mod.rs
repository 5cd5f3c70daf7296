//! Listings in S3's meaning: keys in byte order, what shares a prefix up to
//! the delimiter rolled up, one page at a time.

pub(crate) mod pages;
pub(crate) mod tree;

use std::collections::BTreeMap;

use muonic_ports::object_store::{After, Error, ListQuery, Result};
use object_store::ObjectMeta;

/// A page: each entry by its key, or by the prefix that it is rolled up in
/// (then without anything known of it).
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub entries: BTreeMap<String, Option<ObjectMeta>>,
    pub more: bool,
}

/// What is asked for, in keys of the mount.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub prefix: String,
    pub delimiter: Option<String>,
    pub after: String,
    pub max: usize,
}

impl Wanted {
    pub fn new(query: &ListQuery) -> Result<Self> {
        let after = match &query.after {
            After::Start => String::new(),
            After::Key(key) => key.clone(),
            After::Version(..) => return Err(Error::NotSupported("versions in a mounted bucket")),
        };
        if query.versions {
            return Err(Error::NotSupported("versions in a mounted bucket"));
        }
        let delimiter = query.delimiter.clone().filter(|d| !d.is_empty());
        Ok(Self { prefix: query.prefix.clone(), delimiter, after, max: query.max as usize })
    }

    /// The prefix that a key is rolled up in.
    pub fn rolled<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter.as_deref()?;
        let rest = key.strip_prefix(self.prefix.as_str())?;
        let end = self.prefix.len() + rest.find(delimiter)? + delimiter.len();
        Some(&key[..end])
    }

    /// Whether keys that begin with `prefix`, or some of them, come after
    /// where the page begins.
    pub fn reaches(&self, prefix: &str) -> bool {
        prefix > self.after.as_str() || (self.after.len() > prefix.len() && self.after.starts_with(prefix))
    }
}

impl Page {
    /// Enters a key if it is wanted, and keeps the first `max` and one more.
    pub fn enter(&mut self, wanted: &Wanted, key: &str, meta: ObjectMeta) {
        if !key.starts_with(&wanted.prefix) || key <= wanted.after.as_str() {
            return;
        }
        match wanted.rolled(key) {
            Some(prefix) => self.enter_prefix(wanted, prefix),
            None => self.keep(wanted, key, Some(meta)),
        }
    }

    pub fn enter_prefix(&mut self, wanted: &Wanted, prefix: &str) {
        if prefix.starts_with(&wanted.prefix) && wanted.reaches(prefix) {
            self.keep(wanted, prefix, None);
        }
    }

    fn keep(&mut self, wanted: &Wanted, name: &str, meta: Option<ObjectMeta>) {
        self.entries.insert(name.to_owned(), meta);
        if self.entries.len() > wanted.max + 1 {
            self.entries.pop_last();
        }
    }

    pub fn is_full(&self, wanted: &Wanted) -> bool {
        self.entries.len() > wanted.max
    }

    /// Cuts it to the size that was asked for.
    pub fn cut(mut self, wanted: &Wanted) -> Self {
        while self.entries.len() > wanted.max {
            self.entries.pop_last();
            self.more = true;
        }
        self
    }
}
