//! What a thousand connections cost that have run one query each and wait.

use rustix::process::{Resource, getrlimit, setrlimit};
use understudy_tests::wire::Client;

use super::Effort;
use super::pair::{Pair, rounds};
use super::proc;
use super::table::{Better, Report};

const CONNECTIONS: usize = 1000;

pub fn run(effort: &Effort, report: &mut Report) {
    let connections = if effort.short {
        CONNECTIONS / 10
    } else {
        CONNECTIONS
    };
    // Our ends of the connections, all in this process.
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    setrlimit(Resource::Nofile, limits).expect("a process may take what it is allowed");
    let pair = Pair::started();
    for kind in super::engine::KINDS {
        let mut client = pair.of(kind).client();
        client.rows("CREATE TABLE t (a int PRIMARY KEY, b text)");
        client.rows("INSERT INTO t SELECT a, 'x' FROM generate_series(1, 1000) AS a");
    }
    let used = rounds(1, |kind| {
        let engine = pair.of(kind);
        let before = proc::memory(engine.pid());
        let clients: Vec<Client> = (0..connections)
            .map(|i| {
                let mut client = engine.client();
                client.rows(&format!("SELECT b FROM t WHERE a = {}", i % 1000 + 1));
                client
            })
            .collect();
        let used = proc::memory(engine.pid()).saturating_sub(before);
        drop(clients);
        used as f64 / 1e6
    });
    let what = format!("memory of {connections} connections that have run one query");
    report.compare(what, "MB", Better::Lower, &used, Some(1.0));
}
