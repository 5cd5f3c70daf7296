//! Keys of several projects.

use muonic_ports::routes::Authenticator;
use muonic_types::ErrorCode;
use muonic_types::key::{NewKey, Role};
use support::Cloud;

mod support;

fn new(name: &str, role: Role, project: Option<&str>) -> NewKey {
    let project = project.map(|p| p.parse().expect("a project"));
    NewKey { name: name.parse().expect("a name"), role, expires_in_s: None, project, limits: Default::default() }
}

#[tokio::test]
async fn an_administrator_of_default_makes_keys_of_any_project() {
    let cloud = Cloud::new(1000).await;
    let keys = &cloud.keys;
    let vision = keys.create(&cloud.admin, new("boss", Role::Admin, Some("vision"))).await.expect("another project");
    assert_eq!(vision.key.project.as_str(), "vision");
    let boss = keys.authenticate(&vision.token).expect("it works");
    assert_eq!(boss.project.as_str(), "vision");

    // Those of another project stay in theirs.
    let own = keys.create(&boss, new("app", Role::Member, None)).await.expect("its own project");
    assert_eq!(own.key.project.as_str(), "vision");
    keys.create(&boss, new("app", Role::Member, Some("vision"))).await.expect("its own project by name");
    for project in ["default", "speech"] {
        let refused = keys.create(&boss, new("app", Role::Member, Some(project))).await.err().expect(project);
        assert_eq!(refused.code, ErrorCode::Forbidden);
    }
    assert!(keys.list(&boss).await.expect("a list").keys.iter().all(|k| k.project.as_str() == "vision"));
    assert_eq!(keys.list(&cloud.admin).await.expect("a list").keys.len(), 4);
    assert_eq!(keys.revoke(&boss, &cloud.admin.key).await.expect_err("not theirs").code, ErrorCode::NotFound);

    // An administrator elsewhere does not stand in for the last one of default.
    let refused = keys.revoke(&cloud.admin, &cloud.admin.key).await.expect_err("the last one");
    assert_eq!(refused.code, ErrorCode::Conflict);
    keys.revoke(&cloud.admin, &vision.key.id).await.expect("of another project");
    keys.authenticate(&vision.token).expect_err("it is void");
}
