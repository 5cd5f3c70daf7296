//! Documents of buckets, parsed once and not at each request.
//!
//! Invariant: what is remembered is that of the very text asked about, which
//! is compared; so nothing has to be told when a document changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Result;

/// Buckets that are remembered at a time. All are forgotten beyond it.
const BUCKETS_MAX: usize = 512;

/// Documents of one kind, by bucket.
pub(super) struct Memo<T>(Mutex<BTreeMap<String, Known<T>>>);

struct Known<T> {
    text: String,
    parsed: Arc<T>,
}

impl<T> Memo<T> {
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    pub fn get(&self, bucket: &str, text: &str, parse: impl FnOnce(&str) -> Result<T>) -> Result<Arc<T>> {
        if let Some(known) = self.known().get(bucket).filter(|known| known.text == text) {
            return Ok(known.parsed.clone());
        }
        let parsed = Arc::new(parse(text)?);
        let mut known = self.known();
        if known.len() >= BUCKETS_MAX {
            known.clear();
        }
        known.insert(bucket.to_owned(), Known { text: text.to_owned(), parsed: parsed.clone() });
        Ok(parsed)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Error;
    use super::*;

    fn number(text: &str) -> Result<u32> {
        text.parse().map_err(|_| Error::Invalid(text.to_owned()))
    }

    #[test]
    fn a_text_is_parsed_once_until_it_changes() {
        let memo = Memo::new();
        let first = memo.get("b", "7", number).expect("a number");
        let again = memo.get("b", "7", |_| Err(Error::Invalid("asked twice".to_owned()))).expect("known");
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(*memo.get("b", "8", number).expect("a number"), 8);
        assert!(memo.get("b", "x", number).is_err());
        assert_eq!(*memo.get("c", "7", number).expect("a number"), 7);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let memo = Memo::new();
        for n in 0..BUCKETS_MAX * 3 {
            memo.get(&n.to_string(), "1", number).expect("a number");
        }
        assert!(memo.known().len() <= BUCKETS_MAX);
    }
}
