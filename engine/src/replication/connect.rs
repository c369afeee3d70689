//! How a replication connection comes to be: reaching the server, encrypting as `sslmode` says, authenticating.
//!
//! `sslmode` means what it means to libpq, its second tries included (manual, 34.19): `prefer` goes on without encryption
//! where the server has none or refuses the encrypted client, `allow` the other way round. SCRAM is
//! `postgres-protocol`'s; it is bound to the encrypted connection where the server offers that.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding as Binding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::config::conninfo::{ChannelBinding, ConnInfo, Endpoint, SslMode};
use crate::replication::client::{
    Connection, Encryption, Identity, SessionFacts, Stream, protocol, unexpected,
};
use crate::replication::error::ReplicationError;
use crate::tls::certificate::Certificate;
use crate::tls::client::{ClientTls, handshake_failure};

/// One way to come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    /// Plain where the server has no encryption.
    EncryptedIfOffered,
    Encrypted,
}

/// The ways in the order in which they are tried. A unix socket is never encrypted.
fn ways(mode: SslMode, is_socket: bool) -> &'static [Way] {
    match mode {
        _ if is_socket => &[Way::Plain],
        SslMode::Disable => &[Way::Plain],
        SslMode::Allow => &[Way::Plain, Way::EncryptedIfOffered],
        SslMode::Prefer => &[Way::EncryptedIfOffered, Way::Plain],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Way::Encrypted],
    }
}

/// Why one way did not lead in.
struct Failure {
    error: ReplicationError,
    /// The server was there, and may like another way better.
    other_way: bool,
}

impl From<ReplicationError> for Failure {
    fn from(error: ReplicationError) -> Failure {
        Failure {
            error,
            other_way: false,
        }
    }
}

fn another_way(error: ReplicationError) -> Failure {
    Failure {
        error,
        other_way: true,
    }
}

fn failed_at(endpoint: &Endpoint, why: impl std::fmt::Display) -> ReplicationError {
    ReplicationError::Connect(format!("connection to server {endpoint} failed: {why}"))
}

impl Connection {
    /// Tries each endpoint in turn; the error is that of the last.
    pub async fn open(
        conninfo: &ConnInfo,
        identity: &Identity,
    ) -> Result<Connection, ReplicationError> {
        let invalid = |e: &dyn std::fmt::Display| ReplicationError::Connect(e.to_string());
        let mode = conninfo.ssl_mode().map_err(|e| invalid(&e))?;
        conninfo.channel_binding().map_err(|e| invalid(&e))?;
        let endpoints = conninfo.endpoints().map_err(|e| invalid(&e))?;
        let limit = conninfo.connect_timeout().map_err(|e| invalid(&e))?;
        let limit = Duration::from_secs(limit.unwrap_or(60));
        let mut last = ReplicationError::Connect("no host to connect to".to_owned());
        for endpoint in endpoints {
            let reached = Connection::reach(&endpoint, conninfo, mode, identity);
            match tokio::time::timeout(limit, reached).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = error,
                Err(_) => last = failed_at(&endpoint, "timeout expired"),
            }
        }
        Err(last)
    }

    /// Each way to one endpoint. Where several failed, what is said is all of it.
    async fn reach(
        endpoint: &Endpoint,
        conninfo: &ConnInfo,
        mode: SslMode,
        identity: &Identity,
    ) -> Result<Connection, ReplicationError> {
        let mut before: Option<ReplicationError> = None;
        for way in ways(mode, is_socket(endpoint)) {
            match Connection::start(endpoint, conninfo, (mode, *way), identity).await {
                Ok(connection) => return Ok(connection),
                Err(Failure { error, other_way }) => {
                    let error = match before.take() {
                        Some(first) => both(first, error),
                        None => error,
                    };
                    if !other_way {
                        return Err(error);
                    }
                    before = Some(error);
                }
            }
        }
        Err(before.unwrap_or_else(|| unexpected("a way to connect")))
    }

    async fn start(
        endpoint: &Endpoint,
        conninfo: &ConnInfo,
        (mode, way): (SslMode, Way),
        identity: &Identity,
    ) -> Result<Connection, Failure> {
        let raw = connect(endpoint)
            .await
            .map_err(|e| failed_at(endpoint, e))?;
        let mut incoming = BytesMut::with_capacity(256 << 10);
        let (stream, encryption): (Box<dyn Stream>, _) = match raw {
            Raw::Unix(stream) => (Box::new(stream), None),
            Raw::Tcp(stream) if way == Way::Plain => (Box::new(stream), None),
            Raw::Tcp(mut stream) => {
                let name = endpoint.is_named.then_some(endpoint.host.as_str());
                match ask_for_encryption(&mut stream).await {
                    Ok(b'S') => {
                        let (stream, encryption) = encrypt(stream, conninfo, mode, name)
                            .await
                            .map_err(|why| another_way(failed_at(endpoint, why)))?;
                        (stream, Some(encryption))
                    }
                    Ok(b'N') if way == Way::EncryptedIfOffered => (Box::new(stream), None),
                    Ok(b'N') => {
                        let why = "server does not support SSL, but SSL was required";
                        return Err(failed_at(endpoint, why).into());
                    }
                    // The server says at once what is wrong.
                    Ok(b'E') => {
                        incoming.extend_from_slice(b"E");
                        (Box::new(stream), None)
                    }
                    Ok(other) => {
                        let other = char::from(other).escape_default();
                        let why = format!("received invalid response to SSL negotiation: {other}");
                        return Err(failed_at(endpoint, why).into());
                    }
                    Err(e) => return Err(ReplicationError::Lost(e).into()),
                }
            }
        };
        let is_error = !incoming.is_empty();
        let mut connection = Connection {
            stream,
            incoming,
            outgoing: BytesMut::new(),
            encryption,
            peer: (endpoint.host.clone(), endpoint.port),
            facts: SessionFacts {
                database: identity.database.clone(),
                ..SessionFacts::default()
            },
        };
        if is_error {
            connection.message().await?;
            return Err(unexpected("an error").into());
        }
        // Refused as it came, it may be let in the other way.
        let other_way = match connection.encryption {
            Some(_) => mode == SslMode::Prefer,
            None => mode == SslMode::Allow,
        };
        let done = connection.log_in(conninfo, endpoint, identity).await;
        done.map_err(|error| Failure {
            other_way: other_way && matches!(error, ReplicationError::Upstream { .. }),
            error,
        })?;
        Ok(connection)
    }

    async fn log_in(
        &mut self,
        conninfo: &ConnInfo,
        endpoint: &Endpoint,
        identity: &Identity,
    ) -> Result<(), ReplicationError> {
        let user = conninfo.user().map_or_else(default_user, str::to_owned);
        let options = merged_options(conninfo.get("options"), &identity.options);
        let application = conninfo
            .application_name()
            .unwrap_or(&identity.application_name);
        let mut parameters = vec![("user", user.as_str()), ("application_name", application)];
        match &identity.database {
            Some(database) => parameters.push(("database", database)),
            None => parameters.extend([("database", "replication"), ("replication", "true")]),
        }
        if !options.is_empty() {
            parameters.push(("options", options.as_str()));
        }
        frontend::startup_message(parameters, &mut self.outgoing).map_err(protocol)?;
        self.flush().await?;
        self.authenticate(&user, conninfo, endpoint).await?;
        self.until_ready().await
    }

    async fn authenticate(
        &mut self,
        user: &str,
        conninfo: &ConnInfo,
        endpoint: &Endpoint,
    ) -> Result<(), ReplicationError> {
        let refused = |why: &str| ReplicationError::Connect(why.to_owned());
        let database = self.facts.database.clone();
        let database = database.as_deref().unwrap_or("replication");
        let password = || {
            conninfo
                .password()
                .map(str::to_owned)
                .or_else(|| std::env::var("PGPASSWORD").ok())
                .or_else(|| pass_file_entry(conninfo, endpoint, database, user))
                .ok_or_else(|| refused("fe_sendauth: no password supplied"))
        };
        let binding = conninfo
            .channel_binding()
            .map_err(|e| refused(&e.to_string()))?;
        let must_bind = binding == ChannelBinding::Require;
        let mut is_bound = false;
        loop {
            match self.message().await? {
                Message::AuthenticationOk if must_bind && !is_bound => {
                    return Err(refused(
                        "channel binding required, but server authenticated client without channel binding",
                    ));
                }
                Message::AuthenticationOk => return Ok(()),
                Message::AuthenticationSasl(body) => {
                    let offered: Vec<String> = body
                        .mechanisms()
                        .map(|m| Ok(m.to_owned()))
                        .collect()
                        .map_err(protocol)?;
                    let chosen = choose(&offered, self.encryption.as_ref(), binding)
                        .map_err(ReplicationError::Connect)?;
                    is_bound = chosen.is_bound;
                    self.scram(chosen, password()?.as_bytes()).await?;
                    continue;
                }
                _ if must_bind => {
                    return Err(refused(
                        "channel binding required but not supported by server's authentication request",
                    ));
                }
                Message::AuthenticationCleartextPassword => {
                    frontend::password_message(password()?.as_bytes(), &mut self.outgoing)
                        .map_err(protocol)?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(user.as_bytes(), password()?.as_bytes(), body.salt());
                    frontend::password_message(hash.as_bytes(), &mut self.outgoing)
                        .map_err(protocol)?;
                }
                _ => return Err(refused("authentication method is not supported")),
            }
            self.flush().await?;
        }
    }

    async fn scram(
        &mut self,
        mechanism: Mechanism,
        password: &[u8],
    ) -> Result<(), ReplicationError> {
        let mut scram = ScramSha256::new(password, mechanism.binding);
        frontend::sasl_initial_response(mechanism.name, scram.message(), &mut self.outgoing)
            .map_err(protocol)?;
        self.flush().await?;
        let Message::AuthenticationSaslContinue(body) = self.message().await? else {
            return Err(unexpected("SASL continuation"));
        };
        scram.update(body.data()).map_err(protocol)?;
        frontend::sasl_response(scram.message(), &mut self.outgoing).map_err(protocol)?;
        self.flush().await?;
        let Message::AuthenticationSaslFinal(body) = self.message().await? else {
            return Err(unexpected("SASL outcome"));
        };
        scram.finish(body.data()).map_err(protocol)
    }
}

struct Mechanism {
    name: &'static str,
    binding: Binding,
    is_bound: bool,
}

/// The strongest of the offered mechanisms that can be used here. What the client says of binding where it does not
/// use it lets the server notice that somebody took its offer away.
fn choose(
    offered: &[String],
    encryption: Option<&Encryption>,
    wanted: ChannelBinding,
) -> Result<Mechanism, String> {
    let offers = |name: &str| offered.iter().any(|m| m == name);
    let plus = offers(SCRAM_SHA_256_PLUS);
    if wanted == ChannelBinding::Require && encryption.is_none() {
        return Err("channel binding required, but SSL not in use".to_owned());
    }
    if plus && encryption.is_none() {
        return Err(
            "server offered SCRAM-SHA-256-PLUS authentication over a non-SSL connection".to_owned(),
        );
    }
    let end_point = encryption.and_then(|e| e.end_point.clone());
    if plus
        && wanted != ChannelBinding::Disable
        && let Some(hash) = end_point
    {
        return Ok(Mechanism {
            name: SCRAM_SHA_256_PLUS,
            binding: Binding::tls_server_end_point(hash),
            is_bound: true,
        });
    }
    if wanted == ChannelBinding::Require {
        return Err("channel binding is required, but server did not offer an authentication method that supports channel binding".to_owned());
    }
    if !offers(SCRAM_SHA_256) {
        return Err(format!(
            "none of the server's SASL mechanisms is known: {offered:?}"
        ));
    }
    let would_bind = encryption.is_some() && wanted != ChannelBinding::Disable && !plus;
    Ok(Mechanism {
        name: SCRAM_SHA_256,
        binding: if would_bind {
            Binding::unrequested()
        } else {
            Binding::unsupported()
        },
        is_bound: false,
    })
}

/// What two ways to the same server came to.
fn both(first: ReplicationError, second: ReplicationError) -> ReplicationError {
    let text = |e: ReplicationError| match e {
        ReplicationError::Connect(text) => text,
        other => other.to_string(),
    };
    ReplicationError::Connect(format!("{}\n{}", text(first), text(second)))
}

enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

fn is_socket(endpoint: &Endpoint) -> bool {
    endpoint.hostaddr.is_none() && endpoint.host.starts_with('/')
}

async fn connect(endpoint: &Endpoint) -> io::Result<Raw> {
    if is_socket(endpoint) {
        let path = Path::new(&endpoint.host).join(format!(".s.PGSQL.{}", endpoint.port));
        return Ok(Raw::Unix(UnixStream::connect(path).await?));
    }
    let host = endpoint.hostaddr.as_deref().unwrap_or(&endpoint.host);
    let stream = TcpStream::connect((host, endpoint.port)).await?;
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5));
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(Raw::Tcp(stream))
}

/// SSLRequest. Exactly one byte of the answer is read: whatever an attacker puts behind it is for the handshake, which
/// fails on it.
async fn ask_for_encryption(stream: &mut TcpStream) -> io::Result<u8> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    stream.read_u8().await
}

async fn encrypt(
    stream: TcpStream,
    conninfo: &ConnInfo,
    mode: SslMode,
    host: Option<&str>,
) -> Result<(Box<dyn Stream>, Encryption), String> {
    let tls = ClientTls::new(conninfo, mode, host).map_err(|e| e.to_string())?;
    let stream = TlsConnector::from(tls.config)
        .connect(tls.server_name, stream)
        .await
        .map_err(|e| handshake_failure(&e))?;
    let certificate = stream.get_ref().1.peer_certificates();
    let end_point = certificate.and_then(|chain| {
        let der = chain.first()?;
        Certificate::parse(der).ok()?.end_point_hash(der)
    });
    Ok((Box::new(stream), Encryption { end_point }))
}

fn default_user() -> String {
    std::env::var("PGUSER")
        .or_else(|_| std::env::var("USER"))
        .unwrap_or_else(|_| "postgres".to_owned())
}

/// Spaces and backslashes within a value are escaped as the server's option parser wants them.
fn merged_options(given: Option<&str>, own: &[(String, String)]) -> String {
    let mut options = given.unwrap_or_default().to_owned();
    for (name, value) in own {
        if !options.is_empty() {
            options.push(' ');
        }
        let value = value.replace('\\', "\\\\").replace(' ', "\\ ");
        options.push_str(&format!("-c {name}={value}"));
    }
    options
}

/// The password of the first matching line of `passfile` or `~/.pgpass`. Manual, 34.16.
fn pass_file_entry(
    conninfo: &ConnInfo,
    endpoint: &Endpoint,
    database: &str,
    user: &str,
) -> Option<String> {
    let path = conninfo
        .get("passfile")
        .map(str::to_owned)
        .or_else(|| std::env::var("PGPASSFILE").ok());
    let path = path.or_else(|| Some(format!("{}/.pgpass", std::env::var("HOME").ok()?)))?;
    let text = std::fs::read_to_string(path).ok()?;
    let host = if endpoint.host.starts_with('/') {
        "localhost"
    } else {
        &endpoint.host
    };
    let wanted = [host, &endpoint.port.to_string(), database, user];
    text.lines()
        .filter(|l| !l.starts_with('#'))
        .find_map(|line| {
            let fields = split_pass_line(line);
            let matches =
                fields.len() == 5 && wanted.iter().zip(&fields).all(|(w, f)| f == "*" || f == w);
            matches.then(|| fields[4].clone())
        })
}

fn split_pass_line(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields.last_mut().expect("never empty").extend(chars.next()),
            _ => fields.last_mut().expect("never empty").push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binding_is_used_where_it_can_be_and_its_absence_is_told() {
        const BOTH: &[&str] = &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];
        const ONE: &[&str] = &["SCRAM-SHA-256"];
        use ChannelBinding::{Disable, Prefer, Require};
        let hash = || Some(Some(b"hash".to_vec()));
        // The first word of the client's message, or the error's beginning.
        for (offered, encryption, wanted, expected) in [
            (BOTH, hash(), Prefer, "p=tls-server-end-point"),
            (BOTH, hash(), Require, "p=tls-server-end-point"),
            (BOTH, hash(), Disable, "n"),
            // The server noticed nothing wrong if this were "y" without an offer; with one it refuses.
            (ONE, hash(), Prefer, "y"),
            (ONE, hash(), Disable, "n"),
            (
                ONE,
                hash(),
                Require,
                "channel binding is required, but server did not offer",
            ),
            (ONE, None, Prefer, "n"),
            (
                ONE,
                None,
                Require,
                "channel binding required, but SSL not in use",
            ),
            (BOTH, None, Prefer, "server offered SCRAM-SHA-256-PLUS"),
            // A certificate without a hash.
            (BOTH, Some(None), Prefer, "n"),
            (BOTH, Some(None), Require, "channel binding is required"),
            (&["OTHER"][..], hash(), Prefer, "none of the server's"),
        ] {
            let offered: Vec<String> = offered.iter().map(|m| (*m).to_owned()).collect();
            let encryption = encryption.map(|end_point| Encryption { end_point });
            let said = match choose(&offered, encryption.as_ref(), wanted) {
                Ok(m) => {
                    let scram = ScramSha256::new(b"", m.binding);
                    String::from_utf8_lossy(scram.message()).into_owned()
                }
                Err(why) => why,
            };
            assert!(said.starts_with(expected), "{offered:?} {wanted:?}: {said}");
        }
    }

    #[test]
    fn each_mode_has_its_ways() {
        use Way::{Encrypted, EncryptedIfOffered, Plain};
        for (mode, expected) in [
            (SslMode::Disable, &[Plain][..]),
            (SslMode::Allow, &[Plain, EncryptedIfOffered][..]),
            (SslMode::Prefer, &[EncryptedIfOffered, Plain][..]),
            (SslMode::Require, &[Encrypted][..]),
            (SslMode::VerifyCa, &[Encrypted][..]),
            (SslMode::VerifyFull, &[Encrypted][..]),
        ] {
            assert_eq!(ways(mode, false), expected);
            assert_eq!(ways(mode, true), [Plain]);
        }
    }

    #[test]
    fn pass_lines_split_at_unescaped_colons() {
        assert_eq!(
            split_pass_line(r"h\:1:5432:*:u:p:w\\"),
            ["h:1", "5432", "*", "u", r"p:w\"]
        );
        assert_eq!(split_pass_line("nothing"), ["nothing"]);
    }

    #[test]
    fn options_are_appended_escaped() {
        let own = [("understudy.instance_id".to_owned(), r"a b\c".to_owned())];
        assert_eq!(
            merged_options(Some("-c x=1"), &own),
            r"-c x=1 -c understudy.instance_id=a\ b\\c"
        );
    }
}
