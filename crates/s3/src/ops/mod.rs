//! The operations that are built, one file per family. All others answer
//! NotImplemented by name, which is what the trait of s3s does.

mod acls;
mod buckets;
mod config;
mod copy;
mod delete;
mod list;
mod lock;
mod parts;
mod put;
mod read;
mod rules;
mod tags;
mod uploads;
mod versions;

use std::sync::Arc;

use muonic_services::Buckets;
use muonic_services::buckets::{Action, Draft};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use crate::draft::draft;
use crate::errors::{answer, not_implemented};
use crate::facts::Head;

pub(crate) struct Ops {
    buckets: Arc<Buckets>,
}

impl Ops {
    pub(crate) fn new(buckets: Arc<Buckets>) -> Self {
        Self { buckets }
    }
}

/// Refuses what was asked for and would otherwise be dropped.
fn refuse(asked: &[(bool, &str)]) -> S3Result<()> {
    match asked.iter().find(|(is_asked, _)| *is_asked) {
        Some((_, what)) => Err(not_implemented(what)),
        None => Ok(()),
    }
}

/// What the headers say of an object to be. Whether the caller may write it is
/// said first: a policy may deny what is not well-formed either.
async fn drafted(service: &Buckets, head: &Head, (bucket, key): (&str, &str)) -> S3Result<Draft> {
    match draft(&head.headers) {
        Ok(draft) => Ok(draft),
        Err(refused) => {
            service.admit(head.call(), Action::PUT, bucket, Some(key)).await.map_err(answer)?;
            Err(refused)
        }
    }
}

/// Each method of s3s, and the function that does it.
macro_rules! operations {
    ($($name:ident($input:ty) -> $output:ty = $function:path;)+) => {
        #[async_trait::async_trait]
        impl S3 for Ops {
            $(async fn $name(&self, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
                $function(&self.buckets, req).await
            })+
        }
    };
}

operations! {
    list_buckets(ListBucketsInput) -> ListBucketsOutput = buckets::list;
    create_bucket(CreateBucketInput) -> CreateBucketOutput = buckets::create;
    head_bucket(HeadBucketInput) -> HeadBucketOutput = buckets::head;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput = buckets::location;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput = buckets::delete;
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput = buckets::versioning;
    put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput = buckets::set_versioning;

    put_object(PutObjectInput) -> PutObjectOutput = put::put;
    get_object(GetObjectInput) -> GetObjectOutput = read::get;
    head_object(HeadObjectInput) -> HeadObjectOutput = read::head;
    get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput = parts::attributes;
    copy_object(CopyObjectInput) -> CopyObjectOutput = copy::object;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput = delete::one;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput = delete::many;
    list_objects(ListObjectsInput) -> ListObjectsOutput = list::v1;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output = list::v2;
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput = versions::list;

    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput = uploads::create;
    upload_part(UploadPartInput) -> UploadPartOutput = uploads::part;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput = copy::part;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput = uploads::complete;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput = uploads::abort;
    list_parts(ListPartsInput) -> ListPartsOutput = parts::parts;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput = parts::uploads;

    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput = tags::of_object;
    put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput = tags::set_object;
    delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput = tags::delete_object;
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput = tags::of_bucket;
    put_bucket_tagging(PutBucketTaggingInput) -> PutBucketTaggingOutput = tags::set_bucket;
    delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput = tags::delete_bucket;
    get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput = lock::configuration;
    put_object_lock_configuration(PutObjectLockConfigurationInput) -> PutObjectLockConfigurationOutput = lock::set_configuration;
    get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput = lock::retention;
    put_object_retention(PutObjectRetentionInput) -> PutObjectRetentionOutput = lock::set_retention;
    get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput = lock::legal_hold;
    put_object_legal_hold(PutObjectLegalHoldInput) -> PutObjectLegalHoldOutput = lock::set_legal_hold;

    get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput = acls::of_bucket;
    put_bucket_acl(PutBucketAclInput) -> PutBucketAclOutput = acls::set_bucket;
    get_object_acl(GetObjectAclInput) -> GetObjectAclOutput = acls::of_object;
    put_object_acl(PutObjectAclInput) -> PutObjectAclOutput = acls::set_object;
    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput = config::policy;
    put_bucket_policy(PutBucketPolicyInput) -> PutBucketPolicyOutput = config::set_policy;
    delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput = config::delete_policy;
    get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput = config::policy_status;
    get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput = config::block;
    put_public_access_block(PutPublicAccessBlockInput) -> PutPublicAccessBlockOutput = config::set_block;
    delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput = config::delete_block;
    get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput = config::ownership;
    put_bucket_ownership_controls(PutBucketOwnershipControlsInput) -> PutBucketOwnershipControlsOutput = config::set_ownership;
    delete_bucket_ownership_controls(DeleteBucketOwnershipControlsInput) -> DeleteBucketOwnershipControlsOutput = config::delete_ownership;
    get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput = config::encryption;
    put_bucket_encryption(PutBucketEncryptionInput) -> PutBucketEncryptionOutput = config::set_encryption;
    delete_bucket_encryption(DeleteBucketEncryptionInput) -> DeleteBucketEncryptionOutput = config::delete_encryption;
    get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput = rules::cors;
    put_bucket_cors(PutBucketCorsInput) -> PutBucketCorsOutput = rules::set_cors;
    delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput = config::delete_cors;
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput = rules::lifecycle;
    put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput) -> PutBucketLifecycleConfigurationOutput = rules::set_lifecycle;
    delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput = config::delete_lifecycle;
    get_bucket_notification_configuration(GetBucketNotificationConfigurationInput) -> GetBucketNotificationConfigurationOutput = rules::notification;
    put_bucket_notification_configuration(PutBucketNotificationConfigurationInput) -> PutBucketNotificationConfigurationOutput = rules::set_notification;

    get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput = config::logging;
    get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput) -> GetBucketAccelerateConfigurationOutput = config::accelerate;
    get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput = config::payment;
    put_bucket_request_payment(PutBucketRequestPaymentInput) -> PutBucketRequestPaymentOutput = config::set_payment;
    get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput = config::website;
    get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput = config::replication;
    get_bucket_analytics_configuration(GetBucketAnalyticsConfigurationInput) -> GetBucketAnalyticsConfigurationOutput = config::analytics;
    get_bucket_inventory_configuration(GetBucketInventoryConfigurationInput) -> GetBucketInventoryConfigurationOutput = config::inventory;
    get_bucket_metrics_configuration(GetBucketMetricsConfigurationInput) -> GetBucketMetricsConfigurationOutput = config::metrics;
    get_bucket_intelligent_tiering_configuration(GetBucketIntelligentTieringConfigurationInput) -> GetBucketIntelligentTieringConfigurationOutput = config::tiering;
    list_bucket_analytics_configurations(ListBucketAnalyticsConfigurationsInput) -> ListBucketAnalyticsConfigurationsOutput = config::all_analytics;
    list_bucket_inventory_configurations(ListBucketInventoryConfigurationsInput) -> ListBucketInventoryConfigurationsOutput = config::all_inventories;
    list_bucket_metrics_configurations(ListBucketMetricsConfigurationsInput) -> ListBucketMetricsConfigurationsOutput = config::all_metrics;
    list_bucket_intelligent_tiering_configurations(ListBucketIntelligentTieringConfigurationsInput) -> ListBucketIntelligentTieringConfigurationsOutput = config::all_tierings;
}
