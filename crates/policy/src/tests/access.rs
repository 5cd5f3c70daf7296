use serde_json::json;

use super::iam::parse;
use crate::access::{Caller, Key, Layer, Needs, On, Question, Right, Verdict, decide};
use crate::acl::{Acl, CannedAcl, Permission};
use crate::iam::{Context, Policy};
use crate::ownership::ObjectOwnership;
use crate::public_access::PublicAccessBlock;

const fn key(project: &'static str, user: &'static str, may_write: bool, may_administer: bool) -> Caller<'static> {
    Caller::Key(Key { account: project, user, canonical: project, may_read: true, may_write, may_administer })
}

const OWNER: Caller<'_> = key("own", "root", true, true);
const MEMBER: Caller<'_> = key("own", "mem", true, false);
const VIEWER: Caller<'_> = key("own", "view", false, false);
const OTHER: Caller<'_> = key("other", "o", true, true);
const OTHER_VIEWER: Caller<'_> = key("other", "v", false, false);
const NOBODY: Caller<'_> = Caller::Anonymous;
const INVOKER: Caller<'_> = Caller::Key(Key {
    account: "own",
    user: "inv",
    canonical: "own",
    may_read: false,
    may_write: false,
    may_administer: false,
});

#[derive(Clone)]
struct Bucket {
    policy: Option<Policy>,
    bucket_acl: Acl,
    object_acl: Acl,
    block: PublicAccessBlock,
    ownership: ObjectOwnership,
}

impl Bucket {
    fn new() -> Self {
        Self {
            policy: None,
            bucket_acl: Acl::private("own"),
            object_acl: Acl::private("own"),
            block: PublicAccessBlock::default(),
            ownership: ObjectOwnership::ObjectWriter,
        }
    }

    fn with_policy(effect: &str, principal: serde_json::Value, action: &str) -> Self {
        let resource = ["arn:aws:s3:::b", "arn:aws:s3:::b/*"];
        let statement = json!({"Effect": effect, "Principal": principal, "Action": action, "Resource": resource});
        Self { policy: Some(parse(statement)), ..Self::new() }
    }

    fn ask(&self, caller: Caller<'_>, action: &str) -> Verdict {
        let bucket = action.contains("Bucket") && action != "s3:PutObject";
        decide(&Question {
            caller,
            action,
            resource: if bucket { "arn:aws:s3:::b" } else { "arn:aws:s3:::b/k" },
            context: &Context::new(),
            bucket_owner: "own",
            policy: self.policy.as_ref(),
            bucket_acl: Some(&self.bucket_acl),
            object_acl: Some(&self.object_acl),
            block: self.block,
            ownership: self.ownership,
        })
    }
}

use Verdict::{Allow, Deny};

#[test]
fn without_anything_the_own_roles_decide() {
    let bucket = Bucket::new();
    for (caller, action, expected) in [
        (OWNER, "s3:PutBucketPolicy", Allow(Layer::Role)),
        (MEMBER, "s3:PutBucketPolicy", Deny(Layer::Role)),
        (MEMBER, "s3:PutObject", Allow(Layer::Role)),
        (MEMBER, "s3:PutLifecycleConfiguration", Allow(Layer::Role)),
        (VIEWER, "s3:GetObject", Allow(Layer::Role)),
        (VIEWER, "s3:ListBucket", Allow(Layer::Role)),
        (VIEWER, "s3:PutObject", Deny(Layer::Role)),
        (VIEWER, "s3:SomethingNew", Deny(Layer::Role)),
        (INVOKER, "s3:GetObject", Deny(Layer::Role)),
        (OTHER, "s3:GetObject", Deny(Layer::Nothing)),
        (NOBODY, "s3:GetObject", Deny(Layer::Nothing)),
    ] {
        assert_eq!(bucket.ask(caller, action), expected, "{caller:?} {action}");
    }
}

#[test]
fn a_policy_lets_in_and_keeps_out() {
    let open = Bucket::with_policy("Allow", json!("*"), "s3:GetObject");
    for caller in [OTHER, OTHER_VIEWER, NOBODY, INVOKER] {
        assert_eq!(open.ask(caller, "s3:GetObject"), Allow(Layer::Policy), "{caller:?}");
        assert!(!open.ask(caller, "s3:PutObject").is_allowed(), "{caller:?}");
    }
    let closed = Bucket::with_policy("Deny", json!("*"), "s3:*");
    for caller in [OWNER, MEMBER, OTHER, NOBODY] {
        assert_eq!(closed.ask(caller, "s3:GetObject"), Deny(Layer::Policy), "{caller:?}");
    }
    // The own administrators can take it back, nobody else.
    for action in ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"] {
        assert_eq!(closed.ask(OWNER, action), Allow(Layer::Role));
        assert_eq!(closed.ask(MEMBER, action), Deny(Layer::Policy));
        assert_eq!(closed.ask(OTHER, action), Deny(Layer::Policy));
    }
}

#[test]
fn another_projects_key_needs_its_own_role_too() {
    let shared = Bucket::with_policy("Allow", json!({"AWS": "arn:aws:iam::other:root"}), "s3:*");
    assert_eq!(shared.ask(OTHER, "s3:PutObject"), Allow(Layer::Policy));
    assert_eq!(shared.ask(OTHER_VIEWER, "s3:GetObject"), Allow(Layer::Policy));
    assert_eq!(shared.ask(OTHER_VIEWER, "s3:PutObject"), Deny(Layer::Nothing));
    assert_eq!(shared.ask(NOBODY, "s3:GetObject"), Deny(Layer::Nothing));
    // What everybody may do, such a key may do too.
    let drop_box = Bucket::with_policy("Allow", json!("*"), "s3:PutObject");
    assert_eq!(drop_box.ask(OTHER_VIEWER, "s3:PutObject"), Allow(Layer::Policy));
}

#[test]
fn a_policy_for_the_own_project_does_not_replace_roles() {
    let root = Bucket::with_policy("Allow", json!({"AWS": "arn:aws:iam::own:root"}), "s3:*");
    assert_eq!(root.ask(VIEWER, "s3:PutObject"), Deny(Layer::Role));
    let named = Bucket::with_policy("Allow", json!({"AWS": "arn:aws:iam::own:user/view"}), "s3:PutObject");
    assert_eq!(named.ask(VIEWER, "s3:PutObject"), Allow(Layer::Policy));
    assert_eq!(named.ask(INVOKER, "s3:PutObject"), Deny(Layer::Role));
}

#[test]
fn lists_grant_by_bucket_and_object() {
    let mut bucket = Bucket::new();
    bucket.bucket_acl = CannedAcl::PublicReadWrite.expand("own", "own");
    for caller in [NOBODY, OTHER, INVOKER] {
        assert_eq!(bucket.ask(caller, "s3:ListBucket"), Allow(Layer::BucketAcl), "{caller:?}");
        assert_eq!(bucket.ask(caller, "s3:PutObject"), Allow(Layer::BucketAcl), "{caller:?}");
        assert!(!bucket.ask(caller, "s3:GetObject").is_allowed(), "{caller:?}");
        assert!(!bucket.ask(caller, "s3:GetBucketAcl").is_allowed(), "{caller:?}");
    }
    bucket.object_acl = CannedAcl::AuthenticatedRead.expand("own", "own");
    assert_eq!(bucket.ask(OTHER, "s3:GetObject"), Allow(Layer::ObjectAcl));
    assert_eq!(bucket.ask(NOBODY, "s3:GetObject"), Deny(Layer::Nothing));
    assert!(!bucket.ask(INVOKER, "s3:GetObject").is_allowed());
    // No list counts where the owner enforces.
    bucket.ownership = ObjectOwnership::BucketOwnerEnforced;
    assert_eq!(bucket.ask(OTHER, "s3:GetObject"), Deny(Layer::Nothing));
    assert_eq!(bucket.ask(NOBODY, "s3:ListBucket"), Deny(Layer::Nothing));
    assert_eq!(bucket.ask(MEMBER, "s3:GetObject"), Allow(Layer::Role));
}

#[test]
fn public_access_can_be_taken_away() {
    let mut bucket = Bucket::with_policy("Allow", json!("*"), "s3:GetObject");
    bucket.bucket_acl = CannedAcl::PublicRead.expand("own", "own");
    bucket.block.restrict_public_buckets = true;
    assert_eq!(bucket.ask(NOBODY, "s3:GetObject"), Deny(Layer::PublicAccessBlock));
    assert_eq!(bucket.ask(OTHER, "s3:GetObject"), Deny(Layer::PublicAccessBlock));
    assert_eq!(bucket.ask(INVOKER, "s3:GetObject"), Allow(Layer::Policy));
    assert_eq!(bucket.ask(NOBODY, "s3:ListBucket"), Allow(Layer::BucketAcl));
    bucket.block.ignore_public_acls = true;
    assert_eq!(bucket.ask(NOBODY, "s3:ListBucket"), Deny(Layer::PublicAccessBlock));
    assert_eq!(bucket.ask(VIEWER, "s3:ListBucket"), Allow(Layer::Role));
    // A grant to one project is not public.
    bucket.bucket_acl.grants[1].grantee = crate::acl::Grantee::User("other".to_owned());
    assert_eq!(bucket.ask(OTHER, "s3:ListBucket"), Allow(Layer::BucketAcl));
    // A policy that is not public is not restricted.
    let mut shared = Bucket::with_policy("Allow", json!({"AWS": "other"}), "s3:GetObject");
    shared.block = PublicAccessBlock::all(true);
    assert_eq!(shared.ask(OTHER, "s3:GetObject"), Allow(Layer::Policy));
}

#[test]
fn what_others_own_in_a_bucket_is_theirs() {
    let mut bucket = Bucket::with_policy("Allow", json!("*"), "s3:*");
    bucket.object_acl = Acl::private("other");
    assert_eq!(bucket.ask(OWNER, "s3:GetObject"), Deny(Layer::Nothing));
    assert_eq!(bucket.ask(NOBODY, "s3:GetObject"), Deny(Layer::Nothing));
    assert_eq!(bucket.ask(OTHER, "s3:GetObject"), Allow(Layer::ObjectAcl));
    assert_eq!(bucket.ask(OWNER, "s3:DeleteObject"), Allow(Layer::Role));
    bucket.object_acl = CannedAcl::BucketOwnerRead.expand("other", "own");
    assert_eq!(bucket.ask(OWNER, "s3:GetObject"), Allow(Layer::ObjectAcl));
    assert_eq!(bucket.ask(OWNER, "s3:PutObjectAcl"), Deny(Layer::Nothing));
    // The owner of an object that grants nobody anything can still mend that.
    bucket.object_acl.grants.clear();
    assert_eq!(bucket.ask(OTHER, "s3:PutObjectAcl"), Allow(Layer::ObjectOwner));
    assert_eq!(bucket.ask(OTHER_VIEWER, "s3:PutObjectAcl"), Deny(Layer::Nothing));
    assert_eq!(bucket.ask(OTHER, "s3:GetObject"), Deny(Layer::Nothing));
    // Once the bucket's owner enforces, all is the bucket's.
    bucket.ownership = ObjectOwnership::BucketOwnerEnforced;
    assert_eq!(bucket.ask(OWNER, "s3:GetObject"), Allow(Layer::Role));
    assert_eq!(bucket.ask(NOBODY, "s3:GetObject"), Allow(Layer::Policy));
}

#[test]
fn actions_need_what_s3_documents() {
    for (action, right, acl, object) in [
        ("s3:ListBucketVersions", Right::Read, Some((On::Bucket, Permission::Read)), false),
        ("s3:PutObject", Right::Write, Some((On::Bucket, Permission::Write)), false),
        ("s3:DeleteObjectVersion", Right::Write, Some((On::Bucket, Permission::Write)), false),
        ("s3:GetObjectVersionAcl", Right::Read, Some((On::Object, Permission::ReadAcp)), true),
        ("s3:PutObjectAcl", Right::Write, Some((On::Object, Permission::WriteAcp)), true),
        ("s3:PutObjectTagging", Right::Write, None, true),
        ("s3:PutObjectVersionTagging", Right::Write, None, true),
        ("s3:GetObjectTagging", Right::Read, None, true),
        ("s3:GetLifecycleConfiguration", Right::Read, None, false),
        ("s3:PutBucketAcl", Right::Administer, Some((On::Bucket, Permission::WriteAcp)), false),
        ("s3:BypassGovernanceRetention", Right::Administer, None, false),
        ("s3:CreateBucket", Right::Write, None, false),
    ] {
        assert_eq!(Needs::of(action), Needs { right, acl, object }, "{action}");
    }
}
