//! Proving who somebody is: `pg_hba.conf` picks the way, then trust, reject, peer, SCRAM or the client's certificate.
//!
//! Everything that fails is FATAL. What the client is told never says whether a role exists or why a password was
//! wrong; the log does.

use std::cell::RefCell;

use super::connection::{Connection, ReadError};
use super::host::Host;
use super::log;
use super::output::protocol_error;
use super::protocol::backend;
use super::protocol::frontend::{AUTH_LIMIT, Frame};
use super::startup::Door;
use crate::catalog::view::Role;
use crate::config::hba::{AuthMethod, CertificateName, ClientCert, HbaRecord, Visitor};
use crate::config::scram::{
    Binding, MECHANISM, MECHANISM_PLUS, ScramError, ServerExchange, Verifier,
};
use crate::sql::error::{SqlError, state};
use crate::tls::facts::ClientCertificate;

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

/// Lets the connection's user in, or says why not. Gives the role if there is one; trust checks that later.
pub async fn authenticate<H: Host>(
    host: &H,
    door: &Door<'_>,
    connection: &mut Connection,
    claim: &Claim,
) -> Result<Option<Role>, Refusal> {
    let role = host.role(&claim.user)?;
    let record = {
        let unknown = RefCell::new(None);
        let member_of = |of: &str| {
            let asked = role.as_ref().map(|r| host.is_member(r, of));
            asked.unwrap_or(Ok(false)).unwrap_or_else(|error| {
                *unknown.borrow_mut() = Some(error);
                false
            })
        };
        let visitor = Visitor {
            address: connection.remote.map(|r| r.ip().to_canonical()),
            encrypted: connection.tls.is_some(),
            user: &claim.user,
            database: &claim.database,
            physical_replication: claim.physical_replication,
            member_of: &member_of,
            own_addresses: door.own_addresses,
        };
        let found = door.hba.find(&visitor).cloned();
        // A rule that may or may not be meant for him decides nothing: it might have been the one that rejects.
        if let Some(error) = unknown.into_inner() {
            return Err(Refusal::from(error));
        }
        found
    };
    let Some(record) = record else {
        return Err(no_entry(connection, claim).into());
    };
    if record.client_cert != ClientCert::NotAsked {
        shows_certificate(door, connection)?;
    }
    match record.method {
        AuthMethod::Trust | AuthMethod::Cert => {}
        AuthMethod::Reject => return Err(rejected(connection, claim).into()),
        AuthMethod::Peer => peer(host, door, connection, claim, &record)?,
        AuthMethod::ScramSha256 | AuthMethod::Md5 => {
            scram(host, door, connection, claim, role.as_ref(), &record).await?;
            authenticated(host, &record, &claim.user);
        }
    }
    if record.client_cert == ClientCert::VerifyFull {
        certificate_fits(host, door, connection, claim, &record)?;
    }
    Ok(role)
}

/// Logged as soon as somebody has proved who they are, whether or not they may then come in as who they want to be.
fn authenticated<H: Host>(host: &H, record: &HbaRecord, identity: &str) {
    let settings = host.settings().current();
    if settings.values.bool("log_connections") {
        log::log(&format!(
            "connection authenticated: identity=\"{identity}\" method={} ({}:{})",
            record.method.name(),
            settings.hba_file.display(),
            record.line
        ));
    }
}

fn client_certificate(connection: &Connection) -> Option<&ClientCertificate> {
    connection.tls.as_ref()?.client.as_ref()
}

/// A certificate that the client showed was verified in the handshake, else there would be no connection.
fn shows_certificate(door: &Door<'_>, connection: &Connection) -> Result<(), SqlError> {
    if !door.tls.is_some_and(|t| t.verifies_clients) {
        return Err(SqlError::fatal(
            state::CONFIG_FILE_ERROR,
            "client certificates can only be checked if a root certificate store is available",
        ));
    }
    if client_certificate(connection).is_none() {
        return Err(refused(
            "connection requires a valid client certificate".to_owned(),
        ));
    }
    Ok(())
}

/// The certificate's name must be the role's, or stand for it in a map.
fn certificate_fits<H: Host>(
    host: &H,
    door: &Door<'_>,
    connection: &Connection,
    claim: &Claim,
    record: &HbaRecord,
) -> Result<(), Refusal> {
    let user = &claim.user;
    let certificate = client_certificate(connection);
    let (name, kind) = match record.certificate_name {
        CertificateName::CommonName => (certificate.and_then(|c| c.common_name.as_deref()), "CN"),
        CertificateName::DistinguishedName => {
            (certificate.map(|c| c.distinguished_name.as_str()), "DN")
        }
    };
    let Some(name) = name.filter(|n| !n.is_empty()) else {
        log::log(&format!(
            "certificate authentication failed for user \"{user}\": client certificate contains no user name"
        ));
        return Err(failed(claim, record, None));
    };
    if record.method == AuthMethod::Cert {
        let whole = certificate.map_or("", |c| c.distinguished_name.as_str());
        authenticated(host, record, whole);
    }
    door.ident
        .check(record.map.as_deref(), user, name)
        .map_err(|why| {
            log::log(&why.to_string());
            if record.method != AuthMethod::Cert {
                log::log(&format!(
                    "certificate validation (clientcert=verify-full) failed for user \"{user}\": {kind} mismatch"
                ));
            }
            failed(claim, record, None)
        })
}

fn place(connection: &Connection) -> String {
    connection
        .remote
        .map_or("[local]".to_owned(), |r| r.ip().to_canonical().to_string())
}

fn refused(message: String) -> SqlError {
    SqlError::fatal(state::INVALID_AUTHORIZATION, message)
}

fn encryption(connection: &Connection) -> &'static str {
    match connection.tls {
        Some(_) => "SSL encryption",
        None => "no encryption",
    }
}

fn no_entry(connection: &Connection, claim: &Claim) -> SqlError {
    let (host, user) = (place(connection), &claim.user);
    let encryption = encryption(connection);
    refused(if claim.physical_replication {
        format!(
            "no pg_hba.conf entry for replication connection from host \"{host}\", user \"{user}\", {encryption}"
        )
    } else {
        format!(
            "no pg_hba.conf entry for host \"{host}\", user \"{user}\", database \"{}\", {encryption}",
            claim.database
        )
    })
}

fn rejected(connection: &Connection, claim: &Claim) -> SqlError {
    let (host, user) = (place(connection), &claim.user);
    let encryption = encryption(connection);
    refused(if claim.physical_replication {
        format!(
            "pg_hba.conf rejects replication connection for host \"{host}\", user \"{user}\", {encryption}"
        )
    } else {
        format!(
            "pg_hba.conf rejects connection for host \"{host}\", user \"{user}\", database \"{}\", {encryption}",
            claim.database
        )
    })
}

/// The operating system's name of the user at the other end must be the role's, or stand for it in a map.
fn peer<H: Host>(
    host: &H,
    door: &Door<'_>,
    connection: &Connection,
    claim: &Claim,
    record: &HbaRecord,
) -> Result<(), Refusal> {
    let name = connection.peer_uid().and_then(super::cli::os_user::name_of);
    let Some(name) = name else {
        log::log("could not look up the user at the other end of the socket");
        return Err(failed(claim, record, None));
    };
    authenticated(host, record, &name);
    door.ident
        .check(record.map.as_deref(), &claim.user, &name)
        .map_err(|why| {
            log::log(&why.to_string());
            failed(claim, record, None)
        })
}

/// What the client hears when the record's way led nowhere; why is for the log.
fn failed(claim: &Claim, record: &HbaRecord, why: Option<String>) -> Refusal {
    let user = &claim.user;
    let (code, message) = match record.method {
        AuthMethod::ScramSha256 | AuthMethod::Md5 => (
            state::INVALID_PASSWORD,
            format!("password authentication failed for user \"{user}\""),
        ),
        AuthMethod::Peer => (
            state::INVALID_AUTHORIZATION,
            format!("Peer authentication failed for user \"{user}\""),
        ),
        AuthMethod::Cert => (
            state::INVALID_AUTHORIZATION,
            format!("certificate authentication failed for user \"{user}\""),
        ),
        AuthMethod::Trust | AuthMethod::Reject => (
            state::INVALID_AUTHORIZATION,
            format!(
                "\"{}\" authentication failed for user \"{user}\"",
                record.method.name()
            ),
        ),
    };
    let matched = format!(
        "Connection matched pg_hba.conf line {}: \"{}\"",
        record.line, record.text
    );
    Refusal {
        error: SqlError::fatal(code, message),
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
    door: &Door<'_>,
    connection: &mut Connection,
    claim: &Claim,
    role: Option<&Role>,
    record: &HbaRecord,
) -> Result<(), Refusal> {
    let (verifier, why) = verifier_of(host, claim, role);
    // Channel binding is offered where our certificate has a hash that both sides agree on.
    let end_point = match (&connection.tls, door.tls) {
        (Some(_), Some(tls)) => tls.end_point.clone(),
        _ => None,
    };
    let offered: &[&str] = match end_point {
        Some(_) => &[MECHANISM_PLUS, MECHANISM],
        None => &[MECHANISM],
    };
    backend::authentication_sasl(&mut connection.output, offered);
    flush(connection).await?;
    let frame = password_message(connection).await?;
    let (mechanism, first) = initial_response(&frame.body, offered)?;
    let binding = match &end_point {
        None => Binding::None,
        Some(hash) if mechanism == MECHANISM_PLUS => Binding::EndPoint(hash),
        Some(_) => Binding::Declined,
    };
    let (exchange, answer) =
        ServerExchange::start(verifier, why.is_none(), first, binding).map_err(scram_error)?;
    backend::authentication_sasl_continue(&mut connection.output, answer.as_bytes());
    flush(connection).await?;
    let frame = password_message(connection).await?;
    let last = std::str::from_utf8(&frame.body).map_err(|_| scram_error(ScramError::Malformed))?;
    match exchange.finish(last) {
        Ok(end) => {
            backend::authentication_sasl_final(&mut connection.output, end.as_bytes());
            Ok(())
        }
        Err(ScramError::WrongProof) => Err(failed(claim, record, why)),
        Err(other) => Err(scram_error(other).into()),
    }
}

fn scram_error(e: ScramError) -> SqlError {
    let code = match e {
        ScramError::Downgraded | ScramError::ChannelBindingCheck => state::INVALID_AUTHORIZATION,
        _ => state::PROTOCOL_VIOLATION,
    };
    let error = SqlError::fatal(code, e.to_string());
    match e.detail() {
        Some(detail) => error.detail(detail),
        None => error,
    }
}

/// SASLInitialResponse: the mechanism's name, then the length and text of client-first.
fn initial_response<'a>(
    body: &'a [u8],
    offered: &[&'static str],
) -> Result<(&'static str, &'a str), SqlError> {
    let malformed = || scram_error(ScramError::Malformed);
    let end = memchr::memchr(0, body).ok_or_else(malformed)?;
    let Some(mechanism) = offered.iter().find(|m| m.as_bytes() == &body[..end]) else {
        return Err(SqlError::fatal(
            state::PROTOCOL_VIOLATION,
            "client selected an invalid SASL authentication mechanism",
        ));
    };
    let rest = body.get(end + 5..).ok_or_else(malformed)?;
    let length = &body[end + 1..end + 5];
    let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
    if usize::try_from(length) != Ok(rest.len()) {
        return Err(malformed());
    }
    let text = std::str::from_utf8(rest).map_err(|_| malformed())?;
    Ok((mechanism, text))
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
