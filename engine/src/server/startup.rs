//! From an accepted socket to an authenticated, admitted session, or to a FATAL error and the end.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use super::auth::{self, Claim, Refusal};
use super::connection::{Connection, ReadError};
use super::host::{Accepting, Host, NewSession, ReplicationPeer};
use super::log::{self, BackendType, Entry, SessionIdentity};
use super::output::protocol_error;
use super::protocol::backend;
use super::protocol::startup::{Startup, StartupPacket, split_options};
use super::tls_session::HandshakeError;
use crate::catalog::view::{Database, Role};
use crate::config::hba::Hba;
use crate::config::hba::ident::IdentMaps;
use crate::config::session::Level;
use crate::config::value::parse_bool;
use crate::ids::Oid;
use crate::sql::error::{Severity, SqlError, state};
use crate::sql::session::backends::{Activity, Backend, BackendKind, Limits, Place};
use crate::tls::server::ServerTls;
use crate::txn::interrupt::Interrupts;

/// PostgreSQL's NAMEDATALEN, less the zero byte.
const LONGEST_NAME: usize = 63;

/// What came in through the door.
pub enum Arrival {
    Session(NewSession, Place),
    Replication(NewSession, ReplicationPeer, Place),
    /// A CancelRequest was obeyed, or there was nothing to do.
    Nothing,
}

/// What is in force at the door when a client comes.
pub struct Door<'a> {
    pub hba: &'a Hba,
    pub ident: &'a IdentMaps,
    /// This machine's addresses with their masks.
    pub own_addresses: &'a [(IpAddr, IpAddr)],
    /// `None`: `ssl` is off.
    pub tls: Option<&'a ServerTls>,
}

/// Reads the start-up packet, past requests for encryption. `None`: the client left, or it was a cancel.
async fn packet<H: Host>(
    host: &H,
    door: &Door<'_>,
    c: &mut Connection,
) -> Result<Option<Startup>, SqlError> {
    // Both kinds of encryption may be asked for once each.
    let (mut ssl, mut gss) = (false, false);
    loop {
        let packet = match c.startup_packet().await {
            Ok(Some(packet)) => packet,
            Ok(None) | Err(ReadError::Io(_)) => return Ok(None),
            Err(ReadError::Cut) => {
                return Err(SqlError::fatal(
                    state::PROTOCOL_VIOLATION,
                    "incomplete startup packet",
                ));
            }
            Err(ReadError::Protocol(e)) => return Err(protocol_error(&e)),
        };
        let again = |kind: &str| {
            SqlError::fatal(
                state::PROTOCOL_VIOLATION,
                format!("duplicate {kind} request"),
            )
        };
        let kind = match packet {
            StartupPacket::Ssl if !ssl => {
                ssl = true;
                "SSL"
            }
            StartupPacket::GssEnc if !gss => {
                gss = true;
                "GSSAPI encryption"
            }
            StartupPacket::Ssl => return Err(again("SSL negotiation")),
            StartupPacket::GssEnc => return Err(again("GSSAPI encryption")),
            StartupPacket::Cancel { pid, key } => {
                if !host.backends().cancel(pid, key) {
                    log::log(&format!("wrong key in cancel request for process {pid}"));
                }
                return Ok(None);
            }
            StartupPacket::Startup(s) => return Ok(Some(s)),
        };
        let unasked = c.has_unread();
        let tls = door.tls.filter(|_| kind == "SSL" && c.can_encrypt());
        let answer = if tls.is_some() { b'S' } else { b'N' };
        if c.send_byte(answer).await.is_err() {
            return Ok(None);
        }
        if let Some(tls) = tls {
            // Nothing can be negotiated within.
            (ssl, gss) = (true, true);
            if let Err(e) = c.encrypt(tls).await {
                not_encrypted(&e, tls);
                return Ok(None);
            }
        }
        if unasked {
            return Err(SqlError::fatal(
                state::PROTOCOL_VIOLATION,
                format!("received unencrypted data after {kind} request"),
            )
            .detail("This could be either a client-software bug or evidence of an attempted man-in-the-middle attack."));
        }
    }
}

/// A handshake that failed is for the log only: there is no way to tell the client more than the alert that it got.
fn not_encrypted(e: &HandshakeError, tls: &ServerTls) {
    let hint = e.is_about_versions().then(|| {
        format!(
            "This may indicate that the client does not support any SSL protocol version between {} and {}.",
            tls.lowest, tls.highest
        )
    });
    log::write(&Entry {
        detail: e.detail().as_deref(),
        hint: hint.as_deref(),
        ..Entry::new(Level::Log, &format!("could not accept SSL connection: {e}"))
    });
}

fn cut_name(mut name: String) -> String {
    if name.len() > LONGEST_NAME {
        let mut end = LONGEST_NAME;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
    name
}

/// What the server's own state allows (57P03, and 08P01 for what is malformed).
fn check_accepting(accepting: Accepting) -> Result<(), SqlError> {
    let wait = |m: &str| SqlError::fatal(state::CANNOT_CONNECT_NOW, m);
    match accepting {
        Accepting::Yes => Ok(()),
        Accepting::StartingUp => Err(wait("the database system is starting up")),
        Accepting::ShuttingDown | Accepting::Draining => {
            Err(wait("the database system is shutting down"))
        }
        Accepting::NotConsistent { hot_standby: true } => {
            Err(wait("the database system is not yet accepting connections")
                .detail("Consistent recovery state has not been yet reached."))
        }
        Accepting::NotConsistent { hot_standby: false } => {
            Err(wait("the database system is not accepting connections")
                .detail("Hot standby mode is disabled."))
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replication {
    No,
    Physical,
}

fn replication_mode(s: &Startup) -> Result<Replication, SqlError> {
    match s.replication.as_deref() {
        None => Ok(Replication::No),
        Some("database") => Err(SqlError::fatal(
            state::FEATURE_NOT_SUPPORTED,
            "logical replication connections are not implemented",
        )
        .hint("Use replication=true for physical replication.")),
        Some(v) => match parse_bool(v) {
            Some(true) => Ok(Replication::Physical),
            Some(false) => Ok(Replication::No),
            None => Err(SqlError::fatal(
                state::INVALID_PARAMETER_VALUE,
                format!("invalid value for parameter \"replication\": \"{v}\""),
            )
            .hint("Valid values are: \"false\", 0, \"true\", 1, \"database\".")),
        },
    }
}

/// `-c name=value`, `-cname=value` and `--name=value`; others are refused.
fn option_settings(options: &str) -> Result<Vec<(String, String)>, SqlError> {
    let mut out = Vec::new();
    let mut words = split_options(options).into_iter();
    let bad = |word: &str| {
        SqlError::fatal(
            state::SYNTAX_ERROR,
            format!("invalid command-line argument for server process: {word}"),
        )
        .hint("Use -c name=value in the options.")
    };
    while let Some(word) = words.next() {
        let pair = if word == "-c" {
            words.next().ok_or_else(|| bad(&word))?
        } else if let Some(rest) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            rest.to_owned()
        } else {
            return Err(bad(&word));
        };
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            SqlError::fatal(state::SYNTAX_ERROR, format!("-c {pair} requires a value"))
        })?;
        // Dashes stand for underscores, as PostgreSQL has it.
        out.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(out)
}

/// What our own receivers say in `options`; it never becomes a setting of the session.
fn take_peer(settings: &mut Vec<(String, String)>) -> ReplicationPeer {
    let mut peer = ReplicationPeer::default();
    settings.retain(|(name, value)| {
        match name.as_str() {
            "understudy.instance_id" => peer.instance_id = Some(value.clone()),
            "understudy.term" => peer.term = value.parse().ok(),
            "understudy.messages" => peer.receives = parse_bool(value) == Some(true),
            "application_name" => {
                peer.application_name.clone_from(value);
                return true;
            }
            _ => return true,
        }
        false
    });
    // Whoever names its instance speaks our messages.
    peer.own_messages = peer.receives || peer.instance_id.is_some();
    peer
}

/// Everything from the first byte to the admitted session. The caller bounds its time.
pub async fn arrive<H: Host>(
    host: &H,
    door: &Door<'_>,
    c: &mut Connection,
    who: &Arc<SessionIdentity>,
) -> Result<Arrival, Refusal> {
    let Some(mut startup) = packet(host, door, c).await? else {
        return Ok(Arrival::Nothing);
    };
    if startup.minor > 0 || !startup.unknown_options.is_empty() {
        backend::negotiate_protocol_version(&mut c.output, &startup.unknown_options);
    }
    let replication = replication_mode(&startup)?;
    let user = startup
        .user
        .take()
        .filter(|u| !u.is_empty())
        .ok_or_else(|| {
            SqlError::fatal(
                state::INVALID_AUTHORIZATION,
                "no PostgreSQL user name specified in startup packet",
            )
        })?;
    let user = cut_name(user);
    let database = match replication {
        Replication::Physical => String::new(),
        Replication::No => cut_name(
            startup
                .database
                .take()
                .filter(|d| !d.is_empty())
                .unwrap_or(user.clone()),
        ),
    };
    who.change_names(|n| {
        n.user = Some(Arc::from(user.as_str()));
        n.database = Some(Arc::from(if database.is_empty() {
            "[unknown]"
        } else {
            &database
        }));
    });
    check_accepting(host.accepting())?;
    let claim = Claim {
        user,
        database,
        physical_replication: replication == Replication::Physical,
    };
    let role = auth::authenticate(host, door, c, &claim).await?;
    backend::authentication_ok(&mut c.output);
    let log_connections = || host.settings().current().values.bool("log_connections");
    if !claim.physical_replication && log_connections() {
        let mut settings = startup.settings.iter().rev();
        let application = settings.find(|(n, _)| n == "application_name");
        log_authorized(c, &claim, application.map(|(_, v)| v.as_str()));
    }
    let (role, database) = resolve(host, &claim, role)?;
    let mut asked = option_settings(startup.options.as_deref().unwrap_or(""))?;
    asked.extend(startup.settings);
    let peer = match replication {
        Replication::Physical => Some(take_peer(&mut asked)),
        Replication::No => None,
    };
    if claim.physical_replication {
        log_replication(c, &claim);
    }
    let place = admit(host, c, &claim, &role, database.as_ref(), who)?;
    // A shutdown waits for those whom it finds admitted, and nobody may come behind its back.
    check_accepting(host.accepting())?;
    let new = NewSession {
        backend: Arc::clone(&place.backend),
        role,
        database,
        settings: asked,
    };
    Ok(match peer {
        Some(peer) => Arrival::Replication(new, peer, place),
        None => Arrival::Session(new, place),
    })
}

/// ` SSL enabled (...)` for the log, or nothing.
fn encryption(c: &Connection) -> String {
    c.tls.as_deref().map_or(String::new(), |t| {
        format!(
            " SSL enabled (protocol={}, cipher={}, bits={})",
            t.protocol, t.cipher, t.bits
        )
    })
}

fn log_authorized(c: &Connection, claim: &Claim, application: Option<&str>) {
    let application = application.filter(|a| !a.is_empty());
    let application = application.map_or(String::new(), |a| format!(" application_name={a}"));
    log::log(&format!(
        "connection authorized: user={} database={}{application}{}",
        claim.user,
        claim.database,
        encryption(c)
    ));
}

/// PostgreSQL 9.0 says of every replication connection that it came; others are logged on demand.
fn log_replication(c: &Connection, claim: &Claim) {
    let from = c.remote.map_or("host=[local]".to_owned(), |r| {
        format!("host={} port={}", r.ip().to_canonical(), r.port())
    });
    log::log(&format!(
        "replication connection authorized: user={} {from}{}",
        claim.user,
        encryption(c)
    ));
}

/// The role and the database must exist and be open to this.
fn resolve<H: Host>(
    host: &H,
    claim: &Claim,
    role: Option<Role>,
) -> Result<(Role, Option<Database>), SqlError> {
    let role = role.ok_or_else(|| {
        SqlError::fatal(
            state::INVALID_AUTHORIZATION,
            format!("role \"{}\" does not exist", claim.user),
        )
    })?;
    if !role.login {
        return Err(SqlError::fatal(
            state::INVALID_AUTHORIZATION,
            format!("role \"{}\" is not permitted to log in", claim.user),
        ));
    }
    if claim.physical_replication {
        if !role.superuser && !role.replication {
            return Err(SqlError::fatal(
                state::INSUFFICIENT_PRIVILEGE,
                "must be superuser or replication role to start walsender",
            ));
        }
        return Ok((role, None));
    }
    let name = &claim.database;
    let database = host.database(name)?.ok_or_else(|| {
        SqlError::fatal(
            state::UNDEFINED_DATABASE,
            format!("database \"{name}\" does not exist"),
        )
    })?;
    if !database.allow_connections {
        return Err(SqlError::fatal(
            state::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("database \"{name}\" is not currently accepting connections"),
        ));
    }
    if !host.may_connect(&role, &database)? {
        return Err(SqlError::fatal(
            state::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for database \"{name}\""),
        )
        .detail("User does not have CONNECT privilege."));
    }
    Ok((role, Some(database)))
}

fn admit<H: Host>(
    host: &H,
    c: &Connection,
    claim: &Claim,
    role: &Role,
    database: Option<&Database>,
    who: &SessionIdentity,
) -> Result<Place, SqlError> {
    let settings = host.settings().current();
    let pid = std::num::NonZeroU32::new(who.pid).expect("the registry gives no pid 0");
    let backend = Backend {
        pid,
        key: rand::random(),
        kind: match database {
            Some(_) => BackendKind::Client,
            None => BackendKind::WalSender,
        },
        user: role.oid,
        user_name: Arc::from(claim.user.as_str()),
        superuser: role.superuser,
        database: database.map_or(Oid::INVALID, |d| d.oid),
        database_name: Arc::from(claim.database.as_str()),
        remote: c.remote,
        tls: c.tls.clone(),
        started: auth::now_micros(),
        interrupts: Interrupts::new(pid),
        socket: Arc::clone(&c.for_settings),
        activity: Mutex::new(Activity::default()),
        waits_for_client: AtomicBool::new(false),
        log: Mutex::new(None),
    };
    let limits = Limits {
        connections: settings.max_connections,
        reserved: settings.superuser_reserved_connections,
        database: database.map_or(-1, |d| d.connection_limit),
        role: role.connection_limit,
    };
    let place = host.backends().admit(backend, limits)?;
    // Set once: an identity is one connection's.
    let _ = who.backend.set(Arc::clone(&place.backend));
    Ok(place)
}

/// Logs a refusal and tells the client. Whatever the error was where it came from, before the first ReadyForQuery it
/// is FATAL.
pub async fn refuse(c: &mut Connection, refusal: &Refusal) {
    if refusal.error.state == state::CONNECTION_FAILURE {
        // It left: nobody to tell, and nothing to tell of.
        return;
    }
    let mut e = refusal.error.clone();
    e.severity = e.severity.max(Severity::Fatal);
    log::write(&Entry {
        state: Some(e.state),
        detail: refusal.log_detail.as_deref().or(e.detail.as_deref()),
        hint: e.hint.as_deref(),
        ..Entry::new(Level::Fatal, &e.message)
    });
    backend::error_response(&mut c.output, &e);
    // One that does not read would keep its place at the door for as long as it likes.
    c.flush_at_last().await;
    c.close();
}

/// The session's identity before anybody knows who it is.
pub fn identity<H: Host>(host: &H, c: &Connection) -> Arc<SessionIdentity> {
    let pid = host.backends().new_pid();
    Arc::new(SessionIdentity::new(
        pid.get(),
        BackendType::Client,
        c.remote,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_settings() {
        let pairs = |s: &str| option_settings(s).map_err(|e| e.message.clone());
        assert_eq!(
            pairs("-c a=1 -cb=2 --c-d=x\\ y").expect("valid"),
            [("a", "1"), ("b", "2"), ("c_d", "x y")].map(|(n, v)| (n.to_owned(), v.to_owned()))
        );
        assert_eq!(
            pairs("-z").expect_err("no such switch"),
            "invalid command-line argument for server process: -z"
        );
        assert_eq!(
            pairs("-c geqo").expect_err("no value"),
            "-c geqo requires a value"
        );
    }

    #[test]
    fn a_receiver_s_identity_is_no_setting() {
        let mut settings: Vec<(String, String)> = [
            ("understudy.instance_id", "i-1"),
            ("understudy.term", "7"),
            ("work_mem", "1MB"),
        ]
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .into();
        let peer = take_peer(&mut settings);
        assert_eq!(peer.instance_id.as_deref(), Some("i-1"));
        assert_eq!(peer.term, Some(7));
        assert!(peer.own_messages && !peer.receives);
        assert_eq!(settings.len(), 1);
        let mut settings = vec![("understudy.messages".to_owned(), "on".to_owned())];
        let peer = take_peer(&mut settings);
        assert!(peer.own_messages && peer.receives);
        assert!(settings.is_empty());
    }

    #[test]
    fn names_are_cut_on_a_character() {
        let long = "é".repeat(40);
        assert_eq!(cut_name(long).len(), 62);
    }
}
