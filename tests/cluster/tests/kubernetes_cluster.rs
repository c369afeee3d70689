//! The test cluster itself: what comes up is a real Kubernetes, its faults are what they claim to be, and nothing of it
//! is left on the machine, however it ended.
//!
//! These tests need root, control groups of version 1, and minutes where the cache is cold; they take the machine's one
//! cluster. `make test-cluster` runs them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use understudy_cluster::command::{run, system, wait_for};
use understudy_cluster::image::TOOLBOX;
use understudy_cluster::layout::Layout;
use understudy_cluster::state::StateFile;
use understudy_cluster::takedown::leftovers;
use understudy_cluster::{Cluster, Node, Options, Progress};

const CLUSTER: &str = env!("CARGO_BIN_EXE_cluster");
const LIMIT: Duration = Duration::from_secs(120);
const NAMESPACE: &str = "behaviour";

/// What a machine has that a cluster could leave something in; other programs of the machine change none of it.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    links: BTreeSet<String>,
    routes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    loops: String,
    cgroups: BTreeSet<String>,
    settings: Vec<String>,
    packet_rules: String,
    folders: BTreeSet<String>,
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(|line| line.trim().to_owned()).collect()
}

fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| format!("{folder}/{}", entry.file_name().to_string_lossy()))
        .collect()
}

/// Processes that can only be of this cluster: by a path of it in their command lines, or by a program that nothing else
/// on the machine runs. One that has ended has no command line.
fn programs_of(layout: &Layout) -> Vec<String> {
    let folder = layout.dir().display().to_string();
    let programs = [
        "containerd",
        "containerd-shim-runc-v2",
        "ctr",
        "pause",
        "coredns",
    ];
    let lines = names("/proc").into_iter().filter_map(|path| {
        let line = fs::read(Path::new(&path).join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let name = line.split(' ').next()?.rsplit('/').next()?;
        (line.contains(&folder) || programs.contains(&name)).then(|| line.clone())
    });
    lines.collect()
}

impl Machine {
    fn now() -> Machine {
        let settings = [
            "vm/overcommit_memory",
            "vm/panic_on_oom",
            "kernel/panic",
            "kernel/panic_on_oops",
        ];
        let cgroups = names("/sys/fs/cgroup")
            .into_iter()
            .flat_map(|path| names(&path));
        let folders = [
            "/run",
            "/var/lib",
            "/var/log",
            "/opt",
            "/etc",
            "/usr/libexec",
        ];
        Machine {
            links: names("/sys/class/net"),
            routes: lines(
                &run(system("ip").args(["-4", "route", "show", "table", "all"])).expect("routes"),
            ),
            mounts: lines(&fs::read_to_string("/proc/self/mounts").expect("mounts")),
            loops: run(system("losetup").arg("--list")).expect("loop devices"),
            cgroups: cgroups.filter(|path| Path::new(path).is_dir()).collect(),
            settings: settings
                .iter()
                .map(|name| fs::read_to_string(format!("/proc/sys/{name}")).expect("a setting"))
                .collect(),
            packet_rules: run(&mut system("iptables-save")).expect("packet rules"),
            folders: folders.iter().flat_map(|folder| names(folder)).collect(),
        }
    }

    /// The machine has to be as it was.
    #[track_caller]
    fn assert_unchanged(&self, layout: &Layout) {
        let left = leftovers(layout).expect("the machine tells");
        assert!(left.is_empty(), "left: {left:#?}");
        assert_eq!(programs_of(layout), [""; 0]);
        assert!(
            !layout.dir().exists(),
            "{} is there",
            layout.dir().display()
        );
        let now = Machine::now();
        assert_eq!(self.links, now.links);
        assert_eq!(self.routes, now.routes);
        assert_eq!(self.mounts, now.mounts);
        assert_eq!(self.loops, now.loops);
        assert_eq!(self.cgroups, now.cgroups);
        assert_eq!(self.settings, now.settings);
        assert_eq!(self.packet_rules, now.packet_rules);
        assert_eq!(self.folders, now.folders);
    }
}

/// A cluster that is taken down with the test; a test that fails keeps the evidence.
struct Up {
    cluster: Cluster,
    options: Options,
    _folder: tempfile::TempDir,
}

impl Up {
    fn with(nodes: u8) -> Up {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options {
            nodes,
            ..Options::new(folder.path().join("cluster"))
        };
        let cluster = bring_up(&options);
        Up {
            cluster,
            options,
            _folder: folder,
        }
    }
}

/// Up, or the test fails and nothing stays.
fn bring_up(options: &Options) -> Cluster {
    let progress = Progress::default();
    match Cluster::up(options, &progress) {
        Ok(cluster) => {
            for phase in progress.phases() {
                println!("{:>7.1} s  {}", phase.took.as_secs_f64(), phase.name);
            }
            cluster
        }
        Err(error) => {
            let down = Cluster::down(&options.dir, &Progress::default());
            panic!("{error:#}\ntaken down: {down:?}");
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let evidence =
                std::env::temp_dir().join(format!("kubernetes-cluster-{}", std::process::id()));
            match self.cluster.keep_evidence(&evidence) {
                Ok(folder) => eprintln!("logs and objects are kept in {}", folder.display()),
                Err(error) => eprintln!("no logs could be kept: {error:#}"),
            }
        }
        let down = Cluster::down(&self.options.dir, &Progress::default());
        if let Err(error) = down
            && !std::thread::panicking()
        {
            panic!("{error:#}");
        }
    }
}

fn timed<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = act();
    println!("{:>7.1} s  {what}", begin.elapsed().as_secs_f64());
    result
}

/// Two pods of a StatefulSet under the restricted rules, each with a volume, serving a file from it by HTTP, and their
/// Service.
fn web(class: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: {NAMESPACE}}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: web, namespace: {NAMESPACE}}}
spec:
  serviceName: web
  replicas: 2
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {{runAsNonRoot: true, runAsUser: 10001, fsGroup: 10001, seccompProfile: {{type: RuntimeDefault}}}}
      topologySpreadConstraints:
        - {{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {{matchLabels: {{app: web}}}}}}
      containers:
        - name: web
          image: {TOOLBOX}
          imagePullPolicy: Never
          command: [sh, -c, "echo it is $(hostname) | tee -a /data/index.html; exec busybox httpd -f -vv -p 8080 -h /data"]
          readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
          securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
          volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
    - metadata: {{name: data}}
      spec: {{accessModes: [ReadWriteOnce], storageClassName: {class}, resources: {{requests: {{storage: 30Mi}}}}}}
"#
    )
}

fn exec(cluster: &Cluster, pod: &str, words: &[&str]) -> anyhow::Result<String> {
    cluster.kubectl(&[&["exec", "-n", NAMESPACE, pod, "--"], words].concat())
}

/// A shell's words that fetch the page of a server; they run in a pod as well as on the machine. (Debian's static
/// busybox dies of a signal in its own wget, and its nc waits for a server that accepts and never answers.)
fn fetch(host: &str, port: u16) -> [String; 3] {
    let script =
        format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 5 busybox nc {host} {port}");
    ["sh".to_owned(), "-c".to_owned(), script]
}

fn fetch_from_pod(cluster: &Cluster, pod: &str, host: &str, port: u16) -> anyhow::Result<String> {
    exec(
        cluster,
        pod,
        &fetch(host, port).each_ref().map(String::as_str),
    )
}

fn fetch_from_node(cluster: &Cluster, node: Node, host: &str) -> anyhow::Result<String> {
    let [shell, option, script] = fetch(host, 80);
    run(cluster.in_network_of(node, shell).args([option, script]))
}

fn fetch_from_machine(host: &str, port: u16) -> anyhow::Result<String> {
    let [shell, option, script] = fetch(host, port);
    run(system(shell).args([option, script]))
}

fn pods_work(cluster: &Cluster) {
    timed("restricted pods with volumes are ready", || {
        cluster.apply(&web("local")).expect("applied");
        let rollout = [
            "rollout",
            "status",
            "statefulset/web",
            "-n",
            NAMESPACE,
            "--timeout=120s",
        ];
        cluster.kubectl(&rollout).expect("ready");
    });
    let refused = cluster.kubectl(&["run", "root", "-n", NAMESPACE, "--image", TOOLBOX]);
    let text = format!(
        "{:#}",
        refused.expect_err("the restricted rules are enforced")
    );
    assert!(text.contains("restricted"), "{text}");

    let logs = cluster
        .kubectl(&["logs", "-n", NAMESPACE, "web-0"])
        .expect("logs");
    assert!(logs.starts_with("it is web-0\n"), "{logs}");
    let id = exec(cluster, "web-0", &["id", "-u"]).expect("exec works");
    assert_eq!(id.trim(), "10001");

    let service = cluster
        .kubectl_json(&["get", "service", "web", "-n", NAMESPACE])
        .expect("a Service");
    let address = service["spec"]["clusterIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    let name = format!("web.{NAMESPACE}.svc.cluster.local");
    let answer = exec(cluster, "web-0", &["nslookup", &name]).expect("DNS answers");
    assert!(answer.contains(&address), "{answer}");
    let page = fetch_from_pod(cluster, "web-1", "web", 80).expect("HTTP by the Service's name");
    assert!(page.contains("it is web-"), "{page}");
    for node in cluster.nodes() {
        let page = fetch_from_node(cluster, *node, &address).expect("a node reaches Services");
        assert!(page.contains("it is web-"), "{page}");
    }
    let page = fetch_from_machine(&address, 80).expect("the machine reaches Services");
    assert!(page.contains("it is web-"), "{page}");
}

/// Kubernetes' network model: who is asked sees the pod that asks, also from another node.
fn pods_keep_their_addresses(cluster: &Cluster) {
    let address = |pod: &str| {
        let pod = cluster
            .kubectl_json(&["get", "pod", "-n", NAMESPACE, pod])
            .expect("a pod");
        pod["status"]["podIP"]
            .as_str()
            .expect("an address")
            .to_owned()
    };
    let (asked, own) = (address("web-0"), address("web-1"));
    fetch_from_pod(cluster, "web-1", &asked, 8080).expect("HTTP");
    let logs = cluster
        .kubectl(&["logs", "-n", NAMESPACE, "web-0"])
        .expect("logs");
    assert!(logs.contains(&own), "{own} has not asked: {logs}");
}

/// Gives a client whose write to a frozen disk hangs.
fn volumes_last(cluster: &Cluster) -> Child {
    let node_of = |pod: &str| {
        let pod = cluster
            .kubectl_json(&["get", "pod", "-n", NAMESPACE, pod])
            .expect("a pod");
        pod["spec"]["nodeName"]
            .as_str()
            .expect("scheduled")
            .to_owned()
    };
    // Each container that is ready has written a line; the pod may still be on its way back from an earlier fault.
    let ready = "wait --for=condition=Ready pod/web-0 --timeout=10s -n";
    let ready: Vec<&str> = ready.split(' ').chain([NAMESPACE]).collect();
    let lines_written = || {
        let page = wait_for("web-0 to serve its page", LIMIT, || {
            let ready = cluster.kubectl(&ready).ok();
            Ok(ready.and_then(|_| exec(cluster, "web-0", &["cat", "/data/index.html"]).ok()))
        });
        page.expect("readable").lines().count()
    };
    let before = node_of("web-0");
    let lines_before = lines_written();
    cluster
        .kubectl(&["delete", "pod", "-n", NAMESPACE, "web-0"])
        .expect("deleted");
    assert_eq!(lines_written(), lines_before + 1);
    assert_eq!(node_of("web-0"), before, "the volume is on its node");

    let node = before.parse().expect("a node");
    assert!(
        cluster
            .recycle_volumes()
            .expect("none to recycle")
            .is_empty()
    );
    cluster
        .kubectl(&["delete", "namespace", NAMESPACE])
        .expect("deleted");
    let recycled = cluster.recycle_volumes().expect("recycled");
    assert_eq!(recycled.len(), 2, "{recycled:?}");
    let is_free = |(volume, phase): &(understudy_cluster::config::Volume, String)| {
        phase == "Available"
            && fs::read_dir(&volume.path)
                .expect("a folder")
                .next()
                .is_none()
    };
    wait_for("all volumes to be free and empty", LIMIT, || {
        Ok(cluster.volumes()?.iter().all(is_free).then_some(()))
    })
    .expect("free");
    disks_hang_and_fill(cluster, node)
}

/// Gives a client whose write to a frozen disk hangs.
fn disks_hang_and_fill(cluster: &Cluster, node: Node) -> Child {
    let disk = cluster.add_disk(node, 64).expect("a disk");
    let other = *cluster
        .nodes()
        .iter()
        .find(|n| **n != node)
        .expect("another node");
    cluster.add_disk(other, 64).expect("a disk");
    cluster.apply(&web("disk")).expect("applied");
    let rollout = [
        "rollout",
        "status",
        "statefulset/web",
        "-n",
        NAMESPACE,
        "--timeout=120s",
    ];
    cluster.kubectl(&rollout).expect("ready on disks");
    let claims = cluster.volumes().expect("volumes");
    let on_disk = claims
        .iter()
        .filter(|(v, phase)| v.class == "disk" && phase == "Bound");
    assert_eq!(on_disk.count(), 2);
    let pod = ["web-0", "web-1"].into_iter().find(|pod| {
        let pod = cluster
            .kubectl_json(&["get", "pod", "-n", NAMESPACE, pod])
            .expect("a pod");
        pod["spec"]["nodeName"] == node.name()
    });
    let pod = pod.expect("one of them is on the node");

    cluster.fill_disk(&disk, 4096).expect("filled");
    let write = ["dd", "if=/dev/zero", "of=/data/big", "bs=1M", "count=1"];
    let error = exec(cluster, pod, &write).expect_err("the disk is full");
    assert!(format!("{error:#}").contains("No space left"), "{error:#}");
    cluster.empty_disk(&disk).expect("emptied");
    exec(cluster, pod, &write).expect("there is room again");

    cluster.freeze_disk(&disk).expect("frozen");
    let touch = ["exec", "-n", NAMESPACE, pod, "--", "touch", "/data/new"];
    let mut writer = cluster
        .kubectl_command(&touch)
        .spawn()
        .expect("kubectl runs");
    std::thread::sleep(Duration::from_secs(3));
    assert!(
        writer.try_wait().expect("kubectl").is_none(),
        "a write completed"
    );
    cluster.thaw_disk(&disk).expect("thawed");
    assert!(
        writer.wait().expect("kubectl").success(),
        "the write completes"
    );
    // Left frozen: taking down has to cope with it.
    cluster.freeze_disk(&disk).expect("frozen");
    let touch = ["exec", "-n", NAMESPACE, pod, "--", "touch", "/data/newer"];
    let mut hanging = cluster.kubectl_command(&touch);
    let hanging = hanging.stderr(Stdio::null()).spawn().expect("kubectl runs");
    std::thread::sleep(Duration::from_secs(1));
    hanging
}

fn nodes_are_lost_and_come_back(cluster: &Cluster) {
    let node = cluster.nodes()[2];
    cluster.cut_off(node).expect("cut");
    timed("a node that is cut off is NotReady", || {
        cluster.wait_ready(node, false, LIMIT).expect("NotReady");
    });
    let alone = cluster
        .in_network_of(node, "busybox")
        .args(["ping", "-c", "1", "-W", "1", "10.200.0.1"])
        .output();
    assert!(
        !alone.is_ok_and(|o| o.status.success()),
        "it is not cut off"
    );
    let damage = cluster.is_whole().expect("a state");
    assert_eq!(damage, ["node3 is cut off"]);
    cluster.mend(node).expect("mended");
    timed("a node that was mended is Ready", || {
        cluster.wait_ready(node, true, LIMIT).expect("Ready");
    });

    cluster.kill_node(node).expect("killed");
    assert!(
        cluster.containers(node).is_err(),
        "its containerd still answers"
    );
    cluster.wait_ready(node, false, LIMIT).expect("NotReady");
    cluster.revive_node(node).expect("revived");
    timed("a node that was dead is Ready", || {
        cluster.wait_ready(node, true, LIMIT).expect("Ready");
    });
    assert_eq!(cluster.is_whole().expect("a state"), [""; 0]);
}

fn containers_and_the_api_server_fail(cluster: &Cluster) {
    let first = cluster
        .container(NAMESPACE, "web-0", None)
        .expect("it runs");
    let served = || {
        let pod = cluster
            .kubectl_json(&["get", "pod", "-n", NAMESPACE, "web-0"])
            .expect("a pod");
        let address = pod["status"]["podIP"]
            .as_str()
            .expect("an address")
            .to_owned();
        fetch_from_machine(&address, 8080).is_ok_and(|page| page.contains("it is web-0"))
    };
    assert!(served());
    first.freeze().expect("frozen");
    assert!(!served(), "a frozen server answers");
    first.thaw().expect("thawed");
    assert!(served(), "a thawed server does not answer");
    let server = first.processes_of("busybox").expect("processes");
    assert_eq!(server, [first.pid]);
    first.kill().expect("killed");
    wait_for("a new container", LIMIT, || {
        let second = cluster.container(NAMESPACE, "web-0", None)?;
        Ok((second.id != first.id).then_some(()))
    })
    .expect("the kubelet starts another");

    cluster.stop_api_server().expect("stopped");
    let ask = ["get", "nodes", "--request-timeout=2s"];
    cluster
        .kubectl(&ask)
        .expect_err("a stopped API server answers");
    assert_eq!(
        cluster.is_whole().expect("a state"),
        ["kube-apiserver is stopped"]
    );
    cluster.continue_api_server().expect("continued");
    wait_for("an answer", LIMIT, || Ok(cluster.kubectl(&ask).ok())).expect("it answers again");
    cluster.kill_api_server().expect("killed");
    cluster
        .kubectl(&ask)
        .expect_err("a dead API server answers");
    cluster.start_api_server().expect("started");
    cluster.kubectl(&ask).expect("it answers again");
}

#[test]
#[ignore = "needs root and takes the machine's one cluster: `make test-cluster`"]
fn a_cluster_is_a_real_kubernetes_and_leaves_nothing_behind() {
    let before = Machine::now();
    let up = Up::with(3);
    let layout = Layout::new(&up.options.dir).expect("absolute");
    let cluster = &up.cluster;
    let version = cluster.kubectl(&["version"]).expect("a version");
    assert!(version.contains("Server Version: v1.34.4"), "{version}");
    for node in cluster.nodes() {
        assert!(cluster.is_ready(*node).expect("an answer"), "{node}");
    }
    let helm = cluster.helm(&["list", "-A", "-o", "json"]).expect("helm");
    assert_eq!(helm.trim(), "[]");

    pods_work(cluster);
    pods_keep_their_addresses(cluster);
    containers_and_the_api_server_fail(cluster);
    nodes_are_lost_and_come_back(cluster);

    let again = Progress::default();
    Cluster::up(&up.options, &again).expect("up already");
    assert!(
        again.phases().is_empty(),
        "it was made anew: {:?}",
        again.phases()
    );
    let other = Options {
        nodes: 2,
        ..up.options.clone()
    };
    let error = Cluster::up(&other, &again)
        .expect_err("another size")
        .to_string();
    assert!(error.contains("cluster down"), "{error}");
    let elsewhere = Options::new(layout.dir().with_extension("other"));
    let error = Cluster::up(&elsewhere, &again)
        .expect_err("there is one")
        .to_string();
    assert!(
        error.contains(&layout.dir().display().to_string()),
        "{error}"
    );

    let mut hanging = volumes_last(cluster);
    timed("down, with a frozen disk", || {
        Cluster::down(&up.options.dir, &Progress::default()).expect("down");
    });
    hanging.wait().expect("kubectl ends without its API server");
    before.assert_unchanged(&layout);

    // And once more from nothing.
    let cluster = bring_up(&up.options);
    assert_eq!(cluster.is_whole().expect("a state"), [""; 0]);
    cluster
        .program(None, "etcd")
        .expect("etcd")
        .kill()
        .expect("killed");
    assert_eq!(cluster.is_whole().expect("a state"), ["etcd has ended"]);
    timed("up again over one that is half dead", || {
        let cluster = bring_up(&up.options);
        assert_eq!(cluster.is_whole().expect("a state"), [""; 0]);
    });
    drop(up);
    before.assert_unchanged(&layout);
}

/// The command is killed at moments all over its way, and taking down finds everything each time.
#[test]
#[ignore = "needs root and takes the machine's one cluster: `make test-cluster`"]
fn a_command_that_is_killed_leaves_nothing_that_down_does_not_find() {
    let before = Machine::now();
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("cluster");
    let layout = Layout::new(&dir).expect("absolute");
    let command = |action: &str| {
        let mut command = Command::new(CLUSTER);
        command.arg(action).arg("--dir").arg(&dir);
        command
    };
    for after_ms in [60, 200, 450, 800, 1_500, 3_000, 6_000, 12_000] {
        let mut up = command("up")
            .args(["--nodes", "2"])
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        std::thread::sleep(Duration::from_millis(after_ms));
        up.kill().expect("killed");
        let status = up.wait().expect("it ended");
        assert!(
            status.signal().is_some() || status.success(),
            "up: {status}"
        );
        let state = StateFile::of(&layout)
            .read()
            .expect("a state that can be read");
        let made = state.unwrap_or_default().things.len();
        let begin = Instant::now();
        let down = command("down").output().expect("it runs");
        let errors = String::from_utf8_lossy(&down.stderr);
        assert!(
            down.status.success(),
            "killed after {after_ms} ms: {errors}"
        );
        println!(
            "killed after {after_ms:>5} ms, {made:>3} things recorded: down in {:.1} s",
            begin.elapsed().as_secs_f64()
        );
        before.assert_unchanged(&layout);
    }
}
