//! What is made to go wrong with the instance that is primary, and how that ends.
//!
//! Everything that a fault needs to know is looked up before it is made, so that the fault is made at one moment.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;
use serde_json::{Value, json};
use understudy_cluster::config::DISK_CLASS;
use understudy_cluster::{Cluster, Container, Node, continue_process, process, stop_process};

use crate::database::{Database, spec};
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
    engine: i32,
    volume: String,
}

impl Victim {
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn of(database: &Database<'_>, instance: &str) -> Victim {
        let found = database.instance(instance);
        Victim {
            container: database.container(instance),
            engine: database.engine(instance),
            volume: database.volume(instance),
            instance: found.name,
            pod: found.pod,
            node: found.node,
        }
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
            Fault::EngineKilled => process::send(victim.engine, Signal::KILL),
            Fault::EngineStopped => stop_process(victim.engine),
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
        self.is_over = true;
        self.end()
            .unwrap_or_else(|error| panic!("the end of {}: {error:#}", self.fault.name()));
        if self.fault.is_node_loss() {
            let ready = self.cluster.wait_ready(self.victim.node, true, NODE_LIMIT);
            ready.unwrap_or_else(|error| panic!("{error:#}"));
        }
    }

    fn end(&self) -> Result<()> {
        match self.fault {
            // It may have been killed meanwhile: that is the operator's or its supervisor's way to fence it.
            Fault::EngineStopped => {
                let _ = continue_process(self.victim.engine);
                Ok(())
            }
            Fault::ContainerFrozen => {
                let _ = self.victim.container.thaw();
                Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

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
