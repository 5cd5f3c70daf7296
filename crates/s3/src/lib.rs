//! The S3 door, on the crate s3s: it parses, checks signatures and renders;
//! this crate translates between it and the service of buckets.
//!
//! A request walks: `muonic_listen` (connections) → `door` (refuses what must not
//! even be parsed: `screen`) → s3s (signature) → `access` (who is it) → `ops`
//! (one file per family of operations) → `muonic_services::Buckets`. What the
//! headers say of an object to be is read in one place, `draft`.
//!
//! Invariants:
//! - Nothing is read of the body of a call without a signature before access
//!   has been granted from its head.
//! - A sum that a client declares, in a header or a trailer, is verified
//!   before anything is kept (`sums`); s3s itself only parses them.
//! - What is asked for and not built is refused by name, never dropped.

mod access;
mod body;
mod cors;
mod dates;
mod door;
mod draft;
mod errors;
mod facts;
mod form;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod lenient;
mod ops;
mod post;
mod render;
mod screen;
mod sse;
mod sums;
mod unmeasured;
mod v2;

use std::sync::Arc;

use muonic_ports::routes::Authenticator;
use muonic_services::Buckets;

pub use door::Door;

/// The only region there is. Signatures made for other regions are accepted:
/// the region is part of what is signed, not of what is addressed.
pub const REGION: &str = "us-east-1";

/// The door as a service for hyper.
pub fn service(buckets: Arc<Buckets>, auth: Arc<dyn Authenticator>) -> Door {
    Door::new(buckets, auth)
}
