//! What a dead supervisor left running.

use std::io;
use std::time::Duration;

use crate::limits::{end_groups, hold_processes};
use crate::{Folder, processes};

/// Ends every process of the unit, by control group and by environment: each
/// way works where the other fails. Groups that cannot be removed though
/// nothing runs in them hinder nobody; why is handed back.
pub fn end_leftovers(folder: &Folder, reap: impl FnMut(), patience: Duration) -> io::Result<Option<io::Error>> {
    let groups = folder.read_groups();
    let ended = end_groups(&groups, patience);
    processes::kill_until_none(|| processes::of_unit(folder.path()), reap, patience)?;
    match ended {
        Err(e) if hold_processes(&groups) => Err(e),
        other => Ok(other.err()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    use super::*;
    use crate::UNIT_DIR_VARIABLE;

    #[test]
    fn processes_end_though_their_group_does_not_go() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        // Looks like a group of ours and cannot be removed.
        let group = dir.path().join("muonic-stuck");
        fs::create_dir(&group).unwrap();
        fs::write(group.join("cgroup.procs"), "").unwrap();
        folder.write_groups(std::slice::from_ref(&group)).unwrap();
        let mut sleeper = Command::new("sleep");
        sleeper.arg("1000").env(UNIT_DIR_VARIABLE, dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let mut sleeper = sleeper.spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while processes::of_unit(dir.path()).is_empty() {
            assert!(Instant::now() < until, "the process did not appear");
            std::thread::sleep(Duration::from_millis(5));
        }
        let left = end_leftovers(&folder, || (), Duration::from_millis(200)).unwrap().expect("a group is left");
        assert!(left.to_string().contains("muonic-stuck"), "{left}");
        assert!(!sleeper.wait().unwrap().success());

        // One that still holds a process is an error.
        fs::write(group.join("cgroup.procs"), "999999999\n").unwrap();
        assert!(end_leftovers(&folder, || (), Duration::from_millis(50)).is_err());
    }
}
