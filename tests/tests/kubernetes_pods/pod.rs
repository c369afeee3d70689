//! An instance's pod: a process of the test, with its volume and what is mounted, on a loopback address of its own.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use operator::api::{SeedSource, SupervisorStatus, Upstream};
use operator::render::{CONTROL_PORT, Certified, POSTGRES_PORT};
use operator::tls;
use operator::transport::{self, Address, CallError, Peer};
use understudy_tests::programs::{ours, postgres};

use crate::LIMIT;
use crate::world::World;

/// An instance's pod: its volume, what is mounted, and its one process.
pub(crate) struct Pod {
    number: u8,
    pub(crate) root: PathBuf,
    kubeconfig: String,
    child: Option<Child>,
}

impl Pod {
    pub(crate) fn new(world: &World, number: u8) -> Pod {
        let root = world.dir.path().join(format!("pod{number}"));
        for folder in ["volume", "run/understudy", "etc/understudy/tls"] {
            std::fs::create_dir_all(root.join(folder)).expect("made");
        }
        let pod = Pod {
            number,
            root,
            kubeconfig: world.server.kubeconfig(),
            child: None,
        };
        let made = &world.credentials;
        for (file, text) in [
            ("ca.crt", &made.authority.certificate),
            ("server.crt", &made.server.certificate),
            ("server.key", &made.server.key),
            ("client.crt", &made.client.certificate),
            ("client.key", &made.client.key),
        ] {
            pod.mount(&format!("tls/{file}"), text);
        }
        for (of, password) in [
            ("superuser", &made.superuser_password),
            ("replication", &made.replication_password),
            ("app", &made.app_password),
        ] {
            pod.mount(&format!("secrets/{of}/password"), password);
        }
        pod
    }

    pub(crate) fn mount(&self, file: &str, text: &str) {
        let path = self.root.join("etc/understudy").join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("protected");
    }

    pub(crate) fn volume(&self) -> PathBuf {
        self.root.join("volume")
    }

    pub(crate) fn instance(&self) -> String {
        format!("orders-{}", self.number)
    }

    pub(crate) fn ip(&self) -> IpAddr {
        IpAddr::from([127, 0, 1, self.number])
    }

    pub(crate) fn host(&self) -> String {
        format!("{}-0.orders-instances.shop.svc", self.instance())
    }

    pub(crate) fn upstream(&self) -> Upstream {
        Upstream {
            host: self.host(),
            address: self.ip(),
        }
    }

    pub(crate) fn seed_source(&self) -> SeedSource {
        SeedSource {
            instance: self.instance(),
            host: self.host(),
            address: self.ip(),
            port: u16::try_from(POSTGRES_PORT).expect("a port"),
        }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(crate) fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("a log");
        let child = Command::new(ours("understudy-operator"))
            .args(["instance", "--dir"])
            .arg(self.volume())
            .env("KUBECONFIG", &self.kubeconfig)
            .env("UNDERSTUDY_CLUSTER", "orders")
            .env("UNDERSTUDY_NAMESPACE", "shop")
            .env("UNDERSTUDY_INSTANCE", self.instance())
            .env("UNDERSTUDY_POD", format!("{}-0", self.instance()))
            .env("UNDERSTUDY_POD_UID", format!("pod-{}", self.number))
            .env("UNDERSTUDY_POD_IP", self.ip().to_string())
            .env("UNDERSTUDY_LISTEN", self.ip().to_string())
            .env("UNDERSTUDY_ROOT", &self.root)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("started");
        self.child = Some(child);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("started").id()
    }

    pub(crate) fn terminate(&self) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let pid = pid.expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
    }

    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            let child = self.child.as_mut().expect("started");
            if let Some(status) = child.try_wait().expect("a child of ours") {
                self.child = None;
                return status;
            }
            assert!(begin.elapsed() < LIMIT, "it does not end\n{}", self.words());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of its log.
    pub(crate) fn words(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!(
            "--- {}\n{}",
            self.instance(),
            lines[lines.len().saturating_sub(40)..].join("\n")
        )
    }

    /// A request as `who`, whose authority is the cluster's.
    pub(crate) fn call<T: serde::de::DeserializeOwned>(
        &self,
        world: &World,
        who: &Certified,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, CallError> {
        let authority = &world.credentials.authority.certificate;
        let port = u16::try_from(CONTROL_PORT).expect("a port");
        let peer = Peer {
            address: SocketAddr::new(self.ip(), port),
            name: self.host().try_into().expect("a name"),
            config: tls::client(authority, who).expect("a client"),
        };
        let limit = Duration::from_secs(10);
        let address = Address::Tls(&peer);
        world
            .runtime
            .block_on(transport::call(address, path, None, body, limit))
    }

    pub(crate) fn status(&self, world: &World) -> Result<SupervisorStatus, CallError> {
        self.call(world, &world.credentials.operator, "/status", None)
    }

    /// An order of the operator's, obeyed.
    pub(crate) fn order(
        &self,
        world: &World,
        path: &str,
        body: &impl serde::Serialize,
    ) -> SupervisorStatus {
        let body = serde_json::to_vec(body).expect("JSON");
        let operator = &world.credentials.operator;
        self.call(world, operator, path, Some(body))
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.words()))
    }

    pub(crate) fn until(
        &self,
        world: &World,
        what: &str,
        is_so: impl Fn(&SupervisorStatus) -> bool,
    ) -> SupervisorStatus {
        let begin = Instant::now();
        loop {
            let status = self.status(world);
            if let Ok(status) = &status
                && is_so(status)
            {
                println!(
                    "{}: {what} after {} ms",
                    self.instance(),
                    begin.elapsed().as_millis()
                );
                return status.clone();
            }
            assert!(
                begin.elapsed() < LIMIT,
                "{}: not {what}: {status:?}\n{}",
                self.instance(),
                self.words()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// PostgreSQL's own client, over TLS, as it would come through the Service.
    pub(crate) fn psql(&self, world: &World, user: &str, password: &str, sql: &str) -> Output {
        let authority = world.dir.path().join("ca.crt");
        std::fs::write(&authority, &world.credentials.authority.certificate).expect("written");
        let conninfo = format!(
            "host=orders-primary.shop.svc hostaddr={} port={POSTGRES_PORT} user={user} dbname=shop \
             sslmode=verify-full sslrootcert={} connect_timeout=10",
            self.ip(),
            authority.display()
        );
        Command::new(postgres("psql"))
            .env("PGPASSWORD", password)
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &conninfo, "-c", sql])
            .output()
            .expect("psql runs")
    }

    pub(crate) fn asks(&self, world: &World, sql: &str) -> String {
        let output = self.psql(world, "keeper", &world.credentials.app_password, sql);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {errors}\n{}", self.words());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.words());
        }
        if let Some(child) = &mut self.child {
            // One that has ended already is what is wanted; the engine ends with it.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether an engine still holds the volume's data directory.
pub(crate) fn has_engine(volume: &Path) -> bool {
    let wanted = volume.join("data");
    std::fs::read_dir("/proc")
        .expect("read")
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| {
            line.split(|byte| *byte == 0)
                .any(|word| word == wanted.as_os_str().as_encoded_bytes())
        })
}
