//! Standbys: made from base backups, waited for, compared with their primaries.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::programs::run_ok;
use crate::server::Server;

/// Longer than anything here should take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `check` holds; panics with `what` when it does not in time.
#[track_caller]
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !check() {
        assert!(Instant::now() < until, "in {LIMIT:?} not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Stops every thread of the server until the value is dropped: a peer that is there and says nothing.
pub fn frozen(server: &Server) -> Frozen<'_> {
    server.signal(Signal::STOP);
    let tasks = format!("/proc/{}/task", server.pid().as_raw_nonzero());
    eventually("every thread has stopped", || {
        let tasks = fs::read_dir(&tasks).expect("it runs");
        tasks.flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_none_or(|s| s.starts_with('T'))
        })
    });
    Frozen(server)
}

/// Goes on when it is dropped.
pub struct Frozen<'a>(&'a Server);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

impl Server {
    /// `pg_basebackup` into `data`, with a fast checkpoint.
    pub fn base_backup(&self, data: &Path, arguments: &[&str]) -> String {
        let mut command = self.tool("pg_basebackup");
        command.args(["-c", "fast", "-D"]).arg(data).args(arguments);
        run_ok(&mut command)
    }

    /// A standby of this server, not started: a base backup with the connection written by `-R`.
    pub fn standby(&self, name: &str) -> Server {
        let standby = Server::filled(|data| {
            self.base_backup(data, &["-X", "stream", "-R"]);
        });
        standby.configure(&format!("cluster_name = '{name}'"));
        standby
    }

    /// A standby that runs and streams.
    pub fn started_standby(&self, name: &str) -> Server {
        let mut standby = self.standby(name);
        standby.start();
        self.wait_for_stream(name);
        standby
    }

    /// Until a standby of that name streams from here.
    pub fn wait_for_stream(&self, name: &str) {
        let asked = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{name}' AND state = 'streaming'"
        );
        eventually(&format!("{name} streams"), || {
            self.psql(&asked).trim() == "1"
        });
    }

    /// Until `standby` shows everything that this server has now.
    pub fn wait_for_replay(&self, standby: &Server) {
        let end = self.psql("SELECT pg_current_wal_flush_lsn()");
        let end = end.trim();
        let asked = format!("SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '{end}') >= 0");
        eventually(&format!("replay reaches {end}"), || {
            standby.psql(&asked).trim() == "t"
        });
    }

    /// Until a write succeeds here; gives how long that took.
    pub fn wait_until_writable(&self, sql: &str) -> Duration {
        let begun = Instant::now();
        eventually("the server accepts writes", || {
            let client = crate::wire::Client::connect(self.port);
            client.is_ok_and(|mut c| {
                c.query(sql)
                    .is_ok_and(|answers| answers.iter().all(|a| a.error.is_none()))
            })
        });
        begun.elapsed()
    }
}
