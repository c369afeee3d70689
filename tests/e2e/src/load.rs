//! pgbench against a database, from this machine: through the Service, with the `-app` Secret, over TLS `verify-full`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use understudy_cluster::command::system;
use understudy_tests::programs::postgres;

use crate::database::Database;
use crate::session::Access;
use crate::space::Space;

/// What libpq has to be told, and the file in which the authority is.
pub struct Target {
    conninfo: String,
    password: String,
    authority: PathBuf,
}

impl Target {
    /// # Panics
    /// If the authority's file can't be written.
    pub fn new(space: &Space, access: &Access, to: SocketAddr) -> Target {
        let authority = space.log_folder().join(format!("{}.crt", access.host));
        std::fs::write(&authority, &access.authority).expect("writable");
        Target {
            conninfo: format!(
                "host={} hostaddr={} port={} user={} dbname={} sslmode=verify-full \
                 connect_timeout=2 tcp_user_timeout=2000",
                access.host,
                to.ip(),
                to.port(),
                access.user,
                access.database
            ),
            password: access.password.clone(),
            authority,
        }
    }

    /// Of a database's write Service.
    ///
    /// # Panics
    /// If the database has none.
    #[track_caller]
    pub fn of(database: &Database<'_>) -> Target {
        let to = database.service("primary");
        Target::new(database.space, &database.access(), to)
    }

    /// A program of PostgreSQL's with these arguments and the connection at their end.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = system(postgres(program));
        command.args(arguments).arg(&self.conninfo);
        command.env("PGPASSWORD", &self.password);
        command.env("PGSSLROOTCERT", &self.authority);
        command.env("HOME", "/nonexistent");
        command
    }
}

/// pgbench's tables, of this scale.
///
/// # Panics
/// If pgbench fails.
#[track_caller]
pub fn fill(target: &Target, scale: u32) {
    let scale = scale.to_string();
    let output = target
        .command("pgbench", &["-i", "-q", "-s", &scale, "-I", "dtgvp"])
        .output()
        .expect("pgbench runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "pgbench -i: {errors}");
}

/// TPC-B, beside the test. It ends with this value.
pub struct Bench(Option<Child>);

impl Bench {
    /// # Panics
    /// If pgbench can't be started.
    #[track_caller]
    pub fn start(target: &Target, clients: u32, seconds: u64) -> Bench {
        let (clients, seconds) = (clients.to_string(), seconds.to_string());
        let arguments = ["-n", "-c", &clients, "-j", "2", "-T", &seconds, "-P", "30"];
        let mut command = target.command("pgbench", &arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Bench(Some(command.spawn().expect("pgbench runs")))
    }

    /// Waits for its end and gives what it printed.
    ///
    /// # Panics
    /// If it can't be waited for.
    pub fn finish(mut self) -> Output {
        let child = self.0.take().expect("finished once");
        child.wait_with_output().expect("pgbench ends")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
