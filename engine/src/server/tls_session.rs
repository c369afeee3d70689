//! The encrypted layer of one connection: `rustls`'s state machine over the socket of a [`super::connection`].
//!
//! Everything here can be dropped at an await and begun again: what was read lies in the state machine or in the
//! caller's buffer, what was encrypted waits in the state machine until the socket takes it. Before the handshake is
//! over nothing of a session can be sent.

use std::future::poll_fn;
use std::io::{self, BufRead as _, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use rustls::ServerConnection;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use crate::tls::certificate::CertificateError;
use crate::tls::facts::{ClientCertificate, TlsFacts, cipher_name, protocol_name};
use crate::tls::server::ServerTls;

pub struct TlsSession {
    machine: ServerConnection,
}

impl std::fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys are nobody's to read.
        f.debug_struct("TlsSession").finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("{}", openssl_words(.0))]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    #[error("{0}")]
    Io(io::Error),
    #[error("EOF detected")]
    Closed,
}

impl HandshakeError {
    /// What OpenSSL leaves out: why a client's certificate was refused.
    pub fn detail(&self) -> Option<String> {
        match self {
            HandshakeError::Tls(rustls::Error::InvalidCertificate(why)) => {
                Some(format!("The certificate was refused: {why}"))
            }
            _ => None,
        }
    }

    /// No version of the protocol that both sides speak.
    pub fn is_about_versions(&self) -> bool {
        use rustls::{AlertDescription, Error, PeerIncompatible};
        matches!(
            self,
            HandshakeError::Tls(
                Error::PeerIncompatible(
                    PeerIncompatible::ServerDoesNotSupportTls12Or13
                        | PeerIncompatible::SupportedVersionsExtensionRequired
                        | PeerIncompatible::Tls12NotOffered
                        | PeerIncompatible::Tls12NotOfferedOrEnabled
                ) | Error::AlertReceived(AlertDescription::ProtocolVersion)
            )
        )
    }
}

/// The words that an administrator knows from PostgreSQL's log, for what is common.
fn openssl_words(e: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, Error};
    match e {
        Error::InvalidCertificate(_) => "certificate verify failed".to_owned(),
        Error::AlertReceived(alert) => match alert {
            Alert::UnknownCA => "tlsv1 alert unknown ca".to_owned(),
            Alert::ProtocolVersion => "tlsv1 alert protocol version".to_owned(),
            Alert::BadCertificate => "sslv3 alert bad certificate".to_owned(),
            Alert::CertificateExpired => "sslv3 alert certificate expired".to_owned(),
            Alert::CertificateRevoked => "sslv3 alert certificate revoked".to_owned(),
            Alert::CertificateUnknown => "sslv3 alert certificate unknown".to_owned(),
            Alert::HandshakeFailure => "sslv3 alert handshake failure".to_owned(),
            _ => e.to_string(),
        },
        _ => e.to_string(),
    }
}

/// The socket as the state machine reads it, from within a poll: what is not there yet wakes the task later.
struct Polled<'a, 'b> {
    stream: &'a mut OwnedReadHalf,
    cx: &'a mut Context<'b>,
}

impl Read for Polled<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(into);
        match Pin::new(&mut *self.stream).poll_read(self.cx, &mut buffer) {
            Poll::Ready(done) => done.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// The socket without waiting.
struct Direct<'a>(&'a OwnedReadHalf);

impl Direct<'_> {
    fn stream(&self) -> &TcpStream {
        self.0.as_ref()
    }
}

impl Read for Direct<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream().try_read(into)
    }
}

impl Write for Direct<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream().try_write(from)
    }
    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream().try_write_vectored(from)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsSession {
    pub fn new(tls: &ServerTls) -> Result<TlsSession, HandshakeError> {
        Ok(TlsSession {
            machine: ServerConnection::new(Arc::clone(&tls.config))?,
        })
    }

    /// Up to the moment at which both sides have proved what they must.
    pub async fn handshake(
        &mut self,
        stream: &mut OwnedReadHalf,
    ) -> Result<TlsFacts, HandshakeError> {
        loop {
            while self.machine.wants_write() {
                match self.machine.write_tls(&mut Direct(stream)) {
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        let writable = Direct(stream).stream().writable().await;
                        writable.map_err(HandshakeError::Io)?;
                    }
                    Err(e) => return Err(HandshakeError::Io(e)),
                }
            }
            if !self.machine.is_handshaking() {
                return self.facts();
            }
            match self.receive(stream).await {
                Ok(0) => return Err(HandshakeError::Closed),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(HandshakeError::Closed);
                }
                Err(e) => return Err(HandshakeError::Io(e)),
            }
            if let Err(e) = self.machine.process_new_packets() {
                self.say_why(stream);
                return Err(e.into());
            }
        }
    }

    fn facts(&self) -> Result<TlsFacts, HandshakeError> {
        let (cipher, bits) = cipher_name(self.machine.negotiated_cipher_suite());
        // The state machine has verified what it shows.
        let client = match self.machine.peer_certificates() {
            Some([leaf, ..]) => Some(ClientCertificate::parse(leaf)?),
            _ => None,
        };
        Ok(TlsFacts {
            protocol: protocol_name(self.machine.protocol_version()),
            cipher,
            bits,
            client,
        })
    }

    /// Encrypted bytes from the socket into the state machine.
    async fn receive(&mut self, stream: &mut OwnedReadHalf) -> io::Result<usize> {
        poll_fn(|cx| {
            match self.machine.read_tls(&mut Polled {
                stream: &mut *stream,
                cx,
            }) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                done => Poll::Ready(done),
            }
        })
        .await
    }

    /// Waits for the client's bytes and puts them into `input`; 0 at the end of the stream, with or without a word.
    pub async fn read(
        &mut self,
        stream: &mut OwnedReadHalf,
        input: &mut BytesMut,
    ) -> io::Result<usize> {
        loop {
            let n = self.take(input)?;
            if n > 0 || self.peer_is_done() {
                return Ok(n);
            }
            if self.receive(stream).await? == 0 {
                return Ok(0);
            }
            self.process(stream)?;
        }
    }

    /// The same without waiting: `None` where no byte of the client's has come.
    pub fn try_read(
        &mut self,
        stream: &OwnedReadHalf,
        input: &mut BytesMut,
    ) -> io::Result<Option<usize>> {
        if self.machine.read_tls(&mut Direct(stream))? == 0 {
            return Ok(Some(0));
        }
        self.process(stream)?;
        let n = self.take(input)?;
        Ok((n > 0 || self.peer_is_done()).then_some(n))
    }

    fn peer_is_done(&mut self) -> bool {
        self.machine
            .process_new_packets()
            .is_ok_and(|state| state.peer_has_closed())
    }

    fn process(&mut self, stream: &OwnedReadHalf) -> io::Result<()> {
        match self.machine.process_new_packets() {
            Ok(_) => {
                // The layer's own answers (a new key) go with the next write if the socket is full.
                if self.machine.wants_write() {
                    self.say_why(stream);
                }
                Ok(())
            }
            Err(e) => {
                self.say_why(stream);
                Err(io::Error::new(io::ErrorKind::InvalidData, e))
            }
        }
    }

    /// The layer's own words, an alert most often, as far as the socket takes them now. Nobody waits for that: the
    /// connection ends, or the rest goes with what is sent next.
    fn say_why(&mut self, stream: &OwnedReadHalf) {
        let _ = self.machine.write_tls(&mut Direct(stream));
    }

    /// Decrypted bytes that are here.
    fn take(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        let mut reader = self.machine.reader();
        let mut taken = 0;
        loop {
            let n = match reader.fill_buf() {
                Ok(chunk) => {
                    input.extend_from_slice(chunk);
                    chunk.len()
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                // The socket ended without the layer's last word; messages say themselves whether they are whole.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(e) => return Err(e),
            };
            if n == 0 {
                return Ok(taken);
            }
            reader.consume(n);
            taken += n;
        }
    }

    /// Encrypts and sends until all is gone, `output` as well as what was encrypted before; `WouldBlock` where the
    /// socket takes no more.
    pub fn write(&mut self, stream: &OwnedReadHalf, output: &mut BytesMut) -> io::Result<()> {
        if self.machine.is_handshaking() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        loop {
            if !output.is_empty() {
                // It takes what its own buffer has room for.
                let n = self.machine.writer().write(output)?;
                if n == output.len() {
                    output.clear();
                } else {
                    output.advance(n);
                }
            }
            if !self.machine.wants_write() {
                return Ok(());
            }
            if self.machine.write_tls(&mut Direct(stream))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
    }

    /// The layer's last word, so that the client can tell an end from a cut.
    pub fn close(&mut self, stream: &OwnedReadHalf) {
        if !self.machine.is_handshaking() {
            self.machine.send_close_notify();
            self.say_why(stream);
        }
    }
}
