use std::sync::Arc;

use muonic_types::Name;
use muonic_types::endpoint::{AsyncState, NewAsyncRequest, ObjectAt};
use muonic_types::key::Role;

use super::world::{at, is_conflict, is_not_found, key, other_project, parse, project};
use crate::Metastore;
use crate::metastore::Tried;

pub async fn run(store: &Arc<dyn Metastore>) {
    let (name, key): (Name, _) = (parse("e-later"), key("later", Role::Member));
    store.key_insert(&key).await.expect("key_insert");
    let new = NewAsyncRequest {
        path: "/invocations".into(),
        content_type: "application/json".into(),
        accept: None,
        body: Some(serde_json::json!({"instances": [1]})),
        input: None,
        output: ObjectAt { bucket: "b".into(), key: "k".into() },
        callback: Some("http://h/x".into()),
    };
    let add = async |max, t| store.async_add(&project(), &key.id, &name, &new, max, at(t)).await;
    let (one, two) = (add(10, 1).await.expect("async_add"), add(10, 2).await.expect("async_add"));
    is_conflict(add(2, 3).await);
    assert!(one.id < two.id && one.state == AsyncState::Queued && one.tries == 0);
    let get = async |id| store.async_get(&project(), &name, id).await;
    assert_eq!(get(one.id).await.expect("async_get"), one);
    is_not_found(store.async_get(&other_project(), &name, one.id).await);
    is_not_found(get(two.id + 1).await);
    is_not_found(get(u64::MAX).await);

    let due = async |t, except: &[u64]| {
        let due = store.async_due(at(t), except, 2, 10).await.expect("async_due");
        due.into_iter().filter(|d| d.shown.endpoint == name).collect::<Vec<_>>()
    };
    let ids = |due: &[crate::metastore::AsyncRecord]| due.iter().map(|d| d.shown.id).collect::<Vec<_>>();
    let both = due(9, &[]).await;
    assert_eq!(ids(&both), [one.id, two.id], "the longest due first");
    assert_eq!((&both[0].asked, &both[0].key, &both[0].project), (&new, &key.id, &project()));
    assert_eq!(ids(&due(9, &[one.id]).await), [two.id]);
    assert_eq!(ids(&due(1, &[]).await), [one.id]);
    let each = async |except: &[u64]| ids(&store.async_due(at(9), except, 1, 10).await.expect("async_due"));
    assert_eq!((each(&[]).await, each(&[two.id]).await), (vec![one.id], vec![]), "one at a time");
    assert_eq!(store.async_next_due().await.expect("async_next_due"), Some(at(1)));

    let again =
        Tried { state: AsyncState::Queued, status: Some(503), reason: Some("full".into()), due_at: Some(at(20)) };
    store.async_tried(one.id, &again, at(4)).await.expect("async_tried");
    let seen = get(one.id).await.expect("async_get");
    assert_eq!((seen.tries, seen.status, seen.reason.as_deref(), seen.ended_at), (1, Some(503), Some("full"), None));
    assert_eq!(ids(&due(9, &[]).await), [two.id]);
    assert_eq!(store.async_next_due().await.expect("async_next_due"), Some(at(2)));

    // It has ended; its callback is tried, and that is no try of its own.
    let done = Tried { state: AsyncState::Done, status: Some(200), reason: None, due_at: Some(at(5)) };
    store.async_tried(two.id, &done, at(5)).await.expect("async_tried");
    assert_eq!(store.async_forget(at(99)).await.expect("async_forget"), 0, "its callback is due");
    assert_eq!(ids(&due(9, &[]).await), [two.id]);
    store.async_tried(two.id, &Tried { due_at: None, ..done.clone() }, at(8)).await.expect("async_tried");
    let seen = get(two.id).await.expect("async_get");
    assert_eq!((seen.state, seen.tries, seen.ended_at), (AsyncState::Done, 1, Some(at(5))));
    is_not_found(store.async_tried(two.id + 1, &done, at(9)).await);

    let list = async |before, max| store.async_list(&project(), &name, before, max).await.expect("async_list");
    let ids = |list: &[muonic_types::endpoint::AsyncRequest]| list.iter().map(|r| r.id).collect::<Vec<_>>();
    assert_eq!(ids(&list(None, 10).await), [two.id, one.id]);
    assert_eq!(ids(&list(None, 1).await), [two.id]);
    assert_eq!(ids(&list(Some(two.id), 10).await), [one.id]);
    assert_eq!(ids(&list(Some(u64::MAX), 10).await), [two.id, one.id]);
    assert_eq!(store.async_forget(at(5)).await.expect("async_forget"), 0);
    assert_eq!(store.async_forget(at(6)).await.expect("async_forget"), 1);
    is_not_found(get(two.id).await);
}
