//! The control plane: etcd, API server, controller manager, scheduler, as processes of the machine.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::certificates;
use crate::command::{run, system};
use crate::config;
use crate::layout::{CGROUP, Layout, Node, SERVICES_ADDRESS, SERVICES_NAME};
use crate::node::write_json;
use crate::process::Daemon;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::state::Process;

pub const API_SERVER: &str = "kube-apiserver";
pub const ETCD: &str = "etcd";

/// The machine may be busy with a build besides.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// Certificates and kubeconfigs; needs nothing that runs.
///
/// # Errors
/// If they cannot be written.
pub fn prepare(layout: &Layout, nodes: &[Node]) -> Result<()> {
    certificates::write_all(layout, nodes)?;
    for folder in [layout.config(), layout.logs(), layout.etcd()] {
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    }
    // etcd warns of a data folder that others may read.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(layout.etcd(), private).context("make etcd's folder private")?;
    write_json(&layout.kubeconfig(), &config::kubeconfig(layout, "admin")?)?;
    for name in ["controller-manager", "scheduler", "kube-proxy"] {
        write_json(
            &kubeconfig(layout, name),
            &config::kubeconfig(layout, name)?,
        )?;
    }
    Ok(())
}

fn kubeconfig(layout: &Layout, name: &str) -> PathBuf {
    layout.config().join(format!("{name}.kubeconfig"))
}

fn daemon(name: &'static str, program: PathBuf, arguments: Vec<String>) -> Daemon {
    Daemon {
        name,
        node: None,
        cgroup: format!("{CGROUP}/control-plane"),
        network: None,
        mounts: None,
        program,
        arguments,
    }
}

/// Starts all four; the API server answers when this returns.
///
/// # Errors
/// Names the log of what does not come up.
pub fn start(layout: &Layout, programs: &Programs, progress: &Progress) -> Result<()> {
    progress.phase("etcd answers", || start_etcd(layout))?;
    progress.phase("API server is ready", || {
        start_api_server(layout, programs).map(drop)
    })?;
    let (manager, scheduler) = ("kube-controller-manager", "kube-scheduler");
    let own = kubeconfig(layout, "controller-manager");
    let arguments = config::controller_manager(layout, &own);
    daemon(manager, programs.path(manager), arguments).start(layout)?;
    let arguments = config::scheduler(&kubeconfig(layout, "scheduler"));
    daemon(scheduler, programs.path(scheduler), arguments).start(layout)?;
    Ok(())
}

/// # Errors
/// Names its log if it does not come up.
pub fn start_etcd(layout: &Layout) -> Result<()> {
    let etcd = daemon(ETCD, PathBuf::from("etcd"), config::etcd(layout)).start(layout)?;
    let address = (crate::layout::HOST_ADDRESS, 2379);
    etcd.wait_until(layout, "etcd to listen", READY_LIMIT, || {
        std::net::TcpStream::connect_timeout(&address.into(), Duration::from_secs(1)).is_ok()
    })
}

/// # Errors
/// Names its log if it does not come up.
pub fn start_api_server(layout: &Layout, programs: &Programs) -> Result<Process> {
    let arguments = config::api_server(layout);
    let api = daemon(API_SERVER, programs.path(API_SERVER), arguments).start(layout)?;
    api.wait_until(layout, "the API server to be ready", READY_LIMIT, || {
        is_ready(layout, programs)
    })?;
    Ok(api)
}

/// Whether the API server answers that it is ready.
pub fn is_ready(layout: &Layout, programs: &Programs) -> bool {
    let mut command = system(programs.path("kubectl"));
    command.arg("--kubeconfig").arg(layout.kubeconfig());
    command.args(["--request-timeout=2s", "get", "--raw", "/readyz"]);
    run(&mut command).is_ok_and(|text| text == "ok")
}

/// kube-proxy in the namespace through which the machine reaches Services. It takes itself for `node`, which has to be
/// registered.
///
/// # Errors
/// If it cannot be started.
pub fn start_services_proxy(layout: &Layout, programs: &Programs, node: Node) -> Result<()> {
    let own = kubeconfig(layout, "kube-proxy");
    let config = config::kube_proxy(&own, node, SERVICES_ADDRESS, true);
    let file = layout.config().join("kube-proxy.json");
    write_json(&file, &config)?;
    let arguments = vec![format!("--config={}", file.display())];
    let proxy = Daemon {
        network: Some(layout.network_namespace(SERVICES_NAME)),
        ..daemon("kube-proxy", programs.path("kube-proxy"), arguments)
    };
    proxy.start(layout).map(drop)
}
