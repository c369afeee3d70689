//! From a statement's text to its rows.

pub mod error;

pub mod rights;

pub mod exec;

pub mod copy;

pub mod explain;

pub mod plan;

pub mod front;

pub mod bound;

pub mod bind;

pub mod ddl;

pub mod maintenance;

pub mod references;

pub mod session;

pub mod host;

pub mod pg_catalog;

/// What `version()` and the parameter `server_version` say.
pub const SERVER_VERSION: &str = "15.20 (Understudy 0.1.0)";
