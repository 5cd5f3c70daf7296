//! What happens to a unit whose supervisor is gone.

use std::io;
use std::time::Duration;

use muonic_types::UnitId;
use muonic_unit::limits::{oom_kills, was_out_of_memory};
use muonic_unit::{Folder, end_leftovers};

/// Longest wait for killed processes to disappear; the caller tries again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends every process that a dead supervisor left and marks the folder
/// `done`. False where some supervisor lives. A folder that is marked
/// already costs one look.
pub fn end(folder: &Folder) -> io::Result<bool> {
    let Some(_lock) = folder.try_lock()? else { return Ok(false) };
    if folder.is_done() {
        return Ok(true);
    }
    if let Some(left) = end_leftovers(folder, || (), PATIENCE)? {
        let unit = folder.path().display();
        tracing::warn!(%unit, error = %left, "an empty control group of a dead supervisor is left");
    }
    folder.write_done()?;
    Ok(true)
}

/// Whether the kernel ended a replica for want of memory, in words. Known only
/// before [`end`] removes its groups. A shim is outside of its command's and
/// tells of that itself.
pub fn shortage(unit: &UnitId, folder: &Folder) -> Option<String> {
    if !matches!(unit, UnitId::Replica(_)) || oom_kills(&folder.read_groups()) == 0 {
        return None;
    }
    let launch = folder.read_launch().ok()?;
    Some(format!("it {}", was_out_of_memory(launch.resources.memory)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use muonic_types::{Memory, Resources};

    use super::*;

    #[test]
    fn a_want_of_memory_is_said_of_a_replica_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let replica: UnitId = "replica.m.1.1".parse().unwrap();
        let launch = muonic_unit::Launch {
            version: muonic_unit::Launch::VERSION,
            unit: replica.clone(),
            resources: Resources { memory: Memory::mib(64), ..Resources::default() },
            server_file: dir.path().join("server"),
            token: String::new(),
            cache: dir.path().join("cache"),
            settings: BTreeMap::new(),
        };
        folder.write_launch(&launch).unwrap();
        let group = dir.path().join("muonic-group");
        folder.write_groups(std::slice::from_ref(&group)).unwrap();
        assert_eq!(shortage(&replica, &folder), None);
        fs::create_dir(&group).unwrap();
        fs::write(group.join("cgroup.procs"), "").unwrap();
        for file in ["memory.events", "memory.oom_control"] {
            fs::write(group.join(file), "oom_kill_disable 0\noom_kill 0\n").unwrap();
            assert_eq!(shortage(&replica, &folder), None);
            fs::write(group.join(file), "oom_kill_disable 0\noom_kill 2\n").unwrap();
            let says = shortage(&replica, &folder).unwrap();
            assert_eq!(says, "it was ended by the kernel: it used more memory than memory=64Mi");
            assert_eq!(shortage(&"task.m-1.1".parse().unwrap(), &folder), None);
            fs::remove_file(group.join(file)).unwrap();
        }
    }
}
