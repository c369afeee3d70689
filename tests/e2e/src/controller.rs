//! The operator: as the chart installs it, and as processes of this machine where a test has to kill or stop one at a
//! point of its choice.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use understudy_cluster::command::{system, wait_for};
use understudy_cluster::process::run_state;
use understudy_cluster::{Cluster, Node, stop_process};

use crate::calls;
use crate::settings::Settings;
use crate::space::{Space, namespace};

pub const NAMESPACE: &str = "understudy-system";
pub const RELEASE: &str = "understudy";
pub const DEPLOYMENT: &str = "deployment/understudy-operator";
const LEASE: &str = "understudy-operator";
const SELECTOR: &str = "app.kubernetes.io/name=understudy-operator";
/// The Secrets in which helm keeps revisions that it is, or was, at work on.
const UNFINISHED: &str = "owner=helm,name=understudy,status in (pending-install,pending-upgrade,pending-rollback,uninstalling)";
/// What somebody has made who is not helm, which would take over none of it.
const PLAIN_SELECTOR: &str =
    "app.kubernetes.io/name=understudy-operator,app.kubernetes.io/managed-by=kubectl";
/// The kinds of what the one file makes, beside its namespace.
const PLAIN_KINDS: &str = "customresourcedefinitions,clusterroles,clusterrolebindings,deployments,services,serviceaccounts,\
                           roles,rolebindings,poddisruptionbudgets";
/// Tests run in the package's folder.
pub const CHART: &str = "../../charts/understudy";
/// What the chart renders, as one file for plain kubectl.
pub const PLAIN: &str = "../../deploy/understudy.yaml";
pub const DEFINITION: &str = "replicatedclusters.understudy.dev";
/// So many times that file names its image.
const IMAGE_NAMED: usize = 2;
const METRICS_PORT: u16 = 8080;
const LIMIT: Duration = Duration::from_secs(120);

/// An image's name as the chart takes it.
pub fn image_values(image: &str) -> Vec<String> {
    let (repository, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    vec![
        format!("image.repository={repository}"),
        format!("image.tag={tag}"),
    ]
}

/// `helm upgrade --install` with these values, until the operator is ready.
///
/// # Errors
/// With what helm said.
pub fn install(cluster: &Cluster, values: &[String]) -> Result<()> {
    cluster.apply(&namespace(NAMESPACE).to_string())?;
    forget_unfinished(cluster)?;
    let mut arguments = vec!["upgrade", "--install", RELEASE, CHART, "-n", NAMESPACE];
    for value in values {
        arguments.extend(["--set", value.as_str()]);
    }
    arguments.extend(["--wait", "--timeout", "180s"]);
    cluster.helm(&arguments)?;
    rolled_out(cluster)
}

/// A helm that was killed leaves a revision that is never finished, and every later one would wait for that.
fn forget_unfinished(cluster: &Cluster) -> Result<()> {
    let of = ["delete", "secret", "-n", NAMESPACE, "-l", UNFINISHED];
    cluster.kubectl(&of).map(drop)
}

/// Waits until the Deployment runs as it is written.
///
/// # Errors
/// If it does not in time.
pub fn rolled_out(cluster: &Cluster) -> Result<()> {
    let of = ["rollout", "status", DEPLOYMENT, "-n", NAMESPACE];
    cluster
        .kubectl(&[&of[..], &["--timeout=180s"]].concat())
        .map(drop)
}

/// # Errors
/// With what helm said.
pub fn uninstall(cluster: &Cluster) -> Result<()> {
    cluster
        .helm(&["uninstall", RELEASE, "-n", NAMESPACE, "--wait"])
        .map(drop)
}

/// The one file for plain kubectl, with this image in place of the one that it names.
///
/// # Errors
/// If the file is not as its own first lines say.
fn plain(text: &str, image: &str) -> Result<String> {
    let named = |line: &str| line.trim().strip_prefix("image: ").map(str::to_owned);
    let shipped = text.lines().find_map(named);
    let shipped = shipped.with_context(|| format!("{PLAIN} names no image"))?;
    let times = text.matches(&shipped).count();
    ensure!(
        times == IMAGE_NAMED,
        "{PLAIN} names {shipped} {times} times, not {IMAGE_NAMED}"
    );
    Ok(text.replace(&shipped, image))
}

/// `kubectl apply` of the one file, until the operator is ready.
///
/// # Errors
/// With what kubectl said.
pub fn install_plain(cluster: &Cluster, image: &str) -> Result<()> {
    let text = std::fs::read_to_string(PLAIN).with_context(|| format!("read {PLAIN}"))?;
    let apply = ["apply", "--validate=strict", "-f", "-"];
    cluster.kubectl_with_input(&apply, &plain(&text, image)?)?;
    rolled_out(cluster)
}

/// Takes away everything that the one file names: the definition too, and with it every database.
///
/// # Errors
/// With what kubectl said.
pub fn uninstall_plain(cluster: &Cluster) -> Result<()> {
    let how = ["delete", "--ignore-not-found", "--timeout=180s"];
    cluster
        .kubectl(&[&how[..], &["-f", PLAIN]].concat())
        .map(drop)
}

/// Whether somebody has installed it who is not helm, or a part of it: a test that failed in the middle.
fn is_plain(cluster: &Cluster) -> Result<bool> {
    let of = ["get", PLAIN_KINDS, "-A", "-l", PLAIN_SELECTOR];
    let how = ["--ignore-not-found", "-o", "name"];
    let found = cluster.kubectl(&[of.as_slice(), &how].concat())?;
    Ok(!found.trim().is_empty())
}

/// Installed as usual, with both replicas ready and on nodes of their own, and with the image that is tested.
///
/// # Errors
/// If it does not become so.
pub fn ensure(cluster: &Cluster, settings: &Settings) -> Result<()> {
    let found = [
        "get",
        DEPLOYMENT,
        "-n",
        NAMESPACE,
        "--ignore-not-found",
        "-o",
        "jsonpath={.status.readyReplicas} {.spec.template.spec.containers[0].image}",
    ];
    let left = is_plain(cluster)?;
    if left || cluster.kubectl(&found)?.trim() != format!("2 {}", settings.image) {
        if left {
            uninstall_plain(cluster)?;
        }
        install(cluster, &image_values(&settings.image))?;
        // helm leaves alone what somebody scaled by hand.
        scale(cluster, 2)?;
    }
    spread_out(cluster)
}

/// Whoever takes away the node of one operator counts on the other one. The scheduler prefers to keep them apart, and never
/// moves one that runs.
fn spread_out(cluster: &Cluster) -> Result<()> {
    for _ in 0..3 {
        let all = pods(cluster)?;
        let is_beside = |one: &&OperatorPod| {
            let mut others = all.iter().filter(|other| other.name < one.name);
            others.any(|other| other.node == one.node)
        };
        let Some(surplus) = all.iter().find(is_beside) else {
            return Ok(());
        };
        let name = surplus.name.as_str();
        cluster.kubectl(&["delete", "pod", "-n", NAMESPACE, name, "--ignore-not-found"])?;
        rolled_out(cluster)?;
    }
    Ok(())
}

/// # Errors
/// If the Deployment does not become so.
pub fn scale(cluster: &Cluster, replicas: u32) -> Result<()> {
    let wanted = format!("--replicas={replicas}");
    cluster.kubectl(&["scale", DEPLOYMENT, "-n", NAMESPACE, wanted.as_str()])?;
    if replicas > 0 {
        return rolled_out(cluster);
    }
    wait_for("the operator's pods to be gone", LIMIT, || {
        Ok(pods(cluster)?.is_empty().then_some(()))
    })
}

/// A pod of the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPod {
    pub name: String,
    pub node: Node,
    pub address: IpAddr,
}

/// Those that run.
///
/// # Errors
/// If the API server does not answer.
pub fn pods(cluster: &Cluster) -> Result<Vec<OperatorPod>> {
    let list = cluster.kubectl_json(&["get", "pods", "-n", NAMESPACE, "-l", SELECTOR])?;
    let items = list["items"].as_array().into_iter().flatten();
    Ok(items
        .filter_map(|pod| {
            Some(OperatorPod {
                name: pod["metadata"]["name"].as_str()?.to_owned(),
                node: pod["spec"]["nodeName"].as_str()?.parse().ok()?,
                address: pod["status"]["podIP"].as_str()?.parse().ok()?,
            })
        })
        .collect())
}

/// The name in a Lease's `holderIdentity`: a pod's, before what makes it unique.
fn holder(identity: &str) -> Option<&str> {
    identity.rsplit_once('_').map(|(name, _)| name)
}

/// The pod that acts. Waits until there is one.
///
/// # Errors
/// If nobody leads.
pub fn leader(cluster: &Cluster) -> Result<OperatorPod> {
    wait_for("an operator that leads", LIMIT, || {
        let lease = cluster.kubectl_json(&["get", "lease", LEASE, "-n", NAMESPACE])?;
        let identity = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        let Some(name) = holder(identity) else {
            return Ok(None);
        };
        Ok(pods(cluster)?.into_iter().find(|pod| pod.name == name))
    })
}

/// The value of a metric with these labels, by the operator's pod.
///
/// # Errors
/// If the API server, or one of the pods, does not answer.
pub fn metric_by_pod(
    cluster: &Cluster,
    name: &str,
    labels: &[(&str, &str)],
) -> Result<BTreeMap<String, f64>> {
    let value = |pod: OperatorPod| -> Result<(String, f64)> {
        let answer = calls::peek(SocketAddr::new(pod.address, METRICS_PORT), "/metrics")?;
        Ok((pod.name, metric_in(&answer.body, name, labels)))
    };
    pods(cluster)?.into_iter().map(value).collect()
}

fn metric_in(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |line: &&str| {
        labels
            .iter()
            .all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")))
    };
    let lines = text.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    });
    lines
        .filter(has)
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// An operator that is a process of this machine, for one namespace, with an administrator's rights. It ends with this
/// value.
pub struct HostOperator {
    child: Child,
    pub name: String,
}

/// How a [`HostOperator`] is started.
#[derive(Clone, Debug)]
pub struct HostOptions {
    pub program: PathBuf,
    pub name: String,
    /// Operators with one lease take turns; with leases of their own all of them act.
    pub lease: String,
    /// A folder in which a file of the name `operator` says how many more points are passed before the end, or, behind
    /// `stop `, before it stands still.
    pub die_at: Option<PathBuf>,
}

impl HostOperator {
    /// # Panics
    /// If the program can't be started.
    #[track_caller]
    pub fn start(space: &Space, options: &HostOptions) -> HostOperator {
        let log = space.log_folder().join(format!("{}.log", options.name));
        let log = File::options().create(true).append(true).open(log);
        let log = log.expect("a log");
        // Nothing of this process's environment, which may name a proxy; and it ends with the thread that starts it.
        let mut command = system(&options.program);
        command.args(["instance-guard", &std::process::id().to_string()]);
        command.arg(&options.program);
        command.arg("controller").args(["--namespace", &space.name]);
        command.args(["--default-image", &space.settings.image]);
        command.args(["--http-address", "127.0.0.1:0"]);
        command.args(["--lease-name", &options.lease]);
        command.args(["--lease-namespace", &space.name]);
        command.args(["--identity", &options.name]);
        command.env("KUBECONFIG", space.cluster.kubeconfig());
        if let Some(folder) = &options.die_at {
            command.env("UNDERSTUDY_DIE_AT", folder);
        }
        command.stdout(log.try_clone().expect("a second handle"));
        command.stderr(log);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", options.program.display()));
        HostOperator {
            child,
            name: options.name.clone(),
        }
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it was stopped.
    pub fn stands_still(&self) -> bool {
        let pid = i32::try_from(self.child.id());
        pid.is_ok_and(|pid| run_state(pid) == Some('T'))
    }

    /// SIGSTOP; it stands still when this returns.
    ///
    /// # Errors
    /// If it has ended.
    pub fn stop(&self) -> Result<()> {
        stop_process(i32::try_from(self.child.id())?)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// If it has ended.
    pub fn go_on(&self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::CONT).context("wake an operator")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for HostOperator {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Nobody in the cluster acts while this value lives: the operators are the test's own.
pub struct Absence<'a> {
    cluster: &'a Cluster,
}

impl<'a> Absence<'a> {
    /// # Errors
    /// If the operator's pods do not end.
    pub fn begin(cluster: &'a Cluster) -> Result<Absence<'a>> {
        scale(cluster, 0)?;
        Ok(Absence { cluster })
    }
}

impl Drop for Absence<'_> {
    fn drop(&mut self) {
        // The next space sees to it as well.
        if let Err(error) = scale(self.cluster, 2) {
            eprintln!("the operator is not back: {error:#}");
        }
    }
}

/// The program with points at which it dies.
///
/// # Errors
/// If it is not there.
pub fn mortal_program(settings: &Settings) -> Result<&Path> {
    let program = settings.mortal_operator.as_deref().context(
        "UNDERSTUDY_E2E_MORTAL_OPERATOR names no operator with debug assertions: `make e2e` builds one",
    )?;
    ensure!(program.is_file(), "{} is missing", program.display());
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_labels() {
        let text = "# HELP a_count b\na_count{namespace=\"n\",cluster=\"c\"} 2\n\
                    a_count{namespace=\"m\",cluster=\"c\"} 5\na_counter 9\na_sum{namespace=\"n\"} 0.75\n";
        assert_eq!(metric_in(text, "a_count", &[("namespace", "n")]), 2.0);
        assert_eq!(metric_in(text, "a_count", &[("cluster", "c")]), 7.0);
        assert_eq!(metric_in(text, "a_count", &[("cluster", "d")]), 0.0);
        assert_eq!(metric_in(text, "a_sum", &[]), 0.75);
        assert_eq!(metric_in(text, "a_counter", &[]), 9.0);
    }

    #[test]
    fn the_one_file_is_given_another_image() {
        let text = std::fs::read_to_string(PLAIN).expect("the file");
        let given = plain(&text, "registry.example/understudy:1").expect("it names its image");
        let times = given.matches("registry.example/understudy:1").count();
        assert_eq!(times, IMAGE_NAMED);
        assert!(given.contains("- --default-image=registry.example/understudy:1"));
        assert!(plain("image: a:1\n", "b:1").is_err(), "once");
        assert!(plain("kind: Pod\n", "b:1").is_err(), "never");
    }

    /// Else what a test has left of it would be in the way of every later one, and of the next run.
    #[test]
    fn what_the_one_file_makes_is_found_again() {
        let read = |path: &str| std::fs::read_to_string(path).expect(path);
        let (text, script) = (read(PLAIN), read("../../scripts/e2e.sh"));
        let kinds = text.lines().filter_map(|line| line.strip_prefix("kind: "));
        let kinds: Vec<&str> = kinds.filter(|kind| *kind != "Namespace").collect();
        for kind in &kinds {
            let all = format!("{}s", kind.to_lowercase());
            let is_known = PLAIN_KINDS.split(',').any(|known| known == all);
            assert!(is_known && script.contains(&all), "{kind}");
        }
        for label in PLAIN_SELECTOR.split(',') {
            let line = label.replace('=', ": ");
            assert!(text.matches(&line).count() >= kinds.len(), "{label}");
        }
        for words in [PLAIN_SELECTOR, UNFINISHED] {
            assert!(script.contains(words), "scripts/e2e.sh lacks {words}");
        }
    }

    #[test]
    fn a_leader_is_a_pod_and_an_image_a_repository_with_a_tag() {
        assert_eq!(
            holder("understudy-operator-x-y_1234"),
            Some("understudy-operator-x-y")
        );
        assert_eq!(holder(""), None);
        assert_eq!(
            image_values("understudy.local/understudy:0.1.0"),
            [
                "image.repository=understudy.local/understudy",
                "image.tag=0.1.0"
            ]
        );
    }
}
