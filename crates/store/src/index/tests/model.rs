//! Random changes, against a model that keeps all in a list.

use std::collections::{BTreeMap, BTreeSet};

use muonic_ports::object_store::{
    After, BucketChange, EtagMatch, ListQuery, Listing, NewObject, Precondition, VersionId, Versioning,
};
use proptest::prelude::*;

use super::{body, content, memory, removal, sweep, target};
use crate::index::Index;

const KEYS: &[&str] = &["a", "a/", "a//", "a/b", "a/b/c", "a/c", "a0", "b", "b/x/y", "é/1", "é/2", "\u{10ffff}", "z"];

#[derive(Debug, Clone)]
enum Op {
    Put { key: usize, body: u8, condition: u8 },
    Copy { from: usize, to: usize },
    Delete(usize),
    DeleteVersion { key: usize, nth: usize },
    Versioning(bool),
    List { prefix: usize, delimiter: usize, page: u32, versions: bool },
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..KEYS.len();
    prop_oneof![
        6 => (key.clone(), any::<u8>(), 0u8..6).prop_map(|(key, body, condition)| Op::Put { key, body, condition }),
        2 => (key.clone(), key.clone()).prop_map(|(from, to)| Op::Copy { from, to }),
        3 => key.clone().prop_map(Op::Delete),
        3 => (key, 0usize..4).prop_map(|(key, nth)| Op::DeleteVersion { key, nth }),
        1 => any::<bool>().prop_map(Op::Versioning),
        4 => (0usize..6, 0usize..4, 1u32..6, any::<bool>())
            .prop_map(|(prefix, delimiter, page, versions)| Op::List { prefix, delimiter, page, versions }),
    ]
}

#[derive(Debug, Clone, PartialEq)]
struct Version {
    id: VersionId,
    /// `None` for a delete marker.
    body: Option<u8>,
}

#[derive(Debug, Default)]
struct Model {
    versioning: Versioning,
    /// The latest first.
    keys: BTreeMap<String, Vec<Version>>,
}

impl Model {
    fn latest(&self, key: &str) -> Option<&Version> {
        self.keys.get(key)?.first()
    }

    fn add(&mut self, key: &str, version: Version) {
        let versions = self.keys.entry(key.to_owned()).or_default();
        if version.id.is_null() {
            versions.retain(|v| !v.id.is_null());
        }
        versions.insert(0, version);
    }

    fn remove(&mut self, key: &str, id: &VersionId) -> Option<Version> {
        let versions = self.keys.get_mut(key)?;
        let at = versions.iter().position(|v| v.id == *id)?;
        let gone = versions.remove(at);
        if versions.is_empty() {
            self.keys.remove(key);
        }
        Some(gone)
    }

    /// Objects as key, version, latest, body; and prefixes.
    fn list(&self, query: &ListQuery) -> (Vec<(String, Version, bool)>, Vec<String>) {
        let (mut objects, mut prefixes) = (Vec::new(), BTreeSet::new());
        for (key, versions) in &self.keys {
            let Some(rest) = key.strip_prefix(&query.prefix) else { continue };
            if !query.versions && versions[0].body.is_none() {
                continue;
            }
            let cut = query.delimiter.as_ref().and_then(|d| rest.find(d.as_str()).map(|at| at + d.len()));
            if let Some(cut) = cut {
                prefixes.insert(key[..query.prefix.len() + cut].to_owned());
                continue;
            }
            let shown = if query.versions { versions.len() } else { 1 };
            objects.extend(versions.iter().take(shown).enumerate().map(|(n, v)| (key.clone(), v.clone(), n == 0)));
        }
        (objects, prefixes.into_iter().collect())
    }
}

fn etag(body: u8) -> String {
    super::super::rows::etag(&super::sums(&[body]).md5, 0)
}

async fn pages(index: &Index, query: &ListQuery) -> Listing {
    let (mut all, mut query) = (Listing::default(), query.clone());
    loop {
        let page = index.list("b", &query).await.unwrap();
        let count = page.objects.len() + page.prefixes.len();
        assert!(count <= query.max as usize);
        all.objects.extend(page.objects);
        all.prefixes.extend(page.prefixes);
        match page.next {
            None => return all,
            Some(next) => {
                assert_eq!(count, query.max as usize, "only full pages have a next one");
                query.after = next;
            }
        }
    }
}

async fn apply(index: &Index, model: &mut Model, op: Op) {
    match op {
        Op::Put { key, body, condition } => {
            let key = KEYS[key];
            let there = model.latest(key).and_then(|v| v.body);
            let tags = |body: u8| Some(EtagMatch::Tags(vec![etag(body)]));
            let (condition, holds) = match condition {
                0 => (Precondition { if_none_match: Some(EtagMatch::Any), ..Precondition::default() }, there.is_none()),
                1 => (Precondition { if_match: Some(EtagMatch::Any), ..Precondition::default() }, there.is_some()),
                2 => (Precondition { if_match: tags(body), ..Precondition::default() }, there == Some(body)),
                3 => (Precondition { if_none_match: tags(body), ..Precondition::default() }, there != Some(body)),
                _ => (Precondition::default(), true),
            };
            let mut target = target(key);
            target.condition = condition;
            let result = index.put(target, NewObject::default(), content(&[body])).await;
            assert_eq!(result.is_ok(), holds, "{result:?}");
            if let Ok(object) = result {
                assert_eq!(object.version.is_null(), model.versioning != Versioning::On);
                model.add(key, Version { id: object.version, body: Some(body) });
            }
        }
        Op::Copy { from, to } => {
            let Some(source) = index.get("b", KEYS[from], None).unwrap().filter(|o| !o.is_delete_marker) else {
                return;
            };
            let body = model.latest(KEYS[from]).unwrap().body;
            let object = index.put_shared(source, target(KEYS[to]), NewObject::default()).await.unwrap();
            model.add(KEYS[to], Version { id: object.version, body });
        }
        Op::Delete(key) => {
            let key = KEYS[key];
            let found = model.latest(key).is_some_and(|v| v.body.is_some());
            let deleted = index.delete("b", vec![removal(key, None)], super::at(3)).await.unwrap().remove(0).unwrap();
            assert_eq!(deleted.found, found);
            assert_eq!(deleted.delete_marker, model.versioning != Versioning::Off);
            match deleted.version {
                Some(id) => model.add(key, Version { id, body: None }),
                None => drop(model.keys.remove(key)),
            }
        }
        Op::DeleteVersion { key, nth } => {
            let key = KEYS[key];
            let id = model.keys.get(key).and_then(|v| v.get(nth)).map_or_else(VersionId::null, |v| v.id.clone());
            let answer =
                index.delete("b", vec![removal(key, Some(&id))], super::at(3)).await.unwrap().remove(0).unwrap();
            let gone = model.remove(key, &id);
            assert_eq!(answer.found, gone.is_some());
            assert_eq!(answer.delete_marker, gone.is_some_and(|v| v.body.is_none()));
        }
        Op::Versioning(on) => {
            let to = if on { Versioning::On } else { Versioning::Suspended };
            index.bucket_change("b", BucketChange::Versioning(to)).await.unwrap();
            model.versioning = to;
            assert_eq!(index.bucket("b").unwrap().unwrap().versioning, to);
        }
        Op::List { prefix, delimiter, page, versions } => {
            let query = ListQuery {
                prefix: ["", "a", "a/", "a/b", "é", "q"][prefix].into(),
                delimiter: [None, Some("/"), Some("b"), Some("//")][delimiter].map(str::to_owned),
                after: After::Start,
                max: page,
                versions,
            };
            let found = pages(index, &query).await;
            let (objects, prefixes) = model.list(&query);
            let found_objects: Vec<_> = found
                .objects
                .iter()
                .map(|o| (o.key.clone(), o.version.clone(), o.latest, o.is_delete_marker))
                .collect();
            let expected: Vec<_> =
                objects.iter().map(|(k, v, latest)| (k.clone(), v.id.clone(), *latest, v.body.is_none())).collect();
            assert_eq!(found_objects, expected, "{query:?}");
            assert_eq!(found.prefixes, prefixes, "{query:?}");
        }
    }
}

async fn compare(index: &Index, model: &Model) {
    for key in KEYS {
        let versions = model.keys.get(*key).map_or(&[][..], Vec::as_slice);
        let latest = index.get("b", key, None).unwrap();
        assert_eq!(latest.as_ref().map(|o| &o.version), versions.first().map(|v| &v.id));
        for (n, version) in versions.iter().enumerate() {
            let object = index.get("b", key, Some(&version.id)).unwrap().unwrap();
            assert_eq!((object.latest, object.is_delete_marker), (n == 0, version.body.is_none()));
            if let Some(bytes) = version.body {
                assert_eq!(body(index, &object), [bytes]);
                assert_eq!(object.etag, etag(bytes));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_the_model(ops in prop::collection::vec(op(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let index = memory().await;
            let mut model = Model::default();
            for op in ops {
                apply(&index, &mut model, op).await;
                compare(&index, &model).await;
            }
            sweep(&index).await;
            compare(&index, &model).await;
            // Nothing is left that no version names.
            let named: BTreeSet<u64> = index
                .list("b", &ListQuery { max: 10_000, versions: true, ..ListQuery::default() })
                .await
                .unwrap()
                .objects
                .iter()
                .filter(|o| !o.is_delete_marker)
                .map(|o| o.content)
                .collect();
            assert_eq!(index.all_extents(0, 10_000).await.unwrap().len(), named.len());
        });
    }
}
