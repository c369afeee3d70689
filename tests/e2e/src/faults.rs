//! What is made to go wrong with the instance that is primary, and how that ends; and with whole nodes.
//!
//! Everything that a fault needs to know is looked up before it is made, so that the fault is made at one moment. What lasts
//! is ended when its value is dropped at the latest. A test that ends it itself hears of whatever keeps it from ending.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use understudy_cluster::command::wait_for;
use understudy_cluster::config::DISK_CLASS;
use understudy_cluster::state::Process;
use understudy_cluster::{Cluster, Container, Node, process, stop_process};

use crate::database::{Database, spec};
use crate::settings::LIMIT;
use crate::space::Space;

const NODE_LIMIT: Duration = Duration::from_secs(180);
const DISK_MEBIBYTES: u32 = 1024;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// SIGKILL to the container's first process: the container dies.
    SupervisorKilled,
    /// `kubectl delete pod --grace-period=0 --force`.
    PodForceDeleted,
    /// SIGKILL to the engine alone: its supervisor restarts it in place.
    EngineKilled,
    /// SIGSTOP to the engine; it goes on after the failover.
    EngineStopped,
    /// Everything in the container stands still, and wakes up after the failover.
    ContainerFrozen,
    /// The node's link is down, silently; everything on it goes on.
    NodeCutOff,
    /// The node loses its power and does not come back until the instance has been replaced.
    NodeDead,
    /// Nothing that is written to the volume completes, until it is thawed after the failover.
    DiskFrozen,
}

impl Fault {
    pub const ALL: [Fault; 8] = [
        Fault::SupervisorKilled,
        Fault::EngineKilled,
        Fault::PodForceDeleted,
        Fault::EngineStopped,
        Fault::ContainerFrozen,
        Fault::NodeCutOff,
        Fault::NodeDead,
        Fault::DiskFrozen,
    ];

    /// As `FAULT` names it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::SupervisorKilled => "supervisor-killed",
            Fault::PodForceDeleted => "pod-force-deleted",
            Fault::EngineKilled => "engine-killed",
            Fault::EngineStopped => "engine-stopped",
            Fault::ContainerFrozen => "container-frozen",
            Fault::NodeCutOff => "node-cut-off",
            Fault::NodeDead => "node-dead",
            Fault::DiskFrozen => "disk-frozen",
        }
    }

    /// Whether another instance has to take over.
    pub fn fails_over(self) -> bool {
        self != Fault::EngineKilled
    }

    /// Whether the primary may hear of its end: the kubelet sends SIGTERM even so, and the role is handed over within the
    /// two seconds that it waits.
    pub fn may_hand_over(self) -> bool {
        self == Fault::PodForceDeleted
    }

    pub fn is_node_loss(self) -> bool {
        matches!(self, Fault::NodeCutOff | Fault::NodeDead)
    }

    /// How long writes through the Service may pause at most, as it is aimed at; seconds.
    pub fn goal_seconds(self, leader_there: bool) -> f64 {
        match (self, leader_there) {
            (Fault::SupervisorKilled | Fault::PodForceDeleted | Fault::EngineKilled, _) => 2.0,
            (_, false) => 6.0,
            (_, true) => 10.0,
        }
    }

    /// What the cluster's manifest says.
    pub fn spec(self) -> Value {
        if self == Fault::DiskFrozen {
            json!({"replicas": 2, "storage": {"size": "900Mi", "class": DISK_CLASS}})
        } else {
            spec(2)
        }
    }
}

/// A disk of its own for an instance on each node.
///
/// # Panics
/// If one can't be made.
#[track_caller]
pub fn provide_disks(space: &Space) {
    let cluster = &space.cluster;
    let volumes = cluster.volumes().expect("the volumes");
    for node in cluster.nodes() {
        let is_free = |(volume, phase): &(understudy_cluster::config::Volume, String)| {
            volume.class == DISK_CLASS && volume.node == *node && phase == "Available"
        };
        if !volumes.iter().any(is_free) {
            cluster.add_disk(*node, DISK_MEBIBYTES).expect("a disk");
        }
    }
}

/// An instance whose fault is to be made.
#[derive(Clone, Debug)]
pub struct Victim {
    pub instance: String,
    pub pod: String,
    pub node: Node,
    container: Container,
    supervisor: Process,
    engine: Process,
    volume: String,
}

impl Victim {
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn of(database: &Database<'_>, instance: &str) -> Victim {
        let found = database.instance(instance);
        let container = database.container(instance);
        let process = |what: &str, pid: i32| {
            let name = format!("the {what} of {instance}");
            let started = process::started(pid);
            let started = started.unwrap_or_else(|| panic!("{name} has ended"));
            let node = Some(found.node);
            Process {
                name,
                node,
                pid,
                started,
            }
        };
        Victim {
            supervisor: process("supervisor", container.pid),
            engine: process("engine", database.engine(instance)),
            container,
            volume: database.volume(instance),
            instance: found.name,
            pod: found.pod,
            node: found.node,
        }
    }

    /// Its supervisor and its engine, which stand still: the same processes as when this was made.
    ///
    /// # Panics
    /// If one of them has ended, or will never run its own code again.
    #[track_caller]
    pub fn sleepers(&self) -> [Sleeper; 2] {
        [&self.supervisor, &self.engine].map(|process| {
            let asleep = Sleeper::of(process);
            asleep.unwrap_or_else(|error| panic!("{error:#}"))
        })
    }
}

/// A fault that was made; what it still needs at its end is done when it is dropped at the latest.
pub struct Made<'a> {
    fault: Fault,
    cluster: &'a Cluster,
    victim: Victim,
    is_over: bool,
}

impl<'a> Made<'a> {
    /// Makes it now.
    ///
    /// # Panics
    /// If it can't be made.
    #[track_caller]
    pub fn make(fault: Fault, space: &'a Space, victim: Victim) -> Made<'a> {
        let cluster = &space.cluster;
        let made = match fault {
            Fault::SupervisorKilled => victim.container.kill(),
            Fault::PodForceDeleted => space
                .try_kubectl(&[
                    "delete",
                    "pod",
                    victim.pod.as_str(),
                    "--grace-period=0",
                    "--force",
                ])
                .map(drop),
            Fault::EngineKilled => victim.engine.signal(Signal::KILL),
            Fault::EngineStopped => stop_process(victim.engine.pid),
            Fault::ContainerFrozen => victim.container.freeze(),
            Fault::NodeCutOff => cluster.cut_off(victim.node),
            Fault::NodeDead => cluster.kill_node(victim.node),
            Fault::DiskFrozen => cluster.freeze_disk(&victim.volume),
        };
        made.unwrap_or_else(|error| panic!("{}: {error:#}", fault.name()));
        Made {
            fault,
            cluster,
            victim,
            is_over: false,
        }
    }

    /// Ends what lasts: wakes, thaws, mends. Nodes are ready again when this returns.
    ///
    /// # Panics
    /// If it can't be ended.
    #[track_caller]
    pub fn mend(&mut self) {
        let ended = self.end();
        // What has failed is tried once more when this is dropped.
        self.is_over = ended.is_ok();
        ended.unwrap_or_else(|error| panic!("the end of {}: {error:#}", self.fault.name()));
        if self.fault.is_node_loss() {
            let ready = self.cluster.wait_ready(self.victim.node, true, NODE_LIMIT);
            ready.unwrap_or_else(|error| panic!("{error:#}"));
        }
    }

    fn end(&self) -> Result<()> {
        match self.fault {
            Fault::EngineStopped => {
                let engine = &self.victim.engine;
                unless_ended(engine, engine.signal(Signal::CONT))
            }
            Fault::ContainerFrozen => {
                unless_ended(&self.victim.supervisor, self.victim.container.thaw())
            }
            Fault::NodeCutOff => self.cluster.mend(self.victim.node),
            Fault::NodeDead => self.cluster.revive_node(self.victim.node),
            Fault::DiskFrozen => self.cluster.thaw_disk(&self.victim.volume),
            Fault::SupervisorKilled | Fault::PodForceDeleted | Fault::EngineKilled => Ok(()),
        }
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if !self.is_over
            && let Err(error) = self.end()
        {
            eprintln!("the end of {}: {error:#}", self.fault.name());
        }
    }
}

/// What was to wake a process. It may have been killed meanwhile: that is the operator's or its supervisor's way to fence it.
fn unless_ended(process: &Process, woken: Result<()>) -> Result<()> {
    if process.is_alive() { woken } else { Ok(()) }
}

/// Nodes that are cut off, until they are mended.
pub struct CutOff<'a> {
    cluster: &'a Cluster,
    nodes: Vec<Node>,
}

impl<'a> CutOff<'a> {
    /// # Panics
    /// If a link is gone.
    #[track_caller]
    pub fn now(space: &'a Space, nodes: Vec<Node>) -> CutOff<'a> {
        let cluster = &space.cluster;
        for node in &nodes {
            cluster.cut_off(*node).expect("a link");
        }
        CutOff { cluster, nodes }
    }

    /// # Panics
    /// If the link is gone.
    #[track_caller]
    pub fn mend(&mut self, node: Node) {
        self.nodes.retain(|other| *other != node);
        self.cluster.mend(node).expect("a link");
    }
}

impl Drop for CutOff<'_> {
    fn drop(&mut self) {
        for node in &self.nodes {
            if let Err(error) = self.cluster.mend(*node) {
                eprintln!("{node}: {error:#}");
            }
        }
    }
}

/// A node that stands still with all that is on it, until it is mended. Its kubelet and its containerd stand still as well,
/// so that nobody ends what is there.
pub struct FrozenNode<'a> {
    cluster: &'a Cluster,
    node: Node,
    is_over: bool,
}

impl<'a> FrozenNode<'a> {
    /// # Panics
    /// If something on it does not stop.
    #[track_caller]
    pub fn now(space: &'a Space, node: Node) -> FrozenNode<'a> {
        // Thawed again if it stands still in part only.
        let frozen = FrozenNode {
            cluster: &space.cluster,
            node,
            is_over: false,
        };
        let still = frozen.cluster.freeze_node(node);
        still.unwrap_or_else(|error| panic!("{error:#}"));
        frozen
    }

    /// Its pods go on, and nobody can end them yet.
    ///
    /// # Panics
    /// If they don't.
    #[track_caller]
    pub fn wake_pods(&self) {
        let woken = self.cluster.wake_pods(self.node);
        woken.unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Everything goes on; the node is ready again when this returns.
    ///
    /// # Panics
    /// If it doesn't.
    #[track_caller]
    pub fn mend(&mut self) {
        let thawed = self.cluster.thaw_node(self.node);
        self.is_over = thawed.is_ok();
        let ready = thawed.and_then(|()| self.cluster.wait_ready(self.node, true, NODE_LIMIT));
        ready.unwrap_or_else(|error| panic!("{error:#}"));
    }
}

impl Drop for FrozenNode<'_> {
    fn drop(&mut self) {
        if !self.is_over
            && let Err(error) = self.cluster.thaw_node(self.node)
        {
            eprintln!("{}: {error:#}", self.node);
        }
    }
}

/// So often a thread has got a processor and let go of it if it is at work. One that only leaves the freezer, be it to end of
/// a signal, has done so once or twice.
const AT_WORK: u64 = 5;
/// SIGKILL, in the sets of signals of `/proc/PID/status`.
const KILL: u64 = 1 << 8;

/// A process that stands still: told from a later one with its number, and, once it was woken, from one that does nothing.
#[derive(Clone, Debug)]
pub struct Sleeper {
    process: Process,
    /// Of each of its threads how often it has let go of a processor.
    switches: BTreeMap<i32, u64>,
}

impl Sleeper {
    /// # Errors
    /// If it has ended, or ends as soon as it is woken.
    fn of(process: &Process) -> Result<Sleeper> {
        let Process { name, pid, .. } = process;
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        let status = status.with_context(|| format!("{name} has ended"))?;
        let is_killed = is_killed(&status).with_context(|| format!("{name} has no signals"))?;
        ensure!(
            !is_killed,
            "{name} was killed while it stood still, and will do nothing more"
        );
        let switches = switches_of(*pid);
        ensure!(process.is_alive(), "{name} has ended");
        Ok(Sleeper {
            process: process.clone(),
            switches,
        })
    }

    /// Whether it is at work again.
    ///
    /// # Errors
    /// If it has ended.
    fn is_awake(&self) -> Result<bool> {
        let now = switches_of(self.process.pid);
        ensure!(self.process.is_alive(), "{} has ended", self.process.name);
        Ok(now.into_iter().any(|(thread, switches)| {
            let before = self.switches.get(&thread).copied().unwrap_or_default();
            switches >= before + AT_WORK
        }))
    }
}

/// Waits until each of them is at work again, and the process that it was.
///
/// # Panics
/// If one ends before, or does nothing.
#[track_caller]
pub fn await_awake(sleepers: &[Sleeper]) {
    let mut left: Vec<&Sleeper> = sleepers.iter().collect();
    let names: Vec<&str> = left.iter().map(|s| s.process.name.as_str()).collect();
    let what = format!("{} at work again", names.join(" and "));
    let awake = wait_for(&what, LIMIT, || {
        let mut asleep = Vec::new();
        for sleeper in left.drain(..) {
            if !sleeper.is_awake()? {
                asleep.push(sleeper);
            }
        }
        left = asleep;
        Ok(left.is_empty().then_some(()))
    });
    awake.unwrap_or_else(|error| panic!("{error:#}"));
}

/// Whether a SIGKILL waits for a process, from the text of its `status`.
fn is_killed(status: &str) -> Option<bool> {
    let of_process = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let pending = u64::from_str_radix(of_process?.trim(), 16).ok()?;
    Some(pending & KILL != 0)
}

/// How often a thread has let go of a processor, whether it had to or not, from the text of its `status`.
fn switches_in(status: &str) -> u64 {
    let lines = status.lines().filter_map(|line| line.split_once(':'));
    let counts = lines.filter(|(name, _)| name.ends_with("voluntary_ctxt_switches"));
    counts
        .filter_map(|(_, n)| n.trim().parse::<u64>().ok())
        .sum()
}

/// Of each thread of a process; threads come and go.
fn switches_of(pid: i32) -> BTreeMap<i32, u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    threads
        .filter_map(|thread| {
            let status = fs::read_to_string(thread.path().join("status")).ok()?;
            let number = thread.file_name().to_str()?.parse().ok()?;
            Some((number, switches_in(&status)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use understudy_cluster::command::system;

    use super::*;

    /// A shell that runs a script, to be killed by whoever asks for it.
    fn shell(script: &str) -> (std::process::Child, Process) {
        let child = system("sh").args(["-c", script]).spawn();
        let child = child.expect("a shell");
        let pid = i32::try_from(child.id()).expect("small");
        let process = Process {
            name: "a shell".to_owned(),
            node: None,
            pid,
            started: process::started(pid).expect("it lives"),
        };
        (child, process)
    }

    #[test]
    fn a_process_that_is_woken_is_told_from_one_that_stands_still_or_has_ended() {
        let (mut child, process) = shell("while :; do sleep 0.01; done");
        stop_process(process.pid).expect("it stops");
        let sleeper = Sleeper::of(&process).expect("it stands still");
        std::thread::sleep(Duration::from_millis(200));
        assert!(!sleeper.is_awake().expect("it lives"), "it was not woken");
        process.signal(Signal::CONT).expect("it lives");
        await_awake(std::slice::from_ref(&sleeper));
        let later = Process {
            started: process.started + 1,
            ..process.clone()
        };
        assert!(Sleeper::of(&later).is_err(), "another one's number");
        child.kill().expect("it lives");
        child.wait().expect("fetched");
        assert!(sleeper.is_awake().is_err(), "the dead are not awake");
        assert!(Sleeper::of(&process).is_err());
        unless_ended(&process, Err(anyhow::anyhow!("gone"))).expect("it has ended");
    }

    #[test]
    fn what_could_not_be_woken_is_an_error_as_long_as_it_lives() {
        let (mut child, process) = shell("sleep 60");
        assert!(unless_ended(&process, Err(anyhow::anyhow!("no"))).is_err());
        child.kill().expect("it lives");
        child.wait().expect("fetched");
    }

    #[test]
    fn a_kill_that_waits_is_seen_and_switches_are_added_up() {
        let status = |pending: &str| {
            format!(
                "Name:\tsh\nSigPnd:\t0000000000000100\nShdPnd:\t{pending}\nSigBlk:\t0000000000000100\n\
                 voluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n"
            )
        };
        assert_eq!(is_killed(&status("0000000000000100")), Some(true));
        assert_eq!(is_killed(&status("0000000000004100")), Some(true));
        assert_eq!(is_killed(&status("0000000000004000")), Some(false));
        assert_eq!(is_killed("Name:\tsh\n"), None);
        assert_eq!(switches_in(&status("0")), 42);
    }

    #[test]
    fn each_fault_has_a_name_and_a_goal() {
        let names: std::collections::HashSet<&str> = Fault::ALL.iter().map(|f| f.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len());
        for fault in Fault::ALL {
            assert!(fault.goal_seconds(true) >= fault.goal_seconds(false));
            assert_eq!(fault.spec()["replicas"], 2);
        }
    }

    /// `scripts/e2e.sh` reads them here, so that a mistyped one is told of before anything is built.
    #[test]
    fn each_name_is_on_a_line_of_its_own() {
        let text = include_str!("faults.rs");
        for fault in Fault::ALL {
            let wanted = format!("Fault::{fault:?} => \"{}\",", fault.name());
            assert!(text.lines().any(|line| line.trim() == wanted), "{wanted}");
        }
    }
}
