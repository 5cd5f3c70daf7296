use std::future::Future;
use std::path::Path;
use std::task::Poll;

use futures_util::future::join_all;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};

use super::*;
use crate::row::{Columns, one};

async fn open(path: &Path) -> Arc<Writer> {
    let options =
        SqliteConnectOptions::new().filename(path).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    let mut conn = options.connect().await.expect("connect");
    exec(&mut conn, sqlx::query("CREATE TABLE t (n INTEGER PRIMARY KEY, filler BLOB) STRICT")).await.expect("create");
    Arc::new(Writer::new(conn))
}

/// What a second connection sees: what is committed.
async fn committed(path: &Path) -> Vec<i64> {
    let mut conn = SqliteConnectOptions::new().filename(path).connect().await.expect("connect");
    let rows = crate::row::all(&mut conn, sqlx::query("SELECT n FROM t ORDER BY n")).await.expect("select");
    rows.iter().map(|r| r.raw("n").expect("a number")).collect()
}

async fn insert(write: &mut Write, n: i64) -> Result<()> {
    exec(write, sqlx::query("INSERT INTO t (n) VALUES (?)").bind(n)).await.map(drop)
}

/// Polls once, so that a future has begun what it does.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
        Poll::Ready(out) => Poll::Ready(Some(out)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn waiting_writes_share_a_commit_and_fail_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.sqlite");
    let writer = open(&path).await;
    let mut first = writer.begin().await.expect("begin");
    insert(&mut first, 0).await.expect("insert");
    // These queue while the first holds the connection.
    let mut waiting: Vec<_> = (1..=6)
        .map(|n| {
            let writer = Arc::clone(&writer);
            Box::pin(async move {
                let mut write = writer.begin().await?;
                let depth = write.depth;
                insert(&mut write, n).await?;
                // The same again: one write in three fails in its middle.
                if n % 3 == 0 {
                    insert(&mut write, n).await?;
                }
                write.commit().await?;
                Ok::<_, Error>(depth)
            })
        })
        .collect();
    for write in &mut waiting {
        assert!(poll_once(write).await.is_none());
    }
    assert_eq!(committed(&path).await, [] as [i64; 0], "nothing is seen before the commit");
    let (first, others) = tokio::join!(first.commit(), join_all(waiting));
    first.expect("commit");
    for (n, other) in (1..).zip(others) {
        match (n % 3, other) {
            (0, Err(Error::Conflict(_))) => {}
            (1 | 2, Ok(depth)) => assert!(depth == Depth::Savepoint, "it joined the first one's commit"),
            (_, other) => panic!("write {n}: {:?}", other.map(drop)),
        }
    }
    assert_eq!(committed(&path).await, [0, 1, 2, 4, 5]);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.sqlite");
    let writer = open(&path).await;
    for steps in 0..40 {
        let n = steps + 1;
        let attempt = {
            let writer = Arc::clone(&writer);
            async move {
                let mut write = writer.begin().await?;
                insert(&mut write, n).await?;
                insert(&mut write, -n).await?;
                write.commit().await
            }
        };
        let mut attempt = Box::pin(attempt);
        // Dropped after so many turns, or done before.
        for _ in 0..steps {
            if poll_once(&mut attempt).await.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(attempt);
    }
    let mut last = writer.begin().await.expect("the writer goes on");
    insert(&mut last, 1000).await.expect("insert");
    last.commit().await.expect("commit");
    let rows = committed(&path).await;
    assert!(rows.contains(&1000));
    let halves = rows.iter().filter(|n| **n != 1000 && !rows.contains(&-**n)).count();
    assert_eq!(halves, 0, "{rows:?}");
}

#[tokio::test]
async fn a_committed_write_needs_no_caller() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.sqlite");
    let writer = open(&path).await;
    let mut write = writer.begin().await.expect("begin");
    insert(&mut write, 7).await.expect("insert");
    let mut commit = Box::pin(write.commit());
    assert!(poll_once(&mut commit).await.is_none());
    drop(commit);
    writer.close().await;
    assert_eq!(committed(&path).await, [7]);
    assert!(matches!(writer.begin().await.map(drop), Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_full_disk_is_told_and_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.sqlite");
    let writer = open(&path).await;
    {
        let mut conn = writer.read().await.expect("read");
        one(&mut conn, sqlx::query("PRAGMA max_page_count = 20")).await.expect("pragma");
    }
    let big = sqlx::query("INSERT INTO t (n, filler) VALUES (1, zeroblob(1000000))");
    let mut write = writer.begin().await.expect("begin");
    assert!(matches!(exec(&mut write, big).await, Err(Error::DiskFull)));
    drop(write);
    let mut write = writer.begin().await.expect("begin");
    insert(&mut write, 2).await.expect("there is room for little");
    write.commit().await.expect("commit");
    assert_eq!(committed(&path).await, [2]);
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let writer = open(&folder.path().join("t.sqlite")).await;
    let held = writer.begin().await.expect("begin");
    let mut waiting: Vec<_> = (1..WRITES_MAX).map(|_| Box::pin(writer.begin())).collect();
    for write in &mut waiting {
        assert!(poll_once(write).await.is_none());
    }
    assert!(matches!(writer.begin().await.map(drop), Err(Error::Unavailable(_))));
    drop(waiting);
    drop(held);
    drop(writer.begin().await.expect("there is room again"));
}
