//! A node: a network namespace, a mount namespace, containerd, kubelet and kube-proxy in both.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::certificates::of_node;
use crate::cgroups;
use crate::command::{in_mounts, run, system};
use crate::config;
use crate::layout::{Layout, Node};
use crate::process::Daemon;
use crate::programs::Programs;
use crate::state::{Process, StateFile, Thing};

const CONTAINERD_LIMIT: Duration = Duration::from_secs(60);

/// What the kubelet sets, on the whole machine, when it starts.
const KERNEL_SETTINGS: [&str; 6] = [
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/panic_on_oops",
    "/proc/sys/kernel/keys/root_maxkeys",
    "/proc/sys/kernel/keys/root_maxbytes",
];

/// Writes down what kubelets change on the machine, so that taking down can set it back.
///
/// # Errors
/// If the state cannot be written.
pub fn keep_kernel_settings(state: &StateFile) -> Result<()> {
    for path in KERNEL_SETTINGS.map(Path::new) {
        if let Ok(value) = fs::read_to_string(path) {
            state.record(Thing::Setting {
                path: path.to_owned(),
                value: value.trim().to_owned(),
            })?;
        }
    }
    Ok(())
}

/// Makes the machine's folders over which each node's own are mounted.
///
/// # Errors
/// If one cannot be made.
pub fn make_mount_points(layout: &Layout, state: &StateFile, node: Node) -> Result<()> {
    for (_, path) in layout.private_folders(node) {
        let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.exists()).collect();
        for folder in missing.into_iter().rev() {
            state.record(Thing::Folder {
                path: folder.to_owned(),
            })?;
            fs::create_dir(folder).with_context(|| format!("make {}", folder.display()))?;
        }
    }
    Ok(())
}

/// A node's folders, control group, and configuration.
///
/// # Errors
/// If they cannot be written.
pub fn prepare(layout: &Layout, state: &StateFile, node: Node) -> Result<()> {
    cgroups::make(&node.cgroup())?;
    make_mount_points(layout, state, node)?;
    let mut folders: Vec<_> = layout
        .private_folders(node)
        .into_iter()
        .map(|f| f.0)
        .collect();
    folders.extend([
        layout.node_config(node),
        layout.cni_config(node),
        layout.volumes(node),
    ]);
    for folder in folders {
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let config = layout.node_config(node);
    let write = |path: &Path, text: &str| {
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    };
    write(
        &config.join("containerd.toml"),
        &config::containerd(layout, node),
    )?;
    write_json(
        &layout.cni_config(node).join("10-understudy.conflist"),
        &config::cni(node),
    )?;
    let own = config.join("kubelet.kubeconfig");
    write_json(&own, &config::kubeconfig(layout, &of_node(node))?)?;
    write_json(&config.join("kubelet.json"), &config::kubelet(layout, node))?;
    let proxy = config.join("kube-proxy.kubeconfig");
    write_json(&proxy, &config::kubeconfig(layout, "kube-proxy")?)?;
    let proxy = config::kube_proxy(&proxy, node, node.address(), false);
    write_json(&config.join("kube-proxy.json"), &proxy)
}

/// # Errors
/// If it cannot be written.
pub fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// The node's view of the machine's files: everything, with folders of its own where programs have fixed paths.
///
/// # Errors
/// If a mount is refused.
pub fn make_mount_namespace(layout: &Layout, state: &StateFile, node: Node) -> Result<()> {
    let file = layout.mount_namespace(node);
    state.record(Thing::Mount { path: file.clone() })?;
    File::create(&file).with_context(|| format!("make {}", file.display()))?;
    // runc takes a version 2 hierarchy beside version 1's for something to use. Mounts of pods spread among the node's
    // own programs, as they do on a machine, and never to the machine itself.
    let script = "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
        while [ $# -gt 0 ]; do mount --bind \"$1\" \"$2\"; shift 2; done
        mount --make-rshared /";
    let unshare = |processor: Option<usize>| {
        let mut command = match processor {
            Some(number) => {
                let mut taskset = system("taskset");
                taskset.args(["--cpu-list", &number.to_string(), "unshare"]);
                taskset
            }
            None => system("unshare"),
        };
        command.arg(format!("--mount={}", file.display()));
        command.args(["--propagation", "private", "sh", "-ec", script, "mounts"]);
        for (own, path) in layout.private_folders(node) {
            command.arg(own).arg(path);
        }
        run(&mut command).map(drop)
    };
    // A mount namespace can be kept only in one with a smaller id, and since Linux 6.18 ids grow on each processor for
    // itself. The machine's own has the smallest of all; in a container it may have to be another processor's.
    let mut made = unshare(None);
    for number in 0..processors() {
        if made.is_ok() {
            break;
        }
        made = made.or_else(|first| unshare(Some(number)).map_err(|_| first));
    }
    made
}

/// How many the machine has, whether this process may use them or not.
fn processors() -> usize {
    let named = |name: &str| {
        name.strip_prefix("cpu")
            .is_some_and(|n| n.parse::<u32>().is_ok())
    };
    let entries = fs::read_dir("/sys/devices/system/cpu");
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(named))
        .count()
}

/// Kills nothing and waits for nothing: a program of the node, started in its namespaces.
fn daemon(layout: &Layout, node: Node, name: &'static str, program: &Path) -> Daemon {
    Daemon {
        name,
        node: Some(node),
        cgroup: format!("{}/system", node.cgroup()),
        network: Some(layout.network_namespace(&node.name())),
        mounts: Some(layout.mount_namespace(node)),
        program: program.to_owned(),
        arguments: Vec::new(),
    }
}

/// Starts containerd, and waits until it answers: the kubelet does not.
///
/// # Errors
/// Names its log.
pub fn start_containerd(layout: &Layout, node: Node) -> Result<Process> {
    let mut daemon = daemon(layout, node, "containerd", Path::new("containerd"));
    let config = layout.node_config(node).join("containerd.toml");
    daemon.arguments = vec!["--config".to_owned(), config.display().to_string()];
    let process = daemon.start(layout)?;
    let what = format!("containerd of {node}");
    process.wait_until(layout, &what, CONTAINERD_LIMIT, || {
        run(&mut ctr(layout, node, &["version"])).is_ok()
    })?;
    Ok(process)
}

/// `ctr` on a node, in the name space of Kubernetes' containers. It tries for ever to speak to a containerd that has ended:
/// it goes with whoever has asked it.
pub fn ctr(layout: &Layout, node: Node, arguments: &[&str]) -> std::process::Command {
    let mut command = in_mounts(&layout.mount_namespace(node), "setpriv");
    command.args(["--pdeathsig", "KILL", "ctr"]);
    command.args(["--address", "/run/containerd/containerd.sock"]);
    command.args(["--namespace", "k8s.io"]).args(arguments);
    command
}

/// Gives a node the images of an OCI archive.
///
/// # Errors
/// If containerd does not run there or refuses the archive.
pub fn import(layout: &Layout, node: Node, archive: &Path) -> Result<()> {
    let mut command = ctr(layout, node, &["images", "import"]);
    run(command.arg(archive))
        .map(drop)
        .with_context(|| format!("import {} on {node}", archive.display()))
}

/// Starts kubelet and kube-proxy.
///
/// # Errors
/// If they cannot be started.
pub fn start_kubernetes(layout: &Layout, programs: &Programs, node: Node) -> Result<()> {
    let config = layout.node_config(node);
    let file = |name: &str| config.join(name).display().to_string();
    let mut kubelet = daemon(layout, node, "kubelet", &programs.path("kubelet"));
    kubelet.arguments = vec![
        format!("--config={}", file("kubelet.json")),
        format!("--kubeconfig={}", file("kubelet.kubeconfig")),
        format!("--hostname-override={node}"),
        format!("--node-ip={}", node.address()),
        "--root-dir=/var/lib/kubelet".to_owned(),
        "--v=1".to_owned(),
    ];
    kubelet.start(layout)?;
    let mut proxy = daemon(layout, node, "kube-proxy", &programs.path("kube-proxy"));
    proxy.arguments = vec![format!("--config={}", file("kube-proxy.json"))];
    proxy.start(layout).map(drop)
}
