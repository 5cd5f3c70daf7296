//! What a bucket's owner sets about it: policy, public access, ownership,
//! encryption; and what of S3's settings there is nothing of here.

use muonic_policy::ownership::{ObjectOwnership as Ownership, OwnershipControls as KeptOwnership};
use muonic_policy::public_access::PublicAccessBlock;
use muonic_services::Buckets;
use muonic_services::buckets::Action;
use muonic_services::buckets::config::{EncryptionRule, Kind};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::errors::{answer, custom, not_implemented};
use crate::facts::split;

/// A read or a removal of a document: input, output, kind, and how it is shown.
macro_rules! removal {
    ($name:ident, $input:ty, $output:ty, $kind:expr) => {
        pub(super) async fn $name(service: &Buckets, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
            let (head, input, _) = split(req);
            service.remove_document(head.call(), &input.bucket, $kind).await.map_err(answer)?;
            Ok(S3Response::new(<$output>::default()))
        }
    };
}

removal!(delete_policy, DeleteBucketPolicyInput, DeleteBucketPolicyOutput, Kind::Policy);
removal!(delete_cors, DeleteBucketCorsInput, DeleteBucketCorsOutput, Kind::Cors);
removal!(delete_lifecycle, DeleteBucketLifecycleInput, DeleteBucketLifecycleOutput, Kind::Lifecycle);
removal!(delete_encryption, DeleteBucketEncryptionInput, DeleteBucketEncryptionOutput, Kind::Encryption);
removal!(delete_ownership, DeleteBucketOwnershipControlsInput, DeleteBucketOwnershipControlsOutput, Kind::Ownership);
removal!(delete_block, DeletePublicAccessBlockInput, DeletePublicAccessBlockOutput, Kind::PublicAccessBlock);

pub(super) async fn policy(
    service: &Buckets,
    req: S3Request<GetBucketPolicyInput>,
) -> S3Result<S3Response<GetBucketPolicyOutput>> {
    let (head, input, _) = split(req);
    let policy = Some(service.policy(head.call(), &input.bucket).await.map_err(answer)?);
    Ok(S3Response::new(GetBucketPolicyOutput { policy }))
}

pub(super) async fn set_policy(
    service: &Buckets,
    req: S3Request<PutBucketPolicyInput>,
) -> S3Result<S3Response<PutBucketPolicyOutput>> {
    let (head, input, _) = split(req);
    service.set_policy(head.call(), &input.bucket, input.policy).await.map_err(answer)?;
    Ok(S3Response::with_status(PutBucketPolicyOutput::default(), http::StatusCode::NO_CONTENT))
}

pub(super) async fn policy_status(
    service: &Buckets,
    req: S3Request<GetBucketPolicyStatusInput>,
) -> S3Result<S3Response<GetBucketPolicyStatusOutput>> {
    let (head, input, _) = split(req);
    let is_public = service.is_public(head.call(), &input.bucket).await.map_err(answer)?;
    let policy_status = Some(PolicyStatus { is_public: Some(is_public) });
    Ok(S3Response::new(GetBucketPolicyStatusOutput { policy_status }))
}

pub(super) async fn block(
    service: &Buckets,
    req: S3Request<GetPublicAccessBlockInput>,
) -> S3Result<S3Response<GetPublicAccessBlockOutput>> {
    let (head, input, _) = split(req);
    let kept: PublicAccessBlock =
        service.document(head.call(), &input.bucket, Kind::PublicAccessBlock).await.map_err(answer)?;
    let public_access_block_configuration = Some(PublicAccessBlockConfiguration {
        block_public_acls: Some(kept.block_public_acls),
        block_public_policy: Some(kept.block_public_policy),
        ignore_public_acls: Some(kept.ignore_public_acls),
        restrict_public_buckets: Some(kept.restrict_public_buckets),
    });
    Ok(S3Response::new(GetPublicAccessBlockOutput { public_access_block_configuration }))
}

pub(super) async fn set_block(
    service: &Buckets,
    req: S3Request<PutPublicAccessBlockInput>,
) -> S3Result<S3Response<PutPublicAccessBlockOutput>> {
    let (head, input, _) = split(req);
    let sent = input.public_access_block_configuration;
    let block = PublicAccessBlock {
        block_public_acls: sent.block_public_acls.unwrap_or_default(),
        block_public_policy: sent.block_public_policy.unwrap_or_default(),
        ignore_public_acls: sent.ignore_public_acls.unwrap_or_default(),
        restrict_public_buckets: sent.restrict_public_buckets.unwrap_or_default(),
        ..PublicAccessBlock::all(false)
    };
    service.set_document(head.call(), &input.bucket, Kind::PublicAccessBlock, Some(&block)).await.map_err(answer)?;
    Ok(S3Response::new(PutPublicAccessBlockOutput::default()))
}

pub(super) async fn ownership(
    service: &Buckets,
    req: S3Request<GetBucketOwnershipControlsInput>,
) -> S3Result<S3Response<GetBucketOwnershipControlsOutput>> {
    let (head, input, _) = split(req);
    let kept: KeptOwnership = service.document(head.call(), &input.bucket, Kind::Ownership).await.map_err(answer)?;
    let object_ownership = ObjectOwnership::from_static(kept.object_ownership.as_str());
    let ownership_controls = Some(OwnershipControls { rules: vec![OwnershipControlsRule { object_ownership }] });
    Ok(S3Response::new(GetBucketOwnershipControlsOutput { ownership_controls }))
}

pub(super) async fn set_ownership(
    service: &Buckets,
    req: S3Request<PutBucketOwnershipControlsInput>,
) -> S3Result<S3Response<PutBucketOwnershipControlsOutput>> {
    let (head, input, _) = split(req);
    let [rule] = &input.ownership_controls.rules[..] else {
        return Err(s3_error!(MalformedXML, "OwnershipControls has exactly one Rule"));
    };
    let ownership = Ownership::parse(rule.object_ownership.as_str()).map_err(|e| answer(e.into()))?;
    service.set_ownership(head.call(), &input.bucket, ownership).await.map_err(answer)?;
    Ok(S3Response::new(PutBucketOwnershipControlsOutput::default()))
}

pub(super) async fn encryption(
    service: &Buckets,
    req: S3Request<GetBucketEncryptionInput>,
) -> S3Result<S3Response<GetBucketEncryptionOutput>> {
    let (head, input, _) = split(req);
    let kept: EncryptionRule = service.document(head.call(), &input.bucket, Kind::Encryption).await.map_err(answer)?;
    let algorithm = if kept.kms { ServerSideEncryption::AWS_KMS } else { ServerSideEncryption::AES256 };
    let default = ServerSideEncryptionByDefault {
        kms_master_key_id: kept.key,
        sse_algorithm: ServerSideEncryption::from_static(algorithm),
    };
    let rule = ServerSideEncryptionRule {
        apply_server_side_encryption_by_default: Some(default),
        bucket_key_enabled: Some(kept.bucket_key),
    };
    let server_side_encryption_configuration = Some(ServerSideEncryptionConfiguration { rules: vec![rule] });
    Ok(S3Response::new(GetBucketEncryptionOutput { server_side_encryption_configuration }))
}

pub(super) async fn set_encryption(
    service: &Buckets,
    req: S3Request<PutBucketEncryptionInput>,
) -> S3Result<S3Response<PutBucketEncryptionOutput>> {
    let (head, input, _) = split(req);
    let mut rules = input.server_side_encryption_configuration.rules;
    let (Some(rule), true) = (rules.pop(), rules.is_empty()) else {
        return Err(s3_error!(MalformedXML, "an encryption configuration has exactly one Rule"));
    };
    let Some(default) = rule.apply_server_side_encryption_by_default else {
        return Err(s3_error!(MalformedXML, "a Rule needs ApplyServerSideEncryptionByDefault"));
    };
    let kms = match default.sse_algorithm.as_str() {
        ServerSideEncryption::AES256 => false,
        ServerSideEncryption::AWS_KMS => true,
        ServerSideEncryption::AWS_KMS_DSSE => return Err(not_implemented("SSEAlgorithm aws:kms:dsse")),
        _ => return Err(s3_error!(MalformedXML, "SSEAlgorithm is AES256 or aws:kms")),
    };
    if default.kms_master_key_id.is_some() && !kms {
        return Err(s3_error!(InvalidArgument, "KMSMasterKeyID is for aws:kms only"));
    }
    let bucket_key = rule.bucket_key_enabled.unwrap_or_default();
    let rule = EncryptionRule { kms, key: default.kms_master_key_id, bucket_key };
    service.set_document(head.call(), &input.bucket, Kind::Encryption, Some(&rule)).await.map_err(answer)?;
    Ok(S3Response::new(PutBucketEncryptionOutput::default()))
}

/// What a bucket of S3 answers that was never configured: clients probe it.
macro_rules! absent {
    ($($name:ident, $input:ty, $output:ty => $answer:expr;)+) => {
        $(pub(super) async fn $name(service: &Buckets, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
            let (head, input, _) = split(req);
            service.check(head.call(), Action::GET_CONFIGURATION, &input.bucket).await.map_err(answer)?;
            $answer
        })+
    };
}

fn none<T>(code: &'static str, what: &str) -> S3Result<S3Response<T>> {
    Err(custom(code, http::StatusCode::NOT_FOUND, format!("the bucket has no {what}; there is none here")))
}

absent! {
    logging, GetBucketLoggingInput, GetBucketLoggingOutput => Ok(S3Response::new(Default::default()));
    accelerate, GetBucketAccelerateConfigurationInput, GetBucketAccelerateConfigurationOutput
        => Ok(S3Response::new(Default::default()));
    payment, GetBucketRequestPaymentInput, GetBucketRequestPaymentOutput
        => Ok(S3Response::new(GetBucketRequestPaymentOutput { payer: Some(Payer::from_static(Payer::BUCKET_OWNER)) }));
    website, GetBucketWebsiteInput, GetBucketWebsiteOutput => none("NoSuchWebsiteConfiguration", "website");
    replication, GetBucketReplicationInput, GetBucketReplicationOutput
        => none("ReplicationConfigurationNotFoundError", "replication");
    analytics, GetBucketAnalyticsConfigurationInput, GetBucketAnalyticsConfigurationOutput
        => none("NoSuchConfiguration", "analytics");
    inventory, GetBucketInventoryConfigurationInput, GetBucketInventoryConfigurationOutput
        => none("NoSuchConfiguration", "inventory");
    metrics, GetBucketMetricsConfigurationInput, GetBucketMetricsConfigurationOutput
        => none("NoSuchConfiguration", "metrics");
    tiering, GetBucketIntelligentTieringConfigurationInput, GetBucketIntelligentTieringConfigurationOutput
        => none("NoSuchConfiguration", "intelligent tiering");
    all_analytics, ListBucketAnalyticsConfigurationsInput, ListBucketAnalyticsConfigurationsOutput
        => Ok(S3Response::new(Default::default()));
    all_inventories, ListBucketInventoryConfigurationsInput, ListBucketInventoryConfigurationsOutput
        => Ok(S3Response::new(Default::default()));
    all_metrics, ListBucketMetricsConfigurationsInput, ListBucketMetricsConfigurationsOutput
        => Ok(S3Response::new(Default::default()));
    all_tierings, ListBucketIntelligentTieringConfigurationsInput, ListBucketIntelligentTieringConfigurationsOutput
        => Ok(S3Response::new(Default::default()));
}

/// S3 asks for requests to be paid by their senders; here nobody pays.
pub(super) async fn set_payment(
    service: &Buckets,
    req: S3Request<PutBucketRequestPaymentInput>,
) -> S3Result<S3Response<PutBucketRequestPaymentOutput>> {
    let (head, input, _) = split(req);
    service.check(head.call(), Action::PUT_BUCKET_TAGS, &input.bucket).await.map_err(answer)?;
    if input.request_payment_configuration.payer.as_str() == Payer::BUCKET_OWNER {
        return Ok(S3Response::new(PutBucketRequestPaymentOutput::default()));
    }
    Err(not_implemented("request payment by Requester"))
}
