//! A PostgreSQL 15 server of the test's own: the referee.

use std::path::PathBuf;
use std::process::Command;

use crate::programs::{as_postgres, free_port, postgres, run_ok};
use crate::wire::Client;

pub struct Reference {
    dir: tempfile::TempDir,
    pub port: u16,
}

impl Reference {
    /// Initialised with C locale and checksums, started, trust authentication.
    pub fn started() -> Reference {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // The server runs as another user, who has to reach the directory.
        run_ok(Command::new("chmod").arg("0777").arg(dir.path()));
        let reference = Reference {
            dir,
            port: free_port(),
        };
        let mut initdb = as_postgres(&postgres("initdb"));
        initdb.args([
            "--no-locale",
            "--encoding=UTF8",
            "-k",
            "-N",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-D",
        ]);
        run_ok(initdb.arg(reference.data()));
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1",
            reference.port,
            reference.dir.path().display()
        );
        let mut start = as_postgres(&postgres("pg_ctl"));
        start.args(["start", "-w", "-s", "-o", &options, "-l"]);
        run_ok(
            start
                .arg(reference.dir.path().join("log"))
                .arg("-D")
                .arg(reference.data()),
        );
        reference
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port).expect("the referee answers")
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let mut stop = as_postgres(&postgres("pg_ctl"));
        stop.args(["stop", "-s", "-w", "-m", "immediate", "-D"])
            .arg(self.data());
        let _ = stop.output();
    }
}
