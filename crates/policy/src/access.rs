//! The whole decision about one request, from all layers, in S3's order: an
//! explicit deny; the role of a key of the bucket's own project; an allow of
//! the bucket policy; a grant of an ACL; else no.
//!
//! - A key of another project needs both: its own role must permit the kind of
//!   the operation, and the bucket must let it in. What everybody may do
//!   without a key, it may do anyway.
//! - Policy and role of a bucket do not reach objects that another project
//!   owns in it (only possible while ACLs count), but for deleting them.
//! - A key of the own project whose role does not permit something may still
//!   do it where the policy names the key itself, or everybody.
//! - The administrators of the bucket's project can always mend a policy that locks it out.

use crate::acl::{Acl, Permission, Who};
use crate::iam::{self, Context, Decision, Policy, Request};
use crate::ownership::ObjectOwnership;
use crate::public_access::PublicAccessBlock;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller<'a> {
    Anonymous,
    Key(Key<'a>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// The project, by name.
    pub account: &'a str,
    /// The key's id, or the name by which policies call it.
    pub user: &'a str,
    /// The canonical id of the project.
    pub canonical: &'a str,
    /// What its role lets it do in its own project.
    pub may_read: bool,
    pub may_write: bool,
    /// Whether its role lets it settle who may do what: policies and ACLs.
    pub may_administer: bool,
}

/// What of a role an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    Read,
    Write,
    Administer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Bucket,
    Object,
}

/// What an action needs of each layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    pub right: Right,
    /// The grant that gives it; most actions no ACL can give.
    pub acl: Option<(On, Permission)>,
    /// Whether it is about an object that is there.
    pub object: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub caller: Caller<'a>,
    /// Such as `s3:GetObject`.
    pub action: &'a str,
    /// The ARN.
    pub resource: &'a str,
    pub context: &'a Context,
    /// The canonical id of the project that owns the bucket.
    pub bucket_owner: &'a str,
    pub policy: Option<&'a Policy>,
    pub bucket_acl: Option<&'a Acl>,
    /// Of the object that is there, if the action is about one.
    pub object_acl: Option<&'a Acl>,
    pub block: PublicAccessBlock,
    pub ownership: ObjectOwnership,
}

/// Which layer has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// The role of the key.
    Role,
    Policy,
    BucketAcl,
    ObjectAcl,
    /// The object's owner, without a grant.
    ObjectOwner,
    /// A public policy or ACL would allow it, if that were not blocked.
    PublicAccessBlock,
    /// No layer allows it.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allow(Layer),
    Deny(Layer),
}

impl Verdict {
    pub fn is_allowed(self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

impl Needs {
    /// By the action's name, which is not case-sensitive. An action that is
    /// not known needs the most.
    pub fn of(action: &str) -> Self {
        let lower = action.to_ascii_lowercase();
        let name = lower.strip_prefix("s3:").unwrap_or(&lower);
        let (right, acl) = match name {
            "listbucket" | "listbucketversions" | "listbucketmultipartuploads" => {
                (Right::Read, Some((On::Bucket, Permission::Read)))
            }
            "putobject" | "deleteobject" | "deleteobjectversion" | "abortmultipartupload" => {
                (Right::Write, Some((On::Bucket, Permission::Write)))
            }
            "listmultipartuploadparts" => (Right::Read, None),
            "getobject" | "getobjectversion" | "getobjectattributes" | "getobjectversionattributes" => {
                (Right::Read, Some((On::Object, Permission::Read)))
            }
            "getobjectacl" | "getobjectversionacl" => (Right::Read, Some((On::Object, Permission::ReadAcp))),
            "putobjectacl" | "putobjectversionacl" => (Right::Write, Some((On::Object, Permission::WriteAcp))),
            "getbucketacl" => (Right::Read, Some((On::Bucket, Permission::ReadAcp))),
            "putbucketacl" => (Right::Administer, Some((On::Bucket, Permission::WriteAcp))),
            "putbucketpolicy"
            | "deletebucketpolicy"
            | "putbucketpublicaccessblock"
            | "putbucketownershipcontrols"
            | "bypassgovernanceretention" => (Right::Administer, None),
            _ if name.starts_with("get") || name.starts_with("list") => (Right::Read, None),
            _ if ["put", "delete", "create", "restore", "replicate", "abort"].iter().any(|p| name.starts_with(p)) => {
                (Right::Write, None)
            }
            _ => (Right::Administer, None),
        };
        let existing = ["getobject", "putobjectacl", "putobjectversionacl", "putobjecttagging"];
        let existing = existing.iter().any(|p| name.starts_with(p))
            || ["putobjectversiontagging", "putobjectretention", "putobjectlegalhold"].contains(&name)
            || ["deleteobjecttagging", "deleteobjectversiontagging"].contains(&name);
        Self { right, acl, object: existing }
    }
}

/// Decides, by [`Needs::of`] the action.
pub fn decide(question: &Question<'_>) -> Verdict {
    let q = question;
    let needs = Needs::of(q.action);
    let own = matches!(q.caller, Caller::Key(key) if key.canonical == q.bucket_owner);
    let role = matches!(q.caller, Caller::Key(key) if key.has(needs.right));
    let mends = own && matches!(q.caller, Caller::Key(key) if key.may_administer) && mends_policy(q.action);
    if q.ask_policy(q.caller, role) == Decision::Deny && !mends {
        return Verdict::Deny(Layer::Policy);
    }
    let acls = q.ownership.acls_enabled();
    let foreign_owner = q.object_acl.filter(|acl| acls && needs.object && acl.owner != q.bucket_owner);
    if own && role && foreign_owner.is_none() {
        return Verdict::Allow(Layer::Role);
    }
    // Another project's key whose role does not permit this counts as nobody.
    let effective = if own || role { q.caller } else { Caller::Anonymous };
    let mut blocked = false;
    if foreign_owner.is_none() && q.ask_policy(effective, role) == Decision::Allow {
        let restricted = q.block.restrict_public_buckets && !own && q.policy.is_some_and(Policy::is_public);
        if !restricted {
            return Verdict::Allow(Layer::Policy);
        }
        blocked = true;
    }
    if acls {
        // Grants to a project are used by those of its keys whose role permits it.
        let who = match effective {
            Caller::Key(key) if role => Who::User(key.canonical),
            _ => Who::Anonymous,
        };
        if let (Some(acl), Who::User(id)) = (foreign_owner, who)
            && acl.owner == id
            && matches!(needs.acl, Some((On::Object, Permission::ReadAcp | Permission::WriteAcp)))
        {
            return Verdict::Allow(Layer::ObjectOwner);
        }
        if let Some((on, permission)) = needs.acl {
            let (acl, layer) = match on {
                On::Bucket => (q.bucket_acl, Layer::BucketAcl),
                On::Object => (q.object_acl, Layer::ObjectAcl),
            };
            match acl {
                Some(acl) if acl.allows_privately(who, permission) => return Verdict::Allow(layer),
                Some(acl) if acl.allows(who, permission) && !q.block.ignore_public_acls => {
                    return Verdict::Allow(layer);
                }
                Some(acl) if acl.allows(who, permission) => blocked = true,
                _ => {}
            }
        }
    }
    Verdict::Deny(match (blocked, own) {
        (true, _) => Layer::PublicAccessBlock,
        (false, true) if !role => Layer::Role,
        _ => Layer::Nothing,
    })
}

impl Key<'_> {
    fn has(&self, right: Right) -> bool {
        match right {
            Right::Read => self.may_read,
            Right::Write => self.may_write,
            Right::Administer => self.may_administer,
        }
    }
}

impl Question<'_> {
    fn ask_policy(&self, caller: Caller<'_>, role: bool) -> Decision {
        let Some(policy) = self.policy else { return Decision::Silent };
        let caller = match caller {
            Caller::Anonymous => iam::Caller::Anonymous,
            Caller::Key(key) => {
                iam::Caller::Key { account: key.account, user: key.user, canonical: key.canonical, by_account: role }
            }
        };
        policy.evaluate(&Request { caller, action: self.action, resource: self.resource, context: self.context })
    }
}

fn mends_policy(action: &str) -> bool {
    ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"].iter().any(|a| a.eq_ignore_ascii_case(action))
}
