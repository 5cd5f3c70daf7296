//! Listings of stores that answer in pages by prefix, in byte order: S3, GCS,
//! Azure.
//!
//! Invariant: what is kept in memory is one page of the store and one of ours.

use muonic_ports::object_store::Result;
use object_store::ObjectMeta;
use object_store::list::{PaginatedListOptions, PaginatedListStore};

use super::{Page, Wanted};
use crate::failure::Voice;

const PAGE: usize = 1000;
/// Pages of the store that one request may take.
const PAGES_MAX: usize = 20_000;

pub(crate) struct Pages<'a> {
    pub store: &'a dyn PaginatedListStore,
    /// What all keys of the mount begin with in the store.
    pub root: &'a str,
    pub voice: &'a Voice,
}

impl Pages<'_> {
    /// `None` where the store answers in another order.
    pub async fn list(&self, wanted: &Wanted) -> Result<Option<Page>> {
        let by_slash = wanted.delimiter.as_deref() == Some("/");
        let prefix = format!("{}{}", self.root, wanted.prefix);
        let mut page = Page::default();
        let mut token = None;
        let mut last = String::new();
        for _ in 0..PAGES_MAX {
            let options = PaginatedListOptions {
                offset: (!wanted.after.is_empty()).then(|| format!("{}{}", self.root, wanted.after)),
                delimiter: by_slash.then_some("/".into()),
                max_keys: Some(PAGE.min(wanted.max + 1)),
                page_token: token.take(),
                extensions: Default::default(),
            };
            let given = Some(prefix.as_str()).filter(|p| !p.is_empty());
            let answer = self.store.list_paginated(given, options).await.map_err(|e| self.voice.error(e))?;
            token = answer.page_token;

            let mut names = Vec::new();
            for object in answer.result.objects {
                if let Some(key) = object.location.as_ref().strip_prefix(self.root) {
                    names.push((key.to_owned(), Some(object)));
                }
            }
            let count = names.len();
            for prefix in answer.result.common_prefixes {
                if let Some(key) = prefix.as_ref().strip_prefix(self.root) {
                    names.push((format!("{key}/"), None));
                }
            }
            if !rises(&names[..count], &last) || !rises(&names[count..], &last) {
                return Ok(None);
            }
            if let Some(greatest) = sure(&names).max() {
                last = greatest.to_owned();
            }
            for (key, object) in names {
                match object {
                    Some(object) => page.enter(wanted, &key, object),
                    None => page.enter_prefix(wanted, &key),
                }
            }
            if token.is_none() || page.is_full(wanted) {
                return Ok(Some(page.cut(wanted)));
            }
        }
        Err(self.voice.unavailable("holds too many keys for a listing like this: ask for a prefix"))
    }
}

type Named = (String, Option<ObjectMeta>);

/// Keys that are here as they are in the store: of an empty object a slash at
/// the end may have been lost, as of those that stand for a folder.
fn sure(names: &[Named]) -> impl Iterator<Item = &str> {
    names.iter().filter(|(_, meta)| meta.as_ref().is_none_or(|meta| meta.size > 0)).map(|(key, _)| key.as_str())
}

fn rises(names: &[Named], last: &str) -> bool {
    sure(names).is_sorted() && sure(names).next().is_none_or(|first| first >= last)
}
