//! What a cluster has made on the machine, written down before it is made.
//!
//! The file is read anew for each change and replaced by rename, both under a lock, so that several programs may work
//! on one cluster. A run that is killed at any moment leaves a file that names at least everything that there is: taking
//! down reads it, and takes what is named and not there for taken down already.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::layout::{Layout, Node};

/// A process, told from a later one with the same number by when it started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub name: String,
    /// `None` for the control plane.
    pub node: Option<Node>,
    pub pid: i32,
    /// In clock ticks since the machine started, as `/proc/PID/stat` has it.
    pub started: u64,
}

/// A filesystem in a file, mounted on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Of the PersistentVolume.
    pub name: String,
    pub node: Node,
    pub image: PathBuf,
    /// Where it is mounted, in the node's mount namespace.
    pub path: PathBuf,
    /// Nothing written to it completes: it has to be thawed before its writers can end.
    pub frozen: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    /// A folder of the machine's own that was not there before; taken away if it is empty.
    Folder {
        path: PathBuf,
    },
    /// A mount, or a file that keeps a namespace alive, on the machine.
    Mount {
        path: PathBuf,
    },
    Link {
        name: String,
    },
    Route {
        to: String,
        via: String,
    },
    /// A control group in every hierarchy, with all below it.
    Cgroup {
        name: String,
    },
    /// A kernel setting that the kubelet changes, with its former value.
    Setting {
        path: PathBuf,
        value: String,
    },
    Process(Process),
    Disk(Disk),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Never yet complete: whatever there is, is to be taken down.
    #[default]
    Starting,
    Running,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub stage: Stage,
    pub nodes: Vec<Node>,
    /// Of the kernel's run: after a restart of the machine only files are left.
    pub boot_id: String,
    /// In the order in which they were made.
    pub things: Vec<Thing>,
}

impl State {
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.things.iter().filter_map(|thing| match thing {
            Thing::Process(process) => Some(process),
            _ => None,
        })
    }

    pub fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.things.iter().filter_map(|thing| match thing {
            Thing::Disk(disk) => Some(disk),
            _ => None,
        })
    }

    pub fn process(&self, node: Option<Node>, name: &str) -> Option<&Process> {
        self.processes().find(|p| p.node == node && p.name == name)
    }

    /// A process takes the place of an earlier one of its name.
    pub fn set_process(&mut self, process: Process) {
        self.things.retain(|thing| match thing {
            Thing::Process(old) => old.node != process.node || old.name != process.name,
            _ => true,
        });
        self.things.push(Thing::Process(process));
    }

    pub fn add(&mut self, thing: Thing) {
        if !self.things.contains(&thing) {
            self.things.push(thing);
        }
    }
}

/// The state file of one cluster.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    pub fn of(layout: &Layout) -> StateFile {
        StateFile {
            path: layout.state(),
        }
    }

    /// The file whose lock is held while the state changes. It is there before the state is, and goes after it.
    pub fn lock(&self) -> PathBuf {
        self.path.with_extension("lock")
    }

    /// `None` if there is no such cluster.
    ///
    /// # Errors
    /// If the file is not readable, or not what [`StateFile::update`] wrote.
    pub fn read(&self) -> Result<Option<State>> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("read {}", self.path.display())),
        };
        let state = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no cluster's state", self.path.display()))?;
        Ok(Some(state))
    }

    /// The state of a cluster that is there.
    ///
    /// # Errors
    /// As [`StateFile::read`], and if there is none.
    pub fn existing(&self) -> Result<State> {
        let folder = self.path.parent().unwrap_or(&self.path).display();
        self.read()?
            .with_context(|| format!("there is no cluster in {folder}; `cluster up` makes one"))
    }

    /// Changes the state; it is on disk when this returns.
    ///
    /// # Errors
    /// If the file can neither be read nor written.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T> {
        let failed = || format!("write {}", self.path.display());
        let lock = File::create(self.lock()).with_context(failed)?;
        flock(&lock, FlockOperation::LockExclusive).with_context(failed)?;
        let mut state = self.read()?.unwrap_or_default();
        let result = change(&mut state);
        let new = self.path.with_extension("new");
        let text = serde_json::to_vec_pretty(&state).with_context(failed)?;
        fs::write(&new, text).with_context(failed)?;
        fs::rename(&new, &self.path).with_context(failed)?;
        Ok(result)
    }

    /// Writes down what is about to be made.
    ///
    /// # Errors
    /// As [`StateFile::update`]; then it must not be made.
    pub fn record(&self, thing: Thing) -> Result<()> {
        self.update(|state| state.add(thing))
    }
}

/// Tells one run of the kernel from the next.
///
/// # Errors
/// If `/proc` is not there.
pub fn boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(name: &str, node: Option<u8>, pid: i32) -> Process {
        Process {
            name: name.to_owned(),
            node: node.map(|n| Node::new(n).expect("a node")),
            pid,
            started: 17,
        }
    }

    #[test]
    fn what_was_recorded_is_read_again_in_order() {
        let dir = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(dir.path()).expect("absolute");
        let file = StateFile::of(&layout);
        assert_eq!(file.read().expect("no file is no error"), None);
        let error = file.existing().expect_err("none").to_string();
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
        let things = vec![
            Thing::Link {
                name: "understudy0".to_owned(),
            },
            Thing::Mount {
                path: layout.namespaces(),
            },
            Thing::Route {
                to: "10.96.0.0/16".to_owned(),
                via: "10.200.0.2".to_owned(),
            },
            Thing::Process(process("etcd", None, 4711)),
        ];
        for thing in &things {
            file.record(thing.clone()).expect("recorded");
        }
        file.record(things[0].clone()).expect("recorded");
        assert_eq!(file.existing().expect("there").things, things);
    }

    #[test]
    fn a_new_process_takes_the_place_of_the_old_one() {
        let mut state = State::default();
        for (name, node, pid) in [
            ("kubelet", Some(1), 10),
            ("kubelet", Some(2), 11),
            ("etcd", None, 12),
            ("kubelet", Some(1), 13),
        ] {
            state.set_process(process(name, node, pid));
        }
        let mut pids: Vec<i32> = state.processes().map(|p| p.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [11, 12, 13]);
    }

    #[test]
    fn a_file_that_is_something_else_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(dir.path()).expect("absolute");
        fs::write(layout.state(), "{\"stage\": 3}").expect("written");
        let error = format!("{:#}", StateFile::of(&layout).read().expect_err("damaged"));
        assert!(error.contains("state.json"), "{error}");
    }

    #[test]
    fn changes_by_many_at_once_are_all_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(dir.path()).expect("absolute");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let file = StateFile::of(&layout);
                scope.spawn(move || {
                    for i in 0..25 {
                        let name = format!("link{thread}-{i}");
                        file.record(Thing::Link { name }).expect("recorded");
                    }
                });
            }
        });
        let state = StateFile::of(&layout).existing().expect("there");
        assert_eq!(state.things.len(), 100);
    }
}
