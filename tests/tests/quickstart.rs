//! The quick start's script from its beginning to its end, on programs that are built, with a short load; and what ends it.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use understudy_tests::programs::{ours, run, run_ok};
use understudy_tests::standby::eventually;
use understudy_tests::wire::Client;

/// Ends the cluster whatever becomes of the test.
struct QuickStart {
    folder: tempfile::TempDir,
}

impl QuickStart {
    fn script(&self, name: &str) -> Command {
        let mut command = Command::new("bash");
        command.arg(Path::new("quickstart").join(name));
        let programs = ours("ledger");
        command.env("UNDERSTUDY_BIN_DIR", programs.parent().expect("a folder"));
        command.env("UNDERSTUDY_DIR", self.folder.path().join("c"));
        command.env("QUICKSTART_SECONDS", "8");
        command.env("QUICKSTART_SCALE", "1");
        command
    }

    fn port(&self) -> u16 {
        let text = std::fs::read(self.folder.path().join("c/local.json")).expect("written");
        let settings: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let port = settings["port"].as_u64().expect("a port");
        u16::try_from(port).expect("a port")
    }
}

impl Drop for QuickStart {
    fn drop(&mut self) {
        let _ = self.script("stop.sh").output();
    }
}

#[test]
fn the_quick_start_comes_to_its_proof_and_leaves_a_cluster_until_it_is_stopped() {
    let start = QuickStart {
        folder: tempfile::tempdir().expect("a temporary folder"),
    };
    let idle = run_ok(&mut start.script("stop.sh"));
    assert!(idle.contains("nothing to stop"), "{idle}");
    // By us, or by somebody already.
    let _taken = TcpListener::bind(("127.0.0.1", 5432));
    let output = run(&mut start.script("quickstart.sh"));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}\n{errors}");
    let port = start.port();
    let connect = format!("psql -h 127.0.0.1 -p {port} -U postgres bench");
    for words in [
        connect.as_str(),
        "port 5432 or one of the next two is taken; using",
        "progress: ",
        "SIGKILL to the primary",
        "took over in term",
        "number of failed transactions: 0 (0.000%)",
        "missing=0",
        "FailoverCompleted",
        "kill to the first write:    ",
        "acknowledged and missing:   0",
    ] {
        assert!(shown.contains(words), "no {words:?} in\n{shown}\n{errors}");
    }
    assert!(!shown.contains("kill to the first write:    ?"), "{shown}");

    let mut client = Client::connect_as(port, "postgres", "bench").expect("it is left running");
    assert_ne!(client.value("SELECT count(*) FROM understudy_ledger"), "0");
    run_ok(&mut start.script("stop.sh"));
    eventually("nobody listens any more", || {
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
}
