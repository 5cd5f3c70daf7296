//! What the server says of itself.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use muonic_ports::blob_store::{Blob, ByteStream, StoreHealth};
use muonic_ports::{BlobStore, Result};
use muonic_services::System;
use muonic_services::system::Place;
use muonic_types::{Digest, ErrorCode, Timestamp};
use support::Cloud;

mod support;

/// A store of which only the health is asked.
struct Ill {
    health: Option<StoreHealth>,
}

#[async_trait]
impl BlobStore for Ill {
    async fn put(&self, _: ByteStream, _: Option<Digest>) -> Result<Blob> {
        unreachable!()
    }
    async fn put_batch(&self, _: Vec<(Digest, Bytes)>) -> Result<()> {
        unreachable!()
    }
    async fn size(&self, _: &Digest) -> Result<Option<u64>> {
        unreachable!()
    }
    async fn get(&self, _: &Digest, _: Option<Range<u64>>) -> Result<(u64, ByteStream)> {
        unreachable!()
    }
    async fn blobs(&self, _: Option<Digest>, _: u32) -> Result<Vec<Blob>> {
        unreachable!()
    }
    async fn remove(&self, _: &Digest) -> Result<()> {
        unreachable!()
    }
    async fn health(&self) -> StoreHealth {
        match &self.health {
            Some(health) => health.clone(),
            None => std::future::pending().await,
        }
    }
}

async fn system(cloud: &Cloud, health: Option<StoreHealth>) -> System {
    let place = Place {
        version: "1".into(),
        data: "/secret".into(),
        url: String::new(),
        s3_url: String::new(),
        started_at: Timestamp::UNIX_EPOCH,
    };
    let (store, engine) = (Arc::new(Ill { health }), cloud.engine.clone());
    System::new(cloud.meta.clone(), store, engine, cloud.admission.clone(), place, Arc::new(Vec::new))
}

#[tokio::test]
async fn who_has_no_key_hears_that_it_is_not_ready_and_no_more() {
    let cloud = Cloud::new(1000).await;
    let reason = Some("a sync of /secret/store failed".to_owned());
    let ill = system(&cloud, Some(StoreHealth { writable: false, reason, free_bytes: 0 })).await;
    let refused = ill.ready().await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert!(!refused.message.contains("/secret"), "{}", refused.message);
    let seen = ill.doctor(&cloud.admin).await.expect("a report");
    assert!(seen.checks.iter().any(|check| check.detail.contains("/secret")), "{seen:?}");
}

#[tokio::test]
async fn a_disk_that_does_not_answer_is_not_waited_for() {
    let cloud = Cloud::new(1000).await;
    let silent = system(&cloud, None).await;
    let asked = tokio::time::timeout(Duration::from_secs(60), silent.ready()).await;
    assert_eq!(asked.expect("an answer").unwrap_err().code, ErrorCode::Unavailable);
}
