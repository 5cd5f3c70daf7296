//! A lane: a thread that runs one batch after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use muonic_types::ErrorCode;

use super::{Run, Shared, State, Waiting, join, trust};
use crate::failure::Failure;
use crate::runtime::Stop;
use crate::tensor::Tensor;

pub(super) fn run<K: Send>(shared: &Shared<K>, lane: usize) {
    while let Some(batch) = next(shared, lane) {
        work(shared, batch);
        shared.lock().busy[lane] = None;
    }
}

/// Waits for work. Empty where all that was there is of no use any more.
fn next<K>(shared: &Shared<K>, lane: usize) -> Option<Vec<Waiting<K>>> {
    let mut state = shared.lock();
    loop {
        if state.closed {
            return None;
        }
        let batch = take(&mut state, Instant::now());
        if !batch.is_empty() {
            let rows = batch.iter().map(|waiting| waiting.rows.unwrap_or(1)).sum();
            state.busy[lane] = state.curve.run(rows).map(|run| Instant::now() + run);
            return Some(batch);
        }
        state = shared.woken.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// The first in the queue, and those that go with it: no more than make their
/// time together. What makes it no more, even alone, is told so.
pub(super) fn take<K>(state: &mut State<K>, now: Instant) -> Vec<Waiting<K>> {
    let mut batch: Vec<Waiting<K>> = Vec::new();
    let most = match state.trust {
        trust if trust.is_proven() => state.curve.rows(),
        // Two, to see whether they go together.
        trust if trust.wants_proof() => 2,
        _ => 1,
    };
    let (mut rows, mut after) = (0, (0, 0));
    let mut all_by: Option<Instant> = None;
    while let Some((&at, waiting)) = state.queue.range(after..).next() {
        after = (at.0, at.1 + 1);
        let by = waiting.request.answer_by;
        let makes_it = |rows: usize, by: Option<Instant>| {
            by.is_none_or(|by| now + state.curve.run(rows).unwrap_or_default() <= by)
        };
        let is_useless = waiting.request.turn_by < now || !makes_it(waiting.rows.unwrap_or(1), by);
        let both_by = all_by.into_iter().chain(by).min();
        let goes_along = match (batch.first(), waiting.rows) {
            (None, _) => true,
            (Some(first), Some(more)) => {
                first.rows.is_some()
                    && rows + more <= most
                    && makes_it(rows + more, both_by)
                    && join::alike(&first.request.inputs, &waiting.request.inputs)
            }
            (Some(_), None) => false,
        };
        if !is_useless && !goes_along {
            // One that does not fit may keep others that would for a while, but
            // the search is not to grow with the queue.
            if batch.first().is_none_or(|first| first.rows.is_none()) || rows >= most {
                break;
            }
            continue;
        }
        let Some(waiting) = state.remove(at) else { break };
        if is_useless {
            let late = "the model was busy with other requests until this one was too late; try again later";
            let _ = waiting.answer.send((Err(Failure::new(ErrorCode::TooManyRequests, late)), waiting.request.keep));
            continue;
        }
        all_by = both_by;
        rows += waiting.rows.unwrap_or(1);
        batch.push(waiting);
        if rows >= most {
            break;
        }
    }
    batch
}

fn work<K>(shared: &Shared<K>, batch: Vec<Waiting<K>>) {
    let is_proven = shared.lock().trust.is_proven();
    if batch.len() > 1 && is_proven {
        together(shared, batch);
    } else if batch.first().is_some_and(|first| first.rows == Some(1)) && shared.lock().trust.wants_proof() {
        prove(shared, batch);
    } else {
        batch.into_iter().for_each(|waiting| drop(alone(shared, waiting)));
    }
}

/// Runs one by itself and answers it; what went in and what came out.
fn alone<K>(shared: &Shared<K>, waiting: Waiting<K>) -> Option<(Vec<Tensor>, Vec<Tensor>)> {
    let Waiting { request, rows, since, began, answer, interest } = waiting;
    let _ = began.send(());
    let run = begin(shared, 1);
    interest.join(&run);
    let copy = (rows == Some(1) && shared.lock().trust.wants_proof()).then(|| request.inputs.clone());
    let started = Instant::now();
    let outputs = infer(shared, request.inputs, &run.stop);
    note(shared, rows.unwrap_or(1), &[started - since], started.elapsed(), outputs.is_ok());
    let seen = copy.zip(outputs.as_ref().ok().cloned());
    let _ = answer.send((outputs, request.keep));
    seen
}

fn together<K>(shared: &Shared<K>, batch: Vec<Waiting<K>>) {
    let rows: Vec<usize> = batch.iter().map(|waiting| waiting.rows.unwrap_or(1)).collect();
    let total: usize = rows.iter().sum();
    let run = begin(shared, batch.len());
    let inputs = join::join(&batch.iter().map(|waiting| waiting.request.inputs.as_slice()).collect::<Vec<_>>());
    let started = Instant::now();
    let waited: Vec<Duration> = batch.iter().map(|waiting| started - waiting.since).collect();
    let mut begun = Vec::with_capacity(batch.len());
    for mut waiting in batch {
        let (nobody, _) = tokio::sync::oneshot::channel();
        let _ = std::mem::replace(&mut waiting.began, nobody).send(());
        waiting.interest.join(&run);
        begun.push(waiting);
    }
    let outputs = infer(shared, inputs, &run.stop);
    note(shared, total, &waited, started.elapsed(), outputs.is_ok());
    match outputs.map(|outputs| join::split(&outputs, &rows)) {
        Ok(Some(each)) => {
            for (waiting, outputs) in begun.into_iter().zip(each) {
                let _ = waiting.answer.send((Ok(outputs), waiting.request.keep));
            }
        }
        // Its outputs have no rows: these do not go together after all.
        Ok(None) => {
            shared.lock().trust.fails();
            begun.into_iter().for_each(|waiting| drop(alone(shared, waiting)));
        }
        // One that the model refuses is not to spoil the others.
        Err(failure) if failure.code == ErrorCode::InvalidInput => {
            begun.into_iter().for_each(|waiting| drop(alone(shared, waiting)));
        }
        Err(failure) => {
            for waiting in begun {
                let _ = waiting.answer.send((Err(failure.clone()), waiting.request.keep));
            }
        }
    }
}

/// Runs each alone, so that all get answers that are right in any case, and
/// then two of them together.
fn prove<K>(shared: &Shared<K>, batch: Vec<Waiting<K>>) {
    let mut seen: Vec<_> = batch.into_iter().filter_map(|waiting| alone(shared, waiting)).collect();
    let Some((first, expected)) = seen.pop() else { return };
    let stop = || Arc::new(Stop::after(shared.settings.run_time));
    let (second, expected_too) = match seen.pop().filter(|(inputs, _)| *inputs != first) {
        Some(other) => other,
        None => {
            let made_up = trust::reversed(&first);
            if made_up == first {
                // Alike rows tell nothing; another time.
                return;
            }
            let Ok(outputs) = infer(shared, made_up.clone(), &stop()) else {
                shared.lock().trust.proves_nothing();
                return;
            };
            (made_up, outputs)
        }
    };
    let both = infer(shared, join::join(&[&first, &second]), &stop());
    let both = both.map(|outputs| join::split(&outputs, &[1, 1]));
    let mut state = shared.lock();
    match both {
        Ok(Some(each)) if trust::same(&each[0], &expected) && trust::same(&each[1], &expected_too) => {
            state.trust.holds();
        }
        Ok(_) => state.trust.fails(),
        Err(_) => state.trust.proves_nothing(),
    }
    if state.trust.refuted() {
        tracing::info!("requests are run one by one: this model answers them otherwise together");
    }
}

fn begin<K>(shared: &Shared<K>, count: usize) -> Arc<Run> {
    Arc::new(Run { stop: Arc::new(Stop::after(shared.settings.run_time)), left: AtomicUsize::new(count) })
}

fn infer<K>(shared: &Shared<K>, inputs: Vec<Tensor>, stop: &Arc<Stop>) -> Result<Vec<Tensor>, Failure> {
    catch_unwind(AssertUnwindSafe(|| shared.runtime.infer(inputs, stop))).unwrap_or_else(|_| {
        tracing::error!("a request's run panicked");
        Err(Failure::new(ErrorCode::Internal, "the replica failed on this request; its log says more"))
    })
}

fn note<K>(shared: &Shared<K>, rows: usize, waited: &[Duration], took: Duration, is_ok: bool) {
    if is_ok {
        shared.lock().curve.record(rows, took);
    }
    shared.observer.ran(rows, waited, took);
}
