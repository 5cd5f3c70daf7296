//! Models where no server need be: out of one file ([`bundle`]), and followed
//! at a server that may be away ([`follow`]). Both lie in the cache
//! ([`models`]).

pub mod bundle;
mod fetch;
pub mod follow;
pub mod models;
mod report;
mod state;
mod swap;
