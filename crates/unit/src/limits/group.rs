//! The control groups of one unit.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use muonic_types::Resources;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{CPU_PERIOD_US, CPU_QUOTA_MIN_US, PREFIX, Part};

/// A unit's groups. Dropping it leaves them; [`Group::end`] removes them.
#[derive(Debug)]
pub struct Group {
    places: Vec<(PathBuf, Part)>,
}

impl Group {
    pub(super) fn make(places: Vec<(PathBuf, Part)>, resources: &Resources) -> io::Result<Self> {
        let group = Self { places };
        for (path, part) in &group.places {
            let made = fs::create_dir(path)
                .or_else(|e| if e.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(e) });
            if let Err(e) = made.and_then(|()| limit(path, *part, resources)) {
                let _ = group.end(Duration::from_secs(1));
                return Err(io::Error::new(e.kind(), format!("cannot set limits in {}: {e}", path.display())));
            }
        }
        Ok(group)
    }

    /// What lets a program into the groups as it starts.
    pub fn entrance(&self) -> io::Result<Entrance> {
        let open = |(path, _): &(PathBuf, Part)| OpenOptions::new().write(true).open(path.join("cgroup.procs"));
        Ok(Entrance { files: self.places.iter().map(open).collect::<io::Result<_>>()? })
    }

    /// Moves this process in; what it starts from now on is inside too.
    pub fn enter(&self) -> io::Result<()> {
        self.entrance()?.pass()
    }

    /// How many processes the kernel has ended for want of memory.
    pub fn oom_kills(&self) -> u64 {
        self.places.iter().map(|(path, _)| kills_in(path)).sum()
    }

    /// Sends SIGKILL to every process inside, once, and waits for nothing.
    pub fn kill(&self) {
        self.places.iter().for_each(|(path, _)| kill_all(path));
    }

    /// Ends every process inside and removes the groups.
    pub fn end(&self, patience: Duration) -> io::Result<()> {
        let paths: Vec<PathBuf> = self.places.iter().map(|(path, _)| path.clone()).collect();
        end_groups(&paths, patience)
    }

    /// Tells whether the kernel lets us move a process into the groups.
    pub(super) fn admits_a_child(&self) -> bool {
        let Ok(entrance) = self.entrance() else { return false };
        let mut command = Command::new("true");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        entrance.attach(&mut command);
        command.status().is_ok_and(|s| s.success())
    }
}

/// Open files through which a process enters a unit's groups.
#[derive(Debug)]
pub struct Entrance {
    files: Vec<File>,
}

impl Entrance {
    /// Makes the command's process enter before it becomes the program, so
    /// that nothing it starts can be outside.
    pub fn attach(self, command: &mut Command) {
        // SAFETY: between fork and exec only `write` is called, on descriptors
        // opened before; it allocates nothing and takes no lock.
        unsafe { command.pre_exec(move || self.pass()) };
    }

    fn pass(&self) -> io::Result<()> {
        for file in &self.files {
            // Writing 0 moves the writing process itself.
            nix::unistd::write(file, b"0").map_err(io::Error::from)?;
        }
        Ok(())
    }
}

fn limit(path: &Path, part: Part, resources: &Resources) -> io::Result<()> {
    let write = |file: &str, value: String| fs::write(path.join(file), value);
    let optional = |file: &str, value: String| if path.join(file).exists() { write(file, value) } else { Ok(()) };
    let memory = resources.memory.bytes;
    let quota = (resources.cpu.milli.saturating_mul(CPU_PERIOD_US) / 1000).max(CPU_QUOTA_MIN_US);
    match part {
        Part::V2 { memory: limits_memory, cpu: limits_cpu } => {
            if limits_memory && memory > 0 {
                write("memory.max", memory.to_string())?;
                optional("memory.swap.max", "0".into())?;
                // Half a gang of processes is of no use: one death ends all.
                optional("memory.oom.group", "1".into())?;
            }
            if limits_cpu && resources.cpu.milli > 0 {
                write("cpu.max", format!("{quota} {CPU_PERIOD_US}"))?;
            }
        }
        Part::V1Memory if memory > 0 => {
            write("memory.limit_in_bytes", memory.to_string())?;
            optional("memory.memsw.limit_in_bytes", memory.to_string())?;
        }
        Part::V1Cpu if resources.cpu.milli > 0 => {
            write("cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
            write("cpu.cfs_quota_us", quota.to_string())?;
        }
        Part::V1Memory | Part::V1Cpu | Part::V1Freezer => (),
    }
    Ok(())
}

/// How many processes the kernel has ended for want of memory in the groups
/// at these paths. None are counted where a group is gone.
pub fn oom_kills(paths: &[PathBuf]) -> u64 {
    paths.iter().filter(|p| is_ours(p)).map(|p| kills_in(p)).sum()
}

fn kills_in(path: &Path) -> u64 {
    // Version 2 has the one file and version 1 the other, each only where the
    // group limits memory.
    let count = |events: &str| {
        let text = fs::read_to_string(path.join(events)).ok()?;
        text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
    };
    count("memory.events").or_else(|| count("memory.oom_control")).unwrap_or(0)
}

/// Ends every process in the groups at these paths and in those that a
/// program made below them, and removes all of them. Paths that are not ours
/// or not there are passed over.
pub fn end_groups(paths: &[PathBuf], patience: Duration) -> io::Result<()> {
    let until = Instant::now() + patience;
    let ours: Vec<&PathBuf> = paths.iter().filter(|p| is_ours(p)).collect();
    loop {
        let mut left = None;
        for path in &ours {
            kill_all(path);
            // A group goes only after those below it.
            for group in with_those_below(path).iter().rev() {
                match fs::remove_dir(group) {
                    Ok(()) => (),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => (),
                    Err(e) => left = Some((path, e)),
                }
            }
        }
        match left {
            None => return Ok(()),
            Some((path, e)) if Instant::now() > until => {
                return Err(io::Error::new(
                    e.kind(),
                    format!("cannot remove the control group {}: {e}", path.display()),
                ));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Whether any process is in the groups at these paths or below them.
pub fn hold_processes(paths: &[PathBuf]) -> bool {
    paths.iter().filter(|p| is_ours(p)).flat_map(|p| with_those_below(p)).any(|group| !inside(&group).is_empty())
}

fn is_ours(path: &Path) -> bool {
    path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(PREFIX))
        && path.join("cgroup.procs").is_file()
}

/// The group and all that were made below it, parents first.
fn with_those_below(path: &Path) -> Vec<PathBuf> {
    let mut groups = vec![path.to_owned()];
    let mut next = 0;
    while next < groups.len() {
        let entries = fs::read_dir(&groups[next]).into_iter().flatten().flatten();
        let below: Vec<PathBuf> =
            entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect();
        groups.extend(below);
        next += 1;
    }
    groups
}

fn inside(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).collect()
}

fn kill_all(path: &Path) {
    // One write for all below, where the kernel has it (5.14 on).
    if path.join("cgroup.kill").exists() && fs::write(path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let groups = with_those_below(path);
    // Version 1: stand still, be killed, go on to die. Those below stand
    // still with the first; one that the program froze goes on by itself only.
    let freeze = |group: &Path, state: &str| {
        let freezer = group.join("freezer.state");
        let _ = freezer.exists().then(|| fs::write(&freezer, state));
    };
    if groups.iter().all(|group| inside(group).is_empty()) {
        return;
    }
    freeze(path, "FROZEN");
    for pid in groups.iter().flat_map(|group| inside(group)).filter(|pid| *pid > 1) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    groups.iter().for_each(|group| freeze(group, "THAWED"));
}
