//! Wiring: what `initdb` and a server are made of, and in which order things start and end.
//!
//! Reading order: `core` (log, pages, transactions, catalog, checkpoints) and `participant` (who takes part in
//! recovery), `bootstrap` (`initdb`), `conversion` (of settings), `standby` (what recovery runs with), `services` (what
//! sessions run on), `walsender`, `host` (who may come in), `managed` (under a supervisor; HTTP), `server` (start),
//! `shutdown`.

mod bootstrap;
mod conversion;
mod core;
mod host;
mod managed;
mod participant;
mod server;
mod services;
mod shutdown;
mod standby;
mod walsender;

use crate::server::cli::{NewCluster, Programs, ServerStart};

/// The programs behind the command line.
pub struct Node;

impl Programs for Node {
    fn bootstrap(&self, cluster: &NewCluster) -> Result<(), String> {
        bootstrap::bootstrap(cluster).map_err(|error| format!("{error:#}"))
    }

    fn serve(&self, start: ServerStart) -> u8 {
        server::serve(start)
    }
}
