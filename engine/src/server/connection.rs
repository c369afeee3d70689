//! A socket with its two buffers.
//!
//! Input grows with what arrives and is given back when it is empty; output is one buffer that everything is encoded
//! into. While a flush waits for the client to read, input goes on being read into the buffer up to a bound, so a
//! client that pipelines without reading cannot make both sides wait for each other.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::{TcpStream, UnixStream};

use super::protocol::ProtocolError;
use super::protocol::frontend::{Frame, next_frame};
use super::protocol::startup::{StartupPacket, next_packet};

/// Beyond this, rows are sent before more are made.
pub const FULL: usize = 64 * 1024;
/// What a buffer may keep when its session goes idle.
const KEEP: usize = 8 * 1024;
/// Input read ahead while output waits.
const READ_AHEAD: usize = 256 * 1024;
const READ_STEP: usize = 8 * 1024;

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
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

/// Kernel settings of a TCP connection (manual, 20.3.2); zero leaves the system's default.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeepAlive {
    pub idle: Duration,
    pub interval: Duration,
    pub count: u32,
    pub user_timeout: Duration,
}

impl Connection {
    pub fn tcp(stream: TcpStream, keep_alive: KeepAlive) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        let socket = socket2::SockRef::from(&stream);
        let mut options = socket2::TcpKeepalive::new();
        if !keep_alive.idle.is_zero() {
            options = options.with_time(keep_alive.idle);
        }
        if !keep_alive.interval.is_zero() {
            options = options.with_interval(keep_alive.interval);
        }
        if keep_alive.count > 0 {
            options = options.with_retries(keep_alive.count);
        }
        socket.set_tcp_keepalive(&options)?;
        if !keep_alive.user_timeout.is_zero() {
            socket.set_tcp_user_timeout(Some(keep_alive.user_timeout))?;
        }
        let remote = Some(stream.peer_addr()?);
        let local = Some(stream.local_addr()?.ip());
        Ok(Connection::new(Socket::Tcp(stream), remote, local))
    }

    pub fn unix(stream: UnixStream) -> Connection {
        Connection::new(Socket::Unix(stream), None, None)
    }

    fn new(socket: Socket, remote: Option<SocketAddr>, local: Option<IpAddr>) -> Connection {
        Connection {
            socket,
            input: BytesMut::new(),
            output: BytesMut::new(),
            remote,
            local,
            ended: false,
        }
    }

    /// The same connection, served by another runtime's threads from now on.
    pub fn moved_to(self, runtime: &tokio::runtime::Handle) -> io::Result<Connection> {
        let _entered = runtime.enter();
        let socket = match self.socket {
            Socket::Tcp(s) => Socket::Tcp(TcpStream::from_std(s.into_std()?)?),
            Socket::Unix(s) => Socket::Unix(UnixStream::from_std(s.into_std()?)?),
        };
        Ok(Connection { socket, ..self })
    }

    /// The user at the other end of a unix socket.
    pub fn peer_uid(&self) -> Option<u32> {
        match &self.socket {
            Socket::Unix(s) => s.peer_cred().ok().map(|c| c.uid()),
            Socket::Tcp(_) => None,
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
        !self.input.is_empty()
    }

    /// Waits for bytes and takes them; false at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        self.input.reserve(READ_STEP);
        // Where this fills less than the buffer, the runtime knows that there is no more and does not ask again.
        let read = match &mut self.socket {
            Socket::Tcp(s) => s.read_buf(&mut self.input).await,
            Socket::Unix(s) => s.read_buf(&mut self.input).await,
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
        self.input.reserve(READ_STEP);
        let read = match &self.socket {
            Socket::Tcp(s) => s.try_read_buf(&mut self.input),
            Socket::Unix(s) => s.try_read_buf(&mut self.input),
        };
        match read {
            Ok(n) => Ok(Some(n)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(Some(0)),
            Err(e) => Err(e),
        }
    }

    fn try_write(&self, from: usize) -> io::Result<usize> {
        match &self.socket {
            Socket::Tcp(s) => s.try_write(&self.output[from..]),
            Socket::Unix(s) => s.try_write(&self.output[from..]),
        }
    }

    async fn ready(&self, interest: Interest) -> io::Result<tokio::io::Ready> {
        match &self.socket {
            Socket::Tcp(s) => s.ready(interest).await,
            Socket::Unix(s) => s.ready(interest).await,
        }
    }

    /// Sends everything. Not cancel-safe: a part may have gone out.
    pub async fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.output.len() {
            match self.try_write(sent) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait_to_write().await?,
                Err(e) => return Err(e),
            }
        }
        self.output.clear();
        Ok(())
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

    /// Gives memory back before a wait that may be long.
    pub fn shrink(&mut self) {
        if self.output.is_empty() && self.output.capacity() > KEEP {
            self.output = BytesMut::new();
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// One byte that is no message: the answer to SSLRequest and GSSENCRequest.
    pub async fn send_byte(&mut self, byte: u8) -> io::Result<()> {
        self.output.extend_from_slice(&[byte]);
        self.flush().await
    }
}
