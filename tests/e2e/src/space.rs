//! A test's namespace, with the *restricted* Pod Security level enforced; and what is kept of everything when the test
//! fails.
//!
//! A space is entered on a whole cluster with the operator installed, whatever the test before has left, and takes
//! everything along when it ends. Making a database and taking it away costs more than many a test: in the short form
//! those that are content with a healthy one share a space ([`Space::share`]), and each leaves the database at full
//! strength. A test that fails leaves nothing: whoever comes next begins anew.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde_json::{Value, json};
use understudy_cluster::command::{run, system};
use understudy_cluster::{Cluster, Progress};

use crate::calls;
use crate::controller;
use crate::database::HTTP_PORT;
use crate::evidence::LogKeeper;
use crate::heal::{heal, join_cluster, remove_namespace};
use crate::results::Line;
use crate::settings::Settings;

/// What is asked when a test fails, beside what the cluster itself keeps.
const QUESTIONS: [(&str, &[&str]); 5] = [
    ("clusters.yaml", &["get", "rcl", "-A", "-o", "yaml"]),
    ("clusters.txt", &["describe", "rcl", "-A"]),
    (
        "objects.yaml",
        &[
            "get",
            "statefulsets,endpointslices,services,pvc,pdb",
            "-A",
            "-o",
            "yaml",
        ],
    ),
    (
        "events.yaml",
        &["get", "events.events.k8s.io", "-A", "-o", "yaml"],
    ),
    (
        "operator.txt",
        &[
            "logs",
            "-n",
            controller::NAMESPACE,
            "-l",
            "app.kubernetes.io/name=understudy-operator",
            "--prefix",
            "--tail=5000",
        ],
    ),
];

/// What instances say of themselves, for whoever looks at a failed test.
const PAGES: [&str; 2] = ["/status", "/metrics"];

/// On the namespaces of tests, so that one that was left is found.
pub const LABEL: &str = "understudy.dev/e2e";
/// On them as well: the run that made them. In a cluster that an earlier run has kept the database that tests share may
/// be of another build.
const RUN_LABEL: &str = "understudy.dev/e2e-run";
/// The namespace of the tests that share one.
const SHARED: &str = "shared";

type Note = Box<dyn Fn() -> String + Send>;

pub struct Space {
    pub cluster: Cluster,
    pub settings: Settings,
    /// The test's name, under which its measurements and its evidence are kept.
    pub test: String,
    /// The namespace.
    pub name: String,
    logs: LogKeeper,
    notes: Mutex<Vec<(String, Note)>>,
}

impl Space {
    /// A namespace of the test's own.
    ///
    /// # Panics
    /// If there is no cluster, or it can't be made whole.
    #[track_caller]
    pub fn enter(test: &str) -> Space {
        Space::open(Settings::from_env(), test, test)
    }

    /// In the short form the namespace that tests share, with the database that the one before has left; in the long
    /// form one of the test's own. The test must leave the database `orders` with two standbys, at full strength.
    ///
    /// # Panics
    /// As [`Space::enter`].
    #[track_caller]
    pub fn share(test: &str) -> Space {
        let settings = Settings::from_env();
        let name = if settings.is_long { test } else { SHARED };
        Space::open(settings, test, name)
    }

    #[track_caller]
    fn open(settings: Settings, test: &str, name: &str) -> Space {
        let cluster = Cluster::attach(&settings.cluster);
        let cluster = cluster.unwrap_or_else(|error| panic!("{error:#}"));
        println!("\n== {test}, commit {}", settings.commit);
        join_cluster().unwrap_or_else(|error| panic!("{error:#}"));
        let space = Space {
            logs: LogKeeper::start(&cluster, test).expect("a folder for logs"),
            cluster,
            settings,
            test: test.to_owned(),
            name: name.to_owned(),
            notes: Mutex::default(),
        };
        space.prepare().unwrap_or_else(|error| panic!("{error:#}"));
        space
    }

    fn is_shared(&self) -> bool {
        self.name == SHARED
    }

    fn prepare(&self) -> Result<()> {
        heal(&self.cluster)?;
        let label = format!("{LABEL}=test");
        let run = self.settings.run.as_str();
        let left = ["get", "namespaces", "-l", label.as_str()];
        let left = self.cluster.kubectl_json(&left)?;
        for namespace in left["items"].as_array().into_iter().flatten() {
            let metadata = &namespace["metadata"];
            let name = metadata["name"].as_str().unwrap_or_default();
            if name != SHARED || metadata["labels"][RUN_LABEL] != run {
                remove_namespace(&self.cluster, name)?;
            }
        }
        self.cluster.recycle_volumes()?;
        controller::ensure(&self.cluster, &self.settings)?;
        let mut own = namespace(&self.name);
        own["metadata"]["labels"][LABEL] = json!("test");
        own["metadata"]["labels"][RUN_LABEL] = json!(run);
        self.cluster.apply(&own.to_string()).map(drop)
    }

    /// kubectl in this namespace.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String> {
        let of = ["-n", self.name.as_str()];
        self.cluster.kubectl(&[&of[..], arguments].concat())
    }

    /// kubectl in this namespace, which must succeed.
    ///
    /// # Panics
    /// With what it said if it fails.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments)
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// An object, or a list of them, of this namespace.
    ///
    /// # Errors
    /// As [`Space::try_kubectl`].
    pub fn try_get(&self, what: &[&str]) -> Result<Value> {
        let of = ["-n", self.name.as_str(), "get"];
        self.cluster.kubectl_json(&[&of[..], what].concat())
    }

    /// # Panics
    /// If it is not there.
    #[track_caller]
    pub fn get(&self, what: &[&str]) -> Value {
        self.try_get(what)
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Applies a manifest in this namespace.
    ///
    /// # Errors
    /// If the API server refuses it, with its message.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        let arguments = ["-n", self.name.as_str(), "apply", "-f", "-"];
        self.cluster.kubectl_with_input(&arguments, manifest)
    }

    /// Merges something into an object of this namespace.
    ///
    /// # Panics
    /// If the API server refuses it.
    #[track_caller]
    pub fn patch(&self, object: &str, patch: &Value, more: &[&str]) {
        let text = patch.to_string();
        let arguments = ["patch", object, "--type=merge", "-p", text.as_str()];
        self.kubectl(&[&arguments[..], more].concat());
    }

    /// What is to be written down, as it is then, if the test fails or misses a goal.
    pub fn note(&self, name: &str, text: impl Fn() -> String + Send + 'static) {
        self.notes.lock().push((name.to_owned(), Box::new(text)));
    }

    /// A folder whose files are kept if the test fails or misses a goal.
    pub fn log_folder(&self) -> PathBuf {
        self.logs.folder().to_owned()
    }

    /// Prints a result and puts it into the results file.
    #[track_caller]
    pub fn keep(&self, line: &Line) {
        line.keep(&self.settings).expect("the results file");
    }

    /// Says which goal was missed, and keeps what a test that failed keeps: the cause is in the logs, and the next time
    /// may be long in coming.
    pub fn keep_miss(&self, what: &str) {
        println!("GOAL MISSED: {what}");
        match self.keep_evidence() {
            Ok(folder) => println!("logs and objects are kept in {}", folder.display()),
            Err(error) => println!("not all logs could be kept: {error:#}"),
        }
    }

    fn keep_evidence(&self) -> Result<PathBuf> {
        let seconds = understudy_tests::local::now_ms() / 1000;
        let folder = self
            .settings
            .evidence
            .join(format!("{}-{seconds}", self.test));
        let folder = self.cluster.keep_evidence(&folder)?;
        for (name, note) in self.notes.lock().iter() {
            write(&folder.join(name), &note())?;
        }
        for (file, question) in QUESTIONS {
            let limit = ["--request-timeout=10s"];
            let answer = self.cluster.kubectl(&[question, &limit].concat());
            let text = answer.unwrap_or_else(|error| format!("not to be had: {error:#}\n"));
            write(&folder.join(file), &text)?;
        }
        let mut ps = system("ps");
        ps.args(["-e", "-o", "pid,ppid,stat,wchan:24,etime,args"]);
        let processes = run(&mut ps).unwrap_or_else(|error| format!("not to be had: {error:#}\n"));
        write(&folder.join("processes.txt"), &processes)?;
        write(&folder.join("instances.txt"), &self.own_words())?;
        self.logs.copy_to(&folder.join("pods-since-the-start"))?;
        Ok(folder)
    }

    /// What each instance answers that can be reached, whatever the record says of it.
    fn own_words(&self) -> String {
        let list = self.try_get(&[
            "pods",
            "-l",
            "understudy.dev/cluster",
            "--request-timeout=10s",
        ]);
        let pods = match &list {
            Ok(list) => list["items"].as_array().into_iter().flatten(),
            Err(error) => return format!("not to be had: {error:#}\n"),
        };
        let mut text = String::new();
        for pod in pods {
            let name = pod["metadata"]["name"].as_str().unwrap_or("?");
            let address = pod["status"]["podIP"].as_str().unwrap_or_default();
            for page in PAGES {
                let said = address
                    .parse::<IpAddr>()
                    .context("it has no address")
                    .and_then(|address| calls::peek(SocketAddr::new(address, HTTP_PORT), page));
                let said = match said {
                    Ok(answer) => format!("{}\n{}", answer.status, answer.body),
                    Err(error) => format!("{error:#}"),
                };
                text += &format!("== {name} {page}: {said}\n");
            }
        }
        text
    }

    fn leave(&self, failed: bool) -> Result<()> {
        heal(&self.cluster)?;
        if self.is_shared() && !failed {
            return Ok(());
        }
        remove_namespace(&self.cluster, &self.name)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// A namespace in which only restricted pods may run.
pub fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/warn": "restricted",
        }},
    })
}

impl Drop for Space {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            // One that the test has stopped answers no question.
            let _ = self.cluster.continue_api_server();
            match self.keep_evidence() {
                Ok(folder) => eprintln!("logs and objects are kept in {}", folder.display()),
                Err(error) => eprintln!("not all logs could be kept: {error:#}"),
            }
        }
        let left = self.leave(failed);
        if let Err(error) = left {
            let text = format!("{} does not end: {error:#}", self.test);
            Progress::default().say(&text);
            assert!(failed, "{text}");
        }
    }
}
