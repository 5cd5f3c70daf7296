//! Limits on what a unit's processes use, and ending them all at once.
//!
//! Three back ends, chosen once by trying them: control groups version 2,
//! version 1, or none. On hybrid machines each part takes what works: memory
//! from version 1 and the kill switch from version 2. Without a memory
//! controller the shim itself watches how much memory its command holds
//! ([`crate::processes::memory_held`]): an address-space limit (`RLIMIT_AS`)
//! would break programs that reserve far more than they use, as Python's
//! numeric libraries and every CUDA program do.
//!
//! A unit's groups are recorded in its folder before they are made, so that
//! whoever finds a dead supervisor can end what it left.

mod group;
mod mounts;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use muonic_types::{Memory, Resources};

pub use group::{Entrance, Group, end_groups, hold_processes, oom_kills};
use mounts::Mounts;

use crate::{Folder, Launch};

/// Every group made by Muonic begins with this, and nothing else is removed.
pub(crate) const PREFIX: &str = "muonic-";
/// Length of a scheduling period; the quota is a share of it.
const CPU_PERIOD_US: u64 = 100_000;
/// Least quota that the kernel takes.
const CPU_QUOTA_MIN_US: u64 = 1_000;

/// What a control group hierarchy is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Version 2 of the interface, with the controllers named.
    V2 {
        memory: bool,
        cpu: bool,
    },
    V1Memory,
    V1Cpu,
    V1Freezer,
}

/// Where units' groups are made, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    parent: PathBuf,
    part: Part,
}

/// What this machine lets us limit.
#[derive(Debug, Clone, Default)]
pub struct Limiter {
    places: Vec<Place>,
}

/// How one thing is limited, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ability {
    pub name: &'static str,
    pub enforced: bool,
    pub detail: String,
}

impl Limiter {
    /// Tries each back end by making, writing and removing a group. Under a
    /// few milliseconds.
    pub fn probe() -> Self {
        Mounts::read().map(|mounts| Self::among(&mounts)).unwrap_or_default()
    }

    /// What this launch may be limited by: an operator may forbid control
    /// groups by the setting.
    pub fn of(launch: &Launch) -> Self {
        match launch.settings.get("limits").map(String::as_str) {
            Some("none") => Self::none(),
            _ => Self::probe(),
        }
    }

    /// Limits nothing by itself, as on a machine without control groups.
    pub fn none() -> Self {
        Self::default()
    }

    fn among(mounts: &Mounts) -> Self {
        let v2 = best_v2(mounts.v2_parents());
        // Version 2 goes first where it can do the same.
        let (memory, cpu) = match v2.as_ref().map(|place| place.part) {
            Some(Part::V2 { memory, cpu }) => (memory, cpu),
            _ => (false, false),
        };
        let wanted = [
            ("memory", Part::V1Memory, !memory),
            ("cpu", Part::V1Cpu, !cpu),
            ("freezer", Part::V1Freezer, v2.is_none()),
        ];
        let v1 = wanted.into_iter().filter(|(_, _, wanted)| *wanted).filter_map(|(controller, part, _)| {
            let parent = mounts.v1_parents(controller).into_iter().find(|parent| try_group(parent, part))?;
            Some(Place { parent, part })
        });
        let places = v2.iter().cloned().chain(v1).collect();
        Self { places }
    }

    pub fn limits_memory(&self) -> bool {
        self.places.iter().any(|p| matches!(p.part, Part::V1Memory | Part::V2 { memory: true, .. }))
    }

    /// What works here, for `muonic doctor`.
    pub fn abilities(&self) -> Vec<Ability> {
        let by = |wanted: fn(&Part) -> bool, without: &str| match self.places.iter().find(|p| wanted(&p.part)) {
            Some(p) => (
                true,
                format!(
                    "{} below {}",
                    if matches!(p.part, Part::V2 { .. }) { "cgroup v2" } else { "cgroup v1" },
                    p.parent.display()
                ),
            ),
            None => (false, without.to_owned()),
        };
        let (memory, memory_how) = by(
            |p| matches!(p, Part::V1Memory | Part::V2 { memory: true, .. }),
            "no writable memory controller: a job's memory is measured several times a second, and it is stopped where it uses too much; a model's is only reserved",
        );
        let (cpu, cpu_how) = by(
            |p| matches!(p, Part::V1Cpu | Part::V2 { cpu: true, .. }),
            "no writable cpu controller: jobs may use more cores than they asked for",
        );
        let (tree, tree_how) = by(
            |p| matches!(p, Part::V2 { .. } | Part::V1Freezer),
            "no writable control groups: processes are found by parent and by environment",
        );
        vec![
            Ability { name: "memory limit", enforced: memory, detail: memory_how },
            Ability { name: "cpu limit", enforced: cpu, detail: cpu_how },
            Ability { name: "end of process trees", enforced: tree, detail: tree_how },
        ]
    }

    /// Makes the unit's groups with its limits. Zero cpu or memory means no
    /// limit.
    pub fn group(&self, folder: &Folder, unit: &str, resources: &Resources) -> io::Result<Group> {
        let name = format!("{PREFIX}{}-{unit}", folder.mark());
        let places: Vec<(PathBuf, Part)> = self.places.iter().map(|p| (p.parent.join(&name), p.part)).collect();
        if !places.is_empty() {
            let paths: Vec<PathBuf> = places.iter().map(|(path, _)| path.clone()).collect();
            folder.write_groups(&paths)?;
        }
        Group::make(places, resources)
    }
}

/// What the kernel did to one that used too much: the part of a sentence that
/// follows its name.
pub fn was_out_of_memory(memory: Memory) -> String {
    format!("was ended by the kernel: it used more memory than memory={memory}")
}

/// The least memory limit that the groups of this process already have, or
/// `None` where there is none.
pub fn memory_ceiling() -> Option<u64> {
    let mounts = Mounts::read().ok()?;
    let read = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let v2 = mounts.v2_parents().into_iter().filter_map(|p| read(p.join("memory.max")));
    let v1 = mounts.v1_parents("memory").into_iter().filter_map(|p| read(p.join("memory.limit_in_bytes")));
    v2.chain(v1).min()
}

/// The nearest parent with the most controllers: the one we are in holds
/// processes and then cannot hand controllers on, while one above it may.
fn best_v2(parents: Vec<PathBuf>) -> Option<Place> {
    let mut best: Option<(u8, Place)> = None;
    for place in parents.iter().filter_map(|parent| usable_v2(parent)) {
        let Part::V2 { memory, cpu } = place.part else { continue };
        let controllers = u8::from(memory) + u8::from(cpu);
        if best.as_ref().is_none_or(|(most, _)| controllers > *most) {
            best = Some((controllers, place));
        }
        if controllers == 2 {
            break;
        }
    }
    best.map(|(_, place)| place)
}

fn usable_v2(parent: &Path) -> Option<Place> {
    let list = |file: &str| fs::read_to_string(parent.join(file)).unwrap_or_default();
    let enabled = |name: &str| {
        if list("cgroup.subtree_control").split_whitespace().any(|c| c == name) {
            return true;
        }
        // Refused where the group itself holds processes; then it cannot be
        // used for this controller.
        list("cgroup.controllers").split_whitespace().any(|c| c == name)
            && fs::write(parent.join("cgroup.subtree_control"), format!("+{name}")).is_ok()
    };
    let (memory, cpu) = (enabled("memory"), enabled("cpu"));
    let part = Part::V2 { memory, cpu };
    try_group(parent, part).then(|| Place { parent: parent.to_owned(), part })
}

/// Makes a group with limits, lets a process in where that is in doubt, and
/// removes it.
fn try_group(parent: &Path, part: Part) -> bool {
    let path = parent.join(
        format!("{PREFIX}probe-{}-{:?}", std::process::id(), std::thread::current().id()).replace(['(', ')'], ""),
    );
    let resources = Resources { cpu: muonic_types::Cpu::milli(1000), memory: muonic_types::Memory::mib(64), gpu: 0 };
    let Ok(group) = Group::make(vec![(path, part)], &resources) else { return false };
    // The superuser may move processes anywhere; others need rights on the
    // common ancestor too, which only trying shows.
    let works = nix::unistd::geteuid().is_root() || group.admits_a_child();
    group.end(std::time::Duration::from_secs(1)).is_ok() && works
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use muonic_types::Cpu;

    use super::*;

    #[test]
    fn abilities_are_told_in_words() {
        let abilities = Limiter::none().abilities();
        assert!(abilities.iter().all(|a| !a.enforced && !a.detail.is_empty()));
        assert!(!Limiter::none().limits_memory());
    }

    #[test]
    fn a_group_admits_counts_ends_and_goes() {
        let limiter = Limiter::probe();
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let resources = Resources { cpu: Cpu::milli(500), memory: Memory::mib(64), gpu: 0 };
        let group = limiter.group(&folder, "task.t-1.1", &resources).unwrap();
        let entrance = group.entrance().unwrap();
        let mut command = Command::new("sleep");
        command.arg("1000").stdin(Stdio::null());
        entrance.attach(&mut command);
        let mut child = command.spawn().unwrap();
        assert_eq!(group.oom_kills(), 0);
        if !limiter.places.is_empty() {
            assert!(folder.read_groups().iter().all(|g| g.is_dir()));
            // As an engine does that finds a dead supervisor.
            std::thread::scope(|s| {
                let ending = s.spawn(|| end_groups(&folder.read_groups(), Duration::from_secs(20)));
                child.wait().unwrap();
                ending.join().unwrap().unwrap();
            });
            assert!(folder.read_groups().iter().all(|g| !g.exists()));
        } else {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        group.end(Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn groups_that_a_program_made_below_its_own_end_with_it() {
        let limiter = Limiter::probe();
        if limiter.places.is_empty() {
            eprintln!("not tried: no control groups here");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let group = limiter.group(&folder, "task.nest-1.1", &Resources::default()).unwrap();
        let groups = folder.read_groups();
        // Its own group is left empty; two below it hold processes, and where
        // there is a freezer one of these stands still.
        let mut sleepers = Vec::new();
        for path in &groups {
            fs::create_dir_all(path.join("a/b")).unwrap();
            let mut sleeper =
                Command::new("sleep").arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
            fs::write(path.join("a/b/cgroup.procs"), sleeper.id().to_string()).unwrap();
            let _ = fs::write(path.join("a/b/freezer.state"), "FROZEN");
            assert!(sleeper.try_wait().unwrap().is_none());
            sleepers.push(sleeper);
        }
        assert!(hold_processes(&groups));
        std::thread::scope(|s| {
            let ending = s.spawn(|| group.end(Duration::from_secs(5)));
            let ended = ending.join().unwrap();
            // Also where the groups did not end them.
            for mut sleeper in sleepers {
                let _ = sleeper.kill();
                sleeper.wait().unwrap();
            }
            ended.unwrap();
        });
        assert!(!hold_processes(&groups) && groups.iter().all(|g| !g.exists()));
    }

    #[test]
    fn only_our_own_groups_are_ended() {
        assert!(end_groups(&[PathBuf::from("/sys/fs/cgroup/memory")], Duration::from_secs(1)).is_ok());
        assert!(end_groups(&[PathBuf::from("/tmp/muonic-x")], Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn memory_beyond_the_limit_is_counted_as_an_oom_kill() {
        let limiter = Limiter::probe();
        if !limiter.limits_memory() {
            eprintln!("not tried: no memory controller here");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let resources = Resources { cpu: Cpu::default(), memory: Memory::mib(32), gpu: 0 };
        let group = limiter.group(&Folder::new(dir.path()), "task.oom-1.1", &resources).unwrap();
        let mut command = Command::new("sh");
        // `tail` of a stream without line ends keeps all of it in memory.
        command.args(["-c", "head -c 300000000 /dev/zero | tail -c 299999999 >/dev/null"]).stdin(Stdio::null());
        group.entrance().unwrap().attach(&mut command);
        command.spawn().unwrap().wait().unwrap();
        assert!(group.oom_kills() > 0);
        assert_eq!(oom_kills(&Folder::new(dir.path()).read_groups()), group.oom_kills());
        group.end(Duration::from_secs(20)).unwrap();
    }
}
