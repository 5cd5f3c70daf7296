//! What work asks for, and what a second of it costs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Invalid;
use crate::digest::clip;
use crate::serde_str::{serde_as_quantity, string_schema};

/// Processor time in thousandths of a core; written in cores (`0.5`) or
/// thousandths (`500m`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpu {
    pub milli: u64,
}

impl Cpu {
    /// Above any machine there is; keeps sums far from overflow.
    const MILLI_MAX: u64 = 1_000_000_000;

    pub const fn milli(milli: u64) -> Self {
        Self { milli }
    }

    pub fn cores(self) -> f64 {
        self.milli as f64 / 1000.0
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.milli.is_multiple_of(1000) { write!(f, "{}", self.milli / 1000) } else { write!(f, "{}m", self.milli) }
    }
}

impl FromStr for Cpu {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        let bad = || {
            Invalid::new(format!(
                "'{}' is not an amount of cpu: write cores such as 1 or 0.5, or thousandths such as 500m",
                clip(s)
            ))
        };
        let milli = match s.strip_suffix('m') {
            Some(n) => n.parse::<u64>().map_err(|_| bad())?,
            None => {
                let cores: f64 = s.parse().map_err(|_| bad())?;
                if !(0.0..=1e6).contains(&cores) {
                    return Err(bad());
                }
                (cores * 1000.0).round() as u64
            }
        };
        if milli > Self::MILLI_MAX { Err(bad()) } else { Ok(Self { milli }) }
    }
}

serde_as_quantity!(Cpu);
string_schema!(
    Cpu,
    "Cpu",
    Some("^([0-9]{1,5}(\\.[0-9]{1,3})?|[0-9]{1,8}m)$"),
    "1",
    "Cores such as 1 or 0.5, or thousandths such as 500m"
);

/// Memory in bytes; written with the units `Ki Mi Gi Ti` (1024) or `k M G T` (1000).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memory {
    pub bytes: u64,
}

const UNITS: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

impl Memory {
    const BYTES_MAX: u64 = 1 << 50;

    pub const fn mib(n: u64) -> Self {
        Self { bytes: n << 20 }
    }

    pub fn gib(self) -> f64 {
        self.bytes as f64 / (1u64 << 30) as f64
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, size) in [UNITS[3], UNITS[2], UNITS[1], UNITS[0]] {
            if self.bytes >= size && self.bytes.is_multiple_of(size) {
                return write!(f, "{}{unit}", self.bytes / size);
            }
        }
        write!(f, "{}", self.bytes)
    }
}

impl FromStr for Memory {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        let bad = || {
            Invalid::new(format!(
                "'{}' is not an amount of memory: write bytes, or a number with Ki, Mi, Gi, Ti, k, M, G or T such as 1Gi",
                clip(s)
            ))
        };
        let (number, unit) = UNITS.iter().find_map(|(u, size)| s.strip_suffix(u).map(|n| (n, *size))).unwrap_or((s, 1));
        let number: f64 = number.parse().map_err(|_| bad())?;
        let bytes = number * unit as f64;
        if !(0.0..=Self::BYTES_MAX as f64).contains(&bytes) {
            return Err(bad());
        }
        Ok(Self { bytes: bytes.round() as u64 })
    }
}

serde_as_quantity!(Memory);
string_schema!(
    Memory,
    "Memory",
    Some("^([0-9]{1,15}|[0-9]{1,12}(Ki|k)|[0-9]{1,9}(Mi|M)|[0-9]{1,6}(Gi|G)|[0-9]{1,3}(Ti|T))$"),
    "1Gi",
    "Bytes, or a number with Ki, Mi, Gi, Ti, k, M, G or T"
);

/// What a task or a replica asks for. Written `cpu=1 memory=1Gi gpu=0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    #[serde(default)]
    pub cpu: Cpu,
    #[serde(default)]
    pub memory: Memory,
    /// Whole graphics processors.
    #[serde(default)]
    #[schema(maximum = 1024)]
    pub gpu: u32,
}

impl Resources {
    /// Less memory than this starts nothing useful.
    pub const MEMORY_MIN: Memory = Memory::mib(4);

    pub fn fits(&self, free: &Self) -> bool {
        self.cpu <= free.cpu && self.memory <= free.memory && self.gpu <= free.gpu
    }

    pub fn plus(&self, other: &Self) -> Self {
        Self {
            cpu: Cpu::milli(self.cpu.milli.saturating_add(other.cpu.milli)),
            memory: Memory { bytes: self.memory.bytes.saturating_add(other.memory.bytes) },
            gpu: self.gpu.saturating_add(other.gpu),
        }
    }

    /// Never below zero: what is over-committed counts as nothing free.
    pub fn minus(&self, other: &Self) -> Self {
        Self {
            cpu: Cpu::milli(self.cpu.milli.saturating_sub(other.cpu.milli)),
            memory: Memory { bytes: self.memory.bytes.saturating_sub(other.memory.bytes) },
            gpu: self.gpu.saturating_sub(other.gpu),
        }
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu={} memory={}", self.cpu, self.memory)?;
        if self.gpu > 0 { write!(f, " gpu={}", self.gpu) } else { Ok(()) }
    }
}

/// Parses `cpu=1,memory=1Gi,gpu=1`; commas and spaces both separate. What is
/// not named stays as in `base`.
impl Resources {
    pub fn parse_over(base: Self, text: &str) -> Result<Self, Invalid> {
        let mut out = base;
        let mut named = Vec::new();
        for part in text.split([',', ' ']).filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                Invalid::new(format!("'{}' is not a resource: write name=amount such as cpu=1", clip(part)))
            })?;
            if named.contains(&key) {
                return Err(Invalid::new(format!("'{}' is named twice: name each resource once", clip(key))));
            }
            named.push(key);
            match key {
                "cpu" => out.cpu = value.parse()?,
                "memory" => out.memory = value.parse()?,
                "gpu" => {
                    out.gpu = value.parse().map_err(|_| {
                        Invalid::new(format!("'{}' is not a number of gpus: write a whole number", clip(value)))
                    })?
                }
                _ => {
                    return Err(Invalid::new(format!(
                        "'{}' is not a resource: there are cpu, memory and gpu",
                        clip(key)
                    )));
                }
            }
        }
        Ok(out)
    }
}

/// Money per second in billionths of a US dollar, so that sums are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Price {
    pub nano_usd_per_s: u64,
}

impl Price {
    /// US dollars for this many seconds.
    pub fn usd(self, seconds: f64) -> f64 {
        self.nano_usd_per_s as f64 * seconds / 1e9
    }
}
