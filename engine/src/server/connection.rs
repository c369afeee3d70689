//! A socket with its two buffers.
//!
//! Input grows with what arrives and is given back when it is empty; output is one buffer that everything is encoded
//! into. While a flush waits for the client to read, input goes on being read into the buffer up to a bound, so a
//! client that pipelines without reading cannot make both sides wait for each other.
//!
//! A TCP socket may have an encrypted layer ([`TlsSession`]); the buffers hold plain text either way.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpStream, UnixStream};

use super::log;
use super::protocol::ProtocolError;
use super::protocol::frontend::{Frame, next_frame};
use super::protocol::startup::{StartupPacket, next_packet};
use super::tls_session::{HandshakeError, TlsSession};
use crate::config::KeepAlive;
use crate::config::conf_file::os_message;
use crate::sql::session::client_socket::{ClientSocket, TcpOptions};
use crate::tls::facts::TlsFacts;
use crate::tls::server::ServerTls;
use crate::txn::Interrupts;

/// Beyond this, rows are sent before more are made.
pub const FULL: usize = 64 * 1024;
/// What a buffer may keep when its session goes idle.
const KEEP: usize = 8 * 1024;
/// Input read ahead while output waits.
const READ_AHEAD: usize = 256 * 1024;
const READ_STEP: usize = 8 * 1024;
const LAST_WORDS: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Socket {
    /// The connection reads and writes by one half, and the session has the other: for its settings, and so that a
    /// session takes one descriptor, not two.
    Tcp {
        stream: OwnedReadHalf,
        tls: Option<Box<TlsSession>>,
    },
    Unix(UnixStream),
}

#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    input: BytesMut,
    pub output: BytesMut,
    /// `None`: a unix socket.
    pub remote: Option<SocketAddr>,
    pub local: Option<IpAddr>,
    ended: bool,
    /// For the session's own settings of the socket.
    pub for_settings: Arc<ClientSocket>,
    /// Of the encrypted layer, once its handshake is over.
    pub tls: Option<Arc<TlsFacts>>,
    /// Of the session, once there is one: what may end a wait for the client.
    pub interrupts: Option<Arc<Interrupts>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error(transparent)]
    Io(#[from] io::Error),
    /// In the middle of a message.
    #[error("unexpected EOF on client connection")]
    Cut,
}

impl Connection {
    pub fn tcp(stream: TcpStream, keep_alive: KeepAlive) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        if let Err(e) = socket2::SockRef::from(&stream).set_keepalive(true) {
            let cause = os_message(&e);
            log::log(&format!("setsockopt(SO_KEEPALIVE) failed: {cause}"));
        }
        let mut options = TcpOptions::default();
        options.apply(&stream, keep_alive);
        let remote = Some(stream.peer_addr()?);
        let local = Some(stream.local_addr()?.ip());
        let (stream, other) = stream.into_split();
        let socket = Socket::Tcp { stream, tls: None };
        let for_settings = ClientSocket::tcp(other, options);
        Ok(Connection::new(socket, for_settings, remote, local))
    }

    pub fn unix(stream: UnixStream) -> Connection {
        Connection::new(Socket::Unix(stream), ClientSocket::unix(), None, None)
    }

    fn new(
        socket: Socket,
        for_settings: Arc<ClientSocket>,
        remote: Option<SocketAddr>,
        local: Option<IpAddr>,
    ) -> Connection {
        Connection {
            socket,
            input: BytesMut::new(),
            output: BytesMut::new(),
            remote,
            local,
            ended: false,
            for_settings,
            tls: None,
            interrupts: None,
        }
    }

    /// The same connection, driven by the runtime that this is called on.
    pub fn moved_here(self) -> io::Result<Connection> {
        let socket = match self.socket {
            Socket::Tcp { stream, tls } => Socket::Tcp {
                stream: self.for_settings.moved_here(&stream)?,
                tls,
            },
            Socket::Unix(s) => Socket::Unix(UnixStream::from_std(s.into_std()?)?),
        };
        Ok(Connection { socket, ..self })
    }

    /// The user at the other end of a unix socket.
    pub fn peer_uid(&self) -> Option<u32> {
        match &self.socket {
            Socket::Unix(s) => s.peer_cred().ok().map(|c| c.uid()),
            Socket::Tcp { .. } => None,
        }
    }

    /// Only a TCP connection can be encrypted; a unix socket needs no protection from the network.
    pub fn can_encrypt(&self) -> bool {
        matches!(self.socket, Socket::Tcp { tls: None, .. })
    }

    /// The handshake, after which everything is encrypted. From its first byte on nothing goes out in plain text, even
    /// if it is given up half-way.
    pub async fn encrypt(&mut self, with: &ServerTls) -> Result<(), HandshakeError> {
        let Socket::Tcp { stream, tls } = &mut self.socket else {
            return Err(HandshakeError::Io(io::ErrorKind::Unsupported.into()));
        };
        let session = tls.insert(Box::new(TlsSession::new(with)?));
        self.tls = Some(Arc::new(session.handshake(stream).await?));
        Ok(())
    }

    /// Says that this is the end, as far as that can be said without waiting.
    pub fn close(&mut self) {
        if let Socket::Tcp {
            stream,
            tls: Some(tls),
        } = &mut self.socket
        {
            tls.close(stream);
        }
    }

    /// The next message; `None` at a clean end. Cancel-safe: what was read stays in the buffer.
    pub async fn frame(&mut self, limit: Option<usize>) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(frame) = next_frame(&mut self.input, limit)? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return if self.input.is_empty() {
                    Ok(None)
                } else {
                    Err(ReadError::Cut)
                };
            }
        }
    }

    /// A whole message that is already here; never waits.
    pub fn buffered_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        next_frame(&mut self.input, None)
    }

    pub async fn startup_packet(&mut self) -> Result<Option<StartupPacket>, ReadError> {
        loop {
            if let Some(packet) = next_packet(&mut self.input)? {
                return Ok(Some(packet));
            }
            if !self.fill().await? {
                return if self.input.is_empty() {
                    Ok(None)
                } else {
                    Err(ReadError::Cut)
                };
            }
        }
    }

    /// Whether bytes of the client lie here unread. Before authentication that is a reason for suspicion: they came
    /// unasked in front of an encrypted stream.
    pub fn has_unread(&self) -> bool {
        self.unread() > 0
    }

    pub fn unread(&self) -> usize {
        self.input.len()
    }

    /// Waits for bytes and takes them; false at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        // Where this fills less than the buffer, the runtime knows that there is no more and does not ask again.
        let read = match &mut self.socket {
            Socket::Tcp { stream, tls: None } => {
                self.input.reserve(READ_STEP);
                stream.read_buf(&mut self.input).await
            }
            Socket::Tcp {
                stream,
                tls: Some(tls),
            } => tls.read(stream, &mut self.input).await,
            Socket::Unix(s) => {
                self.input.reserve(READ_STEP);
                s.read_buf(&mut self.input).await
            }
        };
        match read {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => self.ended = true,
            Err(e) => return Err(e),
        }
        Ok(!self.ended)
    }

    /// Takes what is there without waiting; `None`: nothing is.
    fn try_read(&mut self) -> io::Result<Option<usize>> {
        let read = match &mut self.socket {
            Socket::Tcp { stream, tls: None } => {
                self.input.reserve(READ_STEP);
                stream.try_read_buf(&mut self.input).map(Some)
            }
            Socket::Tcp {
                stream,
                tls: Some(tls),
            } => tls.try_read(stream, &mut self.input),
            Socket::Unix(s) => {
                self.input.reserve(READ_STEP);
                s.try_read_buf(&mut self.input).map(Some)
            }
        };
        match read {
            Ok(n) => Ok(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(Some(0)),
            Err(e) => Err(e),
        }
    }

    fn try_write(&self) -> io::Result<usize> {
        match &self.socket {
            Socket::Tcp { stream, tls: None } => whole(stream).try_write(&self.output),
            // Plain text never goes out beside the encrypted layer.
            Socket::Tcp { tls: Some(_), .. } => Err(io::ErrorKind::NotConnected.into()),
            Socket::Unix(s) => s.try_write(&self.output),
        }
    }

    async fn ready(&self, interest: Interest) -> io::Result<tokio::io::Ready> {
        match &self.socket {
            Socket::Tcp { stream, .. } => stream.ready(interest).await,
            Socket::Unix(s) => s.ready(interest).await,
        }
    }

    /// Sends everything. Cancel-safe: what has gone out is no longer in the buffer.
    pub async fn flush(&mut self) -> io::Result<()> {
        if matches!(self.socket, Socket::Tcp { tls: Some(_), .. }) {
            return self.flush_encrypted().await;
        }
        while !self.output.is_empty() {
            self.confirm().await?;
            match self.try_write() {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) if n == self.output.len() => {
                    self.output.clear();
                    self.told();
                }
                Ok(n) => self.output.advance(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait_to_write().await?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    async fn flush_encrypted(&mut self) -> io::Result<()> {
        loop {
            self.confirm().await?;
            let Socket::Tcp {
                stream,
                tls: Some(tls),
            } = &mut self.socket
            else {
                return Ok(());
            };
            match tls.write(stream, &mut self.output) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait_to_write().await?,
                Ok(()) => {
                    self.told();
                    return Ok(());
                }
                failed => return failed,
            }
        }
    }

    /// What was decided before the process stood still is not told before the standbys have said so again.
    async fn confirm(&self) -> io::Result<()> {
        match &self.interrupts {
            // Boxed: every session that waits for its client would have the room for it.
            Some(interrupts) if interrupts.owes_in_doubt() => Box::pin(interrupts.confirm()).await,
            _ => Ok(()),
        }
    }

    fn told(&self) {
        if let Some(interrupts) = &self.interrupts {
            interrupts.told();
        }
    }

    /// The same, but what ends the session does not wait for a client that does not read. A cancel does, as in
    /// PostgreSQL: half a message cannot be taken back.
    pub async fn flush_unless_ended(&mut self) -> io::Result<()> {
        let Some(interrupts) = self.interrupts.clone() else {
            return self.flush().await;
        };
        let mut held = None;
        let done = {
            let mut flush = std::pin::pin!(self.flush());
            loop {
                tokio::select! {
                    biased;
                    done = &mut flush => break done,
                    interrupt = interrupts.wait() => {
                        held = Some(interrupt);
                        if interrupt.ends_session() {
                            break Err(io::ErrorKind::Interrupted.into());
                        }
                    }
                }
            }
        };
        if let Some(interrupt) = held {
            interrupts.raise(interrupt);
        }
        done
    }

    /// The last words: a client that does not take them in time goes without.
    pub async fn flush_at_last(&mut self) {
        // Nobody may be listening any more.
        let _ = tokio::time::timeout(LAST_WORDS, self.flush()).await;
    }

    async fn wait_to_write(&mut self) -> io::Result<()> {
        let read_too = !self.ended && self.input.len() < READ_AHEAD;
        let interest = if read_too {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::WRITABLE
        };
        let ready = self.ready(interest).await?;
        if ready.is_readable() && read_too && self.try_read()? == Some(0) {
            self.ended = true;
        }
        Ok(())
    }

    /// Gives memory back before a wait that may be long. What the next read has to have anyhow stays.
    pub fn shrink(&mut self) {
        if self.output.is_empty() && self.output.capacity() > KEEP {
            self.output = BytesMut::new();
        }
        // The capacity does not count what lies before the view; whether there is more than one step, this tells.
        if self.input.is_empty() && self.input.try_reclaim(READ_STEP + 1) {
            self.input = BytesMut::new();
        }
    }

    /// One byte that is no message: the answer to SSLRequest and GSSENCRequest.
    pub async fn send_byte(&mut self, byte: u8) -> io::Result<()> {
        self.output.extend_from_slice(&[byte]);
        self.flush().await
    }
}

fn whole(half: &OwnedReadHalf) -> &TcpStream {
    half.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pair() -> (TcpStream, Connection) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("bound");
        let client = TcpStream::connect(address).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("a client");
        let connection = Connection::tcp(stream, KeepAlive::default()).expect("let in");
        (client, connection)
    }

    /// A message of a simple query with a text of so many bytes.
    fn query(bytes: usize) -> Vec<u8> {
        let length = u32::try_from(bytes + 5).expect("short");
        let mut message = vec![b'Q'];
        message.extend_from_slice(&length.to_be_bytes());
        message.resize(message.len() + bytes, b' ');
        message.push(0);
        message
    }

    #[tokio::test]
    async fn an_idle_connection_keeps_one_step_of_input_and_no_more() {
        use tokio::io::AsyncWriteExt as _;
        let (mut client, mut c) = pair().await;
        let mut place = None;
        for round in 0..3 {
            for message in [query(10), query(2000)] {
                client.write_all(&message).await.expect("sent");
                let frame = c.frame(None).await.expect("whole");
                let frame = frame.expect("not the end");
                assert_eq!(frame.body.len(), message.len() - 5);
            }
            c.shrink();
            c.input.reserve(READ_STEP);
            let at = c.input.as_ptr() as usize;
            assert_eq!(
                *place.get_or_insert(at),
                at,
                "round {round} reads elsewhere"
            );
        }
        // A long message must not leave its room with a session that is idle, however much of it was read.
        for rest in [0, 10] {
            let sent = [query(1 << 20), query(rest)].concat();
            let sending = tokio::spawn(async move {
                client.write_all(&sent).await.expect("sent");
                client
            });
            for _ in 0..2 {
                let frame = c.frame(None).await.expect("whole");
                assert!(frame.is_some());
            }
            client = sending.await.expect("no panic");
            c.shrink();
            assert!(!c.input.try_reclaim(READ_STEP + 1), "more than one step");
        }
    }

    /// Linux takes at most 32767 seconds and 127 probes.
    #[tokio::test]
    async fn settings_that_the_kernel_refuses_keep_nobody_out() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("bound");
        let _client = TcpStream::connect(address).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("a client");
        let keep_alive = KeepAlive {
            idle: 2_147_483_647,
            interval: 77,
            count: 2_147_483_647,
            user_timeout_ms: 2_147_483_647,
        };
        let connection = Connection::tcp(stream, keep_alive).expect("let in all the same");
        let Socket::Tcp { stream, .. } = &connection.socket else {
            panic!("not a TCP connection");
        };
        let socket = socket2::SockRef::from(whole(stream));
        assert!(socket.keepalive().expect("asked"));
        let interval = socket.tcp_keepalive_interval().expect("asked");
        assert_eq!(interval.as_secs(), 77, "the others are in force");
        let session = &connection.for_settings;
        let shown = session.shown("tcp_keepalives_interval");
        assert_eq!(shown.as_deref(), Some("77"), "the session knows of it");
    }
}
