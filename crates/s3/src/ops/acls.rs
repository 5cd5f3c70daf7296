//! Access lists of buckets and objects.

use muonic_policy::acl::{self, Acl, Group};
use muonic_services::Buckets;
use muonic_services::buckets::{AclWanted, canonical_id};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::draft::acl_wanted;
use crate::errors::{answer, custom};
use crate::facts::{Head, split};
use crate::render::version_of;

/// Groups first, as S3 lists them. `known` are the projects whose ids can be
/// given their names back.
fn grants(list: Acl, known: &[&str]) -> Vec<Grant> {
    let name = |id: &str| {
        let project = known.iter().find(|project| canonical_id(project) == id);
        project.map_or_else(|| id.to_owned(), |project| (*project).to_owned())
    };
    let mut grants = list.grants;
    grants.sort_by_key(|grant| matches!(grant.grantee, acl::Grantee::User(_)));
    let shown = grants.into_iter().map(|grant| {
        let none =
            Grantee { display_name: None, email_address: None, id: None, type_: Type::from_static("Group"), uri: None };
        let grantee = match grant.grantee {
            acl::Grantee::Group(group) => Grantee { uri: Some(group.uri().to_owned()), ..none },
            acl::Grantee::User(id) => Grantee {
                display_name: Some(name(&id)),
                id: Some(id),
                type_: Type::from_static(Type::CANONICAL_USER),
                ..none
            },
        };
        Grant { grantee: Some(grantee), permission: Some(Permission::from_static(grant.permission.as_str())) }
    });
    shown.collect()
}

fn owner(list: &Acl, project: &str) -> Owner {
    Owner { id: Some(list.owner.clone()), display_name: Some(project.to_owned()) }
}

fn callers_project(head: &Head) -> &str {
    head.caller.project().map_or("", |project| project.as_str())
}

pub(super) async fn of_bucket(
    service: &Buckets,
    req: S3Request<GetBucketAclInput>,
) -> S3Result<S3Response<GetBucketAclOutput>> {
    let (head, input, _) = split(req);
    let (bucket, list) = service.acl(head.call(), &input.bucket).await.map_err(answer)?;
    let owner = Some(owner(&list, bucket.project.as_str()));
    let grants = Some(grants(list, &[bucket.project.as_str(), callers_project(&head)]));
    Ok(S3Response::new(GetBucketAclOutput { grants, owner }))
}

pub(super) async fn of_object(
    service: &Buckets,
    req: S3Request<GetObjectAclInput>,
) -> S3Result<S3Response<GetObjectAclOutput>> {
    let (head, input, _) = split(req);
    let (of, id) = ((input.bucket.as_str(), input.key.as_str()), version_of(input.version_id));
    let (bucket, object, list) = service.object_acl(head.call(), of, id.as_ref()).await.map_err(answer)?;
    let owner = Some(owner(&list, &object.owner));
    let grants = Some(grants(list, &[&object.owner, bucket.project.as_str(), callers_project(&head)]));
    Ok(S3Response::new(GetObjectAclOutput { grants, owner, ..Default::default() }))
}

fn wanted(head: &Head, body: Option<AccessControlPolicy>) -> S3Result<AclWanted> {
    let mut wanted = acl_wanted(&head.headers)?;
    wanted.full = match body {
        Some(body) => Some(read(body)?),
        None if wanted.is_asked() => None,
        None => {
            let what = "send an access list: x-amz-acl, x-amz-grant- headers or an AccessControlPolicy";
            return Err(custom("MissingSecurityHeader", http::StatusCode::BAD_REQUEST, what));
        }
    };
    Ok(wanted)
}

fn read(body: AccessControlPolicy) -> S3Result<Acl> {
    let malformed = |what: &str| s3_error!(MalformedACLError, "{what}");
    let owner = body.owner.and_then(|owner| owner.id).ok_or_else(|| malformed("the access list has no Owner ID"))?;
    let mut list = Acl { grants: Vec::new(), ..Acl::private(&owner) };
    for grant in body.grants.unwrap_or_default() {
        let grantee = grant.grantee.ok_or_else(|| malformed("a Grant has no Grantee"))?;
        let permission = grant.permission.ok_or_else(|| malformed("a Grant has no Permission"))?;
        let permission = acl::Permission::parse(permission.as_str()).map_err(|e| malformed(&e.to_string()))?;
        let grantee = match (grantee.id, grantee.uri, grantee.email_address) {
            (Some(id), _, _) => acl::Grantee::User(id),
            (None, Some(uri), _) => {
                acl::Grantee::Group(Group::from_uri(&uri).map_err(|e| s3_error!(InvalidArgument, "{e}"))?)
            }
            (None, None, Some(email)) => {
                return Err(s3_error!(
                    UnresolvableGrantByEmailAddress,
                    "there is no account with the e-mail address '{email}'; name its canonical id"
                ));
            }
            (None, None, None) => return Err(malformed("a Grantee has no ID, URI or EmailAddress")),
        };
        list.grants.push(acl::Grant { grantee, permission });
    }
    Ok(list)
}

pub(super) async fn set_bucket(
    service: &Buckets,
    req: S3Request<PutBucketAclInput>,
) -> S3Result<S3Response<PutBucketAclOutput>> {
    let (head, input, _) = split(req);
    let wanted = wanted(&head, input.access_control_policy)?;
    service.set_acl(head.call(), &input.bucket, wanted).await.map_err(answer)?;
    Ok(S3Response::new(PutBucketAclOutput::default()))
}

pub(super) async fn set_object(
    service: &Buckets,
    req: S3Request<PutObjectAclInput>,
) -> S3Result<S3Response<PutObjectAclOutput>> {
    let (head, input, _) = split(req);
    let wanted = wanted(&head, input.access_control_policy)?;
    let (of, id) = ((input.bucket.as_str(), input.key.as_str()), version_of(input.version_id));
    service.set_object_acl(head.call(), of, id.as_ref(), wanted).await.map_err(answer)?;
    Ok(S3Response::new(PutObjectAclOutput::default()))
}
