//! The Open Inference Protocol's bodies: [`request`] reads and checks them,
//! [`response`] writes them. Both are pure and see foreign bytes, so nothing
//! in here may panic or use memory out of proportion to the body.

pub mod check;
pub mod data;
pub mod request;
pub mod response;

/// Carries the length of the JSON part of a body with binary tensors.
pub const JSON_LENGTH_HEADER: &str = "inference-header-content-length";
