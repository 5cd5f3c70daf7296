//! The store and its mounts, for those who look after it.

use std::time::Duration;

use muonic_types::store::{
    BucketEventList, CheckReport, EncryptionKey, EncryptionKeyList, Mount, MountList, NewEncryptionKey, NewMount,
    NewRotation, NewScrub, ReclaimReport, RotationReport, ScrubReport, StoreStats,
};
use serde_json::{Value, json};

use crate::url::{Query, part};
use crate::{Client, Result};

impl Client {
    pub fn store_stats(&self) -> Result<StoreStats> {
        self.get("/api/v1/store/stats")
    }

    /// Begins; the report says how it goes, as with all long work here.
    pub fn store_scrub(&self, new: &NewScrub) -> Result<ScrubReport> {
        self.post("/api/v1/store/scrub", new)
    }

    pub fn store_scrub_report(&self) -> Result<ScrubReport> {
        self.get("/api/v1/store/scrub")
    }

    pub fn store_check(&self) -> Result<CheckReport> {
        self.post("/api/v1/store/check", &json!({}))
    }

    pub fn store_check_report(&self) -> Result<CheckReport> {
        self.get("/api/v1/store/check")
    }

    pub fn store_reclaim(&self) -> Result<ReclaimReport> {
        self.post("/api/v1/store/reclaim", &json!({}))
    }

    pub fn store_reclaim_report(&self) -> Result<ReclaimReport> {
        self.get("/api/v1/store/reclaim")
    }

    pub fn store_keys(&self) -> Result<EncryptionKeyList> {
        self.get("/api/v1/store/keys")
    }

    pub fn store_key_create(&self, new: &NewEncryptionKey) -> Result<EncryptionKey> {
        self.post("/api/v1/store/keys", new)
    }

    pub fn store_rotate(&self, new: &NewRotation) -> Result<RotationReport> {
        self.post("/api/v1/store/rotation", new)
    }

    pub fn store_rotation_report(&self) -> Result<RotationReport> {
        self.get("/api/v1/store/rotation")
    }

    pub fn store_mount(&self, new: &NewMount) -> Result<Mount> {
        self.post("/api/v1/store/mounts", new)
    }

    pub fn store_mounts(&self) -> Result<MountList> {
        self.get("/api/v1/store/mounts")
    }

    pub fn store_unmount(&self, bucket: &str) -> Result<()> {
        self.delete::<Value>(&format!("/api/v1/store/mounts/{}", part(bucket))).map(drop)
    }

    /// What happened to the objects of a bucket after an event; where nothing
    /// has, what does within `wait` (60 s at most).
    pub fn bucket_events(&self, bucket: &str, after: u64, wait: Duration) -> Result<BucketEventList> {
        let query = Query::default().with("after", Some(after)).with("wait_s", Some(wait.as_secs()));
        self.get(&format!("/api/v1/buckets/{}/events{query}", part(bucket)))
    }
}
