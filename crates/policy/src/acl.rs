//! Access control lists: an owner and grants, and the canned lists that
//! requests name in a header.
//!
//! Users are named by their canonical ids. Grants by e-mail address are turned
//! into ids by the caller.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, first_version};

/// Most grants in a list.
pub const GRANTS_MAX: usize = 100;

/// The list of a bucket or an object, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acl {
    #[serde(default = "first_version")]
    pub version: u32,
    /// Canonical id.
    pub owner: String,
    #[serde(default)]
    pub grants: Vec<Grant>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub grantee: Grantee,
    pub permission: Permission,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grantee {
    /// Canonical id.
    User(String),
    Group(Group),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Group {
    AllUsers,
    /// Everybody with a key, of whatever project.
    AuthenticatedUsers,
    LogDelivery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Permission {
    FullControl,
    Read,
    Write,
    ReadAcp,
    WriteAcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CannedAcl {
    Private,
    PublicRead,
    PublicReadWrite,
    AuthenticatedRead,
    BucketOwnerRead,
    BucketOwnerFullControl,
    LogDeliveryWrite,
}

/// Whom a list is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who<'a> {
    Anonymous,
    /// By canonical id.
    User(&'a str),
}

const GROUPS: &[(Group, &str)] = &[
    (Group::AllUsers, "http://acs.amazonaws.com/groups/global/AllUsers"),
    (Group::AuthenticatedUsers, "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"),
    (Group::LogDelivery, "http://acs.amazonaws.com/groups/s3/LogDelivery"),
];

impl Group {
    /// `Invalid` for a URI that names no group.
    pub fn from_uri(uri: &str) -> Result<Self> {
        let found = GROUPS.iter().find(|(_, known)| *known == uri);
        found.map(|(group, _)| *group).ok_or_else(|| Error::Invalid(format!("there is no group {uri:?}")))
    }

    pub fn uri(self) -> &'static str {
        match self {
            Self::AllUsers => GROUPS[0].1,
            Self::AuthenticatedUsers => GROUPS[1].1,
            Self::LogDelivery => GROUPS[2].1,
        }
    }

    fn is_public(self) -> bool {
        self != Self::LogDelivery
    }
}

impl Permission {
    /// `Malformed` for a word that is no permission.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "FULL_CONTROL" => Self::FullControl,
            "READ" => Self::Read,
            "WRITE" => Self::Write,
            "READ_ACP" => Self::ReadAcp,
            "WRITE_ACP" => Self::WriteAcp,
            _ => return Err(Error::Malformed(format!("there is no permission {text:?}"))),
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::FullControl => "FULL_CONTROL",
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::ReadAcp => "READ_ACP",
            Self::WriteAcp => "WRITE_ACP",
        }
    }
}

impl CannedAcl {
    /// The value of `x-amz-acl`. `Invalid` where there is no such list.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "private" => Self::Private,
            "public-read" => Self::PublicRead,
            "public-read-write" => Self::PublicReadWrite,
            "authenticated-read" => Self::AuthenticatedRead,
            "bucket-owner-read" => Self::BucketOwnerRead,
            "bucket-owner-full-control" => Self::BucketOwnerFullControl,
            "log-delivery-write" => Self::LogDeliveryWrite,
            "aws-exec-read" => return Err(Error::NotImplemented("the canned ACL aws-exec-read")),
            _ => return Err(Error::Invalid(format!("there is no canned ACL {text:?}"))),
        })
    }

    /// The list it stands for. For a bucket both owners are the same, which
    /// makes the two lists about the bucket's owner private.
    pub fn expand(self, owner: &str, bucket_owner: &str) -> Acl {
        let mut acl = Acl::private(owner);
        let mut group = |group, permission| acl.grants.push(Grant { grantee: Grantee::Group(group), permission });
        match self {
            Self::Private => {}
            Self::PublicRead => group(Group::AllUsers, Permission::Read),
            Self::PublicReadWrite => {
                group(Group::AllUsers, Permission::Read);
                group(Group::AllUsers, Permission::Write);
            }
            Self::AuthenticatedRead => group(Group::AuthenticatedUsers, Permission::Read),
            Self::LogDeliveryWrite => {
                group(Group::LogDelivery, Permission::Write);
                group(Group::LogDelivery, Permission::ReadAcp);
            }
            Self::BucketOwnerRead | Self::BucketOwnerFullControl if owner == bucket_owner => {}
            Self::BucketOwnerRead => acl.grant_user(bucket_owner, Permission::Read),
            Self::BucketOwnerFullControl => acl.grant_user(bucket_owner, Permission::FullControl),
        }
        acl
    }
}

impl Acl {
    /// The owner may do everything, nobody else anything.
    pub fn private(owner: &str) -> Self {
        let mut acl = Self { version: first_version(), owner: owner.to_owned(), grants: Vec::new() };
        acl.grant_user(owner, Permission::FullControl);
        acl
    }

    fn grant_user(&mut self, user: &str, permission: Permission) {
        self.grants.push(Grant { grantee: Grantee::User(user.to_owned()), permission });
    }

    /// Checks a list that a request brings for something owned by `owner`.
    ///
    /// # Errors
    /// `Malformed` for too many grants or an id that is empty; `AccessDenied`
    /// where it names another owner.
    pub fn check(&self, owner: &str) -> Result<()> {
        if self.grants.len() > GRANTS_MAX {
            let count = self.grants.len();
            return Err(Error::Malformed(format!("the ACL has {count} grants; at most {GRANTS_MAX} are allowed")));
        }
        if self.grants.iter().any(|g| matches!(&g.grantee, Grantee::User(id) if id.is_empty())) {
            return Err(Error::Malformed("a grantee of the ACL has an empty id".to_owned()));
        }
        if self.owner != owner {
            return Err(Error::AccessDenied("an ACL cannot change the owner".to_owned()));
        }
        Ok(())
    }

    /// Whether a grant gives the permission. What owners may do without a
    /// grant is decided in [`crate::access`].
    pub fn allows(&self, who: Who<'_>, permission: Permission) -> bool {
        self.allows_where(who, permission, |_| true)
    }

    /// Without what it grants to the public.
    pub(crate) fn allows_privately(&self, who: Who<'_>, permission: Permission) -> bool {
        self.allows_where(who, permission, |grantee| !matches!(grantee, Grantee::Group(g) if g.is_public()))
    }

    fn allows_where(&self, who: Who<'_>, permission: Permission, counts: impl Fn(&Grantee) -> bool) -> bool {
        self.grants.iter().any(|grant| {
            let named = match (&grant.grantee, who) {
                (Grantee::User(id), Who::User(user)) => id == user,
                (Grantee::Group(Group::AllUsers), _) => true,
                (Grantee::Group(Group::AuthenticatedUsers), Who::User(_)) => true,
                _ => false,
            };
            let given = grant.permission == permission || grant.permission == Permission::FullControl;
            named && given && counts(&grant.grantee)
        })
    }

    /// Whether it grants anything to all or to all who have a key.
    pub fn is_public(&self) -> bool {
        self.grants.iter().any(|g| matches!(g.grantee, Grantee::Group(group) if group.is_public()))
    }

    /// Whether only the owner may do anything.
    pub fn is_private(&self) -> bool {
        self.grants.iter().all(|g| matches!(&g.grantee, Grantee::User(id) if *id == self.owner))
    }
}
