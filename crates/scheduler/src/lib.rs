//! The deciders: who starts when, what follows an attempt's end, what an
//! endpoint needs next, how many replicas it has and how long they stay
//! without requests. Pure and synchronous: no I/O, no clock, no randomness;
//! time is an argument. The services load, call, perform and record.

pub mod autoscale;
pub mod canary;
pub mod keep_alive;
pub mod queue;
pub mod release;
pub mod retry;
