//! The memory that control groups leave to this process: a container's limit, a Slurm job's, a systemd slice's.
//!
//! `/proc/self/cgroup` names the process's groups and `/proc/self/mountinfo` says where the hierarchies are mounted; both
//! generations have limits in every ancestor too. Page cache that a group is charged for is free: the kernel drops it first.

use std::path::{Path, PathBuf};

/// Bytes left in the tightest group of this process, of the two generations; `None` without a limit. `root` is `/`, but in
/// tests.
pub fn left(root: &Path) -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let (groups, mounts) = (read("proc/self/cgroup")?, read("proc/self/mountinfo")?);
    let hierarchies = mounts.lines().filter_map(Hierarchy::of_mount);
    hierarchies.filter_map(|hierarchy| hierarchy.left(root, &groups)).min()
}

/// A mounted hierarchy of groups that limit memory.
struct Hierarchy {
    /// Its group that is mounted: `/` but in a container that shares the machine's names of groups.
    group: PathBuf,
    /// Where.
    folder: PathBuf,
    unified: bool,
}

impl Hierarchy {
    /// Of a line of mountinfo: `36 35 0:30 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory`.
    fn of_mount(line: &str) -> Option<Self> {
        let (mount, kind) = line.split_once(" - ")?;
        let [_, _, _, group, folder]: [&str; 5] = mount.split(' ').take(5).collect::<Vec<_>>().try_into().ok()?;
        let mut kind = kind.split(' ');
        let unified = match kind.next()? {
            "cgroup2" => true,
            "cgroup" if kind.nth(1)?.split(',').any(|option| option == "memory") => false,
            _ => return None,
        };
        Some(Self { group: unescaped(group), folder: unescaped(folder), unified })
    }

    /// Bytes left in this process's group and those above it, as far as they are mounted.
    fn left(&self, root: &Path, groups: &str) -> Option<u64> {
        let own = groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, group) = rest.split_once(':')?;
            let memory = controllers.split(',').any(|name| name == "memory");
            (if self.unified { controllers.is_empty() } else { memory }).then_some(group)
        })?;
        // A group outside the mounted one has no folder here: what is mounted is then above it, or the container's own.
        let within = Path::new(own).strip_prefix(&self.group).unwrap_or(Path::new(""));
        let top = root.join(self.folder.strip_prefix("/").unwrap_or(&self.folder));
        let depth = within.components().count();
        let folders = top.join(within).ancestors().take(depth + 1).map(PathBuf::from).collect::<Vec<_>>();
        folders.iter().filter_map(|folder| if self.unified { unified(folder) } else { first(folder) }).min()
    }
}

/// Of a group of the unified hierarchy (v2). At `memory.high` the kernel throttles, at `memory.max` it kills.
fn unified(group: &Path) -> Option<u64> {
    let limit = ["memory.max", "memory.high"].into_iter().filter_map(|name| number(group, name)).min()?;
    Some(limit.saturating_sub(used(group, "memory.current", ["inactive_file", "active_file"])?))
}

/// Of a group of the memory controller's own hierarchy (v1), whose limit without one is beyond any memory.
fn first(group: &Path) -> Option<u64> {
    let above = statistic(&text(group, "memory.stat")?, "hierarchical_memory_limit");
    let limit = number(group, "memory.limit_in_bytes").into_iter().chain(above).min()?;
    let used = used(group, "memory.usage_in_bytes", ["total_inactive_file", "total_active_file"])?;
    (limit < i64::MAX as u64 / 2).then(|| limit.saturating_sub(used))
}

/// What a group has taken, without its page cache.
fn used(group: &Path, name: &str, cache: [&str; 2]) -> Option<u64> {
    let statistics = text(group, "memory.stat").unwrap_or_default();
    let cache: u64 = cache.iter().filter_map(|name| statistic(&statistics, name)).sum();
    Some(number(group, name)?.saturating_sub(cache))
}

fn text(group: &Path, name: &str) -> Option<String> {
    std::fs::read_to_string(group.join(name)).ok()
}

/// A file's number; `None` for `max` or no file.
fn number(group: &Path, name: &str) -> Option<u64> {
    text(group, name)?.trim().parse().ok()
}

fn statistic(statistics: &str, name: &str) -> Option<u64> {
    statistics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A path of mountinfo, where octal numbers stand for blanks and backslashes.
fn unescaped(path: &str) -> PathBuf {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")]
        .into_iter()
        .fold(path.to_owned(), |path, (code, character)| path.replace(code, character))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    /// Of a machine with v1 (and v2 for systemd alone, as in a hybrid), and of one with v2.
    const FIRST: &str = "24 1 0:22 / /sys rw - sysfs sysfs rw\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    /// A root with these groups, mounts and files.
    fn root(groups: &str, mounts: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let group = "sys/fs/cgroup/";
        let files = files.iter().map(|&(path, text)| (format!("{group}{path}"), text));
        let own = [("proc/self/cgroup".into(), groups), ("proc/self/mountinfo".into(), mounts)];
        for (path, text) in own.into_iter().chain(files) {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn left_of(groups: &str, mounts: &str, files: &[(&str, &str)]) -> Option<u64> {
        left(root(groups, mounts, files).path())
    }

    #[test]
    fn a_machine_without_limits() {
        let files =
            [("memory.stat", "anon 1\n"), ("user.slice/memory.max", "max\n"), ("user.slice/memory.current", "9\n")];
        assert_eq!(left_of("0::/user.slice\n", UNIFIED, &files), None);
        assert_eq!(left_of("", "", &[]), None);
        assert_eq!(left(Path::new("/nowhere")), None);
    }

    #[test]
    fn a_container_of_v2_with_its_own_names() {
        // 4 GiB, of which 3.9 are taken, 3.8 of it by page cache.
        let files = [
            ("memory.max", "4294967296\n"),
            ("memory.high", "max\n"),
            ("memory.current", "4190000000\n"),
            ("memory.stat", "anon 90000000\ninactive_file 4000000000\nactive_file 100000000\nworkingset 5\n"),
        ];
        assert_eq!(left_of("0::/\n", UNIFIED, &files), Some(4_294_967_296 - 90_000_000));
        // Without statistics all is counted; a limit below what is taken leaves nothing.
        assert_eq!(left_of("0::/\n", UNIFIED, &files[..3]), Some(4_294_967_296 - 4_190_000_000));
        assert_eq!(left_of("0::/\n", UNIFIED, &[("memory.max", "5"), ("memory.current", "9")]), Some(0));
    }

    #[test]
    fn the_tightest_of_nested_groups_of_v2() {
        // systemd-run -p MemoryMax, in a slice with MemoryHigh; Slurm's step within a job.
        for (own, parent) in [("user.slice/run-1.scope", "user.slice"), ("slurm/job_7/step_0/task_1", "slurm/job_7")] {
            let path = |group: &str, name: &str| format!("{group}/{name}");
            let names = ["memory.max", "memory.current", "memory.high", "memory.current"];
            let [max, current, high, above] = [0, 1, 2, 3].map(|i| path(if i < 2 { own } else { parent }, names[i]));
            let (limit, groups) = ((800 * MIB).to_string(), format!("0::/{own}\n"));
            let parents = [(&*high, "524288000"), (&*above, "104857600")];
            let both = [(&*max, &*limit), (&*current, "1048576"), parents[0], parents[1]];
            assert_eq!(left_of(&groups, UNIFIED, &both), Some(400 * MIB), "{own}");
            assert_eq!(left_of(&groups, UNIFIED, &both[..2]), Some(799 * MIB), "{own}");
            assert_eq!(left_of(&groups, UNIFIED, &both[2..]), Some(400 * MIB), "{own}");
        }
    }

    #[test]
    fn nested_groups_of_v1_and_the_hybrid() {
        let groups = "9:name=systemd:/\n4:cpu,memory:/slurm/job_7\n0::/user.slice\n";
        let files = [
            ("memory/slurm/job_7/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/slurm/job_7/memory.usage_in_bytes", "104857600\n"),
            ("memory/slurm/job_7/memory.stat", "cache 1\nhierarchical_memory_limit 1073741824\n"),
            ("memory/slurm/memory.limit_in_bytes", "536870912\n"),
            ("memory/slurm/memory.usage_in_bytes", "209715200\n"),
            ("memory/slurm/memory.stat", "inactive_file 7\ntotal_inactive_file 52428800\ntotal_active_file 52428800\n"),
        ];
        assert_eq!(left_of(groups, FIRST, &files), Some(412 * MIB));
        // The limit of a group above that is not mounted shows in the group's own statistics.
        assert_eq!(left_of(groups, FIRST, &files[..3]), Some(924 * MIB));
        assert_eq!(left_of(groups, FIRST, &files[..2]), None, "no limit at all");
    }

    #[test]
    fn a_container_that_sees_the_machines_names() {
        // Docker and Kubernetes on v1: the container's own group is mounted, under the name that the machine has for it.
        let pod = "/kubepods/burstable/pod12-ab/0123abc";
        let mounts = format!("35 31 0:32 {pod} /sys/fs/cgroup/memory ro,nosuid master:11 - cgroup cgroup rw,memory\n");
        let files = [
            ("memory/memory.limit_in_bytes", "268435456"),
            ("memory/memory.usage_in_bytes", "1048576"),
            ("memory/memory.stat", "total_active_file 0\n"),
        ];
        assert_eq!(left_of(&format!("4:memory:{pod}\n"), &mounts, &files), Some(255 * MIB));
        assert_eq!(left_of(&format!("4:memory:{pod}/inner\n"), &mounts, &files), Some(255 * MIB));
        // A group that is not under what is mounted: /sys/fs/cgroup was bound into a namespace from outside.
        assert_eq!(left_of("4:memory:/docker/77\n", &mounts, &files), Some(255 * MIB));
        assert_eq!(left_of("4:memory:/../../other\n", FIRST, &files), Some(255 * MIB));
        // A mount point with a blank.
        let mounts = mounts.replace("/sys/fs/cgroup/memory", r"/sys/fs/cgroup/of\040memory");
        let files = files.map(|(path, text)| (path.replace("memory/", "of memory/"), text));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        assert_eq!(left_of(&format!("4:memory:{pod}\n"), &mounts, &files), Some(255 * MIB));
    }
}
