//! The replica's line to the server. A call goes on through restarts of the
//! server, reading its address again each time, until it is answered, refused
//! for good or out of time.

use std::time::{Duration, Instant};

use muonic_client::{Client, Error};
use muonic_types::{ErrorCode, ReplicaId};
use muonic_unit::Launch;

const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct Link {
    pub launch: Launch,
    pub id: ReplicaId,
}

impl Link {
    /// A client at the server's present address.
    pub fn client(&self) -> Result<Client, Error> {
        let url = self.launch.server().map_err(|e| Error::Connection {
            url: self.launch.server_file.display().to_string(),
            reason: format!("the server's address cannot be read: {e}"),
        })?;
        Ok(Client::new(&url, &self.launch.token).expecting(self.launch.server_id()))
    }

    /// `call` must be idempotent.
    pub fn persist<T>(&self, limit: Duration, call: impl Fn(&Client) -> Result<T, Error>) -> Result<T, Error> {
        let until = Instant::now() + limit;
        let mut wait = WAIT_FIRST;
        loop {
            match self.client().and_then(|client| call(&client)) {
                Err(e) if is_worth_another_try(&e) && Instant::now() + wait < until => {
                    std::thread::sleep(wait);
                    wait = (wait * 2).min(WAIT_MAX);
                }
                answer => return answer,
            }
        }
    }
}

/// A fault of the server counts: it says nothing of the call, and the replica
/// has the time to wait until it is mended.
fn is_worth_another_try(e: &Error) -> bool {
    e.is_transient() || e.code() == Some(ErrorCode::Internal)
}

/// The server no longer wants this replica: its key or itself is gone.
pub fn is_unwanted(e: &Error) -> bool {
    matches!(
        e.code(),
        Some(ErrorCode::Unauthenticated | ErrorCode::Forbidden | ErrorCode::NotFound | ErrorCode::Conflict)
    )
}
