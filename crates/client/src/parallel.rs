//! The same work over many items on a few threads; the first error stops all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::Result;

/// Threads for work on files: at least two, since half of it waits for the disk.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8))
}

/// Answers in the order of the items.
pub(crate) fn map<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let one = || -> Result<Vec<(usize, R)>> {
        let mut done = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { break };
            match work(item) {
                Ok(out) => done.push((at, out)),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(done)
    };
    let threads = threads.min(items.len());
    let parts = if threads <= 1 {
        vec![one()]
    } else {
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            handles.into_iter().map(|h| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    };
    let mut all = Vec::with_capacity(items.len());
    for part in parts {
        all.extend(part?);
    }
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, out)| out).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn keeps_the_order() {
        let items: Vec<u32> = (0..1000).collect();
        assert_eq!(map(&items, 4, |n| Ok(n * 2)).unwrap(), items.iter().map(|n| n * 2).collect::<Vec<_>>());
        assert!(map(&[] as &[u32], 4, |n| Ok(*n)).unwrap().is_empty());
    }

    #[test]
    fn the_first_error_ends_it() {
        let items: Vec<u32> = (0..1000).collect();
        let out = map(&items, 3, |n| if *n == 7 { Err(Error::input("seven", "")) } else { Ok(()) });
        assert_eq!(out.unwrap_err().to_string(), "seven");
    }
}
