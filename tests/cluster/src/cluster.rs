//! A cluster as a whole: bringing it up, finding it again, asking it.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::command::{in_network, run, run_with_input, system, wait_for};
use crate::layout::{API_SERVICE_ADDRESS, CGROUP, DNS_ADDRESS, Layout, Node, cache};
use crate::programs::{Programs, check_debian};
use crate::progress::Progress;
use crate::state::{Stage, State, StateFile, Thing, boot_id};
use crate::takedown::take_down;
use crate::{cgroups, config, control_plane, network, node, process};

const NODES_LIMIT: Duration = Duration::from_secs(180);
const OBJECTS_LIMIT: Duration = Duration::from_secs(60);
/// No single question to the cluster takes longer.
const KUBECTL_LIMIT: &str = "600";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything of the cluster is kept; taken away again by `down`.
    pub dir: PathBuf,
    /// At least one.
    pub nodes: u8,
    /// Folders for claims, on each node. More can be made while it runs.
    pub volumes: u8,
}

impl Options {
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            nodes: 3,
            volumes: 6,
        }
    }
}

/// A cluster that is up. The value holds nothing: when it is dropped the cluster goes on, [`Cluster::attach`] finds it
/// again, and [`Cluster::down`] ends it.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) layout: Layout,
    pub(crate) programs: Programs,
    pub(crate) nodes: Vec<Node>,
}

impl Cluster {
    /// Brings a cluster up, after building what it consists of if this is the first time on the machine. One that is up
    /// already stays as it is; what is left of one that is not whole is taken down first.
    ///
    /// # Errors
    /// Names what is missing, or the log of what did not come up; what was started then goes on, for a look.
    pub fn up(options: &Options, progress: &Progress) -> Result<Cluster> {
        check_machine()?;
        let nodes = Node::first(options.nodes)?;
        let programs = Programs::built(progress)?;
        let layout = Layout::new(&options.dir)?;
        let _lock = lock(progress)?;
        let cluster = Cluster {
            layout,
            programs,
            nodes,
        };
        if let Some(state) = StateFile::of(&cluster.layout).read().unwrap_or_default() {
            let damage = cluster.damage(&state);
            if damage.is_empty() {
                ensure!(
                    state.nodes == cluster.nodes,
                    "a cluster of {} nodes is up in {}; `cluster down` ends it, then another can be made",
                    state.nodes.len(),
                    cluster.layout.dir().display()
                );
                progress.say("the cluster is up already");
                return Ok(cluster);
            }
            progress.say(&format!(
                "what there is of a cluster is not whole ({}); making it anew",
                damage.join(", ")
            ));
        }
        take_down(&cluster.layout, progress)?;
        network::check_ranges()?;
        make_folder(cluster.layout.dir())?;
        let begin = progress.elapsed();
        cluster.bring_up(options, progress)?;
        let took = (progress.elapsed() - begin).as_secs_f64();
        let count = cluster.nodes.len();
        progress.say(&format!("{count} nodes are ready after {took:.1} s"));
        Ok(cluster)
    }

    /// A cluster that was brought up before, by whomever.
    ///
    /// # Errors
    /// If there is none in this folder, or it never was complete.
    pub fn attach(dir: &Path) -> Result<Cluster> {
        let layout = Layout::new(dir)?;
        let state = StateFile::of(&layout).existing()?;
        ensure!(
            state.stage == Stage::Running,
            "the cluster in {} never came up; `cluster up` makes it anew",
            layout.dir().display()
        );
        Ok(Cluster {
            programs: Programs::built(&Progress::default())?,
            nodes: state.nodes,
            layout,
        })
    }

    /// Ends whatever there is of a cluster in this folder, and takes everything away that it made.
    ///
    /// # Errors
    /// Names what does not go.
    pub fn down(dir: &Path, progress: &Progress) -> Result<()> {
        check_root()?;
        let layout = Layout::new(dir)?;
        let _lock = lock(progress)?;
        progress.phase("everything is taken down", || take_down(&layout, progress))
    }

    fn bring_up(&self, options: &Options, progress: &Progress) -> Result<()> {
        let (layout, nodes) = (&self.layout, &self.nodes);
        let state = StateFile::of(layout);
        let boot_id = boot_id()?;
        state.update(|state| {
            *state = State {
                nodes: nodes.clone(),
                boot_id,
                ..State::default()
            }
        })?;
        progress.phase("network", || self.make_network(&state))?;
        progress.phase("certificates and configuration", || {
            control_plane::prepare(layout, nodes)?;
            node::keep_kernel_settings(&state)?;
            nodes
                .iter()
                .try_for_each(|node| node::prepare(layout, &state, *node))
        })?;
        self.start_programs(&state, progress)?;
        progress.phase("nodes are ready", || {
            self.apply_retrying(&config::storage_classes().to_string())?;
            self.apply_retrying(&config::dns())?;
            self.wait_nodes_ready(NODES_LIMIT)
        })?;
        progress.phase("DNS and Services answer", || {
            control_plane::start_services_proxy(layout, &self.programs, nodes[0])?;
            self.add_folders(options.volumes)?;
            let rollout = [
                "rollout",
                "status",
                "daemonset/coredns",
                "-n",
                "kube-system",
            ];
            self.kubectl(&[&rollout[..], &["--timeout=180s"]].concat())?;
            wait_for("the machine's way to Services", OBJECTS_LIMIT, || {
                Ok(reaches_services().then_some(()))
            })?;
            // kube-proxy follows a moment after CoreDNS is ready.
            wait_for("DNS by its Service on every node", OBJECTS_LIMIT, || {
                Ok(nodes.iter().all(|node| self.resolves(*node)).then_some(()))
            })
        })?;
        state.update(|state| state.stage = Stage::Running)
    }

    fn resolves(&self, node: Node) -> bool {
        let mut ask = self.in_network_of(node, "busybox");
        ask.args(["nslookup", "kubernetes.default.svc.cluster.local"]);
        run(ask.arg(DNS_ADDRESS.to_string())).is_ok()
    }

    fn make_network(&self, state: &StateFile) -> Result<()> {
        let (layout, nodes) = (&self.layout, &self.nodes);
        // First the bridge: it tells whose everything else is.
        network::make_bridge(layout, state, nodes)?;
        state.record(Thing::Cgroup {
            name: CGROUP.to_owned(),
        })?;
        cgroups::make(CGROUP)?;
        network::make_namespaces_folder(layout, state)?;
        for node in nodes {
            network::make_node(layout, state, *node, nodes)?;
        }
        network::make_services(layout, state, nodes)
    }

    /// The control plane and the nodes' containerds at once; then what needs both.
    fn start_programs(&self, state: &StateFile, progress: &Progress) -> Result<()> {
        let images = self.programs.images();
        let start_node = |node: Node| -> Result<()> {
            progress.phase(&format!("{node}: containerd and images"), || {
                node::make_mount_namespace(&self.layout, state, node)?;
                node::start_containerd(&self.layout, node)?;
                let mut images = images.iter();
                images.try_for_each(|image| node::import(&self.layout, node, image))
            })
        };
        let start_node = &start_node;
        std::thread::scope(|scope| {
            let mut parts =
                vec![scope.spawn(|| control_plane::start(&self.layout, &self.programs, progress))];
            let nodes = self.nodes.iter();
            parts.extend(nodes.map(|node| scope.spawn(move || start_node(*node))));
            // All are waited for: what one of them still starts must be in the state file.
            let results = parts.into_iter().map(|part| match part.join() {
                Ok(result) => result,
                Err(_) => Err(anyhow!("a thread panicked")),
            });
            results
                .collect::<Vec<_>>()
                .into_iter()
                .collect::<Result<()>>()
        })?;
        for node in &self.nodes {
            node::start_kubernetes(&self.layout, &self.programs, *node)?;
        }
        Ok(())
    }

    /// What keeps a cluster from being whole.
    pub(crate) fn damage(&self, state: &State) -> Vec<String> {
        let mut damage = Vec::new();
        if state.stage != Stage::Running {
            damage.push("it never came up".to_owned());
        }
        if !boot_id().is_ok_and(|id| id == state.boot_id) {
            return vec!["the machine was restarted since".to_owned()];
        }
        for p in state.processes() {
            let of = p.node.map(|node| format!(" of {node}")).unwrap_or_default();
            if !p.is_alive() {
                damage.push(format!("{}{of} has ended", p.name));
            } else if process::run_state(p.pid) == Some('T') {
                damage.push(format!("{}{of} is stopped", p.name));
            }
        }
        let cut = state.nodes.iter().filter(|node| !network::is_up(**node));
        damage.extend(cut.map(|node| format!("{node} is cut off")));
        if damage.is_empty() && !control_plane::is_ready(&self.layout, &self.programs) {
            damage.push("the API server is not ready".to_owned());
        }
        damage
    }

    /// What keeps the cluster from being whole; empty for a healthy one.
    ///
    /// # Errors
    /// If it is not there any more.
    pub fn is_whole(&self) -> Result<Vec<String>> {
        Ok(self.damage(&StateFile::of(&self.layout).existing()?))
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    /// For kubectl, helm, and clients in Rust: an administrator's.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// The folder of kubectl and helm.
    pub fn programs(&self) -> &Path {
        self.programs.folder()
    }

    /// A program in a node's network, as one of its pods with `hostNetwork` would see it, with the machine's files. It
    /// is cut off when the node is.
    pub fn in_network_of(&self, node: Node, program: impl AsRef<std::ffi::OsStr>) -> Command {
        in_network(&self.layout.network_namespace(&node.name()), program)
    }

    fn kubernetes_program(&self, name: &str, arguments: &[&str]) -> Command {
        let helm = self.layout.dir().join("helm");
        let mut command = system("timeout");
        command.args(["--kill-after=5", KUBECTL_LIMIT]);
        command.arg(self.programs.path(name)).args(arguments);
        command.env("KUBECONFIG", self.kubeconfig());
        for (variable, folder) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
            ("KUBECACHEDIR", "kube-cache"),
        ] {
            command.env(variable, helm.join(folder));
        }
        command
    }

    /// kubectl, with an administrator's rights; gives what it printed.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        run(&mut self.kubernetes_program("kubectl", arguments))
    }

    /// kubectl with `-o json`.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn kubectl_json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).context("kubectl printed no JSON")
    }

    /// kubectl with a text on its standard input.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        run_with_input(&mut self.kubernetes_program("kubectl", arguments), input)
    }

    /// A command that runs kubectl, for a caller who wants its pipes or its exit status.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        self.kubernetes_program("kubectl", arguments)
    }

    /// `kubectl apply` of a manifest, YAML or JSON.
    ///
    /// # Errors
    /// If the API server refuses it, with its message.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_with_input(&["apply", "-f", "-"], manifest)
    }

    /// Just after its start the API server lacks its first namespaces.
    fn apply_retrying(&self, manifest: &str) -> Result<()> {
        let mut last = None;
        let waited = wait_for("the first objects", OBJECTS_LIMIT, || {
            last = self.apply(manifest).err();
            Ok(last.is_none().then_some(()))
        });
        match last {
            Some(error) => waited.context(format!("{error:#}")),
            None => waited,
        }
    }

    /// helm, with an administrator's rights and folders of its own.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        run(&mut self.kubernetes_program("helm", arguments))
    }

    /// Gives all nodes the images of an OCI archive (`buildah push IMAGE oci-archive:FILE`, or
    /// [`crate::image::Image::write`]). Pods have to say `imagePullPolicy: Never` or `IfNotPresent`.
    ///
    /// # Errors
    /// If a node's containerd does not run or refuses the archive.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        let archive = &std::path::absolute(archive)?;
        std::thread::scope(|scope| {
            let nodes = self.nodes.iter();
            let imports: Vec<_> = nodes
                .map(|node| scope.spawn(move || node::import(&self.layout, *node, archive)))
                .collect();
            let mut results = imports.into_iter().map(|import| match import.join() {
                Ok(result) => result,
                Err(_) => bail!("a thread panicked"),
            });
            results.try_for_each(|result| result)
        })
    }

    /// Whether the API server calls a node ready.
    ///
    /// # Errors
    /// If it does not answer or has no such node.
    pub fn is_ready(&self, node: Node) -> Result<bool> {
        Ok(ready(&self.kubectl_json(&["get", "node", &node.name()])?))
    }

    /// Waits until the API server calls a node ready, or not ready any more.
    ///
    /// # Errors
    /// After `limit`.
    pub fn wait_ready(&self, node: Node, want: bool, limit: Duration) -> Result<()> {
        let what = format!("{node} to be {}", if want { "Ready" } else { "NotReady" });
        wait_for(&what, limit, || {
            Ok((self.is_ready(node)? == want).then_some(()))
        })
    }

    fn wait_nodes_ready(&self, limit: Duration) -> Result<()> {
        let log = |node: &Node| {
            self.layout
                .log(Some(*node), "kubelet")
                .display()
                .to_string()
        };
        let logs: Vec<String> = self.nodes.iter().map(log).collect();
        let what = "all nodes to be ready";
        let waited = wait_for(what, limit, || {
            let list = self.kubectl_json(&["get", "nodes"])?;
            let items = list["items"].as_array();
            let count = items
                .into_iter()
                .flatten()
                .filter(|node| ready(node))
                .count();
            Ok((count == self.nodes.len()).then_some(()))
        });
        waited.with_context(|| format!("the kubelets say why in {}", logs.join(", ")))
    }
}

fn ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn reaches_services() -> bool {
    let address = SocketAddr::from((API_SERVICE_ADDRESS, 443));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

fn check_root() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "namespaces, mounts and links are root's to make: run this as root"
    );
    Ok(())
}

fn check_machine() -> Result<()> {
    check_root()?;
    cgroups::check()?;
    check_debian()
}

/// A folder of the cluster's own: `down` takes it away.
fn make_folder(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let mut entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    ensure!(
        entries.next().is_none(),
        "{} is not empty: the cluster needs a folder of its own",
        dir.display()
    );
    Ok(())
}

/// One command at a time makes or ends clusters on a machine.
fn lock(progress: &Progress) -> Result<File> {
    let cache = cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
    let file = File::create(cache.join("cluster.lock")).context("lock the machine's cluster")?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        progress.say("another command is working on the machine's cluster; waiting for it");
        flock(&file, FlockOperation::LockExclusive).context("lock the machine's cluster")?;
    }
    Ok(file)
}
