//! Understudy's engine. Rooms in reading order, which is also the order in which they may use each other.

pub mod ids;

pub mod config;

pub mod tls;

pub mod types;

pub mod io;

pub mod wal;

pub mod storage;

pub mod txn;

pub mod table;

pub mod index;

pub mod catalog;

pub mod recovery;

pub mod replication;

pub mod instance;

pub mod sql;

pub mod server;

pub mod node;

pub mod decoders;
