//! What every backend of [`Logs`] must do. Run it on an empty one.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use muonic_types::UnitId;

use crate::{Error, Logs};

fn unit(text: &str) -> UnitId {
    text.parse().expect("a unit id")
}

pub async fn suite(logs: Arc<dyn Logs>) {
    appends_and_reads(&*logs).await;
    skips_what_it_has(&*logs).await;
    refuses_gaps(&*logs).await;
    removes(&*logs).await;
    appends_of_many(&logs).await;
}

async fn appends_and_reads(logs: &dyn Logs) {
    let (task, replica) = (unit("task.train-1.1"), unit("replica.digits.1.1"));
    assert_eq!(logs.len(&task).await.expect("len"), 0);
    assert!(logs.read(&task, 0, 100).await.expect("read").is_empty());
    assert!(logs.read(&task, 50, 100).await.expect("read").is_empty());
    logs.sync(&task).await.expect("sync of nothing");

    assert_eq!(logs.append(&task, 0, Bytes::from_static(b"hello ")).await.expect("append"), 6);
    assert_eq!(logs.append(&task, 6, Bytes::from_static(b"world\n\0\xff")).await.expect("append"), 14);
    assert_eq!(logs.append(&replica, 0, Bytes::from_static(b"other")).await.expect("append"), 5);
    logs.sync(&task).await.expect("sync");
    assert_eq!(logs.len(&task).await.expect("len"), 14);
    assert_eq!(&logs.read(&task, 0, 100).await.expect("read")[..], b"hello world\n\0\xff");
    assert_eq!(&logs.read(&task, 3, 5).await.expect("read")[..], b"lo wo");
    assert!(logs.read(&task, 3, 0).await.expect("read").is_empty());
    assert!(logs.read(&task, 14, 100).await.expect("read").is_empty());
    assert!(logs.read(&task, u64::MAX, 100).await.expect("read").is_empty());
    assert_eq!(&logs.read(&replica, 0, 100).await.expect("read")[..], b"other");
}

async fn skips_what_it_has(logs: &dyn Logs) {
    let unit = unit("task.train-1.2");
    logs.append(&unit, 0, Bytes::from_static(b"abcdef")).await.expect("append");
    assert_eq!(logs.append(&unit, 0, Bytes::from_static(b"abcdef")).await.expect("again"), 6);
    assert_eq!(logs.append(&unit, 2, Bytes::from_static(b"cd")).await.expect("a part again"), 6);
    assert_eq!(logs.append(&unit, 4, Bytes::from_static(b"efgh")).await.expect("half new"), 8);
    assert_eq!(logs.append(&unit, 8, Bytes::new()).await.expect("nothing"), 8);
    assert_eq!(&logs.read(&unit, 0, 100).await.expect("read")[..], b"abcdefgh");
}

async fn refuses_gaps(logs: &dyn Logs) {
    let unit = unit("task.train-1.3");
    let refused = logs.append(&unit, 1, Bytes::from_static(b"x")).await;
    assert!(matches!(&refused, Err(Error::Conflict(m)) if m.contains("ends at 0")), "{refused:?}");
    logs.append(&unit, 0, Bytes::from_static(b"abc")).await.expect("append");
    for offset in [4, 1 << 40, u64::MAX] {
        let refused = logs.append(&unit, offset, Bytes::from_static(b"x")).await;
        assert!(matches!(&refused, Err(Error::Conflict(m)) if m.contains("ends at 3")), "{refused:?}");
    }
    assert_eq!(logs.len(&unit).await.expect("len"), 3);
}

async fn removes(logs: &dyn Logs) {
    let unit = unit("task.train-1.4");
    logs.remove(&unit).await.expect("remove what is not there");
    logs.append(&unit, 0, Bytes::from_static(b"abc")).await.expect("append");
    logs.remove(&unit).await.expect("remove");
    assert_eq!(logs.len(&unit).await.expect("len"), 0);
    assert_eq!(logs.append(&unit, 0, Bytes::from_static(b"new")).await.expect("append"), 3);
}

/// The same bytes sent by many at once are kept once.
async fn appends_of_many(logs: &Arc<dyn Logs>) {
    let unit = unit("task.train-2.1");
    let text = Bytes::from((0..2000).map(|n| format!("line {n}\n")).collect::<String>());
    for from in (0..text.len()).step_by(1000) {
        let part = text.slice(from..text.len().min(from + 1000));
        let ends = join_all((0..8).map(|_| logs.append(&unit, from as u64, part.clone()))).await;
        assert!(ends.into_iter().all(|end| end.expect("append") == (from + part.len()) as u64));
    }
    assert!(logs.read(&unit, 0, text.len() + 1).await.expect("read") == text);
}
