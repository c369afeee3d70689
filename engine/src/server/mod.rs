//! Listener, authentication, protocol, HTTP, command line.
//!
//! Owns sockets and everything between a client's bytes and a session's calls. Invariants: nobody who has not proved
//! who he is reaches a session; every error before that is FATAL and ends the connection; a connection has one output
//! buffer that is flushed before the server waits for the client. Nothing below knows about sockets.
//!
//! Reading order: `protocol` (bytes), `connection` (a socket with its buffers, encrypted or not), `host` (what is asked of the rooms
//! below), `startup` and `auth` (to the first ReadyForQuery), `session_loop` (after it), `listener` (all of them).

pub mod protocol;

pub mod connection;
pub mod output;
mod tls_session;

pub mod host;

pub mod auth;
pub mod startup;

pub mod session_loop;
mod statements;
pub mod walsender;

pub mod listener;

pub mod http;

pub mod log;

pub mod cli;

#[cfg(test)]
mod tests;
