//! Where control groups are mounted and in which of them this process is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A mounted hierarchy and our own place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    own: PathBuf,
    /// Controllers of a version 1 hierarchy; empty for version 2.
    controllers: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Mounts {
    hierarchies: Vec<Hierarchy>,
}

impl Mounts {
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?, &fs::read_to_string("/proc/self/cgroup")?))
    }

    fn parse(mountinfo: &str, own: &str) -> Self {
        let own: Vec<(Vec<String>, &str)> = own
            .lines()
            .filter_map(|line| {
                let mut fields = line.splitn(3, ':');
                fields.next()?;
                let controllers = fields.next()?.split(',').filter(|c| !c.is_empty()).map(str::to_owned).collect();
                Some((controllers, fields.next()?))
            })
            .collect();
        let hierarchies = mountinfo
            .lines()
            .filter_map(|line| {
                let (head, tail) = line.split_once(" - ")?;
                let head: Vec<&str> = head.split(' ').collect();
                let (root, mount) = (*head.get(3)?, PathBuf::from(*head.get(4)?));
                let mut tail = tail.split(' ');
                let kind = tail.next()?;
                let options: Vec<&str> = tail.nth(1)?.split(',').collect();
                let controllers: Vec<String> = match kind {
                    "cgroup2" => Vec::new(),
                    "cgroup" => options
                        .iter()
                        .filter(|o| !matches!(**o, "rw" | "ro") && !o.starts_with("name="))
                        .map(|o| (*o).to_owned())
                        .collect(),
                    _ => return None,
                };
                if kind == "cgroup" && controllers.is_empty() {
                    return None;
                }
                let is_ours = |c: &Vec<String>| {
                    if kind == "cgroup2" { c.is_empty() } else { c.iter().any(|c| controllers.contains(c)) }
                };
                let path = own.iter().find(|(c, _)| is_ours(c)).map_or("/", |(_, path)| *path);
                // A container sees only what is below the mount's root.
                let inside = path.strip_prefix(root.trim_end_matches('/')).unwrap_or("/");
                Some(Hierarchy { own: mount.join(inside.trim_start_matches('/')), mount, controllers })
            })
            .collect();
        Self { hierarchies }
    }

    /// Our own group and those above it, nearest first.
    pub fn v2_parents(&self) -> Vec<PathBuf> {
        self.hierarchies.iter().filter(|h| h.controllers.is_empty()).flat_map(upwards).collect()
    }

    pub fn v1_parents(&self, controller: &str) -> Vec<PathBuf> {
        self.hierarchies.iter().filter(|h| h.controllers.iter().any(|c| c == controller)).flat_map(upwards).collect()
    }
}

fn upwards(hierarchy: &Hierarchy) -> Vec<PathBuf> {
    hierarchy.own.ancestors().take_while(|p| p.starts_with(&hierarchy.mount)).map(Path::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
";
    const OWN: &str = "5:memory:/docker/abc/inner\n4:cpu,cpuacct:/a/b\n1:name=systemd:/x\n0::/user\n";

    #[test]
    fn hierarchies_are_found_with_our_own_place() {
        let mounts = Mounts::parse(HYBRID, OWN);
        let paths = |p: Vec<PathBuf>| p.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(paths(mounts.v2_parents()), ["/sys/fs/cgroup/unified/user", "/sys/fs/cgroup/unified"]);
        assert_eq!(
            paths(mounts.v1_parents("cpu")),
            ["/sys/fs/cgroup/cpu,cpuacct/a/b", "/sys/fs/cgroup/cpu,cpuacct/a", "/sys/fs/cgroup/cpu,cpuacct"]
        );
        assert_eq!(paths(mounts.v1_parents("memory")), ["/sys/fs/cgroup/memory/inner", "/sys/fs/cgroup/memory"]);
        assert!(mounts.v1_parents("freezer").is_empty());
    }

    #[test]
    fn nonsense_is_no_hierarchy() {
        assert!(Mounts::parse("a b c\n - \n1 2 - cgroup2", "::::\n").hierarchies.is_empty());
    }
}
