//! HTTP as a stranger speaks it: plain for metrics, over TLS with or without a certificate for control calls.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::session::roots;

const LIMIT: Duration = Duration::from_secs(10);
/// For who only looks, at many.
const SHORT_LIMIT: Duration = Duration::from_secs(2);

/// What was answered: the status and the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// A request without a body.
///
/// # Errors
/// If nobody answers there, or no HTTP.
pub fn get(to: SocketAddr, path: &str) -> Result<Answer> {
    plain(to, "GET", path, "")
}

/// As [`get`], of one that may well not answer.
///
/// # Errors
/// If nobody answers there soon, or no HTTP.
pub fn peek(to: SocketAddr, path: &str) -> Result<Answer> {
    let mut stream = connect(to, SHORT_LIMIT)?;
    ask(&mut stream, "GET", path, "")
}

/// # Errors
/// If nobody answers there, or no HTTP.
pub fn plain(to: SocketAddr, method: &str, path: &str, body: &str) -> Result<Answer> {
    let mut stream = connect(to, LIMIT)?;
    ask(&mut stream, method, path, body)
}

/// Who calls: nobody in particular, or the owner of a certificate (PEM, with its key).
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Whom the caller trusts, PEM.
    pub authority: &'a str,
    pub own: Option<(&'a str, &'a str)>,
}

/// A request over TLS to the server of this name.
///
/// # Errors
/// If the connection is refused, by either side.
pub fn secure(
    to: SocketAddr,
    name: &str,
    caller: Caller<'_>,
    (method, path): (&str, &str),
    body: &str,
) -> Result<Answer> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(caller.authority)?);
    let config = match caller.own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .context("the caller's certificate")?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("the caller's key")?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    let name = ServerName::try_from(name.to_owned())?;
    let tls = ClientConnection::new(Arc::new(config), name)?;
    let mut stream = StreamOwned::new(tls, connect(to, LIMIT)?);
    ask(&mut stream, method, path, body)
}

fn connect(to: SocketAddr, limit: Duration) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, limit).with_context(|| format!("call {to}"))?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    Ok(stream)
}

fn ask<S: Read + Write>(stream: &mut S, method: &str, path: &str, body: &str) -> Result<Answer> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: e2e\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // Without TLS's own word for the end.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(e) => return Err(e).context("read the answer"),
    }
    parse(&String::from_utf8_lossy(&bytes))
}

/// The body as it came: what is sent in chunks keeps their marks, which nobody here minds.
fn parse(text: &str) -> Result<Answer> {
    let (head, body) = text
        .split_once("\r\n\r\n")
        .with_context(|| format!("no HTTP: {text:?}"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Answer {
        status: status.with_context(|| format!("no status: {head:?}"))?,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_told_apart() {
        let answer =
            parse("HTTP/1.1 401 Unauthorized\r\na: b\r\n\r\nno\r\n\r\nentry").expect("HTTP");
        assert_eq!(answer.status, 401);
        assert_eq!(answer.body, "no\r\n\r\nentry");
        assert!(parse("nonsense").is_err());
        assert!(parse("HTTP/1.1\r\n\r\n").is_err());
    }
}
