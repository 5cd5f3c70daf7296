//! Pages of keys and of versions.

use muonic_ports::object_store::{ListQuery, Listing, UploadListing, UploadQuery};

use super::action::Action;
use super::call::Call;
use super::{Buckets, PAGE_MAX, Result};

impl Buckets {
    /// Keys in byte order, at most [`PAGE_MAX`] of them and prefixes together.
    pub async fn objects(&self, call: Call<'_>, bucket: &str, mut query: ListQuery) -> Result<Listing> {
        let action = if query.versions { Action::LIST_VERSIONS } else { Action::LIST };
        let bucket = self.open(call, action, bucket, None).await?;
        query.max = query.max.min(PAGE_MAX);
        query.delimiter = query.delimiter.filter(|d| !d.is_empty());
        if query.max == 0 {
            return Ok(Listing::default());
        }
        Ok(self.store.list(&bucket.name, &query).await?)
    }

    pub async fn uploads(&self, call: Call<'_>, bucket: &str, mut query: UploadQuery) -> Result<UploadListing> {
        let bucket = self.open(call, Action::LIST_UPLOADS, bucket, None).await?;
        query.max = query.max.min(PAGE_MAX);
        query.delimiter = query.delimiter.filter(|d| !d.is_empty());
        if query.max == 0 {
            return Ok(UploadListing::default());
        }
        Ok(self.store.uploads(&bucket.name, &query).await?)
    }
}
