//! Conditions, alone and when many race.

use std::sync::Arc;

use futures_util::future::join_all;

use super::BUCKET;
use super::world::*;
use crate::ObjectStore;
use crate::conformance::blob_store::{noise, pieces};
use crate::object_store::*;

pub(super) async fn all(store: Arc<dyn ObjectStore>) {
    holds_conditions(&*store).await;
    one_of_many_creates(store.clone()).await;
    no_change_is_lost(store).await;
}

fn if_none_match() -> Precondition {
    Precondition { if_none_match: Some(EtagMatch::Any), ..Default::default() }
}

fn if_match(etag: &str) -> Precondition {
    Precondition { if_match: Some(EtagMatch::Tags(vec![etag.to_owned()])), ..Default::default() }
}

async fn put_if(store: &dyn ObjectStore, key: &str, seed: u64, condition: Precondition) -> Result<ObjectVersion> {
    let target = Target { condition, ..target(key) };
    store.put(target, owned(), pieces(&noise(seed, 300), 100), no_check()).await
}

async fn holds_conditions(store: &dyn ObjectStore) {
    let first = put_if(store, "guarded", 1, if_none_match()).await.expect("nothing is there");
    let refused = put_if(store, "guarded", 2, if_none_match()).await;
    assert!(matches!(refused, Err(Error::PreconditionFailed(_))), "{refused:?}");
    let refused = put_if(store, "guarded", 2, if_match("0123456789abcdef0123456789abcdef")).await;
    assert!(matches!(refused, Err(Error::PreconditionFailed(_))), "{refused:?}");
    let refused = put_if(store, "not-there", 2, if_match(&first.etag)).await;
    assert!(matches!(refused, Err(Error::NoSuchKey | Error::PreconditionFailed(_))), "{refused:?}");
    assert_eq!(latest(store, "guarded").await.expect("there").etag, first.etag);
    let second = put_if(store, "guarded", 2, if_match(&first.etag)).await.expect("it matches");
    assert_eq!(latest(store, "guarded").await.expect("there").etag, second.etag);
    delete(store, "guarded").await;
    put_if(store, "guarded", 3, if_none_match()).await.expect("nothing is there again");
}

async fn one_of_many_creates(store: Arc<dyn ObjectStore>) {
    for round in 0..3 {
        let key = format!("race/{round}");
        let racing = (0..16).map(|n| {
            let (store, key) = (store.clone(), key.clone());
            async move { put_if(&*store, &key, n, if_none_match()).await }
        });
        let answers = join_all(racing.map(tokio::spawn)).await;
        let won: Vec<_> = answers.into_iter().filter_map(|a| a.expect("it ran").ok()).collect();
        assert_eq!(won.len(), 1, "one of sixteen creates the key");
        assert_eq!(latest(&*store, &key).await.expect("there").etag, won[0].etag);
    }
}

/// Eight add one to a number by reading it and writing it back if nobody else
/// has: none of the additions may be lost.
async fn no_change_is_lost(store: Arc<dyn ObjectStore>) {
    const ROUNDS: u64 = 5;
    let put_number = |store: Arc<dyn ObjectStore>, n: u64, condition| async move {
        let body = pieces(&n.to_string().into_bytes().into(), 10);
        store.put(Target { condition, ..target("counter") }, owned(), body, no_check()).await
    };
    put_number(store.clone(), 0, Precondition::default()).await.expect("put");
    let adding = (0..8).map(|_| {
        let store = store.clone();
        async move {
            let mut added = 0;
            while added < ROUNDS {
                let Some(found) = store.get(BUCKET, "counter", None).await.expect("get") else { panic!("it is gone") };
                // It may be replaced between the two: then the condition fails too.
                let Ok(body) = store.read(&found, None, None).await else { continue };
                let Ok(bytes) = crate::conformance::blob_store::collect(body).await else { continue };
                let n: u64 = String::from_utf8_lossy(&bytes).parse().expect("a number");
                match put_number(store.clone(), n + 1, if_match(&found.etag)).await {
                    Ok(_) => added += 1,
                    Err(Error::PreconditionFailed(_)) => {}
                    Err(e) => panic!("{e:?}"),
                }
            }
        }
    });
    for done in join_all(adding.map(tokio::spawn)).await {
        done.expect("it ran");
    }
    let found = latest(&*store, "counter").await.expect("there");
    assert_eq!(whole(&*store, &found).await, (8 * ROUNDS).to_string().into_bytes());
}
