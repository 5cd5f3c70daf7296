use std::time::Duration;

use muonic_ports::object_store::{BucketChange, JOURNALED};

use super::*;

async fn numbers(index: &Index) -> (Vec<u64>, u64) {
    let found = index.changes("b", 0, 100, Duration::ZERO).await.unwrap();
    (found.changes.iter().map(|change| change.number).collect(), found.forgotten)
}

#[tokio::test]
async fn old_changes_and_too_many_are_forgotten() {
    let index = memory().await;
    index.bucket_change("b", BucketChange::Document(JOURNALED.into(), Some("{}".into()))).await.unwrap();
    for second in 1..=6 {
        let target = Target { at: at(second), ..target(&format!("k{second}")) };
        index.put(target, NewObject::default(), content(b"x")).await.unwrap();
    }
    let (all, forgotten) = numbers(&index).await;
    assert_eq!((all.len(), forgotten), (6, 0));
    assert_eq!(index.forget_changes(at(1), 6).await.unwrap(), 0);
    assert_eq!(index.forget_changes(at(3), 6).await.unwrap(), 2);
    assert_eq!(numbers(&index).await, (all[2..].to_vec(), all[1]));
    assert_eq!(index.forget_changes(at(3), 3).await.unwrap(), 1);
    assert_eq!(numbers(&index).await, (all[3..].to_vec(), all[2]));
    assert_eq!(index.forget_changes(at(100), 3).await.unwrap(), 3);
    assert_eq!(numbers(&index).await, (Vec::new(), all[5]));
}
