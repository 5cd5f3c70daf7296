//! What one replica takes on at once: requests, and the memory they take.
//! Beyond it answers 429 at once; nothing queues without bound. And how long
//! each stage of a request may take.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use muonic_types::{ErrorCode, Memory};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::failure::Failure;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub body_bytes_max: usize,
    /// For all requests in the replica together: their bodies, what is made of
    /// them, and their answers until they have left.
    pub requests_bytes_max: usize,
    /// Requests in the replica: those that run and those that wait.
    pub requests_max: usize,
    /// For a body to arrive whole.
    pub body_time: Duration,
    /// Between two pieces of a body.
    pub body_idle_time: Duration,
    /// For a request's turn at the model to come.
    pub wait_time: Duration,
    /// For the model to answer, from its turn on. What came before takes
    /// nothing of it: a worker that overruns it is ended, and must not be for
    /// a slow caller or a long queue.
    pub run_time: Duration,
    /// For requests in flight when the replica is asked to stop.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 << 20,
            requests_bytes_max: 256 << 20,
            requests_max: 1024,
            body_time: Duration::from_secs(60),
            body_idle_time: Duration::from_secs(20),
            wait_time: Duration::from_secs(30),
            run_time: Duration::from_secs(60),
            drain_time: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// For a replica that may use so much memory; zero where nobody says.
    pub fn within(memory: Memory) -> Self {
        let usual = Self::default();
        if memory.bytes == 0 {
            return usual;
        }
        // The rest is for the model, its runtime and what both make of a run.
        let quarter = usize::try_from(memory.bytes / 4).unwrap_or(usize::MAX);
        let requests_bytes_max = quarter.clamp(1 << 20, 1 << 30);
        Self { body_bytes_max: usual.body_bytes_max.min(requests_bytes_max), requests_bytes_max, ..usual }
    }
}

/// Bytes are counted in units of this size: a semaphore counts to 2^29 only.
const UNIT: usize = 1024;

pub struct Room {
    limits: Limits,
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// Held while a request is in the replica.
pub struct Place {
    _request: OwnedSemaphorePermit,
}

/// A body, with the room for it and for what is made of it.
pub struct Held {
    pub bytes: Bytes,
    charged: Charged,
}

#[derive(Default)]
pub struct Charged {
    bytes: usize,
    room: Option<OwnedSemaphorePermit>,
}

/// What has come of a body. Most bodies come whole; those need no copy.
#[derive(Default)]
struct Gathered {
    first: Bytes,
    rest: Vec<u8>,
}

impl Gathered {
    /// An announced length is believed no further than twice what has come:
    /// only that is charged.
    fn push(&mut self, chunk: &Bytes, announced: Option<u64>) {
        if self.first.is_empty() && self.rest.is_empty() {
            self.first = chunk.clone();
            return;
        }
        let total = self.first.len() + self.rest.len() + chunk.len();
        if self.rest.capacity() < total {
            let announced = announced.and_then(|n| usize::try_from(n).ok()).filter(|n| *n >= total);
            let room = announced.unwrap_or(usize::MAX).min(total * 2);
            self.rest.reserve_exact(room - self.rest.len());
        }
        self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        self.rest.extend_from_slice(chunk);
    }

    fn finish(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.rest.into() }
    }
}

impl Room {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            requests: Arc::new(Semaphore::new(limits.requests_max)),
            bytes: Arc::new(Semaphore::new(limits.requests_bytes_max / UNIT)),
        }
    }

    pub fn enter(&self) -> Result<Place, Failure> {
        let request = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| {
            Failure::new(
                ErrorCode::TooManyRequests,
                format!("{} requests are in this replica already; try again later", self.limits.requests_max),
            )
        })?;
        Ok(Place { _request: request })
    }

    /// Reads a body, which takes its room as it comes.
    pub async fn read(&self, mut body: Body, announced: Option<u64>) -> Result<Held, Failure> {
        let max = self.limits.body_bytes_max;
        let too_large = || Failure::new(ErrorCode::TooLarge, format!("the body is larger than {max} bytes"));
        if announced.is_some_and(|n| n > max as u64) {
            return Err(too_large());
        }
        let (mut gathered, mut charged) = (Gathered::default(), Charged::default());
        let until = Instant::now() + self.limits.body_time;
        while let Some(frame) = self.piece(&mut body, until).await? {
            let frame = frame.map_err(|e| Failure::bad(format!("the body broke off: {e}")))?;
            let Ok(chunk) = frame.into_data() else { continue };
            if charged.bytes + chunk.len() > max {
                return Err(too_large());
            }
            self.grow(&mut charged, chunk.len(), "request")?;
            gathered.push(&chunk, announced);
        }
        Ok(Held { bytes: gathered.finish(), charged })
    }

    /// Takes room for what is made of a body.
    pub fn charge(&self, held: &mut Held, bytes: usize) -> Result<(), Failure> {
        self.grow(&mut held.charged, bytes, "request")
    }

    /// From here on the request is gone, and its answer takes so many bytes.
    pub fn answer(&self, held: Held, bytes: usize) -> Result<Charged, Failure> {
        let mut charged = held.charged;
        drop(held.bytes);
        self.settle(&mut charged, bytes)?;
        Ok(charged)
    }

    pub fn settle(&self, charged: &mut Charged, bytes: usize) -> Result<(), Failure> {
        if bytes > charged.bytes {
            return self.grow(charged, bytes - charged.bytes, "answer");
        }
        if let Some(room) = &mut charged.room {
            drop(room.split(room.num_permits().saturating_sub(bytes.div_ceil(UNIT))));
        }
        charged.bytes = bytes;
        Ok(())
    }

    async fn piece(
        &self,
        body: &mut Body,
        until: Instant,
    ) -> Result<Option<Result<Frame<Bytes>, axum::Error>>, Failure> {
        let Limits { body_time, body_idle_time, .. } = self.limits;
        let idle = Instant::now() + body_idle_time;
        tokio::time::timeout_at(idle.min(until), body.frame()).await.map_err(|_| {
            Failure::bad(if idle < until {
                format!("nothing of the body came for {} s", body_idle_time.as_secs_f64())
            } else {
                format!("the body did not arrive within {} s", body_time.as_secs_f64())
            })
        })
    }

    fn grow(&self, charged: &mut Charged, bytes: usize, what: &str) -> Result<(), Failure> {
        let max = self.limits.requests_bytes_max;
        let total = charged.bytes.saturating_add(bytes);
        if total > max {
            return Err(Failure::new(
                ErrorCode::TooLarge,
                format!("the {what} takes {total} bytes of memory; this replica has {max} for all of its requests"),
            ));
        }
        let have = charged.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = total.div_ceil(UNIT).saturating_sub(have);
        if more > 0 {
            let more = u32::try_from(more)
                .ok()
                .and_then(|n| Arc::clone(&self.bytes).try_acquire_many_owned(n).ok())
                .ok_or_else(|| {
                    Failure::new(
                        ErrorCode::TooManyRequests,
                        format!("the requests in this replica take the {max} bytes it has for them; try again later"),
                    )
                })?;
            match &mut charged.room {
                Some(room) => room.merge(more),
                room => *room = Some(more),
            }
        }
        charged.bytes = total;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_reserves_no_more_than_twice_what_has_come() {
        for announced in [None, Some(64 << 20), Some(2500), Some(1)] {
            let mut gathered = Gathered::default();
            for n in 1..=1000_usize {
                gathered.push(&Bytes::from_static(&[b'x'; 1000]), announced);
                assert!(gathered.rest.capacity() <= 2000 * n, "{} for {n} kB", gathered.rest.capacity());
            }
            assert_eq!(gathered.finish().len(), 1_000_000);
        }
        // Where it is near, it is taken exactly.
        let mut gathered = Gathered::default();
        (0..3).for_each(|_| gathered.push(&Bytes::from_static(&[b'x'; 1000]), Some(3000)));
        assert_eq!(gathered.rest.capacity(), 3000);
    }

    #[test]
    fn an_answer_takes_the_place_of_its_request() {
        let room = Room::new(Limits { requests_bytes_max: 10 * UNIT, ..Limits::default() });
        let held = |bytes: usize| {
            let mut held = Held { bytes: Bytes::new(), charged: Charged::default() };
            room.charge(&mut held, bytes).map(|()| held)
        };
        let mut small = room.answer(held(10 * UNIT).unwrap(), UNIT + 1).unwrap();
        assert_eq!(room.bytes.available_permits(), 8);
        assert!(room.answer(held(1).unwrap(), 9 * UNIT).is_err_and(|e| e.code == ErrorCode::TooManyRequests));
        assert!(room.answer(held(1).unwrap(), 11 * UNIT).is_err_and(|e| e.code == ErrorCode::TooLarge));
        room.settle(&mut small, 0).unwrap();
        assert_eq!(room.bytes.available_permits(), 10);
        drop(room.answer(held(1).unwrap(), 10 * UNIT).unwrap());
        assert_eq!(room.bytes.available_permits(), 10);
    }

    #[test]
    fn small_replicas_take_small_bodies() {
        assert_eq!(Limits::within(Memory::default()).requests_bytes_max, 256 << 20);
        for (mib, room, body) in [(2, 1, 1), (128, 32, 32), (256, 64, 64), (1024, 256, 64), (1 << 20, 1024, 64)] {
            let limits = Limits::within(Memory::mib(mib));
            assert_eq!((limits.requests_bytes_max >> 20, limits.body_bytes_max >> 20), (room, body), "{mib} MiB");
        }
    }
}
