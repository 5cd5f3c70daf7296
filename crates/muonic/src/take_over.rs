//! Buckets of a data folder from before the object store kept them: moved from
//! the metastore into the store at the first start. Every step may be
//! repeated, so a start that is cut off goes on at the next.

use muonic_ports::object_store::{Error, NewBucket, NewObject, Precondition, Target};
use muonic_ports::{Metastore, ObjectStore, Result};
use muonic_store::EmbeddedStore;

const PAGE: u32 = 500;

pub async fn buckets(meta: &dyn Metastore, store: &EmbeddedStore) -> Result<()> {
    for bucket in meta.former_buckets().await? {
        let new = NewBucket {
            name: bucket.name.clone(),
            project: bucket.project.clone(),
            at: bucket.created_at,
            lock: false,
            documents: Default::default(),
        };
        match store.bucket_create(new).await {
            Ok(_) | Err(Error::BucketExists) => {}
            Err(Error::Store(error)) => return Err(error),
            Err(error) => return Err(muonic_ports::Error::internal("a bucket could not be taken over", error)),
        }
        let mut after = None;
        loop {
            let page = meta.former_objects(&bucket, after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for object in page {
                let target = Target {
                    bucket: bucket.name.clone(),
                    key: object.key,
                    condition: Precondition::default(),
                    at: object.modified_at,
                };
                let owner = bucket.project.to_string();
                let new = NewObject { headers: object.headers, owner, ..NewObject::default() };
                store.adopt(&object.digest, &object.etag, target, new).await?;
            }
        }
        meta.former_bucket_forget(&bucket).await?;
        tracing::info!(bucket = bucket.name, "the bucket was moved into the store");
    }
    Ok(())
}
