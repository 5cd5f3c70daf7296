use muonic_types::Timestamp;

/// Where the time comes from, so that tests can turn the hands.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The machine's own clock, to the microsecond (what the metastore keeps).
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let micros = Timestamp::now().as_microsecond();
        Timestamp::from_microsecond(micros).expect("the clock is between the years -9999 and 9999")
    }
}
