//! Control groups, version 1: where the cluster's processes are, so that each is found, frozen and ended, whoever
//! started it.
//!
//! What containerd starts inherits its groups, and containers are put into groups below the node's. So a node's
//! processes are exactly those below its group, whatever the state file missed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::command::wait_for;
use crate::process;

/// The hierarchies that the cluster's own programs enter: by the first they are counted, by the second frozen. In the
/// others they stay where they were, as the kubelet's limits are for pods only.
const OF_PROGRAMS: [&str; 2] = ["pids", "freezer"];
const END_LIMIT: Duration = Duration::from_secs(60);
const FREEZE_LIMIT: Duration = Duration::from_secs(30);

/// The mount points of the hierarchies, from the text of `/proc/self/mounts`.
fn hierarchies_in(mounts: &str) -> Vec<PathBuf> {
    let fields = mounts.lines().map(|line| line.split(' '));
    fields
        .filter_map(|mut fields| Some((fields.nth(1)?, fields.next()?)))
        .filter(|(_, kind)| *kind == "cgroup")
        .map(|(path, _)| PathBuf::from(path))
        .collect()
}

/// # Errors
/// If `/proc` is not there.
pub fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    Ok(hierarchies_in(&mounts))
}

/// # Errors
/// On a machine whose control groups are of version 2 only: this cluster cannot be made there yet.
pub fn check() -> Result<()> {
    for needed in ["cpu", "cpuacct", "cpuset", "memory", "devices"] {
        hierarchy(needed)?;
    }
    of_programs().map(drop)
}

/// The hierarchy of one controller, which may share it with others.
fn hierarchy(controller: &str) -> Result<PathBuf> {
    let has = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.split(',').any(|part| part == controller)
    };
    hierarchies()?.into_iter().find(has).with_context(|| {
        format!(
            "the control group hierarchy \"{controller}\" (version 1) is not mounted, and this cluster needs it; \
             systemd.unified_cgroup_hierarchy=0 on the kernel's command line brings it"
        )
    })
}

/// Makes a group in each hierarchy.
///
/// # Errors
/// If the kernel refuses.
pub fn make(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let mut path = hierarchy;
        for part in name.split('/') {
            let parent = path.clone();
            path.push(part);
            if !path.exists() {
                fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
            }
            // A new cpuset has neither processors nor memory, and nothing can run in it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(value) = fs::read_to_string(parent.join(file)) {
                    fs::write(path.join(file), value.trim())
                        .with_context(|| format!("write {}/{file}", path.display()))?;
                }
            }
        }
    }
    Ok(())
}

/// Puts a process into a group, which is made if need be, in the hierarchies of programs.
///
/// # Errors
/// If the process has ended.
pub fn enter(name: &str, pid: i32) -> Result<()> {
    for hierarchy in of_programs()? {
        let group = hierarchy.join(name);
        fs::create_dir_all(&group).with_context(|| format!("make {}", group.display()))?;
        let file = group.join("cgroup.procs");
        fs::write(&file, pid.to_string()).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

fn of_programs() -> Result<Vec<PathBuf>> {
    OF_PROGRAMS.iter().map(|name| hierarchy(name)).collect()
}

/// A group and all below it, the deepest first.
fn below(group: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&entry.path(), found);
        }
    }
    if group.is_dir() {
        found.push(group.to_owned());
    }
}

/// All processes in a group and below it, in any hierarchy.
///
/// # Errors
/// If `/proc` is not there.
pub fn processes(name: &str) -> Result<BTreeSet<i32>> {
    let mut groups = Vec::new();
    for hierarchy in hierarchies()? {
        below(&hierarchy.join(name), &mut groups);
    }
    let texts = groups
        .iter()
        .filter_map(|group| fs::read_to_string(group.join("cgroup.procs")).ok());
    Ok(texts
        .flat_map(|text| {
            let pids = text.lines().filter_map(|line| line.parse().ok());
            pids.collect::<Vec<i32>>()
        })
        // A process that ended and was not fetched yet is still listed.
        .filter(|pid| process::started(*pid).is_some())
        .collect())
}

/// Ends everything in a group and below it.
///
/// # Errors
/// Names what does not end.
pub fn kill_all(name: &str) -> Result<()> {
    let waited = wait_for("the end of all processes", END_LIMIT, || {
        thaw_all(name)?;
        let pids = processes(name)?;
        for pid in &pids {
            // It may have ended since.
            let _ = process::send(*pid, Signal::KILL);
        }
        Ok(pids.is_empty().then_some(()))
    });
    waited.with_context(|| {
        let left = processes(name).unwrap_or_default();
        let left: Vec<String> = left.into_iter().map(process::shown).collect();
        format!("these processes do not end: {}", left.join(", "))
    })
}

/// Takes a group away that has no processes any more.
///
/// # Errors
/// If the kernel keeps one.
pub fn remove(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let top = hierarchy.join(name);
        let what = format!("{} to be empty", top.display());
        // An ended process leaves its groups a moment after it cannot be seen any more.
        wait_for(&what, END_LIMIT, || {
            let mut groups = Vec::new();
            below(&top, &mut groups);
            for group in &groups {
                let _ = fs::remove_dir(group);
            }
            Ok((!top.exists()).then_some(()))
        })?;
    }
    Ok(())
}

/// The freezer group of a process: of its container, or of the program's node.
///
/// # Errors
/// If the process has ended.
pub fn freezer_of(pid: i32) -> Result<PathBuf> {
    let file = format!("/proc/{pid}/cgroup");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let own = path_in(&text, "freezer").with_context(|| format!("{file} names no freezer"))?;
    freezer(own.trim_start_matches('/'))
}

/// A process's path in one hierarchy, from the text of `/proc/PID/cgroup`.
fn path_in<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let has = fields.next()?.split(',').any(|c| c == controller);
        has.then(|| fields.next()).flatten()
    })
}

/// The freezer group of a name.
///
/// # Errors
/// If there is no freezer hierarchy.
pub fn freezer(name: &str) -> Result<PathBuf> {
    Ok(hierarchy("freezer")?.join(name))
}

/// Freezes a freezer group, and waits until everything in it stands still.
///
/// # Errors
/// If it is not there, or something in it does not stop (it waits for a frozen disk).
pub fn freeze(group: &Path) -> Result<()> {
    let file = group.join("freezer.state");
    let failed = || format!("freeze {}", group.display());
    wait_for(&failed(), FREEZE_LIMIT, || {
        // Written anew each time: a process that was just made escapes one attempt.
        fs::write(&file, "FROZEN").with_context(failed)?;
        let state = fs::read_to_string(&file).with_context(failed)?;
        Ok((state.trim() == "FROZEN").then_some(()))
    })
}

/// # Errors
/// If it is not there.
pub fn thaw(group: &Path) -> Result<()> {
    fs::write(group.join("freezer.state"), "THAWED")
        .with_context(|| format!("thaw {}", group.display()))
}

fn thaw_all(name: &str) -> Result<()> {
    let mut groups = Vec::new();
    below(&freezer(name)?, &mut groups);
    for group in &groups {
        // It may have gone since.
        let _ = thaw(group);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_among_other_mounts() {
        let mounts = "/dev/vda / ext4 rw 0 0\n\
             cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
             cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
             cgroup /sys/fs/cgroup/freezer cgroup rw,freezer 0 0\n\n";
        let found = hierarchies_in(mounts);
        assert_eq!(
            found,
            [
                Path::new("/sys/fs/cgroup/cpu,cpuacct"),
                Path::new("/sys/fs/cgroup/freezer")
            ]
        );
    }

    #[test]
    fn the_path_of_one_controller_is_found() {
        let text = "9:name=systemd:/\n4:cpu,cpuacct:/a\n3:freezer:/understudy-cluster/node1/pod:x\n0::/u\n";
        assert_eq!(
            path_in(text, "freezer"),
            Some("/understudy-cluster/node1/pod:x")
        );
        assert_eq!(path_in(text, "cpuacct"), Some("/a"));
        assert_eq!(path_in(text, "memory"), None);
    }
}
