//! Keys and callers for s3s: secrets come from the authenticator, in memory,
//! never from the metastore.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, Uri};
use muonic_ports::routes::Authenticator;
use muonic_services::Buckets;
use muonic_services::buckets::{Action, Call, Caller};
use muonic_types::KeyId;
use muonic_types::key::Principal;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use crate::errors::answer;
use crate::facts;

#[derive(Clone)]
pub(crate) struct Access {
    pub auth: Arc<dyn Authenticator>,
    pub buckets: Arc<Buckets>,
}

impl Access {
    pub(crate) fn find(&self, access_key: &str) -> S3Result<(Principal, String)> {
        access_key
            .parse::<KeyId>()
            .ok()
            .and_then(|id| self.auth.secret(&id))
            .ok_or_else(|| s3_error!(InvalidAccessKeyId, "the access key is unknown, expired or revoked"))
    }

    /// Whether a caller without a signature may do this, from the head of the
    /// request alone: s3s reads the bodies of some operations before it calls
    /// them. All others authorise for themselves before they read.
    async fn admit(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let (action, on_key) = match cx.s3_op().name() {
            "CompleteMultipartUpload" => (Action::PUT, true),
            "DeleteObjects" => (Action::DELETE, false),
            "PutObjectTagging" => (Action::PUT_TAGS, true),
            "PutObjectAcl" => (Action::PUT_ACL, true),
            "PutBucketAcl" => (Action::PUT_BUCKET_ACL, false),
            name if reads_no_xml(name) => return Ok(()),
            _ => return Err(s3_error!(AccessDenied, "the request is not signed; sign it with an access key")),
        };
        let peer = cx.extensions_mut().get().copied();
        let facts = Seen { headers: cx.headers(), uri: cx.uri(), peer };
        let call = Call { caller: &Caller::Anonymous, facts: &facts, expected_owner: None };
        let path = cx.s3_path();
        let key = if on_key { path.get_object_key() } else { None };
        let bucket = path.get_bucket_name().unwrap_or_default();
        self.buckets.admit(call, action, bucket, key).await.map_err(answer)
    }
}

/// Operations that a caller without a signature may reach, and of which s3s
/// reads no body.
fn reads_no_xml(operation: &str) -> bool {
    let reads = ["Get", "Head", "List", "Delete"].iter().any(|verb| operation.starts_with(verb));
    reads
        || matches!(
            operation,
            "PutObject"
                | "CopyObject"
                | "CreateMultipartUpload"
                | "UploadPart"
                | "UploadPartCopy"
                | "AbortMultipartUpload"
        )
}

#[async_trait::async_trait]
impl S3Auth for Access {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        Ok(SecretKey::from(self.find(access_key)?.1))
    }
}

#[async_trait::async_trait]
impl S3Access for Access {
    /// Called after the signature has been verified; who may do what is the
    /// service's to say.
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let caller = match cx.credentials() {
            Some(credentials) => Caller::Key(self.find(&credentials.access_key)?.0),
            None => {
                self.admit(cx).await?;
                Caller::Anonymous
            }
        };
        cx.extensions_mut().insert(caller);
        Ok(())
    }
}

struct Seen<'a> {
    headers: &'a HeaderMap,
    uri: &'a Uri,
    peer: Option<SocketAddr>,
}

impl muonic_services::buckets::Facts for Seen<'_> {
    fn values(&self, key: &str) -> Vec<String> {
        facts::values(self.headers, self.uri, self.peer, key)
    }
}

#[cfg(test)]
mod tests {
    use super::reads_no_xml;

    #[test]
    fn bodies_that_s3s_reads_are_not_let_through() {
        for name in ["GetObject", "HeadBucket", "ListObjectsV2", "DeleteObject", "PutObject", "UploadPart"] {
            assert!(reads_no_xml(name), "{name}");
        }
        for name in ["PutBucketPolicy", "CreateBucket", "PutObjectLegalHold", "RestoreObject", "SelectObjectContent"] {
            assert!(!reads_no_xml(name), "{name}");
        }
    }
}
