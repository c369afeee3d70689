//! The container image: what is in it, and that its programs run as on Kubernetes, without a library, a shell, root, or a
//! root file system that can be written. `make image-test` builds it and runs this, as root.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use understudy_tests::programs::{free_port, run, run_ok};
use understudy_tests::standby::eventually;

/// uid and gid of the image's user.
const USER: &str = "10001:10001";
const MOST_BYTES: u64 = 40 << 20;

/// The image laid out as a container has it, with what a kubelet mounts.
struct Container {
    dir: tempfile::TempDir,
    config: Value,
}

impl Container {
    fn new() -> Container {
        let archive = std::env::var_os("UNDERSTUDY_IMAGE_ARCHIVE");
        let archive = archive.expect("`make image-test` says where the image is");
        let dir = tempfile::tempdir().expect("a folder");
        run_ok(Command::new("chmod").arg("0755").arg(dir.path()));
        let oci = dir.path().join("oci");
        let root = dir.path().join("root");
        for folder in [&oci, &root] {
            fs::create_dir(folder).expect("made");
        }
        run_ok(
            Command::new("tar")
                .arg("-xf")
                .arg(archive)
                .arg("-C")
                .arg(&oci),
        );
        let json = |path: &Path| -> Value {
            serde_json::from_slice(&fs::read(path).expect("there")).expect("JSON")
        };
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().expect("a digest");
            oci.join("blobs").join(digest.replace(':', "/"))
        };
        let index = json(&oci.join("index.json"));
        let manifest = json(&blob(&index["manifests"][0]));
        for layer in manifest["layers"].as_array().expect("layers") {
            let mut tar = Command::new("tar");
            tar.arg("-xpf").arg(blob(layer)).arg("-C").arg(&root);
            run_ok(&mut tar);
        }
        let config = json(&blob(&manifest["config"]));
        // What is mounted on Kubernetes.
        for name in ["data", "run", "tmp"] {
            let folder = dir.path().join(name);
            fs::create_dir(&folder).expect("made");
            run_ok(Command::new("chown").arg(USER).arg(folder));
        }
        fs::create_dir(root.join("dev")).expect("made");
        fs::create_dir(root.join("proc")).expect("made");
        Container { dir, config }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// A program of the image as its user, on a root that it can't write; the mounts go with the process.
    fn command(&self, arguments: &[&str]) -> Command {
        const SCRIPT: &str = "set -e; d=$1; shift; mount --bind \"$d/root\" \"$d/root\"; \
            mount --bind /dev \"$d/root/dev\"; mount -t proc proc \"$d/root/proc\"; \
            mount --bind \"$d/data\" \"$d/root/var/lib/understudy\"; mount --bind \"$d/run\" \"$d/root/run/understudy\"; \
            mount --bind \"$d/tmp\" \"$d/root/tmp\"; mount -o remount,bind,ro \"$d/root\"; \
            exec env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin chroot --userspec=10001:10001 --groups= \"$d/root\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            SCRIPT,
            "sh",
        ]);
        command.arg(self.dir.path()).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    fn understudy(&self, arguments: &[&str]) -> Command {
        let mut all = vec!["/usr/local/bin/understudy"];
        all.extend(arguments);
        self.command(&all)
    }

    fn initdb(&self) {
        let arguments = [
            "initdb",
            "-D",
            DATA,
            "-A",
            "trust",
            "--no-locale",
            "--encoding=UTF8",
        ];
        run_ok(&mut self.understudy(&arguments));
    }

    fn start(&self, port: u16, arguments: &[&str]) -> Running {
        let log = fs::File::create(self.dir.path().join("log")).expect("writable");
        let port = format!("port={port}");
        let mut all = vec!["postgres", "-D", DATA, "-c", &port];
        all.extend(["-c", "listen_addresses=127.0.0.1", "-c"]);
        all.push("unix_socket_directories=/run/understudy");
        all.extend(arguments);
        let mut command = self.understudy(&all);
        command
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        Running(command.spawn().expect("it starts"))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn sql(&self, port: u16, query: &str) -> String {
        let port = port.to_string();
        run_ok(&mut self.understudy(&["sql", "-p", &port, "-At", "-c", query]))
    }

    fn wait_until_ready(&self, port: u16) {
        let port = port.to_string();
        eventually("the server answers", || {
            let mut command = self.understudy(&["sql", "-p", &port, "-c", "SELECT 1"]);
            run(&mut command).status.success()
        });
    }
}

const DATA: &str = "/var/lib/understudy/data";

struct Running(Child);

impl Running {
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).expect("our child");
        assert!(self.0.wait().expect("it ends").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every file with its size; links and folders have none.
fn files(root: &Path, folder: &Path, found: &mut BTreeMap<String, u64>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let metadata = fs::symlink_metadata(&path).expect("there");
        if metadata.is_dir() {
            files(root, &path, found);
        } else {
            let name = path
                .strip_prefix(root)
                .expect("below")
                .display()
                .to_string();
            found.insert(
                name,
                if metadata.is_symlink() {
                    0
                } else {
                    metadata.len()
                },
            );
        }
    }
}

#[test]
#[ignore = "needs the image: make image-test"]
fn it_holds_the_programs_and_nothing_else() {
    let container = Container::new();
    let mut found = BTreeMap::new();
    files(&container.root(), &container.root(), &mut found);
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "etc/group",
            "etc/nsswitch.conf",
            "etc/passwd",
            "usr/local/bin/initdb",
            "usr/local/bin/pg_ctl",
            "usr/local/bin/postgres",
            "usr/local/bin/understudy",
            "usr/local/bin/understudy-operator",
        ]
    );
    let bytes: u64 = found.values().sum();
    println!("{:.1} MB", bytes as f64 / 1e6);
    assert!(bytes < MOST_BYTES, "{bytes}");
    for program in ["understudy", "understudy-operator"] {
        let path = container.root().join("usr/local/bin").join(program);
        let said = run_ok(Command::new("readelf").args(["-ld", "-W"]).arg(path));
        for needed in ["INTERP", "(NEEDED)"] {
            assert!(!said.contains(needed), "{program}: {said}");
        }
    }
}

#[test]
#[ignore = "needs the image: make image-test"]
fn it_says_what_it_is() {
    let config = Container::new().config["config"].clone();
    assert_eq!(config["User"], USER);
    assert_eq!(config["Entrypoint"][0], "/usr/local/bin/understudy");
    assert_eq!(config["Env"][0], "PATH=/usr/local/bin");
    let labels = &config["Labels"];
    let label = |name: &str| labels[format!("org.opencontainers.image.{name}")].as_str();
    assert_eq!(label("version"), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(label("title"), Some("Understudy"));
    assert_eq!(label("licenses"), Some("Apache-2.0"));
    assert!(label("description").is_some());
    assert!(label("revision").is_some_and(|r| r.len() == 40), "{labels}");
}

#[test]
#[ignore = "needs the image: make image-test"]
fn a_database_lives_in_it() {
    let container = Container::new();
    let port = free_port();
    container.initdb();
    let archive = container.dir.path().join("data/archive");
    fs::create_dir(&archive).expect("made");
    run_ok(Command::new("chown").arg(USER).arg(&archive));
    let command = "archive_command=understudy archive-copy %p /var/lib/understudy/archive/%f";
    let running = container.start(port, &["-c", "archive_mode=on", "-c", command]);
    container.wait_until_ready(port);
    // Without an address it finds the socket, and is the superuser.
    assert_eq!(
        container.sql(port, "SELECT current_user, current_database()"),
        "postgres|postgres\n"
    );
    container.sql(
        port,
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)",
    );
    container.sql(port, "SELECT pg_switch_wal()");
    eventually("a segment is archived", || {
        fs::read_dir(&archive).expect("a folder").count() > 0
    });
    // There is no shell.
    let port_text = port.to_string();
    let shell = "ALTER SYSTEM SET archive_command = 'test ! -f /a/%f && cp %p /a/%f'";
    let output = run(&mut container.understudy(&["sql", "-p", &port_text, "-c", shell]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("The command needs a shell"), "{said}");
    running.stop();
    let running = container.start(port, &[]);
    container.wait_until_ready(port);
    assert_eq!(
        container.sql(port, "SELECT count(*) FROM t"),
        "2\n",
        "{}",
        container.log()
    );
    running.stop();
}

#[test]
#[ignore = "needs the image: make image-test"]
fn the_operator_runs_in_it() {
    let container = Container::new();
    let crd = run_ok(&mut container.command(&["/usr/local/bin/understudy-operator", "crd"]));
    let kept = fs::read_to_string("../crds/replicatedclusters.yaml").expect("there");
    assert!(crd == kept, "the image's operator prints another CRD");
    let help = run_ok(&mut container.command(&["/usr/local/bin/understudy-operator", "--help"]));
    assert!(help.contains("instance"), "{help}");
}

/// A name server on an address of its own, which knows one Service.
fn name_server(address: &str) -> std::thread::JoinHandle<Vec<String>> {
    let socket = UdpSocket::bind((address, 53)).expect("root may listen on port 53");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("set");
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let query = &packet[..length];
            let (name, end) = question(query);
            let is_known = name == SERVICE;
            let wants_v4 = query[end..end + 2] == [0, 1];
            let answers = u8::from(is_known && wants_v4);
            let mut reply = query[..2].to_vec();
            reply.extend([0x85, if is_known { 0x80 } else { 0x83 }]);
            reply.extend([0, 1, 0, answers, 0, 0, 0, 0]);
            reply.extend(&query[12..end + 4]);
            if answers == 1 {
                reply.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&reply, from).expect("sent");
            asked.push(name);
        }
        asked
    })
}

const SERVICE: &str = "orders-primary.shop.svc.cluster.local";

/// The name that is asked for, and where the type stands.
fn question(query: &[u8]) -> (String, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).into_owned());
        at = end;
    }
    (labels.join("."), at + 1)
}

/// Look-ups in a static program are the C library's own, without modules to load: /etc/hosts first, then DNS with the
/// search list that a kubelet writes.
#[test]
#[ignore = "needs the image: make image-test"]
fn it_finds_services_by_name() {
    let container = Container::new();
    let address = "127.53.53.53";
    let etc = container.root().join("etc");
    let resolv = format!(
        "nameserver {address}\nsearch shop.svc.cluster.local svc.cluster.local\noptions ndots:5\n"
    );
    fs::write(etc.join("resolv.conf"), resolv).expect("written");
    fs::write(etc.join("hosts"), "127.0.0.1 localhost by-hosts\n").expect("written");
    let port = free_port();
    container.initdb();
    let running = container.start(port, &[]);
    container.wait_until_ready(port);
    let server = name_server(address);
    let port_text = port.to_string();
    for host in [
        "orders-primary",
        "orders-primary.shop.svc.cluster.local.",
        "by-hosts",
    ] {
        let arguments = [
            "sql",
            "-h",
            host,
            "-p",
            &port_text,
            "-At",
            "-c",
            "SELECT 'reached'",
        ];
        assert_eq!(
            run_ok(&mut container.understudy(&arguments)),
            "reached\n",
            "{host}"
        );
    }
    let absent = ["sql", "-h", "absent", "-p", &port_text, "-c", "SELECT 1"];
    let output = run(&mut container.understudy(&absent));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said.contains("could not translate host name \"absent\" to address"),
        "{said}"
    );
    running.stop();
    let asked = server.join().expect("it ends");
    assert!(asked.iter().any(|name| name == SERVICE), "{asked:?}");
    assert!(
        !asked.iter().any(|name| name.starts_with("by-hosts")),
        "{asked:?}"
    );
}
