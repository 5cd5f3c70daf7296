//! The one writer: a thread that takes all steps that wait, decides and
//! writes them in one transaction, and answers all after its one sync.
//!
//! A step decides before it writes, so that a refusal leaves nothing and needs
//! no savepoint. It may run twice: when a transaction fails for another's
//! fault, each of its steps gets one of its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muonic_ports::Error as Port;
use muonic_ports::object_store::{Error, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::checkpoint::Checkpoints;
use super::failure::{Failure, Fault, Gate};
use super::readers::BucketCache;
use super::snapshot::{self, Request};
use super::tx::{State, Tx};

/// Steps that wait at most, and that go into one transaction.
const QUEUE: usize = 1024;
const BATCH: usize = 256;
/// How long a step waits for a place in the queue.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) enum Message {
    Step(Box<dyn Step>),
    Snapshot(Request),
}

/// The sending end; the thread ends when the last one is gone.
#[derive(Clone)]
pub(super) struct Queue {
    to: mpsc::Sender<Message>,
}

impl Queue {
    pub(super) async fn step<T, F>(&self, decide: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let (to, answer) = oneshot::channel();
        self.send(Message::Step(Box::new(Asked { decide, result: None, to }))).await?;
        answer.await.map_err(|_| ended())?
    }

    pub(super) async fn send(&self, message: Message) -> Result<()> {
        self.to.send_timeout(message, PATIENCE).await.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => {
                Error::Store(Port::Unavailable("the store has too many changes waiting; try again".into()))
            }
            mpsc::error::SendTimeoutError::Closed(_) => ended(),
        })
    }
}

pub(super) fn ended() -> Error {
    Error::Store(Port::Unavailable("the store's index is closed; restart the server".into()))
}

pub(super) enum Ran {
    Decided,
    Refused,
}

pub(super) trait Step: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<Ran>;
    fn answer(self: Box<Self>, fault: Option<&Fault>);
}

struct Asked<T, F> {
    decide: F,
    result: Option<Result<T>>,
    to: oneshot::Sender<Result<T>>,
}

impl<T, F> Step for Asked<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> Result<T, Failure> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<Ran> {
        self.result = None;
        let (ran, result) = match (self.decide)(tx) {
            Ok(value) => (Ran::Decided, Ok(value)),
            Err(Failure::Refused(error)) => (Ran::Refused, Err(error)),
            Err(Failure::Sql(error)) => return Err(error),
        };
        self.result = Some(result);
        Ok(ran)
    }

    fn answer(self: Box<Self>, fault: Option<&Fault>) {
        let result = match (fault, self.result) {
            (Some(fault), _) => Err(fault.clone().into()),
            (None, Some(result)) => result,
            (None, None) => Err(Error::Store(Port::bug("a step of the store's index was not run"))),
        };
        // The caller may have gone; what was committed stays.
        let _ = self.to.send(result);
    }
}

pub(super) struct Writer {
    pub(super) conn: Arc<Mutex<Connection>>,
    pub(super) state: State,
    pub(super) gate: Arc<Gate>,
    pub(super) cache: Arc<BucketCache>,
    pub(super) checkpoints: Option<Checkpoints>,
    pub(super) journal: watch::Sender<()>,
}

/// Starts the thread.
pub(super) fn start(mut writer: Writer) -> std::io::Result<(Queue, std::thread::JoinHandle<()>)> {
    let (to, mut from) = mpsc::channel(QUEUE);
    let thread = std::thread::Builder::new().name("store-index".into()).spawn(move || {
        while let Some(first) = from.blocking_recv() {
            writer.serve(first, &mut from);
        }
        writer.close();
    })?;
    Ok((Queue { to }, thread))
}

pub(super) fn lock(conn: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    conn.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    fn serve(&mut self, first: Message, from: &mut mpsc::Receiver<Message>) {
        let conn = Arc::clone(&self.conn);
        let conn = lock(&conn);
        if let Some(request) = self.batch(&conn, first, from) {
            snapshot::run(request, &conn, || {
                if let Ok(message) = from.try_recv() {
                    // One snapshot at a time; another one is told to wait.
                    if let Some(request) = self.batch(&conn, message, from) {
                        request.refuse();
                    }
                }
            });
        }
    }

    /// Takes what waits, up to a snapshot, and answers it.
    fn batch(&mut self, conn: &Connection, first: Message, from: &mut mpsc::Receiver<Message>) -> Option<Request> {
        let mut steps = Vec::new();
        let mut next = Some(first);
        let mut snapshot = None;
        while let Some(message) = next {
            match message {
                Message::Step(step) => steps.push(step),
                Message::Snapshot(request) => {
                    snapshot = Some(request);
                    break;
                }
            }
            next = if steps.len() < BATCH { from.try_recv().ok() } else { None };
        }
        if !steps.is_empty() {
            self.commit(conn, steps);
        }
        snapshot
    }

    fn commit(&mut self, conn: &Connection, mut steps: Vec<Box<dyn Step>>) {
        let fault = match self.attempt(conn, &mut steps) {
            Ok(()) => None,
            Err(Fault::Full | Fault::Other(_)) if steps.len() > 1 => {
                for step in steps {
                    self.commit(conn, vec![step]);
                }
                return;
            }
            Err(fault) => Some(fault),
        };
        for step in steps {
            step.answer(fault.as_ref());
        }
        if let (None, Some(checkpoints)) = (&fault, &self.checkpoints) {
            checkpoints.after_commit(conn);
        }
    }

    /// One transaction. After an error nothing of it is there.
    fn attempt(&mut self, conn: &Connection, steps: &mut [Box<dyn Step>]) -> Result<(), Fault> {
        if let Some(reason) = self.gate.reason() {
            return Err(Fault::Dead(reason.to_owned()));
        }
        let done = self.transaction(conn, steps);
        match done {
            Ok(true) => {
                let news = self.state.committed();
                self.cache.forget(news.buckets);
                if news.journaled {
                    self.journal.send_replace(());
                }
                return Ok(());
            }
            Ok(false) => {}
            Err(ref error) => {
                if let Fault::Dead(reason) = Fault::of(error) {
                    self.gate.close(&reason);
                }
            }
        }
        self.state.rolled_back();
        if !conn.is_autocommit()
            && let Err(error) = conn.execute_batch("ROLLBACK")
        {
            let reason =
                format!("writing is off since a rollback of the store's index failed ({error}); restart the server");
            self.gate.close(&reason);
            return Err(Fault::Dead(reason));
        }
        match done {
            // The answer of the one that was refused stands, what it wrote does not.
            Ok(_) if steps.len() == 1 => Ok(()),
            Ok(_) => Err(Fault::Other("a step was refused after it had written".into())),
            Err(error) => Err(Fault::of(&error)),
        }
    }

    /// `false` where a step wrote and was refused all the same.
    fn transaction(&mut self, conn: &Connection, steps: &mut [Box<dyn Step>]) -> rusqlite::Result<bool> {
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut tx = Tx::new(conn, &mut self.state);
        for step in steps {
            let before = conn.total_changes();
            if let Ran::Refused = step.run(&mut tx)?
                && conn.total_changes() != before
            {
                return Ok(false);
            }
        }
        tx.flush()?;
        conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(true)
    }

    fn close(self) {
        if let Some(checkpoints) = self.checkpoints {
            checkpoints.close();
        }
        if self.gate.reason().is_some()
            && let Err(error) = super::checkpoint::never_again(&lock(&self.conn))
        {
            tracing::warn!(%error, "cannot switch off the last checkpoint of the store's index");
        }
    }
}
