use crate::Error;
use crate::acl::{Acl, CannedAcl, Grant, Grantee, Group, Permission, Who};
use crate::ownership::{ObjectOwnership, OwnershipControls};
use crate::public_access::PublicAccessBlock;

use super::iam::parse;

const ALL: [Permission; 5] =
    [Permission::FullControl, Permission::Read, Permission::Write, Permission::ReadAcp, Permission::WriteAcp];

/// What somebody may do, such as `READ,WRITE`.
fn rights(acl: &Acl, who: Who<'_>) -> String {
    let rights: Vec<&str> = ALL.iter().filter(|p| acl.allows(who, **p)).map(|p| p.as_str()).collect();
    rights.join(",")
}

#[test]
fn canned_lists_grant_what_s3_says() {
    const FULL: &str = "FULL_CONTROL,READ,WRITE,READ_ACP,WRITE_ACP";
    let cases = [
        ("private", "", "", "", false),
        ("public-read", "READ", "READ", "READ", true),
        ("public-read-write", "READ,WRITE", "READ,WRITE", "READ,WRITE", true),
        ("authenticated-read", "", "READ", "READ", true),
        ("bucket-owner-read", "", "", "READ", false),
        ("bucket-owner-full-control", "", "", FULL, false),
        ("log-delivery-write", "", "", "", false),
    ];
    for (name, anonymous, other, bucket_owner, public) in cases {
        let acl = CannedAcl::parse(name).unwrap().expand("w", "o");
        assert_eq!(rights(&acl, Who::User("w")), FULL, "{name}");
        assert_eq!(rights(&acl, Who::Anonymous), anonymous, "{name}");
        assert_eq!(rights(&acl, Who::User("x")), other, "{name}");
        assert_eq!(rights(&acl, Who::User("o")), bucket_owner, "{name}");
        assert_eq!(acl.is_public(), public, "{name}");
        assert_eq!(acl.check("w"), Ok(()));
    }
    assert_eq!(CannedAcl::BucketOwnerRead.expand("o", "o"), Acl::private("o"));
    assert!(matches!(CannedAcl::parse("public"), Err(Error::Invalid(_))));
    assert!(matches!(CannedAcl::parse("aws-exec-read"), Err(Error::NotImplemented(_))));
}

#[test]
fn lists_are_bounded_and_keep_their_owner() {
    let mut acl = Acl::private("o");
    assert!(matches!(acl.check("thief"), Err(Error::AccessDenied(_))));
    acl.grants = vec![acl.grants[0].clone(); 100];
    assert_eq!(acl.check("o"), Ok(()));
    acl.grants.push(acl.grants[0].clone());
    assert!(matches!(acl.check("o"), Err(Error::Malformed(_))));
    acl.grants = vec![Grant { grantee: Grantee::User(String::new()), permission: Permission::Read }];
    assert!(matches!(acl.check("o"), Err(Error::Malformed(_))));
}

#[test]
fn words_are_read_back() {
    for permission in ALL {
        assert_eq!(Permission::parse(permission.as_str()), Ok(permission));
    }
    for group in [Group::AllUsers, Group::AuthenticatedUsers, Group::LogDelivery] {
        assert_eq!(Group::from_uri(group.uri()), Ok(group));
    }
    assert!(Permission::parse("read").is_err() && Group::from_uri("http://x").is_err());
    for word in ["BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"] {
        assert_eq!(ObjectOwnership::parse(word).unwrap().as_str(), word);
    }
}

#[test]
fn what_is_stored_can_be_read_by_others_and_later() {
    let acl = CannedAcl::PublicRead.expand("o", "o");
    let text = serde_json::to_string(&acl).unwrap();
    assert_eq!(
        text,
        r#"{"version":1,"owner":"o","grants":[{"grantee":{"user":"o"},"permission":"FULL_CONTROL"},{"grantee":{"group":"AllUsers"},"permission":"READ"}]}"#
    );
    assert_eq!(serde_json::from_str::<Acl>(&text).unwrap(), acl);
    let later: Acl = serde_json::from_str(r#"{"version":2,"owner":"o","new":1}"#).unwrap();
    assert_eq!((later.version, later.grants.len()), (2, 0));
    let block: PublicAccessBlock = serde_json::from_str(r#"{"block_public_acls":true}"#).unwrap();
    assert!(block.block_public_acls && !block.ignore_public_acls && block.version == 1);
    let controls: OwnershipControls = serde_json::from_str(r#"{"object_ownership":"ObjectWriter"}"#).unwrap();
    assert_eq!(controls.object_ownership, ObjectOwnership::ObjectWriter);
}

#[test]
fn public_lists_and_policies_can_be_blocked() {
    let block = PublicAccessBlock { block_public_acls: true, block_public_policy: true, ..Default::default() };
    let public = CannedAcl::AuthenticatedRead.expand("o", "o");
    let policy = parse(
        serde_json::json!({"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::b/*"}),
    );
    assert!(matches!(block.check_acl(&public), Err(Error::AccessDenied(_))));
    assert!(matches!(block.check_policy(&policy), Err(Error::AccessDenied(_))));
    assert_eq!(block.check_acl(&Acl::private("o")), Ok(()));
    assert_eq!(PublicAccessBlock::default().check_acl(&public), Ok(()));
    assert_eq!(PublicAccessBlock::default().check_policy(&policy), Ok(()));
}

#[test]
fn ownership_says_who_owns_and_whether_lists_count() {
    use CannedAcl::{BucketOwnerFullControl as Full, PublicRead};
    use ObjectOwnership::{BucketOwnerEnforced as Enforced, BucketOwnerPreferred as Preferred, ObjectWriter as Writer};
    for (ownership, canned, expected) in [
        (Enforced, None, "o"),
        (Preferred, None, "w"),
        (Preferred, Some(PublicRead), "w"),
        (Preferred, Some(Full), "o"),
        (Writer, Some(Full), "w"),
    ] {
        assert_eq!(ownership.owner_of_new(Some("w"), "o", canned), expected, "{ownership:?} {canned:?}");
        assert_eq!(ownership.owner_of_new(None, "o", canned), "o");
    }
    let expand = |canned: CannedAcl| canned.expand("w", "o");
    assert_eq!(Writer.check_acl(Some(PublicRead), &expand(PublicRead), "o"), Ok(()));
    assert_eq!(Enforced.check_acl(Some(Full), &expand(Full), "o"), Ok(()));
    assert_eq!(Enforced.check_acl(None, &Acl::private("o"), "o"), Ok(()));
    for (canned, acl) in [(Some(PublicRead), expand(PublicRead)), (None, expand(Full)), (None, expand(PublicRead))] {
        assert!(matches!(Enforced.check_acl(canned, &acl, "o"), Err(Error::AclNotSupported(_))), "{canned:?}");
    }
    assert!(matches!(Enforced.check_bucket_acl(&expand(PublicRead)), Err(Error::InvalidBucketAcl(_))));
    assert_eq!(Enforced.check_bucket_acl(&Acl::private("o")), Ok(()));
    assert_eq!(Preferred.check_bucket_acl(&expand(PublicRead)), Ok(()));
}
