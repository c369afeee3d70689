//! Wiring: what `initdb` and a server are made of, and in which order things start and end.
//!
//! Reading order: `core` (log, pages, transactions, catalog, checkpoints) and `participant` (who takes part in
//! recovery), `orphans` (what crashes leave of databases), `bootstrap` (`initdb`), `amcheck`, `walstats`, `conversion` (of settings),
//! `standby` (what recovery runs with),
//! `services` (what sessions run on), `walsender`, `host` (who may come in), `managed` (under a supervisor; HTTP),
//! `server` (start), `shutdown`.

mod amcheck;
mod bootstrap;
mod conversion;
mod core;
mod host;
mod managed;
mod orphans;
mod participant;
mod server;
mod services;
mod shutdown;
mod standby;
#[cfg(test)]
mod tests;
mod walsender;
mod walstats;

use crate::server::cli::{
    CheckRequest, KindCount, NewCluster, Programs, Report, ServerStart, WalStatsRequest,
};

/// The programs behind the command line.
pub struct Node;

impl Programs for Node {
    fn bootstrap(&self, cluster: &NewCluster) -> Result<(), String> {
        bootstrap::bootstrap(cluster).map_err(|error| format!("{error:#}"))
    }

    fn amcheck(&self, request: &CheckRequest) -> Result<Report, String> {
        amcheck::amcheck(request).map_err(|error| format!("{error:#}"))
    }

    fn walstats(&self, request: &WalStatsRequest) -> Result<Vec<KindCount>, String> {
        walstats::walstats(request).map_err(|error| format!("{error:#}"))
    }

    fn serve(&self, start: ServerStart) -> u8 {
        server::serve(start)
    }
}
