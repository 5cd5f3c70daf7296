//! The server over a long time. A restart may move it to another port; what
//! it writes into its data folder says where.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use muonic_client::{Client, Error};

use crate::context::{Context, note};
use crate::failure::{Failure, Result};
use crate::global::Global;

/// How long a watcher waits for a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(300);
/// Shorter outages are not worth a word.
const QUIET: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(250);

pub(crate) struct Link {
    global: Global,
    client: Mutex<Client>,
}

impl Link {
    pub(crate) fn new(context: &Context) -> Result<Self> {
        Ok(Self { global: context.global.clone(), client: Mutex::new(context.client()?.clone()) })
    }

    pub(crate) fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Looks for the server again, where it was not named.
    fn find_again(&self) {
        if let Ok(found) = Context::new(&self.global).client() {
            let mut client = self.client.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if found.url() != client.url() {
                *client = found.clone();
            }
        }
    }
}

/// One stretch in which the server does not answer.
#[derive(Default)]
pub(crate) struct Outage {
    since: Option<Instant>,
    told: bool,
}

impl Outage {
    /// It answered.
    pub(crate) fn over(&mut self) {
        if self.told {
            note("the server answers again");
        }
        *self = Self::default();
    }

    /// It did not: waits a little and looks for it again, or gives up.
    pub(crate) fn wait(&mut self, link: &Link, error: Error) -> Result<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if !error.is_transient() || since.elapsed() > PATIENCE {
            return Err(error.into());
        }
        if since.elapsed() > QUIET && !self.told {
            self.told = true;
            note(format!("the server does not answer ({error}); trying again"));
        }
        std::thread::sleep(PAUSE);
        link.find_again();
        Ok(())
    }
}

/// Repeats a harmless question while the server is away.
pub(crate) fn ask<T>(link: &Link, call: impl Fn(&Client) -> muonic_client::Result<T>) -> Result<T, Failure> {
    let mut outage = Outage::default();
    loop {
        match call(&link.client()) {
            Ok(answer) => {
                outage.over();
                return Ok(answer);
            }
            Err(error) => outage.wait(link, error)?,
        }
    }
}
