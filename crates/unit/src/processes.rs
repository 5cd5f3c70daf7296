//! Finding and ending every process of a unit, by what `/proc` says.
//!
//! Two ways to find them: as descendants of a living supervisor (which is a
//! subreaper, so what daemonised is still below it), and, once the
//! supervisor is dead, by the variable that each inherited. A program that
//! clears its whole environment escapes only the second, and only where
//! there are no control groups.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::UNIT_DIR_VARIABLE;

fn numbered(dir: &str) -> impl Iterator<Item = i32> {
    fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// State letter and parent from `/proc/<pid>/stat`, whose second field may
/// hold any character.
fn state_and_parent(stat: &str) -> Option<(char, i32)> {
    let mut rest = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}

/// The beginning of `/proc/<pid>/stat`, in one read: there are many of them.
fn stat(pid: i32) -> Option<String> {
    let mut start = [0; 256];
    let read = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut start).ok()?;
    Some(String::from_utf8_lossy(&start[..read]).into_owned())
}

/// Living processes below this one, which must be a subreaper: then one
/// without children has no descendants, and `/proc` need not be searched.
pub fn below_this() -> Vec<i32> {
    let any = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT);
    if any == Err(Errno::ECHILD) { Vec::new() } else { descendants(std::process::id() as i32) }
}

/// Living processes (no zombies) below `root`, not `root` itself.
fn descendants(root: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<(i32, bool)>> = HashMap::new();
    for pid in numbered("/proc") {
        if let Some((state, parent)) = stat(pid).as_deref().and_then(state_and_parent) {
            children.entry(parent).or_default().push((pid, !matches!(state, 'Z' | 'X')));
        }
    }
    let mut found = Vec::new();
    let mut queue = vec![root];
    while let Some(pid) = queue.pop() {
        for (child, alive) in children.remove(&pid).unwrap_or_default() {
            if alive {
                found.push(child);
            }
            queue.push(child);
        }
    }
    found
}

/// Living processes that carry the variable of the unit in `folder`.
pub fn of_unit(folder: &Path) -> Vec<i32> {
    let own = std::process::id() as i32;
    numbered("/proc").filter(|pid| *pid != own && carries(*pid, folder)).collect()
}

/// Whether the process carries the variable of the unit in `folder`. False
/// for one that is dead or belongs to another user.
pub fn carries(pid: i32, folder: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    environment.split(|b| *b == 0).any(|v| {
        v.strip_prefix(UNIT_DIR_VARIABLE.as_bytes()).and_then(|v| v.strip_prefix(b"="))
            == Some(folder.as_os_str().as_bytes())
    })
}

/// Sends SIGKILL to all that `find` names, again and again until it names
/// none (they may fork meanwhile) or the time is over. `reap` runs in each
/// round, for a caller that is their parent.
pub fn kill_until_none(
    mut find: impl FnMut() -> Vec<i32>,
    mut reap: impl FnMut(),
    patience: Duration,
) -> io::Result<()> {
    let until = Instant::now() + patience;
    loop {
        let found = find();
        if found.is_empty() {
            return Ok(());
        }
        // Stopped first, so that a program that forks in a loop stands still.
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            for pid in &found {
                let _ = kill(Pid::from_raw(*pid), signal);
            }
        }
        reap();
        if Instant::now() > until {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{} processes did not end on SIGKILL, such as {}", found.len(), found[0]),
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Memory that these processes hold and that the kernel could not drop by
/// itself: anonymous and shared memory. What several share is divided among
/// them where `exact`, which is slower, and else counted for each.
pub fn memory_held(pids: &[i32], exact: bool) -> u64 {
    pids.iter().filter_map(|pid| if exact { proportional(*pid) } else { private(*pid) }).sum()
}

fn private(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib: u64 = status.lines().filter_map(|l| kib_of(l, "RssAnon:").or_else(|| kib_of(l, "RssShmem:"))).sum();
    Some(kib * 1024)
}

fn proportional(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kib: u64 = rollup.lines().filter_map(|l| kib_of(l, "Pss_Anon:").or_else(|| kib_of(l, "Pss_Shmem:"))).sum();
    Some(kib * 1024)
}

fn kib_of(line: &str, key: &str) -> Option<u64> {
    line.strip_prefix(key)?.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn stat_lines_with_strange_names_are_read() {
        assert_eq!(state_and_parent("12 (a) b) S 7 12 12"), Some(('S', 7)));
        assert_eq!(state_and_parent("12 (x) Z 1 1"), Some(('Z', 1)));
        assert_eq!(state_and_parent("nothing"), None);
    }

    #[test]
    fn processes_are_found_by_variable_and_by_parent_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let script = "sleep 1000 & (setsid sleep 1000 &) ; wait";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .env(UNIT_DIR_VARIABLE, folder.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while of_unit(folder.path()).len() < 3 {
            assert!(Instant::now() < until, "the processes did not appear");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(descendants(std::process::id() as i32).contains(&(shell.id() as i32)));
        assert!(memory_held(&of_unit(folder.path()), true) > 0);
        kill_until_none(|| of_unit(folder.path()), || (), Duration::from_secs(20)).unwrap();
        shell.wait().unwrap();
        assert_eq!(of_unit(folder.path()), Vec::<i32>::new());
    }
}
