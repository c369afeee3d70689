//! Wiring: what `initdb` and a server are made of, and in which order things start and end.
//!
//! Reading order: `core` (log, pages, transactions, catalog, checkpoints), `redo` and `participant` (who takes part
//! in recovery), `bootstrap` (`initdb`).

mod bootstrap;
mod core;
mod participant;
