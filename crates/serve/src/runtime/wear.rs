//! Whether a worker's memory grows without end.
//!
//! A model's first requests make it grow: caches fill, arenas find their size.
//! So what it has after those is its size, and it is worn once it has grown
//! far beyond that in two looks, between which it has answered others.

use muonic_types::Memory;

/// Requests from one look to the next.
const LOOK_EVERY: u64 = 64;
/// Requests until a worker has its size.
const WARM_AFTER: u64 = 128;
/// Growth that is borne in any case where nobody limits memory.
const GROWTH_BYTES_MIN: u64 = 256 << 20;
const GROWTH_BYTES_MIN_LIMITED: u64 = 32 << 20;

#[derive(Debug, Default)]
pub struct Wear {
    /// Bytes it had when it was warm.
    warm: Option<u64>,
    /// It was too large at the last look.
    suspect: bool,
    /// It is to be replaced.
    pub worn: bool,
}

/// How much larger a worker may become than it was when warm, in bytes: as
/// much again, but no more than its part of an eighth of the memory there is.
pub fn growth_max(warm: u64, memory: Memory, workers: usize) -> u64 {
    match memory.bytes {
        0 => warm.max(GROWTH_BYTES_MIN),
        limit => {
            let part = limit / 8 / u64::try_from(workers).unwrap_or(1).max(1);
            warm.max(GROWTH_BYTES_MIN_LIMITED).min(part.max(GROWTH_BYTES_MIN_LIMITED))
        }
    }
}

impl Wear {
    /// After request `answered`: whether the worker is to be replaced from now
    /// on. `resident` gives its size in bytes, where it can be told.
    pub fn turns(
        &mut self,
        answered: u64,
        memory: Memory,
        workers: impl FnOnce() -> usize,
        resident: impl FnOnce() -> Option<u64>,
    ) -> bool {
        if self.worn || answered < WARM_AFTER || !answered.is_multiple_of(LOOK_EVERY) {
            return false;
        }
        let Some(now) = resident() else { return false };
        let Some(warm) = self.warm else {
            self.warm = Some(now);
            return false;
        };
        let is_large = now > warm.saturating_add(growth_max(warm, memory, workers()));
        let was_large = std::mem::replace(&mut self.suspect, is_large);
        self.worn = is_large && was_large;
        self.worn
    }
}

/// Of a process, in bytes.
pub fn resident(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten()?;
    pages.checked_mul(u64::try_from(page).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// At which request a worker of this size after each is replaced.
    fn worn_at(memory: Memory, size: impl Fn(u64) -> u64) -> Option<u64> {
        let mut wear = Wear::default();
        (1..20_000).find(|n| wear.turns(*n, memory, || 1, || Some(size(*n))))
    }

    #[test]
    fn only_growth_without_end_counts() {
        let none = Memory::default();
        assert_eq!(worn_at(none, |_| 100 * MIB), None);
        // It finds its size.
        assert_eq!(worn_at(none, |n| n.min(128) * 10 * MIB), None);
        // One large request, whose memory goes.
        assert_eq!(worn_at(none, |n| if n == 640 { 4096 * MIB } else { 100 * MIB }), None);
        // A MiB with each request: 256 of them, and the next two looks.
        assert_eq!(worn_at(none, |n| (50 + n) * MIB), Some(512));
        assert_eq!(worn_at(Memory::mib(512), |n| (50 + n) * MIB), Some(320));
    }

    #[test]
    fn what_is_borne_follows_from_the_limit() {
        let of = |warm, limit, workers| growth_max(warm * MIB, Memory::mib(limit), workers) / MIB;
        assert_eq!(growth_max(MIB, Memory::default(), 4), GROWTH_BYTES_MIN);
        assert_eq!(growth_max(1024 * MIB, Memory::default(), 1), 1024 * MIB);
        assert_eq!((of(50, 256, 1), of(50, 4096, 1), of(1000, 4096, 1), of(1000, 4096, 4)), (32, 50, 512, 128));
    }
}
