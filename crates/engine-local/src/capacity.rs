//! What this machine has.

use std::fs;

use muonic_types::{Cpu, Memory, Resources};
use muonic_unit::limits::memory_ceiling;

/// All that units may use together: every core this process may use, and
/// nine tenths of the memory, since the server and the system need some.
pub fn of_this_machine() -> Resources {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_total(&text)).unwrap_or(0);
    let memory = memory_ceiling().map_or(total, |ceiling| ceiling.min(total));
    let gpu = fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, |gpus| gpus.flatten().count() as u32);
    // Whole mebibytes read better.
    Resources { cpu: Cpu::milli(cores * 1000), memory: Memory::mib((memory / 10 * 9) >> 20), gpu }
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(memory_total("MemTotal:       16000 kB\nMemFree: 1 kB\n"), Some(16_384_000));
        assert_eq!(memory_total("nothing"), None);
        let here = of_this_machine();
        assert!(here.cpu.milli >= 1000 && here.memory.bytes > 0);
    }
}
