//! The ways in: each protocol reads requests and writes answers, and nothing
//! more.

mod protocol;

use std::sync::Arc;

use axum::Router;

use crate::replica::Replica;

pub fn router(replica: Arc<Replica>) -> Router {
    protocol::router(replica)
}
