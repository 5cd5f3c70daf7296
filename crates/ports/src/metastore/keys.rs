use async_trait::async_trait;
use muonic_types::KeyId;
use muonic_types::key::Key;

use crate::Result;

/// Keys without secrets: a secret is derived from the master key and the id.
#[async_trait]
pub trait Keys {
    /// `Conflict` where the id exists, or did: revoked ids never come back.
    async fn key_insert(&self, key: &Key) -> Result<()>;
    /// Every key that is not revoked, expired ones included.
    async fn key_list(&self) -> Result<Vec<Key>>;
    /// `NotFound` where there is no such key; revoking a revoked one changes nothing.
    async fn key_revoke(&self, id: &KeyId) -> Result<()>;
}
