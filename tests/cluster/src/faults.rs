//! What can be made to go wrong: nodes cut off, killed and frozen, containers killed, stopped and frozen, an API server
//! that does not answer. Each fault has its mend. (Disks that fill and hang are with the volumes.)
//!
//! A fault that is never mended is no trouble for [`Cluster::down`].

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::cgroups;
use crate::cluster::Cluster;
use crate::command::{run, unmounting, wait_for};
use crate::control_plane::{self, API_SERVER};
use crate::layout::Node;
use crate::network;
use crate::node;
use crate::process;
use crate::state::{Process, StateFile};
use crate::volumes;

const CONTAINER_LIMIT: Duration = Duration::from_secs(30);

/// A container that runs, as containerd knows it: also for when the API server is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub node: Node,
    /// Containerd's name for it.
    pub id: String,
    /// Its first process, as the machine numbers it.
    pub pid: i32,
}

impl Container {
    /// All its processes, as the machine numbers them.
    ///
    /// # Errors
    /// If it has ended.
    pub fn processes(&self) -> Result<BTreeSet<i32>> {
        let file = cgroups::freezer_of(self.pid)?.join("cgroup.procs");
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Those of its processes whose program has this name.
    ///
    /// # Errors
    /// If it has ended.
    pub fn processes_of(&self, program: &str) -> Result<Vec<i32>> {
        let runs = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(first).rsplit('/').next() == Some(program)
        };
        Ok(self.processes()?.into_iter().filter(runs).collect())
    }

    /// SIGKILL to its first process, and with it to all others; the kubelet starts a new container.
    ///
    /// # Errors
    /// If it has ended.
    pub fn kill(&self) -> Result<()> {
        process::send(self.pid, Signal::KILL)
    }

    /// Nothing in it goes on, nothing in it sees that: as in a virtual machine that is paused. Its connections stay.
    ///
    /// # Errors
    /// If it has ended, or a process of it waits for a frozen disk.
    pub fn freeze(&self) -> Result<()> {
        cgroups::freeze(&cgroups::freezer_of(self.pid)?)
    }

    /// # Errors
    /// If it has ended.
    pub fn thaw(&self) -> Result<()> {
        cgroups::thaw(&cgroups::freezer_of(self.pid)?)
    }
}

/// SIGSTOP to a process of the machine's numbering; waits until it stands still.
///
/// # Errors
/// If there is no such process.
pub fn stop_process(pid: i32) -> Result<()> {
    process::stop(pid)
}

/// SIGCONT.
///
/// # Errors
/// If there is no such process.
pub fn continue_process(pid: i32) -> Result<()> {
    process::send(pid, Signal::CONT)
}

/// The containers that run, from what `ctr tasks ls` prints.
fn tasks_in(text: &str, node: Node) -> Vec<Container> {
    let lines = text.lines().skip(1).map(str::split_whitespace);
    lines
        .filter_map(|mut fields| {
            let (id, pid) = (fields.next()?, fields.next()?.parse().ok()?);
            Some(Container {
                node,
                id: id.to_owned(),
                pid,
            })
        })
        .collect()
}

/// Node and id of a container, from its pod.
fn container_in(pod: &Value, container: Option<&str>) -> Option<(Node, String)> {
    let node = pod["spec"]["nodeName"].as_str()?.parse().ok()?;
    let statuses = pod["status"]["containerStatuses"].as_array()?;
    let status = statuses
        .iter()
        .find(|status| container.is_none_or(|name| status["name"] == name))?;
    let id = status["containerID"].as_str()?;
    Some((node, id.strip_prefix("containerd://")?.to_owned()))
}

impl Cluster {
    /// A container of a pod; its only one if no name is given. Waits until it runs.
    ///
    /// # Errors
    /// If there is no such pod, or the container does not run.
    pub fn container(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
    ) -> Result<Container> {
        let what = format!("a running container in {namespace}/{pod}");
        wait_for(&what, CONTAINER_LIMIT, || {
            let object = self.kubectl_json(&["get", "pod", "-n", namespace, pod])?;
            let Some((node, id)) = container_in(&object, container) else {
                return Ok(None);
            };
            let mut all = self.containers(node)?.into_iter();
            Ok(all.find(|container| container.id == id))
        })
    }

    /// All containers that run on a node, pause containers among them; asks no API server.
    ///
    /// # Errors
    /// If containerd does not run there.
    pub fn containers(&self, node: Node) -> Result<Vec<Container>> {
        let text = run(&mut node::ctr(&self.layout, node, &["tasks", "ls"]))?;
        Ok(tasks_in(&text, node))
    }

    /// Cuts a node off from everything, silently: its pods go on running and reach each other. The API server calls it
    /// NotReady after 20 seconds.
    ///
    /// # Errors
    /// If the link is gone.
    pub fn cut_off(&self, node: Node) -> Result<()> {
        network::set_up(node, false)
    }

    /// Ends [`Cluster::cut_off`].
    ///
    /// # Errors
    /// If the link is gone.
    pub fn mend(&self, node: Node) -> Result<()> {
        network::set_up(node, true)
    }

    /// The node loses its power: everything on it ends at once and nobody is told.
    ///
    /// # Errors
    /// If something does not end: it waits for a frozen disk.
    pub fn kill_node(&self, node: Node) -> Result<()> {
        self.cut_off(node)?;
        cgroups::kill_all(&node.cgroup())
    }

    /// Its power is back: it starts as after a power cut, with its disks as they were and no process, mount or pod
    /// address left. Returns before it is ready.
    ///
    /// # Errors
    /// Names the log of what does not start.
    pub fn revive_node(&self, node: Node) -> Result<()> {
        cgroups::kill_all(&node.cgroup())?;
        let state = StateFile::of(&self.layout);
        let namespace = self.layout.mount_namespace(node);
        // A run that was cut off may have unmounted it already.
        let _ = run(&mut unmounting(&namespace));
        cgroups::remove(&node.cgroup())?;
        let run_folder = self.layout.node(node).join("run-containerd");
        fs::remove_dir_all(&run_folder)
            .with_context(|| format!("empty {}", run_folder.display()))?;
        node::prepare(&self.layout, &state, node)?;
        node::make_mount_namespace(&self.layout, &state, node)?;
        let disks = state.existing()?;
        let mut disks = disks.disks().filter(|disk| disk.node == node);
        disks.try_for_each(|disk| volumes::mount(&self.layout, disk))?;
        self.mend(node)?;
        node::start_containerd(&self.layout, node)?;
        node::start_kubernetes(&self.layout, &self.programs, node)
    }

    /// All of a node stands still, its programs and its pods, as a virtual machine that is paused. Its kernel still
    /// answers: connections stay open.
    ///
    /// # Errors
    /// If a process waits for a frozen disk.
    pub fn freeze_node(&self, node: Node) -> Result<()> {
        cgroups::freeze(&cgroups::freezer(&node.cgroup())?)
    }

    /// Of a node that stands still ([`Cluster::freeze_node`]) the pods go on, and its own programs don't: kubelet and
    /// containerd can't end, start or restart anything there.
    ///
    /// # Errors
    /// If these have ended, or have no control group of their own.
    pub fn wake_pods(&self, node: Node) -> Result<()> {
        let all = cgroups::freezer(&node.cgroup())?;
        let group_of = |name: &str| cgroups::freezer_of(self.program(Some(node), name)?.pid);
        let own = group_of("kubelet")?;
        ensure!(
            own != all && own.starts_with(&all) && own == group_of("containerd")?,
            "kubelet and containerd of {node} are in no group of their own, but in {}",
            own.display()
        );
        // First: what stands still by its own group does so when the node's does no more.
        cgroups::freeze(&own)?;
        cgroups::thaw(&all)
    }

    /// Ends [`Cluster::freeze_node`], whether its pods were woken before or not.
    ///
    /// # Errors
    /// If the node was taken down.
    pub fn thaw_node(&self, node: Node) -> Result<()> {
        let all = cgroups::freezer(&node.cgroup())?;
        let entries = fs::read_dir(&all).with_context(|| format!("read {}", all.display()))?;
        let groups = entries.flatten().map(|entry| entry.path());
        for group in groups.filter(|path| path.is_dir()) {
            cgroups::thaw(&group)?;
        }
        cgroups::thaw(&all)
    }

    /// A program of the cluster's own: `kube-apiserver`, or a node's `kubelet`.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn program(&self, node: Option<Node>, name: &str) -> Result<Process> {
        let state = StateFile::of(&self.layout).existing()?;
        match state.process(node, name) {
            Some(process) => Ok(process.clone()),
            None => bail!("the cluster has no {name} there"),
        }
    }

    /// The API server stands still: whoever asks it waits, and its connections stay.
    ///
    /// # Errors
    /// If it does not run.
    pub fn stop_api_server(&self) -> Result<()> {
        process::stop(self.program(None, API_SERVER)?.pid)
    }

    /// Ends [`Cluster::stop_api_server`].
    ///
    /// # Errors
    /// If it does not run.
    pub fn continue_api_server(&self) -> Result<()> {
        self.program(None, API_SERVER)?.signal(Signal::CONT)
    }

    /// The API server ends: whoever asks it is refused.
    ///
    /// # Errors
    /// If it does not end.
    pub fn kill_api_server(&self) -> Result<()> {
        self.program(None, API_SERVER)?.kill()
    }

    /// Starts an API server again that was killed; it is ready when this returns.
    ///
    /// # Errors
    /// Names its log.
    pub fn start_api_server(&self) -> Result<()> {
        control_plane::start_api_server(&self.layout, &self.programs).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn running_containers_are_read_from_what_ctr_prints() {
        let node = Node::new(2).expect("a node");
        let text =
            "TASK    PID      STATUS    \nabc     4711     RUNNING\ndef    4712    STOPPED\n";
        let found = tasks_in(text, node);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].id.as_str(), found[0].pid), ("abc", 4711));
        assert_eq!(tasks_in("TASK    PID    STATUS\n", node), []);
    }

    #[test]
    fn a_container_is_found_by_its_name() {
        let pod = json!({
            "spec": {"nodeName": "node2"},
            "status": {"containerStatuses": [
                {"name": "a", "containerID": "containerd://111"},
                {"name": "b", "containerID": "containerd://222"},
                {"name": "not yet"},
            ]},
        });
        let id = |name| container_in(&pod, name).map(|(_, id)| id);
        assert_eq!(id(None).as_deref(), Some("111"));
        assert_eq!(id(Some("b")).as_deref(), Some("222"));
        assert_eq!(id(Some("not yet")), None);
        assert_eq!(id(Some("c")), None);
        assert_eq!(container_in(&json!({"spec": {}}), None), None);
    }
}
