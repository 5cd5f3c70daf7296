//! Keys and principals for s3s: secrets come from the authenticator, in
//! memory, never from the metastore.

use std::sync::Arc;

use muonic_ports::routes::Authenticator;
use muonic_types::KeyId;
use muonic_types::key::Principal;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Request, S3Result, s3_error};

#[derive(Clone)]
pub(crate) struct Access(pub Arc<dyn Authenticator>);

impl Access {
    fn find(&self, access_key: &str) -> S3Result<(Principal, String)> {
        access_key
            .parse::<KeyId>()
            .ok()
            .and_then(|id| self.0.secret(&id))
            .ok_or_else(|| s3_error!(InvalidAccessKeyId, "the access key is unknown, expired or revoked"))
    }
}

#[async_trait::async_trait]
impl S3Auth for Access {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        Ok(SecretKey::from(self.find(access_key)?.1))
    }
}

#[async_trait::async_trait]
impl S3Access for Access {
    /// Called after the signature has been verified; roles are the service's.
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(credentials) = cx.credentials() else {
            return Err(s3_error!(AccessDenied, "the request is not signed"));
        };
        let (principal, _) = self.find(&credentials.access_key)?;
        cx.extensions_mut().insert(principal);
        Ok(())
    }
}

/// Who sent a request that `Access` has let in.
pub(crate) fn caller<T>(req: &S3Request<T>) -> S3Result<Principal> {
    req.extensions.get().cloned().ok_or_else(|| s3_error!(AccessDenied, "the request is not signed"))
}
