//! Object lock: a bucket's configuration, retention, legal hold.

use muonic_ports::object_store::{Retention, RetentionMode};
use muonic_services::Buckets;
use muonic_services::buckets::config::LockRule;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::dates::{from_dto, to_dto};
use crate::errors::{answer, custom};
use crate::facts::split;
use crate::render::{retention_mode, version_of};

const GOVERNANCE: &str = "GOVERNANCE";
const COMPLIANCE: &str = "COMPLIANCE";

fn mode(named: Option<&ObjectLockRetentionMode>) -> S3Result<RetentionMode> {
    match named.map(ObjectLockRetentionMode::as_str) {
        Some(GOVERNANCE) => Ok(RetentionMode::Governance),
        Some(COMPLIANCE) => Ok(RetentionMode::Compliance),
        _ => Err(s3_error!(MalformedXML, "Mode is GOVERNANCE or COMPLIANCE")),
    }
}

pub(super) async fn configuration(
    service: &Buckets,
    req: S3Request<GetObjectLockConfigurationInput>,
) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
    let (head, input, _) = split(req);
    let rule = service.lock_rule(head.call(), &input.bucket).await.map_err(answer)?;
    let rule = rule.map(|LockRule { compliance, days, years }| {
        let mode = if compliance { COMPLIANCE } else { GOVERNANCE };
        let mode = Some(ObjectLockRetentionMode::from_static(mode));
        ObjectLockRule { default_retention: Some(DefaultRetention { days, mode, years }) }
    });
    let object_lock_enabled = Some(ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED));
    let object_lock_configuration = Some(ObjectLockConfiguration { object_lock_enabled, rule });
    Ok(S3Response::new(GetObjectLockConfigurationOutput { object_lock_configuration }))
}

pub(super) async fn set_configuration(
    service: &Buckets,
    req: S3Request<PutObjectLockConfigurationInput>,
) -> S3Result<S3Response<PutObjectLockConfigurationOutput>> {
    let (head, input, _) = split(req);
    let configuration = input.object_lock_configuration.unwrap_or_default();
    let enabled = configuration.object_lock_enabled.as_ref().map(ObjectLockEnabled::as_str);
    if enabled != Some(ObjectLockEnabled::ENABLED) {
        return Err(s3_error!(MalformedXML, "ObjectLockEnabled must be Enabled"));
    }
    let rule = match configuration.rule {
        None => None,
        Some(ObjectLockRule { default_retention: None }) => {
            return Err(s3_error!(MalformedXML, "a Rule needs a DefaultRetention"));
        }
        Some(ObjectLockRule { default_retention: Some(default) }) => {
            let compliance = mode(default.mode.as_ref())? == RetentionMode::Compliance;
            if default.days.is_some_and(|days| days <= 0) || default.years.is_some_and(|years| years <= 0) {
                let what = "Days and Years of a default retention must be positive";
                return Err(custom("InvalidRetentionPeriod", http::StatusCode::BAD_REQUEST, what));
            }
            Some(LockRule { compliance, days: default.days, years: default.years })
        }
    };
    service.set_lock_rule(head.call(), &input.bucket, rule).await.map_err(answer)?;
    Ok(S3Response::new(PutObjectLockConfigurationOutput::default()))
}

pub(super) async fn retention(
    service: &Buckets,
    req: S3Request<GetObjectRetentionInput>,
) -> S3Result<S3Response<GetObjectRetentionOutput>> {
    let (head, input, _) = split(req);
    let (of, id) = ((input.bucket.as_str(), input.key.as_str()), version_of(input.version_id));
    let Retention { mode, until } = service.retention(head.call(), of, id.as_ref()).await.map_err(answer)?;
    let mode = Some(ObjectLockRetentionMode::from_static(retention_mode(mode)));
    let retention = Some(ObjectLockRetention { mode, retain_until_date: Some(to_dto(until)) });
    Ok(S3Response::new(GetObjectRetentionOutput { retention }))
}

pub(super) async fn set_retention(
    service: &Buckets,
    req: S3Request<PutObjectRetentionInput>,
) -> S3Result<S3Response<PutObjectRetentionOutput>> {
    let (head, input, _) = split(req);
    let (of, id) = ((input.bucket.as_str(), input.key.as_str()), version_of(input.version_id));
    let asked = input.retention.unwrap_or_default();
    // An empty one removes it, if the caller may.
    let retention = match (&asked.mode, &asked.retain_until_date) {
        (None, None) => None,
        (named, Some(until)) => Some(Retention { mode: mode(named.as_ref())?, until: from_dto(until)? }),
        (Some(_), None) => return Err(s3_error!(MalformedXML, "Mode and RetainUntilDate come together")),
    };
    let bypass = input.bypass_governance_retention.unwrap_or_default();
    service.set_retention(head.call(), of, id.as_ref(), retention, bypass).await.map_err(answer)?;
    Ok(S3Response::new(PutObjectRetentionOutput::default()))
}

pub(super) async fn legal_hold(
    service: &Buckets,
    req: S3Request<GetObjectLegalHoldInput>,
) -> S3Result<S3Response<GetObjectLegalHoldOutput>> {
    let (head, input, _) = split(req);
    let (of, id) = ((input.bucket.as_str(), input.key.as_str()), version_of(input.version_id));
    let held = service.legal_hold(head.call(), of, id.as_ref()).await.map_err(answer)?;
    let status = ObjectLockLegalHoldStatus::from_static(if held { "ON" } else { "OFF" });
    let legal_hold = Some(ObjectLockLegalHold { status: Some(status) });
    Ok(S3Response::new(GetObjectLegalHoldOutput { legal_hold }))
}

pub(super) async fn set_legal_hold(
    service: &Buckets,
    req: S3Request<PutObjectLegalHoldInput>,
) -> S3Result<S3Response<PutObjectLegalHoldOutput>> {
    let (head, input, _) = split(req);
    let (of, id) = ((input.bucket.as_str(), input.key.as_str()), version_of(input.version_id));
    let status = input.legal_hold.and_then(|hold| hold.status);
    let held = match status.as_ref().map(ObjectLockLegalHoldStatus::as_str) {
        Some("ON") => true,
        Some("OFF") => false,
        _ => return Err(s3_error!(MalformedXML, "Status of LegalHold is ON or OFF")),
    };
    service.set_legal_hold(head.call(), of, id.as_ref(), held).await.map_err(answer)?;
    Ok(S3Response::new(PutObjectLegalHoldOutput::default()))
}
