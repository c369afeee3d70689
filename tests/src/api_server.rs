//! A real Kubernetes API server of the test's own, with its etcd: nothing else of a cluster. Manifests are judged and
//! stored as anywhere; nothing runs.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::programs::{free_port, run_ok};

const START_LIMIT: Duration = Duration::from_secs(300);
const TOKEN: &str = "the-tests-own";

pub struct ApiServer {
    dir: tempfile::TempDir,
    kubectl: PathBuf,
    /// In the order in which they are to end.
    processes: Vec<(&'static str, Child)>,
}

/// The newest folder below `understudy/kubernetes` in the cache that has Kubernetes' programs, or why there is none.
fn programs() -> Result<PathBuf, String> {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").ok_or("HOME is not set")?).join(".cache"),
    };
    let cache = cache.join("understudy").join("kubernetes");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&cache)
        .map_err(|error| format!("{}: {error}", cache.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_none_or(|e| e != "partial"))
        .filter(|path| path.join("kube-apiserver").is_file())
        .collect();
    folders.sort();
    let newest = folders.pop();
    newest.ok_or_else(|| format!("{} holds no kube-apiserver", cache.display()))
}

/// A program on the search path.
fn found(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

impl ApiServer {
    /// Starts one, or says why it can't be had here.
    ///
    /// # Panics
    /// When the programs are there and do not start.
    pub fn started() -> Result<ApiServer, String> {
        let folder = programs()?;
        let etcd = found("etcd").ok_or("etcd is not installed")?;
        let beside = folder.join("kubectl");
        let kubectl = if beside.is_file() {
            beside
        } else {
            found("kubectl").ok_or("kubectl is not installed")?
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut server = ApiServer {
            dir,
            kubectl,
            processes: Vec::new(),
        };
        let storage = server.start_etcd(&etcd);
        let port = server.start_server(&folder.join("kube-apiserver"), &storage);
        server.write_kubeconfig(port);
        server.wait();
        Ok(server)
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    fn start(&mut self, name: &'static str, program: &Path, arguments: &[String]) {
        let log = File::create(self.file(&format!("{name}.log"))).expect("a log");
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        self.processes.insert(0, (name, child));
    }

    fn start_etcd(&mut self, program: &Path) -> String {
        let client = format!("http://127.0.0.1:{}", free_port());
        let peer = format!("http://127.0.0.1:{}", free_port());
        let arguments = [
            format!("--data-dir={}", self.file("etcd")),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
        ];
        self.start("etcd", program, &arguments);
        client
    }

    fn start_server(&mut self, program: &Path, storage: &str) -> u16 {
        let key = self.file("accounts.key");
        run_ok(Command::new("openssl").args(["genrsa", "-out", &key, "2048"]));
        let tokens = self.file("tokens.csv");
        std::fs::write(&tokens, format!("{TOKEN},admin,1,system:masters\n")).expect("written");
        let port = free_port();
        let arguments = [
            format!("--etcd-servers={storage}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", self.file("certificates")),
            format!("--token-auth-file={tokens}"),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://127.0.0.1".to_owned(),
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            // Nobody makes service accounts' Secrets or judges quotas here.
            "--disable-admission-plugins=ResourceQuota".to_owned(),
        ];
        self.start("kube-apiserver", program, &arguments);
        port
    }

    fn write_kubeconfig(&self, port: u16) {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: 'https://127.0.0.1:{port}', insecure-skip-tls-verify: true}}}}]\n\
             users: [{{name: test, user: {{token: {TOKEN}}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n"
        );
        std::fs::write(self.file("kubeconfig"), text).expect("written");
    }

    fn wait(&mut self) {
        let begin = Instant::now();
        while !self.kubectl(&["get", "--raw", "/readyz"]).status.success()
            || !self
                .kubectl(&["get", "namespace", "default"])
                .status
                .success()
        {
            for (name, child) in &mut self.processes {
                let ended = child.try_wait().expect("a child of ours");
                assert!(ended.is_none(), "{name} has ended: {ended:?}");
            }
            assert!(begin.elapsed() < START_LIMIT, "{}", self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Who may do everything, for clients of the test's own.
    pub fn kubeconfig(&self) -> String {
        self.file("kubeconfig")
    }

    /// From now on nobody answers.
    ///
    /// # Panics
    /// When its processes can't be ended.
    pub fn stop(&mut self) {
        for (name, child) in &mut self.processes {
            child.kill().unwrap_or_else(|e| panic!("{name}: {e}"));
            child.wait().unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        self.processes.clear();
    }

    /// The end of the API server's log.
    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.file("kube-apiserver.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .env("KUBECONFIG", self.file("kubeconfig"))
            .env("KUBECACHEDIR", self.file("cache"))
            .env("HOME", self.dir.path())
            .args(arguments);
        command
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.command(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("kubectl runs")
    }

    /// What kubectl prints; it must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// An object as it is stored.
    ///
    /// # Panics
    /// When it is not there.
    pub fn get(&self, arguments: &[&str]) -> Value {
        let all: Vec<&str> = ["get", "-o", "json"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        serde_json::from_str(&self.ok(&all)).expect("kubectl prints JSON")
    }

    /// `kubectl apply` of a text; what was said if it was refused.
    ///
    /// # Errors
    /// kubectl's words.
    pub fn apply(&self, manifest: &str, options: &[&str]) -> Result<String, String> {
        let arguments: Vec<&str> = ["apply", "-f", "-"]
            .into_iter()
            .chain(options.iter().copied())
            .collect();
        self.feed(&arguments, manifest)
    }

    /// A command of kubectl's that reads a text; what was said if it was refused.
    ///
    /// # Errors
    /// kubectl's words.
    ///
    /// # Panics
    /// When kubectl does not run.
    pub fn feed(&self, arguments: &[&str], manifest: &str) -> Result<String, String> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        let mut input = child.stdin.take().expect("piped");
        input.write_all(manifest.as_bytes()).expect("kubectl reads");
        drop(input);
        let output = child.wait_with_output().expect("kubectl ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the end of the API server's log:\n{}", self.log());
        }
        for (_, child) in &mut self.processes {
            // One that has ended already is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
