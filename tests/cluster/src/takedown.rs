//! Taking everything down: what the state file names and what is there by a name of ours, whatever state it is in.
//!
//! The order: disks are thawed, so that their writers can end; processes are killed; then mounts go, with them the
//! namespaces; links with their routes; control groups; the kernel's settings are set back; last the files. The bridge
//! goes after the processes, so while any process is left, the bridge tells whose it is. A second run goes on where an
//! interrupted one ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cgroups;
use crate::command::{in_mounts, run, system, unmounting, wait_for};
use crate::layout::{BRIDGE, CGROUP, Layout, MOST_NODES, NODE_RANGE, Node, SERVICES_LINK};
use crate::network;
use crate::progress::Progress;
use crate::state::{Process, State, StateFile, Thing, boot_id};

const UMOUNT_LIMIT: Duration = Duration::from_secs(20);
const LOOP_LIMIT: Duration = Duration::from_secs(20);
const MOST_ROUNDS: u32 = 3;
/// What a cluster's folder holds besides `state.json`, which goes last.
const CONTENTS: [&str; 10] = [
    "certificates",
    "config",
    "etcd",
    "helm",
    "images",
    "kubeconfig",
    "logs",
    "namespaces",
    "nodes",
    "state.new",
];

/// Takes a cluster down, running or half made, and makes sure that nothing is left. Says nothing if there is none.
///
/// # Errors
/// Names what cannot be taken down; then the rest, and the state file, are still there.
pub fn take_down(layout: &Layout, progress: &Progress) -> Result<()> {
    if let Some(owner) = network::owner()
        && !owner.is_empty()
        && Path::new(&owner) != layout.dir()
    {
        bail!(
            "the cluster on this machine is that of {owner}, not of {}; \
             `cluster down --dir {owner}`, or `make cluster-down CLUSTER_DIR={owner}`, takes it down",
            layout.dir().display()
        );
    }
    let file = StateFile::of(layout);
    // Nothing is removed from a folder that never was a cluster's.
    let is_ours = layout.state().exists()
        || file.lock().exists()
        || network::owner().is_some_and(|owner| Path::new(&owner) == layout.dir());
    // A damaged file is no reason to leave things lying about: they are found by their names as well.
    let state = match file.read() {
        Ok(state) => state.unwrap_or_default(),
        Err(error) => {
            progress.say(&format!("{error:#}; going by names alone"));
            State::default()
        }
    };
    // A short-lived child of a command that was killed (`ip`, `unshare`) may finish its work after the first look.
    for round in 1.. {
        sweep(layout, &state)?;
        let left = leftovers(layout)?;
        if left.is_empty() {
            break;
        }
        ensure!(round < MOST_ROUNDS, "still there: {}", left.join("; "));
    }
    if is_ours {
        remove_files(layout)?;
    }
    Ok(())
}

fn sweep(layout: &Layout, state: &State) -> Result<()> {
    let of_this_boot = boot_id().is_ok_and(|id| id == state.boot_id);
    if of_this_boot {
        thaw_disks(layout, state);
    }
    // Groups first: this thaws what is frozen, which no signal would end.
    cgroups::kill_all(CGROUP)?;
    if of_this_boot {
        state.processes().try_for_each(Process::kill)?;
    }
    unmount(layout)?;
    release_loops(layout)?;
    remove_links(state)?;
    cgroups::remove(CGROUP)?;
    restore(state, of_this_boot)
}

/// What of a cluster is on the machine, besides its files.
///
/// # Errors
/// If the machine does not tell.
pub fn leftovers(layout: &Layout) -> Result<Vec<String>> {
    let pids = cgroups::processes(CGROUP)?.into_iter();
    let mut left: Vec<String> = pids
        .map(|pid| format!("process {}", crate::process::shown(pid)))
        .collect();
    let mounts = mounts_below(&layout.namespaces())?.into_iter();
    left.extend(mounts.map(|path| format!("mount {}", path.display())));
    left.extend(links().into_iter().map(|name| format!("link {name}")));
    for hierarchy in cgroups::hierarchies()? {
        let group = hierarchy.join(CGROUP);
        if group.exists() {
            left.push(format!("control group {}", group.display()));
        }
    }
    let loops = loops_below(layout.dir())?.into_iter();
    left.extend(loops.map(|device| format!("loop device {device}")));
    Ok(left)
}

/// A disk that is frozen holds its writers, whatever signal they get.
fn thaw_disks(layout: &Layout, state: &State) {
    for disk in state.disks().filter(|disk| disk.frozen) {
        let mut thaw = in_mounts(&layout.mount_namespace(disk.node), "fsfreeze");
        // It may have been thawed since it was written down.
        let _ = run(thaw.arg("--unfreeze").arg(&disk.path));
    }
}

/// Mount points below a folder, in the order in which they were made, from the text of `/proc/self/mountinfo`.
fn mounts_in(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .map(|point| PathBuf::from(unescaped(point)))
        .filter(|point| point.starts_with(folder))
        .collect()
}

/// The kernel writes blanks and the like as three octal digits.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn mounts_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    Ok(mounts_in(&text, folder))
}

fn unmount(layout: &Layout) -> Result<()> {
    wait_for("mounts to be let go", UMOUNT_LIMIT, || {
        let mounts = mounts_below(&layout.namespaces())?;
        let mut last = Ok(());
        for path in mounts.iter().rev() {
            last = run(&mut unmounting(path)).map(drop);
        }
        // Something that has just ended may hold one a moment longer.
        if let Err(error) = &last
            && !error.to_string().contains("busy")
        {
            return last.map(|()| None);
        }
        Ok(mounts_below(&layout.namespaces())?.is_empty().then_some(()))
    })
}

/// Loop devices whose file is below a folder.
fn loops_below(folder: &Path) -> Result<Vec<String>> {
    let text =
        run(system("losetup").args(["--list", "--noheadings", "--output", "NAME,BACK-FILE"]))?;
    let lines = text.lines().filter_map(|line| line.trim().split_once(' '));
    Ok(lines
        .filter(|(_, file)| Path::new(file.trim()).starts_with(folder))
        .map(|(device, _)| device.to_owned())
        .collect())
}

/// They go by themselves with the last mount; the kernel takes its time for that.
fn release_loops(layout: &Layout) -> Result<()> {
    wait_for("loop devices to be let go", LOOP_LIMIT, || {
        Ok(loops_below(layout.dir())?.is_empty().then_some(()))
    })
}

/// Links on the machine that have a name of ours, the bridge last.
fn links() -> Vec<String> {
    let nodes = (1..=MOST_NODES).filter_map(|number| Node::new(number).ok());
    let mut names: Vec<String> = nodes.map(Node::link).collect();
    names.push(SERVICES_LINK.to_owned());
    names.push(BRIDGE.to_owned());
    names.retain(|name| Path::new("/sys/class/net").join(name).exists());
    names
}

fn remove_links(state: &State) -> Result<()> {
    let recorded = state.things.iter().filter_map(|thing| match thing {
        Thing::Link { name } => Some(name.clone()),
        _ => None,
    });
    let mut names = links();
    names.extend(recorded.collect::<Vec<_>>().into_iter().rev());
    for name in names {
        if Path::new("/sys/class/net").join(&name).exists() {
            let removed = run(system("ip").args(["link", "delete", &name]));
            // A link whose other end was in a namespace that has just gone, goes by itself.
            let there = Path::new("/sys/class/net").join(&name).exists();
            ensure!(!there, "the link {name} stays: {removed:?}");
        }
    }
    // Routes went with the bridge; `leftovers` does not see them.
    let routes = run(system("ip").args(["-4", "route", "show", NODE_RANGE]))?;
    ensure!(routes.trim().is_empty(), "the route stays: {routes}");
    Ok(())
}

/// What was the machine's own, as it was before.
fn restore(state: &State, of_this_boot: bool) -> Result<()> {
    for thing in state.things.iter().rev() {
        match thing {
            Thing::Setting { path, value } if of_this_boot => {
                fs::write(path, value)
                    .with_context(|| format!("set {} back to {value}", path.display()))?;
            }
            // Somebody else may use it by now; then it has something in it.
            Thing::Folder { path } => drop(fs::remove_dir(path)),
            _ => {}
        }
    }
    Ok(())
}

fn remove_files(layout: &Layout) -> Result<()> {
    let mounts = mounts_below(&layout.namespaces())?;
    ensure!(mounts.is_empty(), "something is mounted: {mounts:?}");
    for name in CONTENTS {
        remove(&layout.dir().join(name))?;
    }
    remove(&layout.state())?;
    remove(&StateFile::of(layout).lock())?;
    // Kept if somebody put something of his own there.
    let _ = fs::remove_dir(layout.dir());
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(file) if file.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.with_context(|| format!("remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_folder_are_found_with_their_blanks() {
        let text = "22 1 254:0 / / rw - ext4 /dev/root rw\n\
            40 22 254:0 /a /srv/my\\040cluster/namespaces rw - ext4 /dev/root rw\n\
            41 40 0:4 net:[4026532177] /srv/my\\040cluster/namespaces/node1.net rw - nsfs nsfs rw\n\
            42 22 0:4 net:[4026532178] /srv/my\\040cluster2/node1.net rw - nsfs nsfs rw\n";
        assert_eq!(
            mounts_in(text, Path::new("/srv/my cluster")),
            [
                Path::new("/srv/my cluster/namespaces"),
                Path::new("/srv/my cluster/namespaces/node1.net")
            ]
        );
        assert_eq!(unescaped("a\\134b\\0"), "a\\b\\0");
    }

    #[test]
    fn only_what_a_cluster_made_is_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(&dir.path().join("c")).expect("absolute");
        fs::create_dir_all(layout.logs()).expect("made");
        fs::write(layout.dir().join("my notes"), "keep").expect("written");
        fs::write(layout.state(), "{}").expect("written");
        remove_files(&layout).expect("removed");
        assert!(!layout.logs().exists() && !layout.state().exists());
        assert!(layout.dir().join("my notes").exists());
        fs::remove_file(layout.dir().join("my notes")).expect("removed");
        remove_files(&layout).expect("nothing to do");
        assert!(!layout.dir().exists());
    }
}
