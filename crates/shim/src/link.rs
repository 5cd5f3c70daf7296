//! Calls to the server that outlast its absence.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use muonic_client::{Client, Error};
use muonic_types::{AttemptId, ErrorCode};
use muonic_unit::Launch;

use crate::control::Flags;

/// Longest time the server may be away.
pub const AWAY_MAX: Duration = Duration::from_secs(24 * 3600);
/// How often a fault of the server is met with another try.
const FAULTS_MAX: u32 = 20;
/// How often bytes are sent again to a disk that is full. The client has
/// tried for some seconds each time.
const FULL_MAX: u32 = 1;
const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How often a waiting call looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// Why a call gave no answer.
#[derive(Debug)]
pub enum Fault {
    /// The attempt is over for the server, or the shim is stopping.
    Stopped,
    /// The server, or the local disk, said no.
    Refused(Error),
}

pub struct Link {
    pub launch: Launch,
    pub attempt: AttemptId,
    pub flags: Arc<Flags>,
    client: Mutex<Client>,
}

/// Which refusals mean that the attempt is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The attempt itself.
    Attempt,
    /// Blobs and trees, where "not found" and "conflict" mean the blob.
    Content,
}

impl Link {
    pub fn new(launch: Launch, attempt: AttemptId, flags: Arc<Flags>) -> io::Result<Self> {
        let client = Mutex::new(Client::new(&launch.server()?, &launch.token).expecting(launch.server_id()));
        Ok(Self { launch, attempt, flags, client })
    }

    pub fn server(&self) -> String {
        self.client().url().to_owned()
    }

    /// Repeats the call while the server is away. Gives up once `unwanted`.
    pub fn call<T>(
        &self,
        about: About,
        unwanted: &dyn Fn() -> bool,
        mut call: impl FnMut(&Client) -> Result<T, Error>,
    ) -> Result<T, Fault> {
        let until = Instant::now() + AWAY_MAX;
        let (mut wait, mut faults) = (WAIT_FIRST, 0);
        loop {
            let error = match call(&self.client()) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if says_over(&error, about) {
                self.flags.close();
                return Err(Fault::Stopped);
            }
            let tries = match &error {
                // What is to be sent may be what fills it; the end of the
                // attempt waits for room.
                Error::Api { body, .. } if body.error.code == ErrorCode::DiskFull && about == About::Content => {
                    Some(FULL_MAX)
                }
                error if error.is_transient() => None,
                Error::Api { status: 500.., .. } | Error::Protocol { .. } => Some(FAULTS_MAX),
                _ => Some(0),
            };
            faults += u32::from(tries.is_some());
            if tries.is_some_and(|max| faults > max) || Instant::now() > until {
                return Err(Fault::Refused(error));
            }
            let next = Instant::now() + wait;
            while Instant::now() < next {
                if unwanted() {
                    return Err(Fault::Stopped);
                }
                std::thread::sleep(LOOK.min(next.saturating_duration_since(Instant::now())));
            }
            wait = (wait * 2).min(WAIT_MAX);
            self.look_again();
        }
    }

    fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A restart of the server may have moved it.
    fn look_again(&self) {
        if let Ok(url) = self.launch.server() {
            let id = self.launch.server_id();
            let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
            if client.url() != url.trim_end_matches('/') || client.expects() != id.as_deref() {
                *client = Client::new(&url, &self.launch.token).expecting(id);
            }
        }
    }
}

fn says_over(error: &Error, about: About) -> bool {
    match error {
        Error::Api { status: 401 | 403, .. } => true,
        Error::Api { status: 404 | 409, .. } => about == About::Attempt,
        _ => false,
    }
}
