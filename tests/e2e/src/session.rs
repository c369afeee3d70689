//! A session as an application has it: by the `-app` Secret alone, over TLS with the authority and the name checked
//! (`verify-full`), with a password, and with the time-outs of the Secret's `uri`.
//!
//! The address is given apart from the name, as libpq's `hostaddr` is: a pod is asked by its own address and shows the
//! certificate that all instances show.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{ErrorFields, Message};
use postgres_protocol::message::frontend;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// `connect_timeout=2`.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// `tcp_user_timeout=2000`, milliseconds.
const TCP_USER_TIMEOUT_MS: u32 = 2_000;

/// What the `-app` Secret holds.
#[derive(Clone)]
pub struct Access {
    pub user: String,
    pub password: String,
    pub database: String,
    /// The name that the certificate has to have.
    pub host: String,
    pub port: u16,
    /// PEM.
    pub authority: String,
    tls: Arc<ClientConfig>,
}

/// A value of a Secret, as text.
///
/// # Errors
/// If it is not there, or no text.
pub fn secret_text(secret: &Value, key: &str) -> Result<String> {
    let encoded = secret["data"][key].as_str();
    let encoded = encoded.with_context(|| format!("the Secret has no {key}"))?;
    let bytes = BASE64_STANDARD.decode(encoded)?;
    String::from_utf8(bytes).with_context(|| format!("{key} of the Secret is no text"))
}

/// What trusts one authority and no other.
///
/// # Errors
/// If there is no certificate in it.
pub fn roots(authority: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate.context("the authority is not PEM")?)?;
    }
    anyhow::ensure!(!roots.is_empty(), "the authority holds no certificate");
    Ok(roots)
}

impl Access {
    /// # Errors
    /// If the Secret lacks what a client needs.
    pub fn from_secret(secret: &Value) -> Result<Access> {
        let text = |key: &str| secret_text(secret, key);
        let authority = text("ca.crt")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(&authority)?)
            .with_no_client_auth();
        Ok(Access {
            user: text("username")?,
            password: text("password")?,
            database: text("dbname")?,
            host: text("host")?,
            port: text("port")?.parse().context("the Secret's port")?,
            authority,
            tls: Arc::new(tls),
        })
    }
}

/// What a statement came to.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub rows: Vec<Vec<Option<String>>>,
    pub error: Option<Failure>,
}

/// An error of the server's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    pub state: String,
    pub message: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.state, self.message)
    }
}

pub struct Session {
    stream: StreamOwned<ClientConnection, TcpStream>,
    incoming: BytesMut,
}

impl Session {
    /// Connects and logs in; each step of that, and every answer later, takes at most `limit`.
    ///
    /// # Errors
    /// If nobody answers there, the certificate is not the right one, or the server refuses.
    pub fn open(access: &Access, to: SocketAddr, limit: Duration) -> io::Result<Session> {
        let mut stream = TcpStream::connect_timeout(&to, CONNECT_LIMIT.min(limit))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        rustix::net::sockopt::set_tcp_user_timeout(&stream, TCP_USER_TIMEOUT_MS)?;
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        stream.write_all(&request)?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        if answer != *b"S" {
            return Err(io::Error::other("the server does not encrypt"));
        }
        let name = ServerName::try_from(access.host.clone()).map_err(io::Error::other)?;
        let tls = ClientConnection::new(Arc::clone(&access.tls), name).map_err(io::Error::other)?;
        let mut session = Session {
            stream: StreamOwned::new(tls, stream),
            incoming: BytesMut::new(),
        };
        session.log_in(access)?;
        Ok(session)
    }

    /// Every answer from now on takes at most `limit`.
    ///
    /// # Errors
    /// If the socket is of no use any more.
    pub fn set_limit(&self, limit: Duration) -> io::Result<()> {
        self.stream.sock.set_read_timeout(Some(limit))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    fn log_in(&mut self, access: &Access) -> io::Result<()> {
        let mut out = BytesMut::new();
        let parameters = [
            ("user", access.user.as_str()),
            ("database", access.database.as_str()),
            ("application_name", "e2e"),
        ];
        frontend::startup_message(parameters, &mut out)?;
        self.send(&out)?;
        let mut scram = ScramSha256::new(access.password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let mut out = BytesMut::new();
            match self.message()? {
                Message::AuthenticationSasl(_) => {
                    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut out)?;
                }
                Message::AuthenticationSaslContinue(body) => {
                    scram.update(body.data())?;
                    frontend::sasl_response(scram.message(), &mut out)?;
                }
                Message::AuthenticationSaslFinal(body) => scram.finish(body.data())?,
                Message::ErrorResponse(body) => {
                    return Err(io::Error::other(failure(&mut body.fields()).to_string()));
                }
                Message::ReadyForQuery(_) => return Ok(()),
                _ => {}
            }
            if !out.is_empty() {
                self.send(&out)?;
            }
        }
    }

    /// One statement.
    ///
    /// # Errors
    /// If the connection breaks or the answer takes too long: then nobody knows what became of the statement.
    pub fn query(&mut self, sql: &str) -> io::Result<Answer> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out)?;
        self.send(&out)?;
        let mut answer = Answer::default();
        loop {
            match self.message()? {
                Message::DataRow(body) => {
                    let buffer = body.buffer();
                    let value = |range: Option<std::ops::Range<usize>>| {
                        Ok(range.map(|r| String::from_utf8_lossy(&buffer[r]).into_owned()))
                    };
                    answer.rows.push(body.ranges().map(value).collect()?);
                }
                Message::ErrorResponse(body) => {
                    answer.error = Some(failure(&mut body.fields()));
                }
                Message::ReadyForQuery(_) => return Ok(answer),
                _ => {}
            }
        }
    }

    fn message(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = Message::parse(&mut self.incoming)? {
                return Ok(message);
            }
            let mut chunk = [0; 16 << 10];
            let n = match self.stream.read(&mut chunk) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.incoming.extend_from_slice(&chunk[..n]);
        }
    }
}

fn failure(fields: &mut ErrorFields<'_>) -> Failure {
    let mut failure = Failure::default();
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => failure.state = value,
            b'M' => failure.message = value,
            _ => {}
        }
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_lacks_something_is_no_access() {
        let secret = serde_json::json!({"data": {"host": BASE64_STANDARD.encode("db.ns.svc")}});
        assert_eq!(secret_text(&secret, "host").expect("there"), "db.ns.svc");
        let error = Access::from_secret(&secret).err().expect("no authority");
        assert!(error.to_string().contains("ca.crt"), "{error:#}");
        assert!(roots("nothing").is_err());
    }
}
