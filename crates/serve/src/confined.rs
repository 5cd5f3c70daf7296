//! The limits of a replica that an engine launched: its memory. Its cpu is
//! reserved and not limited, since a share of a core given in slices would
//! make a request that meets the end of one wait for the next: 50 ms instead
//! of 5 for one in a hundred.

use anyhow::Context;
use muonic_types::{Cpu, Memory, Resources};
use muonic_unit::limits::{Group, was_out_of_memory};
use muonic_unit::{Folder, Launch, Limiter};

/// This process is in control groups of its own. The engine removes them, once
/// nobody is in them.
pub struct Confined {
    group: Group,
    memory: Memory,
}

impl Confined {
    /// Puts this process and all that it starts from now on under the limit
    /// of the launch.
    pub fn enter(folder: &Folder, launch: &Launch) -> anyhow::Result<Self> {
        let (limiter, wanted) = (Limiter::of(launch), launch.resources);
        if wanted.memory.bytes > 0 && !limiter.limits_memory() {
            tracing::warn!("the kernel does not limit memory here; memory={} is only reserved", wanted.memory);
        }
        let limits = Resources { cpu: Cpu::default(), ..wanted };
        let group = limiter.group(folder, &launch.unit.to_string(), &limits).context("its limits could not be set")?;
        group.enter().context("it could not be put under its limits")?;
        Ok(Self { group, memory: wanted.memory })
    }

    /// How many processes the kernel has ended for want of memory.
    pub fn oom_kills(&self) -> u64 {
        self.group.oom_kills()
    }

    /// What this process may use, with all that it starts.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// What is said of one that it ended.
    pub fn was_out_of_memory(&self) -> String {
        was_out_of_memory(self.memory)
    }
}
