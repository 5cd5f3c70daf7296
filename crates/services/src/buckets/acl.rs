//! Access lists: what a request asks for, what is kept, and the settings of a
//! bucket that restrict them. `None` in the store is private.

use std::sync::Arc;

use muonic_policy::Error as PolicyError;
use muonic_policy::acl::{Acl, CannedAcl, Grant, Grantee, Group, Permission};
use muonic_policy::ownership::{ObjectOwnership, OwnershipControls};
use muonic_policy::public_access::PublicAccessBlock;
use muonic_ports::object_store::{Bucket, ObjectChange, ObjectVersion, VersionId};

use super::action::Action;
use super::call::{Call, canonical_id};
use super::config::{Kind, parse, render};
use super::{Buckets, Error, Result};

/// Access lists as a request asks for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AclWanted {
    /// One of S3's canned lists.
    pub canned: Option<String>,
    /// Grantees by permission (`READ`, `FULL_CONTROL`), as the headers say.
    pub grants: Vec<(&'static str, String)>,
    /// In full, as the body says.
    pub full: Option<Acl>,
}

impl AclWanted {
    pub fn is_asked(&self) -> bool {
        self.canned.is_some() || !self.grants.is_empty() || self.full.is_some()
    }

    fn canned(&self) -> Result<Option<CannedAcl>> {
        Ok(self.canned.as_deref().map(CannedAcl::parse).transpose()?)
    }

    /// Who owns an object that is written with it: a project.
    pub(super) fn owner_of_new(&self, call: Call<'_>, bucket: &Bucket) -> Result<String> {
        let writer = call.caller.project().map(|project| project.as_str());
        let owner = ownership_of(bucket)?.owner_of_new(writer, bucket.project.as_str(), self.canned()?);
        Ok(owner.to_owned())
    }

    /// The document to keep, for something that a project owns. `settings` are
    /// those of the bucket it is in.
    pub(super) fn document(
        self,
        owner: &str,
        bucket_owner: &str,
        ownership: ObjectOwnership,
        block: PublicAccessBlock,
    ) -> Result<Option<String>> {
        if !self.is_asked() {
            return Ok(None);
        }
        let canned = self.canned()?;
        let (owner, bucket_owner) = (canonical_id(owner), canonical_id(bucket_owner));
        let kinds = [canned.is_some(), !self.grants.is_empty(), self.full.is_some()];
        if kinds.into_iter().filter(|is_there| *is_there).count() > 1 {
            return Err(Error::InvalidRequest("an access list is canned, in headers, or in the body".to_owned()));
        }
        let acl = match (canned, self.full) {
            (Some(canned), _) => canned.expand(&owner, &bucket_owner),
            (None, Some(full)) => full,
            (None, None) => Acl { grants: grants(&self.grants)?, ..Acl::private(&owner) },
        };
        acl.check(&owner)?;
        acl.grants.iter().try_for_each(check_grantee)?;
        ownership.check_acl(canned, &acl, &bucket_owner)?;
        block.check_acl(&acl)?;
        if acl == Acl::private(&owner) || !ownership.acls_enabled() { Ok(None) } else { render(&acl).map(Some) }
    }
}

/// `id="…", uri="…"`, by permission.
fn grants(headers: &[(&'static str, String)]) -> Result<Vec<Grant>> {
    let mut grants = Vec::new();
    for (permission, text) in headers {
        let permission = Permission::parse(permission)?;
        for grantee in text.split(',').map(str::trim).filter(|grantee| !grantee.is_empty()) {
            let bad = || Error::Invalid(format!("'{grantee}' is no grantee; write id=\"…\" or uri=\"…\""));
            let (kind, name) = grantee.split_once('=').ok_or_else(bad)?;
            let name = name.trim().trim_matches('"');
            let grantee = match kind.trim().to_ascii_lowercase().as_str() {
                "id" => Grantee::User(name.to_owned()),
                "uri" => Grantee::Group(Group::from_uri(name)?),
                "emailaddress" => return Err(Error::UnknownEmail(name.to_owned())),
                _ => return Err(bad()),
            };
            grants.push(Grant { grantee, permission });
        }
    }
    Ok(grants)
}

/// Ids are those of projects; whether there is such a project is not asked.
fn check_grantee(grant: &Grant) -> Result<()> {
    match &grant.grantee {
        Grantee::User(id) if id.len() != 64 || !id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) => {
            Err(Error::Invalid(format!("'{id}' is not the canonical id of an account")))
        }
        _ => Ok(()),
    }
}

pub(super) fn bucket_acl(bucket: &Bucket) -> Result<Acl> {
    match bucket.documents.get(Kind::Acl.name()) {
        Some(document) => parse(document, Kind::Acl),
        None => Ok(Acl::private(&canonical_id(bucket.project.as_str()))),
    }
}

pub(super) fn object_acl(object: &ObjectVersion) -> Result<Acl> {
    match &object.acl {
        Some(document) => parse(document, Kind::Acl),
        None => Ok(Acl::private(&canonical_id(&object.owner))),
    }
}

/// Buckets that do not say keep access lists, which are private if not asked
/// to be otherwise.
pub(super) fn ownership_of(bucket: &Bucket) -> Result<ObjectOwnership> {
    match bucket.documents.get(Kind::Ownership.name()) {
        Some(document) => Ok(parse::<OwnershipControls>(document, Kind::Ownership)?.object_ownership),
        None => Ok(ObjectOwnership::ObjectWriter),
    }
}

pub(super) fn block_of(bucket: &Bucket) -> Result<PublicAccessBlock> {
    match bucket.documents.get(Kind::PublicAccessBlock.name()) {
        Some(document) => parse(document, Kind::PublicAccessBlock),
        None => Ok(PublicAccessBlock::all(false)),
    }
}

impl Buckets {
    pub async fn acl(&self, call: Call<'_>, bucket: &str) -> Result<(Arc<Bucket>, Acl)> {
        let bucket = self.open(call, Action::GET_BUCKET_ACL, bucket, None).await?;
        let acl = bucket_acl(&bucket)?;
        Ok((bucket, acl))
    }

    pub async fn set_acl(&self, call: Call<'_>, bucket: &str, wanted: AclWanted) -> Result<()> {
        let bucket = self.open(call, Action::PUT_BUCKET_ACL, bucket, None).await?;
        let owner = bucket.project.as_str();
        let document = wanted.document(owner, owner, ownership_of(&bucket)?, block_of(&bucket)?)?;
        self.keep(&bucket, Kind::Acl, document).await
    }

    pub async fn object_acl(
        &self,
        call: Call<'_>,
        of: (&str, &str),
        version: Option<&VersionId>,
    ) -> Result<(Arc<Bucket>, ObjectVersion, Acl)> {
        let action = if version.is_some() { Action::GET_VERSION_ACL } else { Action::GET_ACL };
        let (bucket, object) = self.find(call, action, of, version).await?;
        let acl = object_acl(&object)?;
        Ok((bucket, object, acl))
    }

    pub async fn set_object_acl(
        &self,
        call: Call<'_>,
        of: (&str, &str),
        version: Option<&VersionId>,
        wanted: AclWanted,
    ) -> Result<ObjectVersion> {
        let action = if version.is_some() { Action::PUT_VERSION_ACL } else { Action::PUT_ACL };
        let (bucket, object) = self.find(call, action, of, version).await?;
        let (ownership, block) = (ownership_of(&bucket)?, block_of(&bucket)?);
        let document = wanted.document(&object.owner, bucket.project.as_str(), ownership, block)?;
        Ok(self.store.change(&bucket.name, of.1, Some(&object.version), ObjectChange::Acl(document)).await?)
    }
}

impl From<PolicyError> for Error {
    fn from(error: PolicyError) -> Self {
        Self::Policy(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(wanted: AclWanted) -> Result<Option<String>> {
        wanted.document("a", "a", ObjectOwnership::ObjectWriter, PublicAccessBlock::all(false))
    }

    #[test]
    fn private_lists_are_not_kept() {
        let canned = |name: &str| AclWanted { canned: Some(name.to_owned()), ..AclWanted::default() };
        assert_eq!(document(AclWanted::default()).expect("none"), None);
        assert_eq!(document(canned("private")).expect("private"), None);
        assert!(document(canned("public-read")).expect("public").is_some());
        assert!(matches!(document(canned("public")), Err(Error::Policy(PolicyError::Invalid(_)))));
        let blocked =
            canned("public-read").document("a", "a", ObjectOwnership::ObjectWriter, PublicAccessBlock::all(true));
        assert!(matches!(blocked, Err(Error::Policy(PolicyError::AccessDenied(_)))));
    }

    #[test]
    fn grants_of_headers_replace_all() {
        let id = canonical_id("b");
        let grant = |text: &str| AclWanted { grants: vec![("READ", text.to_owned())], ..AclWanted::default() };
        let kept = document(grant(&format!("id=\"{id}\", uri=\"{}\"", Group::AllUsers.uri()))).expect("grants");
        let acl: Acl = parse(&kept.expect("a list"), Kind::Acl).expect("a list");
        assert_eq!(acl.grants.len(), 2);
        assert_eq!(acl.grants[0].grantee, Grantee::User(id));
        assert!(matches!(document(grant("id=\"_foo\"")), Err(Error::Invalid(_))));
        assert!(matches!(document(grant("emailAddress=\"a@b\"")), Err(Error::UnknownEmail(_))));
        assert!(document(grant("nobody")).is_err());
    }
}
