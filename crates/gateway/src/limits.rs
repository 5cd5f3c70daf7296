//! How much a key may ask, where it has limits: a bucket of requests and one of
//! tokens, each as large as what a minute allows and filled as fast.
//!
//! What a request costs in tokens is known from its answer, so the bucket of
//! tokens may go below nothing; then the key waits until it is above again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use muonic_types::key::{KeyLimits, Principal};
use muonic_types::{ErrorCode, KeyId};

use crate::refusal::Refusal;

const MINUTE_S: f64 = 60.0;
/// Keys that are remembered; beyond, those are forgotten whose buckets are full.
const KEYS_MAX: usize = 20_000;

#[derive(Default)]
pub struct Limits {
    keys: Mutex<HashMap<KeyId, Buckets>>,
}

#[derive(Clone, Copy)]
struct Buckets {
    limits: KeyLimits,
    requests: f64,
    tokens: f64,
    at: Instant,
}

impl Buckets {
    fn full(limits: KeyLimits, now: Instant) -> Self {
        let whole = |limit: Option<u32>| limit.map_or(0.0, f64::from);
        Self { limits, requests: whole(limits.requests_per_minute), tokens: whole(limits.tokens_per_minute), at: now }
    }

    fn fill(&mut self, now: Instant) {
        let full = Self::full(self.limits, now);
        let minutes = now.saturating_duration_since(self.at).as_secs_f64() / MINUTE_S;
        self.requests = (self.requests + full.requests * minutes).min(full.requests);
        self.tokens = (self.tokens + full.tokens * minutes).min(full.tokens);
        self.at = now;
    }

    fn is_full(&self) -> bool {
        let full = Self::full(self.limits, self.at);
        self.requests >= full.requests && self.tokens >= full.tokens
    }
}

/// Seconds until a bucket has this much more.
fn until_s(missing: f64, per_minute: u32) -> u64 {
    (missing * MINUTE_S / f64::from(per_minute)).ceil().max(1.0) as u64
}

impl Limits {
    /// Takes a request of the key's; refused where it has no more.
    pub fn take(&self, caller: &Principal, now: Instant) -> Result<(), Refusal> {
        if caller.limits == KeyLimits::default() {
            return Ok(());
        }
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS_MAX && !keys.contains_key(&caller.key) {
            keys.retain(|_, buckets| {
                buckets.fill(now);
                !buckets.is_full()
            });
        }
        let fresh = || Buckets::full(caller.limits, now);
        let buckets = keys.entry(caller.key.clone()).or_insert_with(fresh);
        buckets.fill(now);
        let refuse = |what: &str, limit: u32, missing: f64| {
            let wait_s = until_s(missing, limit);
            Err(Refusal::new(
                ErrorCode::TooManyRequests,
                format!("key {} may have {limit} {what} in a minute; try again in {wait_s} s", caller.key),
            )
            .retry_after(wait_s))
        };
        match (caller.limits.requests_per_minute, caller.limits.tokens_per_minute) {
            (Some(limit), _) if buckets.requests < 1.0 => refuse("requests", limit, 1.0 - buckets.requests),
            (_, Some(limit)) if buckets.tokens <= 0.0 => refuse("tokens", limit, 1.0 - buckets.tokens),
            _ => {
                buckets.requests -= 1.0;
                Ok(())
            }
        }
    }

    fn spend(&self, key: &KeyId, tokens: u64) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(buckets) = keys.get_mut(key) {
            buckets.tokens -= tokens as f64;
        }
    }
}

/// Counts the tokens of an answer as it passes, and takes them from the key's
/// bucket when dropped.
pub struct Meter {
    limits: Arc<Limits>,
    key: KeyId,
    /// The end of what has passed: what is looked for may be cut in two.
    tail: Vec<u8>,
    told: Option<u64>,
    events: u64,
}

/// What OpenAI's protocol tells of its usage, at the end of an answer or in
/// the last event of a stream.
const TOTAL: &[u8] = b"\"total_tokens\"";
/// An event of a stream, mostly one token.
const EVENT: &[u8] = b"data:";
const TAIL: usize = 64;

impl Meter {
    /// For keys with a limit of tokens.
    pub fn of(limits: &Arc<Limits>, caller: &Principal) -> Option<Self> {
        caller.limits.tokens_per_minute?;
        let (limits, key) = (Arc::clone(limits), caller.key.clone());
        Some(Self { limits, key, tail: Vec::new(), told: None, events: 0 })
    }

    pub fn pass(&mut self, bytes: &Bytes) {
        let seen = self.tail.len();
        self.tail.extend_from_slice(bytes);
        for at in find(&self.tail, TOTAL) {
            let rest = &self.tail[at + TOTAL.len()..];
            let digits: Vec<u8> = rest
                .iter()
                .copied()
                .skip_while(|c| c.is_ascii_whitespace() || *c == b':')
                .take_while(u8::is_ascii_digit)
                .take(18)
                .collect();
            if let Ok(Ok(n)) = std::str::from_utf8(&digits).map(str::parse) {
                self.told = Some(n);
            }
        }
        self.events += find(&self.tail, EVENT).filter(|at| at + EVENT.len() > seen).count() as u64;
        let old = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..old);
    }
}

fn find<'a>(bytes: &'a [u8], what: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(what.len()).enumerate().filter(move |(_, window)| *window == what).map(|(at, _)| at)
}

impl Drop for Meter {
    fn drop(&mut self) {
        // A stream that does not tell its usage has about one token an event.
        let tokens = self.told.unwrap_or(self.events);
        if tokens > 0 {
            self.limits.spend(&self.key, tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use muonic_types::ProjectId;
    use muonic_types::key::Role;
    use proptest::prelude::*;

    use super::*;

    fn caller(requests: Option<u32>, tokens: Option<u32>) -> Principal {
        Principal {
            key: "MKAAAAAAAAAAAAAAAAAA".parse().unwrap(),
            project: ProjectId::default_project(),
            role: Role::Invoker,
            attempt: None,
            replica: None,
            limits: KeyLimits { requests_per_minute: requests, tokens_per_minute: tokens },
        }
    }

    #[test]
    fn a_minute_has_so_many_requests_and_they_come_again() {
        let (limits, caller, now) = (Limits::default(), caller(Some(60), None), Instant::now());
        (0..60).for_each(|_| limits.take(&caller, now).unwrap());
        let refused = limits.take(&caller, now).unwrap_err();
        assert_eq!((refused.code, refused.retry_after_s), (ErrorCode::TooManyRequests, Some(1)));
        let later = now + Duration::from_secs(2);
        assert!(limits.take(&caller, later).is_ok() && limits.take(&caller, later).is_ok());
        assert!(limits.take(&caller, later).is_err());
    }

    #[test]
    fn tokens_are_known_afterwards() {
        let (limits, caller, now) = (Arc::new(Limits::default()), caller(None, Some(60)), Instant::now());
        limits.take(&caller, now).unwrap();
        let mut meter = Meter::of(&limits, &caller).unwrap();
        for piece in [&b"{\"usage\": {\"total_"[..], b"tokens\": 9", b"0}}"] {
            meter.pass(&Bytes::from_static(piece));
        }
        assert_eq!(meter.told, Some(90));
        drop(meter);
        let refused = limits.take(&caller, now).unwrap_err();
        assert_eq!(refused.retry_after_s, Some(31));
        assert!(limits.take(&caller, now + Duration::from_secs(32)).is_ok());
    }

    proptest! {
        /// However a stream is cut, its events are counted once.
        #[test]
        fn events_are_counted_once(cuts in proptest::collection::vec(1usize..7, 0..40), events in 0u64..20) {
            let stream: Vec<u8> = (0..events).flat_map(|n| format!("data: {{\"n\": {n}}}\n\n").into_bytes()).collect();
            let limits = Arc::new(Limits::default());
            let mut meter = Meter::of(&limits, &caller(None, Some(1))).unwrap();
            let mut rest = &stream[..];
            for cut in cuts.into_iter().chain([stream.len()]) {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                meter.pass(&Bytes::copy_from_slice(piece));
                rest = after;
            }
            prop_assert_eq!(meter.events, events);
        }
    }
}
