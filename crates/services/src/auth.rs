//! Who may do what: one table.

use muonic_types::key::{Principal, Role};
use muonic_types::{ErrorCode, ProjectId};

use crate::{Error, Result};

/// What a request wants to do, as far as a role decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read blobs and trees by their digest.
    ReadBlobs,
    /// Read datasets, objects, jobs, models, endpoints, costs.
    Read,
    /// Add blobs, trees, dataset versions, buckets and objects.
    WriteData,
    /// Submit and cancel jobs, register models, change endpoints.
    Operate,
    /// Call an endpoint.
    Invoke,
    /// Make and revoke keys.
    Administer,
}

/// Refuses with `Forbidden` where the role does not allow the action.
pub fn authorise(principal: &Principal, action: Action) -> Result<()> {
    use Action as A;
    let allowed = match principal.role {
        role if action == A::Invoke => role.may_invoke(),
        Role::Admin => true,
        Role::Member => action != A::Administer,
        Role::Viewer => matches!(action, A::ReadBlobs | A::Read),
        Role::Invoker => false,
        Role::Task => matches!(action, A::ReadBlobs | A::Read | A::WriteData),
        Role::Replica => action == A::ReadBlobs,
    };
    if allowed {
        return Ok(());
    }
    let what = match action {
        A::ReadBlobs => "read blobs",
        A::Read => "read this",
        A::WriteData => "write data",
        A::Operate => "change jobs, models or endpoints",
        A::Invoke => "call endpoints",
        A::Administer => "manage keys",
    };
    Err(Error::new(ErrorCode::Forbidden, format!("a key of role {} may not {what}", principal.role)))
}

/// Administrators of the first project look after the cloud itself.
pub(crate) fn runs_the_cloud(principal: &Principal) -> bool {
    principal.role == Role::Admin && principal.project == ProjectId::default_project()
}

/// Refuses with `Forbidden` those who do not look after the cloud itself.
pub(crate) fn authorise_operator(principal: &Principal) -> Result<()> {
    if runs_the_cloud(principal) {
        return Ok(());
    }
    let (role, project) = (principal.role, &principal.project);
    Err(Error::new(
        ErrorCode::Forbidden,
        format!("a key of role {role} in the project {project} may not run the store"),
    )
    .hint("ask an administrator of the project 'default'"))
}
