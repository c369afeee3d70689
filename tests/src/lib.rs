//! The harness: servers of ours and of PostgreSQL 15, clients that see everything on the wire, comparisons.
//!
//! Servers listen on loopback ports that the system chose, in temporary directories, and end with the value that
//! stands for them. Programs are taken from `UNDERSTUDY_BIN_DIR`, PostgreSQL's from its Debian folder.

pub mod api_server;
pub mod certificates;
pub mod cutter;
pub mod damage;
pub mod interleave;
pub mod local;
pub mod managed;
pub mod manifests;
pub mod programs;
pub mod random_queries;
pub mod random_sql;
pub mod raw;
pub mod reference;
pub mod server;
pub mod slt;
pub mod soak;
pub mod stalls;
pub mod standby;
pub mod torture;
pub mod twins;
pub mod wire;
