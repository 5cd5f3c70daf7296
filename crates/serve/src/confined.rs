//! The limits of a replica that an engine launched.

use anyhow::Context;
use muonic_types::Memory;
use muonic_unit::limits::{Group, was_out_of_memory};
use muonic_unit::{Folder, Launch, Limiter};

/// This process is in control groups of its own. The engine removes them, once
/// nobody is in them.
pub struct Confined {
    group: Group,
    memory: Memory,
}

impl Confined {
    /// Puts this process and all that it starts from now on under the limits
    /// of the launch.
    pub fn enter(folder: &Folder, launch: &Launch) -> anyhow::Result<Self> {
        let (limiter, wanted) = (Limiter::of(launch), launch.resources);
        if wanted.memory.bytes > 0 && !limiter.limits_memory() {
            tracing::warn!("the kernel does not limit memory here; memory={} is only reserved", wanted.memory);
        }
        if wanted.cpu.milli > 0 && !limiter.limits_cpu() {
            tracing::warn!("the kernel does not limit cpu here; cpu={} is only reserved", wanted.cpu);
        }
        let group = limiter.group(folder, &launch.unit.to_string(), &wanted).context("its limits could not be set")?;
        group.enter().context("it could not be put under its limits")?;
        Ok(Self { group, memory: wanted.memory })
    }

    /// How many processes the kernel has ended for want of memory.
    pub fn oom_kills(&self) -> u64 {
        self.group.oom_kills()
    }

    /// What is said of one that it ended.
    pub fn was_out_of_memory(&self) -> String {
        was_out_of_memory(self.memory)
    }
}
