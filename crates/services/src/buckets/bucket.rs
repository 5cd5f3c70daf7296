//! Buckets themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use muonic_policy::ownership::{ObjectOwnership, OwnershipControls};
use muonic_policy::public_access::PublicAccessBlock;
use muonic_ports::object_store::{self, Bucket, BucketChange, Error as StoreError, Versioning};
use muonic_types::ProjectId;

use super::access;
use super::acl::AclWanted;
use super::action::Action;
use super::call::{Call, Caller};
use super::config::{Kind, render};
use super::{Buckets, Error, Result, check_bucket_name};
use crate::auth;

/// A bucket to be.
#[derive(Debug, Clone, Default)]
pub struct NewBucket {
    pub name: String,
    pub lock: bool,
    pub acl: AclWanted,
    /// `BucketOwnerEnforced`, `BucketOwnerPreferred` or `ObjectWriter`.
    pub ownership: Option<String>,
    /// A label that the bucket carries; there is one region.
    pub location: Option<String>,
}

impl Buckets {
    /// Making a bucket of the project's again, just as it is, is a success;
    /// `BucketExists` otherwise.
    pub async fn create(&self, call: Call<'_>, new: NewBucket) -> Result<Bucket> {
        let project = signed(call, Action::CREATE_BUCKET)?;
        check_bucket_name(&new.name)?;
        let mut documents = BTreeMap::new();
        let mut ownership = ObjectOwnership::ObjectWriter;
        if let Some(named) = new.ownership {
            ownership = ObjectOwnership::parse(&named)?;
            let controls = OwnershipControls { version: 1, object_ownership: ownership };
            documents.insert(Kind::Ownership.name().to_owned(), render(&controls)?);
        }
        let block = PublicAccessBlock::all(false);
        if let Some(acl) = new.acl.document(project.as_str(), project.as_str(), ownership, block)? {
            documents.insert(Kind::Acl.name().to_owned(), acl);
        }
        if let Some(location) = new.location {
            documents.insert(Kind::Location.name().to_owned(), render(&location)?);
        }
        let (name, lock, acl) = (new.name.clone(), new.lock, documents.get(Kind::Acl.name()).cloned());
        let at = self.clock.now();
        let new = object_store::NewBucket { name: new.name, project: project.clone(), at, lock: new.lock, documents };
        match self.store.bucket_create(new).await {
            Err(StoreError::BucketExists) => match self.store.bucket(&name).await? {
                Some(bucket)
                    if bucket.project == *project
                        && bucket.lock == lock
                        && bucket.documents.get(Kind::Acl.name()) == acl.as_ref() =>
                {
                    Ok(Arc::unwrap_or_clone(bucket))
                }
                _ => Err(StoreError::BucketExists.into()),
            },
            created => Ok(created?),
        }
    }

    /// Those of the caller's project, by name.
    pub async fn list(&self, call: Call<'_>) -> Result<Vec<Bucket>> {
        let project = signed(call, Action::LIST_BUCKETS)?;
        Ok(self.store.buckets(Some(project)).await?)
    }

    /// The bucket, for one who may do this with it.
    pub async fn check(&self, call: Call<'_>, action: Action, bucket: &str) -> Result<Arc<Bucket>> {
        self.open(call, action, bucket, None).await
    }

    pub async fn delete(&self, call: Call<'_>, bucket: &str) -> Result<()> {
        let bucket = self.open(call, Action::DELETE_BUCKET, bucket, None).await?;
        Ok(self.store.bucket_delete(&bucket.name).await?)
    }

    pub async fn set_versioning(&self, call: Call<'_>, bucket: &str, versioning: Versioning) -> Result<()> {
        let bucket = self.open(call, Action::PUT_VERSIONING, bucket, None).await?;
        self.store.bucket_change(&bucket.name, BucketChange::Versioning(versioning)).await?;
        Ok(())
    }

    /// Whether a caller without a signature may do this at all: asked before
    /// anything of a body is read.
    pub async fn admit(&self, call: Call<'_>, action: Action, bucket: &str, key: Option<&str>) -> Result<()> {
        self.open(call, action, bucket, key).await.map(drop)
    }
}

/// The project of a caller that must be known.
fn signed(call: Call<'_>, action: Action) -> Result<&ProjectId> {
    match call.caller {
        Caller::Anonymous => Err(access::denied(call, action, "*")),
        Caller::Key(principal) => {
            auth::authorise(principal, action.needs).map_err(|e| Error::Denied(e.message))?;
            Ok(&principal.project)
        }
    }
}
