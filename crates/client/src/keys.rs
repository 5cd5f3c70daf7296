//! Keys.

use muonic_types::KeyId;
use muonic_types::key::{KeyCreated, KeyList, NewKey};

use crate::{Client, Result, url::part};

impl Client {
    /// Makes a key. Not repeated: its secret is shown once.
    pub fn key_create(&self, key: &NewKey) -> Result<KeyCreated> {
        self.post("/api/v1/keys", key)
    }

    pub fn keys(&self) -> Result<KeyList> {
        self.get("/api/v1/keys")
    }

    pub fn key_revoke(&self, key: &KeyId) -> Result<()> {
        self.delete::<serde_json::Value>(&format!("/api/v1/keys/{}", part(key))).map(|_| ())
    }
}
