//! Proving who somebody is: `pg_hba.conf` picks the way, then trust, reject, peer or SCRAM.
//!
//! Everything that fails is FATAL. What the client is told never says whether a role exists or why a password was
//! wrong; the log does.

use super::connection::{Connection, ReadError};
use super::host::Host;
use super::output::protocol_error;
use super::protocol::backend;
use super::protocol::frontend::{AUTH_LIMIT, Frame};
use crate::catalog::view::Role;
use crate::config::hba::{AuthMethod, Hba, HbaRecord, Visitor};
use crate::config::scram::{MECHANISM, ScramError, ServerExchange, Verifier};
use crate::sql::error::{SqlError, state};

/// Who wants to come in, as the start-up packet says.
#[derive(Debug, Clone)]
pub struct Claim {
    pub user: String,
    pub database: String,
    pub physical_replication: bool,
}

/// A refusal: what the client hears and what only the log hears.
#[derive(Debug)]
pub struct Refusal {
    pub error: SqlError,
    pub log_detail: Option<String>,
}

impl From<SqlError> for Refusal {
    fn from(error: SqlError) -> Refusal {
        Refusal {
            error,
            log_detail: None,
        }
    }
}

/// Lets the connection's user in, or says why not. Gives the role if there is one (trust checks that later) and the
/// method that let it in.
pub async fn authenticate<H: Host>(
    host: &H,
    hba: &Hba,
    own_addresses: &[(std::net::IpAddr, std::net::IpAddr)],
    connection: &mut Connection,
    claim: &Claim,
) -> Result<(Option<Role>, HbaRecord), Refusal> {
    let role = host.role(&claim.user)?;
    let record = {
        let member_of = |of: &str| role.as_ref().is_some_and(|r| host.is_member(r, of));
        let visitor = Visitor {
            address: connection.remote.map(|r| r.ip().to_canonical()),
            user: &claim.user,
            database: &claim.database,
            physical_replication: claim.physical_replication,
            member_of: &member_of,
            own_addresses,
        };
        hba.find(&visitor).cloned()
    };
    let Some(record) = record else {
        return Err(no_entry(connection, claim).into());
    };
    match record.method {
        AuthMethod::Trust => {}
        AuthMethod::Reject => return Err(rejected(connection, claim).into()),
        AuthMethod::Peer => peer(connection, claim)?,
        AuthMethod::ScramSha256 | AuthMethod::Md5 => {
            scram(host, connection, claim, role.as_ref(), &record).await?
        }
    }
    Ok((role, record))
}

fn place(connection: &Connection) -> String {
    connection
        .remote
        .map_or("[local]".to_owned(), |r| r.ip().to_canonical().to_string())
}

fn refused(message: String) -> SqlError {
    SqlError::fatal(state::INVALID_AUTHORIZATION, message)
}

fn no_entry(connection: &Connection, claim: &Claim) -> SqlError {
    let (host, user) = (place(connection), &claim.user);
    refused(if claim.physical_replication {
        format!(
            "no pg_hba.conf entry for replication connection from host \"{host}\", user \"{user}\", no encryption"
        )
    } else {
        format!(
            "no pg_hba.conf entry for host \"{host}\", user \"{user}\", database \"{}\", no encryption",
            claim.database
        )
    })
}

fn rejected(connection: &Connection, claim: &Claim) -> SqlError {
    let (host, user) = (place(connection), &claim.user);
    refused(if claim.physical_replication {
        format!(
            "pg_hba.conf rejects replication connection for host \"{host}\", user \"{user}\", no encryption"
        )
    } else {
        format!(
            "pg_hba.conf rejects connection for host \"{host}\", user \"{user}\", database \"{}\", no encryption",
            claim.database
        )
    })
}

/// The operating system's name of the user at the other end must be the role's.
fn peer(connection: &Connection, claim: &Claim) -> Result<(), Refusal> {
    let name = connection.peer_uid().and_then(super::cli::os_user::name_of);
    if name.as_deref() == Some(claim.user.as_str()) {
        return Ok(());
    }
    Err(Refusal {
        error: refused(format!(
            "Peer authentication failed for user \"{}\"",
            claim.user
        )),
        log_detail: Some(format!(
            "provided user name ({}) and authenticated user name ({}) do not match",
            claim.user,
            name.as_deref().unwrap_or("unknown")
        )),
    })
}

fn wrong_password(claim: &Claim, record: &HbaRecord, why: Option<String>) -> Refusal {
    let matched = format!(
        "Connection matched pg_hba.conf line {}: \"{}\"",
        record.line, record.text
    );
    Refusal {
        error: SqlError::fatal(
            state::INVALID_PASSWORD,
            format!("password authentication failed for user \"{}\"", claim.user),
        ),
        log_detail: Some(match why {
            Some(why) => format!("{why}\n{matched}"),
            None => matched,
        }),
    }
}

/// The stored verifier, or one that nothing fits, and why.
fn verifier_of<H: Host>(
    host: &H,
    claim: &Claim,
    role: Option<&Role>,
) -> (Verifier, Option<String>) {
    let mock = |why: String| (Verifier::mock(&host.mock_secret(), &claim.user), Some(why));
    let user = &claim.user;
    let Some(role) = role else {
        return mock(format!("Role \"{user}\" does not exist."));
    };
    let Some(password) = &role.password else {
        return mock(format!("User \"{user}\" has no password assigned."));
    };
    if role.valid_until.is_some_and(|until| until < now_micros()) {
        return mock(format!("User \"{user}\" has an expired password."));
    }
    match Verifier::parse(password) {
        Some(v) => (v, None),
        None => mock(format!(
            "User \"{user}\" does not have a valid SCRAM secret."
        )),
    }
}

async fn scram<H: Host>(
    host: &H,
    connection: &mut Connection,
    claim: &Claim,
    role: Option<&Role>,
    record: &HbaRecord,
) -> Result<(), Refusal> {
    let (verifier, why) = verifier_of(host, claim, role);
    backend::authentication_sasl(&mut connection.output, &[MECHANISM]);
    flush(connection).await?;
    let frame = password_message(connection).await?;
    let first = initial_response(&frame.body)?;
    let (exchange, answer) =
        ServerExchange::start(verifier, why.is_none(), first).map_err(scram_error)?;
    backend::authentication_sasl_continue(&mut connection.output, answer.as_bytes());
    flush(connection).await?;
    let frame = password_message(connection).await?;
    let last = std::str::from_utf8(&frame.body).map_err(|_| scram_error(ScramError::Malformed))?;
    match exchange.finish(last) {
        Ok(end) => {
            backend::authentication_sasl_final(&mut connection.output, end.as_bytes());
            Ok(())
        }
        Err(ScramError::WrongProof) => Err(wrong_password(claim, record, why)),
        Err(other) => Err(scram_error(other).into()),
    }
}

fn scram_error(e: ScramError) -> SqlError {
    SqlError::fatal(state::PROTOCOL_VIOLATION, e.to_string())
}

/// SASLInitialResponse: the mechanism's name, then the length and text of client-first.
fn initial_response(body: &[u8]) -> Result<&str, SqlError> {
    let malformed = || scram_error(ScramError::Malformed);
    let end = memchr::memchr(0, body).ok_or_else(malformed)?;
    if &body[..end] != MECHANISM.as_bytes() {
        return Err(SqlError::fatal(
            state::PROTOCOL_VIOLATION,
            "client selected an invalid SASL authentication mechanism",
        ));
    }
    let rest = body.get(end + 5..).ok_or_else(malformed)?;
    let length = &body[end + 1..end + 5];
    let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
    if usize::try_from(length) != Ok(rest.len()) {
        return Err(malformed());
    }
    std::str::from_utf8(rest).map_err(|_| malformed())
}

async fn flush(connection: &mut Connection) -> Result<(), SqlError> {
    connection.flush().await.map_err(|_| lost())
}

/// The client went away: there is nobody to tell, and PostgreSQL logs nothing either.
fn lost() -> SqlError {
    SqlError::fatal(state::CONNECTION_FAILURE, "connection to client lost")
}

async fn password_message(connection: &mut Connection) -> Result<Frame, SqlError> {
    match connection.frame(Some(AUTH_LIMIT)).await {
        Ok(Some(frame)) => Ok(frame),
        Ok(None) | Err(ReadError::Io(_) | ReadError::Cut) => Err(lost()),
        Err(ReadError::Protocol(super::protocol::ProtocolError::UnknownType(t))) => {
            Err(SqlError::fatal(
                state::PROTOCOL_VIOLATION,
                format!("expected SASL response, got message type {t}"),
            ))
        }
        Err(ReadError::Protocol(e)) => Err(protocol_error(&e)),
    }
}

/// Microseconds since 2000-01-01 UTC.
pub fn now_micros() -> i64 {
    crate::replication::clock::now_micros()
}
