//! The cluster as it has to be before a test and after one: whole, whatever the test before has left.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use understudy_cluster::command::wait_for;
use understudy_cluster::layout::{CGROUP, Layout};
use understudy_cluster::process::{run_state, send, started};
use understudy_cluster::state::StateFile;
use understudy_cluster::{Cluster, Container, cgroups, continue_process};

const NODE_LIMIT: Duration = Duration::from_secs(180);
const API_LIMIT: Duration = Duration::from_secs(120);
const END_LIMIT: Duration = Duration::from_secs(30);

/// The key of the taint that a test puts on a node.
pub const TAINT: &str = "e2e/only";

/// Puts this process, and with it whatever it starts, among the cluster's: taking the cluster down ends them all, however
/// this one ends. What a test that was killed has left there is ended first.
///
/// # Errors
/// If there is no such group, or something in it does not end.
pub fn join_cluster() -> Result<()> {
    static IS_THERE: OnceLock<()> = OnceLock::new();
    if IS_THERE.get().is_some() {
        return Ok(());
    }
    let group = format!("{CGROUP}/tests");
    let own = i32::try_from(std::process::id()).context("a process's number")?;
    wait_for("what an earlier test has left to end", END_LIMIT, || {
        let mut left = cgroups::processes(&group)?;
        left.remove(&own);
        for pid in &left {
            // It may have ended since.
            let _ = send(*pid, Signal::KILL);
        }
        Ok(left.is_empty().then_some(()))
    })?;
    cgroups::enter(&group, own)?;
    let _ = IS_THERE.set(());
    Ok(())
}

/// Mends everything that the faults of this suite break, and waits until the cluster is whole.
///
/// # Errors
/// Names what stays broken.
pub fn heal(cluster: &Cluster) -> Result<()> {
    for disk in frozen_disks(cluster)? {
        cluster.thaw_disk(&disk)?;
    }
    for node in cluster.nodes() {
        cluster.thaw_node(*node)?;
        cluster.mend(*node)?;
    }
    heal_api_server(cluster)?;
    for node in cluster.nodes() {
        match cluster.containers(*node) {
            Ok(containers) => containers.iter().try_for_each(wake)?,
            Err(_) => cluster
                .revive_node(*node)
                .with_context(|| format!("{node} was dead"))?,
        }
    }
    for node in cluster.nodes() {
        cluster.wait_ready(*node, true, NODE_LIMIT)?;
        cluster.kubectl(&["uncordon", &node.name()])?;
    }
    untaint(cluster)?;
    let damage = cluster.is_whole()?;
    ensure!(
        damage.is_empty(),
        "the cluster is not whole: {}",
        damage.join(", ")
    );
    Ok(())
}

/// Nobody's pods but the test's own would run there.
fn untaint(cluster: &Cluster) -> Result<()> {
    let none = format!("{TAINT}-");
    let nodes = cluster.kubectl_json(&["get", "nodes"])?;
    for node in nodes["items"].as_array().into_iter().flatten() {
        let mut taints = node["spec"]["taints"].as_array().into_iter().flatten();
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        if taints.any(|taint| taint["key"] == TAINT) {
            cluster.kubectl(&["taint", "node", name, &none])?;
        }
    }
    Ok(())
}

/// A container that is frozen, or has stopped processes, goes on. It may end at any moment.
fn wake(container: &Container) -> Result<()> {
    let woken = container.thaw().and_then(|()| container.processes());
    let pids = match woken {
        Ok(pids) => pids,
        Err(_) if !runs(container)? => return Ok(()),
        Err(error) => return Err(error),
    };
    let is_stopped = |pid: i32| run_state(pid) == Some('T');
    for pid in pids.into_iter().filter(|pid| is_stopped(*pid)) {
        if let Err(error) = continue_process(pid)
            && is_stopped(pid)
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Whether its first process is there yet, and not another one of the machine's that has got its number.
fn runs(container: &Container) -> Result<bool> {
    let of_node = cgroups::freezer(&container.node.cgroup())?;
    let group = cgroups::freezer_of(container.pid);
    let is_there = started(container.pid).is_some();
    Ok(is_there && group.is_ok_and(|group| group.starts_with(of_node)))
}

fn heal_api_server(cluster: &Cluster) -> Result<()> {
    // One that runs minds no SIGCONT; one that was killed is started.
    if cluster.continue_api_server().is_err() {
        cluster.start_api_server()?;
    }
    wait_for("the API server to answer", API_LIMIT, || {
        let ask = ["get", "--raw", "/readyz", "--request-timeout=2s"];
        Ok(cluster.kubectl(&ask).is_ok().then_some(()))
    })
}

fn frozen_disks(cluster: &Cluster) -> Result<Vec<String>> {
    let state = StateFile::of(&Layout::new(cluster.dir())?).existing()?;
    let frozen = state.disks().filter(|disk| disk.frozen);
    Ok(frozen.map(|disk| disk.name.clone()).collect())
}

/// Takes a namespace away with everything in it, and makes its volumes anew.
///
/// # Errors
/// Names what does not go.
pub fn remove_namespace(cluster: &Cluster, name: &str) -> Result<()> {
    let there = cluster.kubectl(&["get", "namespace", name, "--ignore-not-found"])?;
    if !there.trim().is_empty() {
        cluster.kubectl(&["delete", "namespace", name, "--wait=false"])?;
        // Nobody waits here for a primary to hand its role over. The pods' end is waited for: a volume is emptied
        // only when nobody writes to it any more.
        cluster.kubectl(&[
            "delete",
            "pods",
            "--all",
            "-n",
            name,
            "--grace-period=2",
            "--timeout=120s",
        ])?;
        let gone = ["wait", "--for=delete", "--timeout=180s"];
        let namespace = format!("namespace/{name}");
        cluster.kubectl(&[&gone[..], &[namespace.as_str()]].concat())?;
    }
    cluster.recycle_volumes().map(drop)
}
