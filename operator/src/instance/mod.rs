//! The supervisor: the process beside each engine (`understudy-operator instance`).
//!
//! It holds the volume's lock for its whole life, keeps the promise, seeds the data directory, writes the
//! configuration, runs the engine and restarts it in place, and obeys the operator's calls of the current term.
//! It decides nothing about roles: whoever it obeys had a record to show for it. What it works by is a `Setup`, which
//! local mode makes of a file and a pod (`pod/`) of the cluster object.

mod commands;
mod config;
mod confirming;
mod engine;
mod files;
pub(crate) mod http;
mod pod;
mod report;
mod run;
mod seed;
mod seeding;
mod setup;
mod supervisor;
mod unanswered;
mod volume;

pub use config::{InstanceConfig, read_config, write_config};
pub use engine::{control_socket, guard, short_socket};
#[cfg(test)]
pub(crate) use report::empty_status;
pub use run::run;
pub use volume::Volume;
