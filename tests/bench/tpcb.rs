//! pgbench's TPC-B: five changes and a read in one transaction, alone and with one synchronous standby.

use super::Effort;
use super::engine::{Engine, KINDS};
use super::load::{self, Mode};
use super::pair::Pair;
use super::select::throughput;
use super::table::Report;

const CLIENTS: [u32; 2] = [16, 64];

pub fn alone(effort: &Effort, report: &mut Report) {
    let pair = Pair::loaded(effort);
    for clients in CLIENTS {
        throughput(
            &pair,
            load::TPCB,
            "TPC-B",
            clients,
            Mode::Prepared,
            effort,
            report,
        );
    }
    throughput(&pair, load::TPCB, "TPC-B", 16, Mode::Simple, effort, report);
}

pub fn synchronous(effort: &Effort, report: &mut Report) {
    let pair = Pair::loaded(effort);
    let standbys = KINDS.map(|kind| Engine::standby_of(pair.of(kind)));
    for kind in KINDS {
        let primary = pair.of(kind);
        let mut client = primary.client();
        client.rows("ALTER SYSTEM SET synchronous_standby_names = '*'");
        client.rows("SELECT pg_reload_conf()");
        primary.wait_for(
            "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'",
            "1",
        );
    }
    let name = "TPC-B with a synchronous standby";
    for clients in CLIENTS {
        throughput(
            &pair,
            load::TPCB,
            name,
            clients,
            Mode::Prepared,
            effort,
            report,
        );
    }
    drop(standbys);
}
