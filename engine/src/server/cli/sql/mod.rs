//! `understudy sql`: a small client for where there is no psql, such as a pod of an image without a shell. What it does,
//! it does as psql 15 does it, exit codes included; what it does not do it says, and names psql.
//!
//! [`options`] reads the command line, [`client`] works through commands and scripts. Lines come from [`input`], are cut
//! into statements by [`split`], run by [`session`], and shown by [`table`] and [`report`].

mod client;
mod input;
mod options;
mod report;
mod session;
mod split;
mod table;

use self::client::{Client, FAILURE, NO_CONNECTION, SUCCESS};
use self::options::{Given, Target, parse};
use self::session::{Session, eprint_all};
use super::Usage;
use crate::replication::client::{Connection, Identity};
use crate::replication::error::ReplicationError;

const PROGRAM: &str = "understudy sql";

pub fn main(args: &[String]) -> u8 {
    let given = match parse(args) {
        Ok(Some(given)) => given,
        Ok(None) => return SUCCESS,
        Err(Usage(text)) => {
            eprint_all(&format!("{text}\n"));
            return FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(run(given));
    // A thread may still wait for a line of standard input.
    runtime.shutdown_background();
    code
}

fn failed(error: &dyn std::fmt::Display) -> u8 {
    eprint_all(&format!("{PROGRAM}: error: {error}\n"));
    FAILURE
}

async fn run(given: Given) -> u8 {
    let target = match given.target() {
        Ok(target) => target,
        Err(why) => {
            eprint_all(&format!("{PROGRAM}: error: {why}\n"));
            return NO_CONNECTION;
        }
    };
    let identity = Identity {
        application_name: PROGRAM.to_owned(),
        database: Some(target.database.clone()),
        ..Identity::default()
    };
    let session = match Connection::open(&target.conninfo, &identity).await {
        Ok(connection) => Session::new(connection, given.format.clone()),
        Err(error) => {
            let why = refusal(&target, &error);
            eprint_all(&format!("{PROGRAM}: error: {why}\n"));
            return NO_CONNECTION;
        }
    };
    let mut session = match session {
        Ok(session) => session,
        Err(error) => return failed(&error),
    };
    session.is_quiet = given.is_quiet;
    let mut client = Client {
        session,
        target,
        on_error_stop: given.on_error_stop,
    };
    client.run(&given).await
}

/// A refusal as libpq words it: with the server that was asked.
fn refusal(target: &Target, error: &ReplicationError) -> String {
    let endpoints = target.conninfo.endpoints().unwrap_or_default();
    match (error, endpoints.last()) {
        (ReplicationError::Connect(text), Some(endpoint)) => {
            let is_socket = endpoint.host.starts_with('/');
            let is_absent = text.contains("(os error 2)") || text.contains("(os error 111)");
            let hint = match (is_absent, is_socket) {
                (false, _) => "",
                (true, true) => {
                    "\n\tIs the server running locally and accepting connections on that socket?"
                }
                (true, false) => {
                    "\n\tIs the server running on that host and accepting TCP/IP connections?"
                }
            };
            let text = without_number(text);
            if let Some((_, why)) = text.split_once("failed to lookup address information: ") {
                let name = &endpoint.host;
                return format!("could not translate host name \"{name}\" to address: {why}");
            }
            if text.starts_with("connection to server") {
                format!("{text}{hint}")
            } else {
                format!("connection to server {endpoint} failed: {text}")
            }
        }
        (other, Some(endpoint)) => format!("connection to server {endpoint} failed: {other}"),
        (other, None) => other.to_string(),
    }
}

/// Without Rust's number of a system's error.
fn without_number(text: &str) -> &str {
    text.rfind(" (os error ").map_or(text, |at| &text[..at])
}
