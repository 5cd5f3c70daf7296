//! The store as its operator sees it: its state, its care, its keys, and the
//! stores mounted into it. For administrators of the project `default` alone:
//! one store holds what all projects have.

use std::collections::BTreeMap;
use std::sync::Arc;

use muonic_ports::object_store::{Bucket, NewBucket};
use muonic_ports::store_admin::MountError;
use muonic_ports::{Clock, Mounting, ObjectStore, StoreAdmin};
use muonic_types::key::Principal;
use muonic_types::store::{
    CheckReport, EncryptionKey, EncryptionKeyList, Mount, MountList, NewEncryptionKey, NewMount, NewRotation, NewScrub,
    ReclaimReport, RotationReport, ScrubReport, StoreStats,
};

use crate::auth::authorise_operator;
use crate::buckets::{check_bucket_name, of_store};
use crate::{Error, Result};

const OPTIONS_MAX: usize = 64;
/// Certificates are the longest.
const OPTION_BYTES_MAX: usize = 64 << 10;

pub struct Storage {
    admin: Arc<dyn StoreAdmin>,
    mounting: Arc<dyn Mounting>,
    objects: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    /// Where nobody says how fast to scrub.
    scrub_bytes_per_s: u64,
}

impl Storage {
    pub fn new(
        admin: Arc<dyn StoreAdmin>,
        mounting: Arc<dyn Mounting>,
        objects: Arc<dyn ObjectStore>,
        clock: Arc<dyn Clock>,
        scrub_bytes_per_s: u64,
    ) -> Self {
        Self { admin, mounting, objects, clock, scrub_bytes_per_s }
    }

    pub async fn stats(&self, caller: &Principal) -> Result<StoreStats> {
        authorise_operator(caller)?;
        Ok(self.admin.stats().await?)
    }

    pub async fn scrub(&self, caller: &Principal, new: NewScrub) -> Result<ScrubReport> {
        authorise_operator(caller)?;
        self.admin.scrub_start(new.bytes_per_s.unwrap_or(self.scrub_bytes_per_s)).await?;
        Ok(self.admin.scrub_report())
    }

    pub async fn scrub_report(&self, caller: &Principal) -> Result<ScrubReport> {
        authorise_operator(caller)?;
        Ok(self.admin.scrub_report())
    }

    pub async fn check(&self, caller: &Principal) -> Result<CheckReport> {
        authorise_operator(caller)?;
        self.admin.check_start().await?;
        Ok(self.admin.check_report())
    }

    pub async fn check_report(&self, caller: &Principal) -> Result<CheckReport> {
        authorise_operator(caller)?;
        Ok(self.admin.check_report())
    }

    pub async fn reclaim(&self, caller: &Principal) -> Result<ReclaimReport> {
        authorise_operator(caller)?;
        self.admin.reclaim_start().await?;
        Ok(self.admin.reclaim_report())
    }

    pub async fn reclaim_report(&self, caller: &Principal) -> Result<ReclaimReport> {
        authorise_operator(caller)?;
        Ok(self.admin.reclaim_report())
    }

    pub async fn keys(&self, caller: &Principal) -> Result<EncryptionKeyList> {
        authorise_operator(caller)?;
        Ok(EncryptionKeyList { keys: self.admin.keys().await? })
    }

    pub async fn key_create(&self, caller: &Principal, new: NewEncryptionKey) -> Result<EncryptionKey> {
        authorise_operator(caller)?;
        check_key_name(&new.name)?;
        let (admin, name) = (self.admin.clone(), new.name);
        crate::to_the_end(async move { Ok(admin.key_create(&name).await?) }).await
    }

    /// Begins; the report says how it goes.
    pub async fn rotate(&self, caller: &Principal, new: NewRotation) -> Result<RotationReport> {
        authorise_operator(caller)?;
        if let Some(name) = &new.name {
            check_key_name(name)?;
        }
        let admin = self.admin.clone();
        crate::to_the_end(async move {
            admin.rotation_start(new.name.as_deref()).await?;
            Ok(admin.rotation_report())
        })
        .await
    }

    pub async fn rotation_report(&self, caller: &Principal) -> Result<RotationReport> {
        authorise_operator(caller)?;
        Ok(self.admin.rotation_report())
    }

    /// Makes a bucket of another store, once that has been reached.
    pub async fn mount(&self, caller: &Principal, new: NewMount) -> Result<Mount> {
        authorise_operator(caller)?;
        check_bucket_name(&new.bucket).map_err(|e| Error::invalid(e.to_string()))?;
        if new.options.len() > OPTIONS_MAX || new.options.values().any(|value| value.len() > OPTION_BYTES_MAX) {
            return Err(Error::invalid(format!(
                "a mount has at most {OPTIONS_MAX} options of {OPTION_BYTES_MAX} bytes each"
            )));
        }
        let project = new.project.unwrap_or_else(|| caller.project.clone());
        let documents = BTreeMap::new();
        let bucket = NewBucket { name: new.bucket, project, at: self.clock.now(), lock: false, documents };
        let mounting = self.mounting.clone();
        crate::to_the_end(async move {
            let name = bucket.name.clone();
            let made = mounting.mount(bucket, &new.url, &new.options).await.map_err(|e| mount_error(&name, e))?;
            Ok(shown(&*mounting, &made).unwrap_or_else(|| unreadable(&made, "it is no mount any longer".to_owned())))
        })
        .await
    }

    pub async fn unmount(&self, caller: &Principal, bucket: &str) -> Result<()> {
        authorise_operator(caller)?;
        let (mounting, bucket) = (self.mounting.clone(), bucket.to_owned());
        crate::to_the_end(async move { mounting.unmount(&bucket).await.map_err(|e| of_store(&bucket, e)) }).await
    }

    /// By name; those of all projects.
    pub async fn mounts(&self, caller: &Principal) -> Result<MountList> {
        authorise_operator(caller)?;
        let buckets = self.objects.buckets(None).await.map_err(|e| of_store("", e))?;
        let mut mounts: Vec<Mount> = buckets.iter().filter_map(|bucket| shown(&*self.mounting, bucket)).collect();
        mounts.sort_by(|a, b| a.bucket.cmp(&b.bucket));
        Ok(MountList { mounts })
    }
}

fn check_key_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
        return Err(Error::invalid(
            "the name of an encryption key has 1 to 256 characters, none of them control characters",
        ));
    }
    Ok(())
}

/// `None` where it is no mount.
fn shown(mounting: &dyn Mounting, bucket: &Bucket) -> Option<Mount> {
    match mounting.described(bucket) {
        Ok(None) => None,
        Ok(Some((url, options))) => Some(Mount {
            bucket: bucket.name.clone(),
            project: bucket.project.clone(),
            created_at: bucket.created_at,
            url: Some(url),
            options,
            problem: None,
        }),
        Err(e) => Some(unreadable(bucket, e.to_string())),
    }
}

fn unreadable(bucket: &Bucket, problem: String) -> Mount {
    Mount {
        bucket: bucket.name.clone(),
        project: bucket.project.clone(),
        created_at: bucket.created_at,
        url: None,
        options: BTreeMap::new(),
        problem: Some(problem),
    }
}

fn mount_error(bucket: &str, error: MountError) -> Error {
    match error {
        MountError::Invalid(what) => Error::invalid(what),
        MountError::Store(error) => of_store(bucket, error),
    }
}
