//! A cluster of local processes (`understudy-operator local …`): the same manifest, the same `decide`, the same
//! supervisor, on loopback.

mod cli;
mod events;
mod folder;
mod manifest;
mod object;
mod operator;
mod ports;
mod process;
mod services;
mod status;

pub use cli::{LocalCommand, run};
pub use events::{EventLine, EventLog};
pub use folder::ClusterFolder;
pub use object::{ObjectError, ObjectStore};
pub use ports::{free_ports, is_free};
pub use process::{Process, spawn_detached, supervisor_of};
pub use services::{ServiceConfig, send_routes, serve_forever};
