//! Decides about buckets, in S3's meaning: who may do what, what browsers may
//! ask for, what expires, what a form may upload, who is told of an event.
//!
//! Pure functions of their arguments: no I/O, no clock, no chance. Services
//! and the S3 door bring the facts and the time. XML is the door's; what is
//! stored is JSON with a `version`, and fields that are not known are ignored
//! when it is read. All input is foreign and bounded; none makes it panic.

pub mod access;
pub mod acl;
pub mod cors;
mod error;
pub mod form;
pub mod iam;
mod json;
pub mod lifecycle;
pub mod notification;
pub mod ownership;
pub mod public_access;
pub mod tags;
#[cfg(test)]
mod tests;
mod wildcard;

pub use error::{Error, Result};

/// Form of the stored documents.
pub(crate) fn first_version() -> u32 {
    1
}
