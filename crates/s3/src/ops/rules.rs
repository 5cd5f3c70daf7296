//! CORS, lifecycle and notification configurations between their XML and the
//! form in which they are kept.

use muonic_policy::cors::{Cors, Rule as CorsRule};
use muonic_policy::lifecycle::{
    And, Expiration, Filter, FilterParts, Lifecycle, NoncurrentExpiration, Rule, Tag as KeptTag,
};
use muonic_policy::notification::{Entry, Notifications, STREAM, check_destination};
use muonic_services::Buckets;
use muonic_services::buckets::Error;
use muonic_services::buckets::config::Kind;
use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use crate::dates::{from_dto, to_dto};
use crate::errors::answer;
use crate::facts::split;

fn refused(error: muonic_policy::Error) -> S3Error {
    answer(error.into())
}

pub(super) async fn cors(
    service: &Buckets,
    req: S3Request<GetBucketCorsInput>,
) -> S3Result<S3Response<GetBucketCorsOutput>> {
    let (head, input, _) = split(req);
    let kept: Cors = service.document(head.call(), &input.bucket, Kind::Cors).await.map_err(answer)?;
    let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    let rules = kept.rules.into_iter().map(|rule| CORSRule {
        allowed_headers: some(rule.allowed_headers),
        allowed_methods: rule.allowed_methods,
        allowed_origins: rule.allowed_origins,
        expose_headers: some(rule.expose_headers),
        id: rule.id,
        max_age_seconds: rule.max_age_seconds.and_then(|age| i32::try_from(age).ok()),
    });
    Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(rules.collect()) }))
}

pub(super) async fn set_cors(
    service: &Buckets,
    req: S3Request<PutBucketCorsInput>,
) -> S3Result<S3Response<PutBucketCorsOutput>> {
    let (head, input, _) = split(req);
    let mut rules = Vec::new();
    for rule in input.cors_configuration.cors_rules {
        let age = rule.max_age_seconds.map(u32::try_from).transpose();
        rules.push(CorsRule {
            id: rule.id,
            allowed_origins: rule.allowed_origins,
            allowed_methods: rule.allowed_methods,
            allowed_headers: rule.allowed_headers.unwrap_or_default(),
            expose_headers: rule.expose_headers.unwrap_or_default(),
            max_age_seconds: age.map_err(|_| s3_error!(InvalidArgument, "MaxAgeSeconds must not be negative"))?,
        });
    }
    let cors = Cors::new(rules);
    cors.check().map_err(refused)?;
    service.set_document(head.call(), &input.bucket, Kind::Cors, Some(&cors)).await.map_err(answer)?;
    Ok(S3Response::new(PutBucketCorsOutput::default()))
}

pub(super) async fn lifecycle(
    service: &Buckets,
    req: S3Request<GetBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
    let (head, input, _) = split(req);
    let kept: Lifecycle = service.document(head.call(), &input.bucket, Kind::Lifecycle).await.map_err(answer)?;
    let rules = Some(kept.rules.into_iter().map(shown_rule).collect());
    Ok(S3Response::new(GetBucketLifecycleConfigurationOutput { rules, ..Default::default() }))
}

fn shown_rule(rule: Rule) -> LifecycleRule {
    let (prefix, filter) = shown_filter(rule.filter);
    LifecycleRule {
        abort_incomplete_multipart_upload: rule
            .abort_incomplete_days
            .map(|days| AbortIncompleteMultipartUpload { days_after_initiation: Some(days) }),
        expiration: rule.expiration.map(|expiration| LifecycleExpiration {
            date: expiration.date.map(to_dto),
            days: expiration.days,
            expired_object_delete_marker: expiration.expired_object_delete_marker,
        }),
        filter,
        id: Some(rule.id),
        noncurrent_version_expiration: rule.noncurrent.map(|noncurrent| NoncurrentVersionExpiration {
            newer_noncurrent_versions: noncurrent.newer_versions,
            noncurrent_days: Some(noncurrent.days),
        }),
        noncurrent_version_transitions: None,
        prefix,
        status: ExpirationStatus::from_static(if rule.enabled { "Enabled" } else { "Disabled" }),
        transitions: None,
    }
}

fn tag(tag: KeptTag) -> Tag {
    Tag { key: Some(tag.key), value: Some(tag.value) }
}

fn size(size: u64) -> Option<i64> {
    i64::try_from(size).ok()
}

fn shown_filter(filter: Filter) -> (Option<String>, Option<LifecycleRuleFilter>) {
    let mut shown = LifecycleRuleFilter::default();
    match filter {
        Filter::Legacy(prefix) => return (Some(prefix), None),
        Filter::All => {}
        Filter::Prefix(prefix) => shown.prefix = Some(prefix),
        Filter::Tag(one) => shown.tag = Some(tag(one)),
        Filter::SizeGreaterThan(bytes) => shown.object_size_greater_than = size(bytes),
        Filter::SizeLessThan(bytes) => shown.object_size_less_than = size(bytes),
        Filter::And(and) => {
            shown.and = Some(LifecycleRuleAndOperator {
                object_size_greater_than: and.size_greater_than.and_then(size),
                object_size_less_than: and.size_less_than.and_then(size),
                prefix: and.prefix,
                tags: Some(and.tags.into_iter().map(tag).collect()),
            });
        }
    }
    (None, Some(shown))
}

pub(super) async fn set_lifecycle(
    service: &Buckets,
    req: S3Request<PutBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
    let (head, input, _) = split(req);
    let sent = input.lifecycle_configuration.map(|sent| sent.rules).unwrap_or_default();
    let rules: S3Result<Vec<_>> = sent.into_iter().map(read_rule).collect();
    let lifecycle = Lifecycle::new(rules?).map_err(refused)?;
    service.set_document(head.call(), &input.bucket, Kind::Lifecycle, Some(&lifecycle)).await.map_err(answer)?;
    Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
}

fn read_tag(tag: Tag) -> S3Result<KeptTag> {
    let key = tag.key.ok_or_else(|| s3_error!(MalformedXML, "a Tag of a lifecycle rule has no Key"))?;
    Ok(KeptTag { key, value: tag.value.unwrap_or_default() })
}

fn read_size(size: Option<i64>) -> S3Result<Option<u64>> {
    let bad = |_| s3_error!(InvalidRequest, "the sizes of a lifecycle rule must not be negative");
    size.map(u64::try_from).transpose().map_err(bad)
}

fn read_filter(filter: LifecycleRuleFilter) -> S3Result<FilterParts> {
    let and = match filter.and {
        None => None,
        Some(and) => Some(And {
            prefix: and.prefix,
            tags: and.tags.unwrap_or_default().into_iter().map(read_tag).collect::<S3Result<_>>()?,
            size_greater_than: read_size(and.object_size_greater_than)?,
            size_less_than: read_size(and.object_size_less_than)?,
        }),
    };
    Ok(FilterParts {
        prefix: filter.prefix,
        tag: filter.tag.map(read_tag).transpose()?,
        size_greater_than: read_size(filter.object_size_greater_than)?,
        size_less_than: read_size(filter.object_size_less_than)?,
        and,
    })
}

fn read_rule(rule: LifecycleRule) -> S3Result<Rule> {
    let enabled = match rule.status.as_str() {
        "Enabled" => true,
        "Disabled" => false,
        _ => return Err(s3_error!(MalformedXML, "Status of a lifecycle rule is Enabled or Disabled")),
    };
    let expiration = match rule.expiration {
        None => None,
        Some(sent) => Some(Expiration {
            days: sent.days,
            date: sent.date.as_ref().map(from_dto).transpose()?,
            expired_object_delete_marker: sent.expired_object_delete_marker,
        }),
    };
    let noncurrent = match rule.noncurrent_version_expiration {
        None => None,
        Some(sent) => Some(NoncurrentExpiration {
            days: sent.noncurrent_days.ok_or_else(|| {
                s3_error!(MalformedXML, "NoncurrentVersionExpiration of a lifecycle rule needs NoncurrentDays")
            })?,
            newer_versions: sent.newer_noncurrent_versions,
        }),
    };
    let transitions = rule.transitions.unwrap_or_default();
    let dates = transitions.iter().filter_map(|transition| transition.date.as_ref().map(from_dto));
    let transition_dates = dates.collect::<S3Result<_>>()?;
    let later = rule.noncurrent_version_transitions.unwrap_or_default();
    Ok(Rule {
        id: rule.id.unwrap_or_default(),
        enabled,
        filter: Filter::from_parts(rule.prefix, rule.filter.map(read_filter).transpose()?).map_err(refused)?,
        expiration,
        noncurrent,
        abort_incomplete_days: rule.abort_incomplete_multipart_upload.and_then(|abort| abort.days_after_initiation),
        transitions: !transitions.is_empty() || !later.is_empty(),
        transition_dates,
    })
}

pub(super) async fn notification(
    service: &Buckets,
    req: S3Request<GetBucketNotificationConfigurationInput>,
) -> S3Result<S3Response<GetBucketNotificationConfigurationOutput>> {
    let (head, input, _) = split(req);
    let kept = match service.document(head.call(), &input.bucket, Kind::Notification).await {
        Ok(kept) => kept,
        Err(Error::NoDocument(_)) => Notifications::new(Vec::new(), false),
        Err(e) => return Err(answer(e)),
    };
    let mut output = GetBucketNotificationConfigurationOutput {
        event_bridge_configuration: kept.event_bridge.then(EventBridgeConfiguration::default),
        ..Default::default()
    };
    for Entry { id, events, prefix, suffix } in kept.entries {
        let events = events.into_iter().map(Event::from).collect();
        let rules = [("prefix", prefix), ("suffix", suffix)].into_iter().filter(|(_, value)| !value.is_empty());
        let rules =
            rules.map(|(name, value)| FilterRule { name: Some(FilterRuleName::from_static(name)), value: Some(value) });
        let filter_rules = Some(rules.collect::<Vec<_>>()).filter(|rules| !rules.is_empty());
        let filter = filter_rules
            .map(|rules| NotificationConfigurationFilter { key: Some(S3KeyFilter { filter_rules: Some(rules) }) });
        let queue = QueueConfiguration { events, filter, id: Some(id), queue_arn: STREAM.to_owned() };
        output.queue_configurations.get_or_insert_default().push(queue);
    }
    Ok(S3Response::new(output))
}

pub(super) async fn set_notification(
    service: &Buckets,
    req: S3Request<PutBucketNotificationConfigurationInput>,
) -> S3Result<S3Response<PutBucketNotificationConfigurationOutput>> {
    let (head, input, _) = split(req);
    let sent = input.notification_configuration;
    let mut entries = Vec::new();
    for one in sent.queue_configurations.unwrap_or_default() {
        check_destination(&one.queue_arn).map_err(refused)?;
        add(&mut entries, one.id, one.events, one.filter)?;
    }
    let topics = sent.topic_configurations.unwrap_or_default().into_iter().map(|one| one.topic_arn);
    let functions = sent.lambda_function_configurations.unwrap_or_default().into_iter();
    if let Some(arn) = topics.chain(functions.map(|one| one.lambda_function_arn)).next() {
        check_destination(&arn).map_err(refused)?;
        return Err(s3_error!(InvalidArgument, "events go to the queue {STREAM}, which is no topic and no function"));
    }
    let kept = Notifications::new(entries, sent.event_bridge_configuration.is_some());
    kept.check().map_err(refused)?;
    let kept = Some(&kept).filter(|kept| !kept.entries.is_empty() || kept.event_bridge);
    service.set_notifications(head.call(), &input.bucket, kept).await.map_err(answer)?;
    Ok(S3Response::new(PutBucketNotificationConfigurationOutput::default()))
}

fn add(
    entries: &mut Vec<Entry>,
    id: Option<String>,
    events: Vec<Event>,
    filter: Option<NotificationConfigurationFilter>,
) -> S3Result<()> {
    let id = id.unwrap_or_else(|| format!("notification-{}", entries.len() + 1));
    let events = events.into_iter().map(|event| event.as_ref().to_owned()).collect();
    let mut entry = Entry { id, events, prefix: String::new(), suffix: String::new() };
    for rule in filter.and_then(|filter| filter.key).and_then(|key| key.filter_rules).unwrap_or_default() {
        let name = rule.name.as_ref().map(|name| name.as_str().to_ascii_lowercase()).unwrap_or_default();
        match name.as_str() {
            "prefix" => entry.prefix = rule.value.unwrap_or_default(),
            "suffix" => entry.suffix = rule.value.unwrap_or_default(),
            _ => return Err(s3_error!(InvalidArgument, "the name of a filter rule is prefix or suffix")),
        }
    }
    entries.push(entry);
    Ok(())
}
