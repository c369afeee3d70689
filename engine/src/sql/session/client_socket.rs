//! The session's own TCP socket, as far as its settings reach it: keepalives and the time-out of data that nobody
//! confirms (manual, 20.3.2).
//!
//! The settings change inside of statements, which know no connection: so the session has one half of the socket, and
//! the connection reads and writes by the other. It is given back with the session's place, so that nobody who still
//! looks at the session keeps the connection open. A unix socket has no such options: nothing is set, and 0 is shown,
//! as PostgreSQL does it (`pqcomm.c`).

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::config::KeepAlive;
use crate::config::conf_file::os_message;

/// An option of a socket that has a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TcpOption {
    Idle,
    Interval,
    Count,
    UserTimeout,
}

impl TcpOption {
    const ALL: [TcpOption; 4] = [
        TcpOption::Idle,
        TcpOption::Interval,
        TcpOption::Count,
        TcpOption::UserTimeout,
    ];

    fn of_setting(name: &str) -> Option<TcpOption> {
        Some(match name {
            "tcp_keepalives_idle" => TcpOption::Idle,
            "tcp_keepalives_interval" => TcpOption::Interval,
            "tcp_keepalives_count" => TcpOption::Count,
            "tcp_user_timeout" => TcpOption::UserTimeout,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            TcpOption::Idle => "TCP_KEEPIDLE",
            TcpOption::Interval => "TCP_KEEPINTVL",
            TcpOption::Count => "TCP_KEEPCNT",
            TcpOption::UserTimeout => "TCP_USER_TIMEOUT",
        }
    }

    fn wanted(self, by: &KeepAlive) -> u32 {
        match self {
            TcpOption::Idle => by.idle,
            TcpOption::Interval => by.interval,
            TcpOption::Count => by.count,
            TcpOption::UserTimeout => by.user_timeout_ms,
        }
    }

    fn get(self, socket: &SockRef<'_>) -> io::Result<u32> {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Ok(match self {
            TcpOption::Idle => seconds(socket.tcp_keepalive_time()?),
            TcpOption::Interval => seconds(socket.tcp_keepalive_interval()?),
            TcpOption::Count => socket.tcp_keepalive_retries()?,
            TcpOption::UserTimeout => socket.tcp_user_timeout()?.map_or(0, ms),
        })
    }

    fn set(self, socket: &SockRef<'_>, value: u32) -> io::Result<()> {
        let seconds = Duration::from_secs(u64::from(value));
        let options = TcpKeepalive::new();
        match self {
            TcpOption::Idle => socket.set_tcp_keepalive(&options.with_time(seconds)),
            TcpOption::Interval => socket.set_tcp_keepalive(&options.with_interval(seconds)),
            TcpOption::Count => socket.set_tcp_keepalive(&options.with_retries(value)),
            TcpOption::UserTimeout => {
                let ms = Duration::from_millis(u64::from(value));
                socket.set_tcp_user_timeout(Some(ms).filter(|ms| !ms.is_zero()))
            }
        }
    }
}

fn failed(call: &str, option: TcpOption, e: &io::Error) {
    let (option, cause) = (option.name(), os_message(e));
    tracing::info!(of_statement = true, "{call}({option}) failed: {cause}");
}

/// What is known of one socket's options.
#[derive(Debug, Default)]
pub struct TcpOptions {
    /// What was asked for last: what the kernel has refused is not tried again, and not logged, before another value is
    /// asked for.
    asked: KeepAlive,
    /// Of each option, what we have set; 0: nothing yet.
    set: [u32; 4],
    /// Of each option, what the system gave it; asked for when it is needed.
    default: [Option<u32>; 4],
}

impl TcpOptions {
    /// Each option for itself: what the kernel refuses is logged and stays as it was.
    pub fn apply(&mut self, socket: &impl AsFd, wanted: KeepAlive) {
        if wanted == self.asked {
            return;
        }
        let before = std::mem::replace(&mut self.asked, wanted);
        let socket = SockRef::from(socket);
        for option in TcpOption::ALL {
            let value = option.wanted(&wanted);
            if value != option.wanted(&before) {
                self.put(&socket, option, value);
            }
        }
    }

    fn put(&mut self, socket: &SockRef<'_>, option: TcpOption, wanted: u32) {
        let place = option as usize;
        if wanted == self.set[place] {
            return;
        }
        // Known before it is changed, to come back to.
        let Some(default) = self.default_of(socket, option) else {
            return;
        };
        let value = if wanted == 0 { default } else { wanted };
        match option.set(socket, value) {
            Ok(()) => self.set[place] = value,
            Err(e) => failed("setsockopt", option, &e),
        }
    }

    fn default_of(&mut self, socket: &SockRef<'_>, option: TcpOption) -> Option<u32> {
        let known = &mut self.default[option as usize];
        if known.is_none() {
            match option.get(socket) {
                Ok(value) => *known = Some(value),
                Err(e) => failed("getsockopt", option, &e),
            }
        }
        *known
    }

    /// `None`: the kernel does not tell.
    fn in_force(&mut self, socket: &SockRef<'_>, option: TcpOption) -> Option<u32> {
        match self.set[option as usize] {
            0 => self.default_of(socket, option),
            set => Some(set),
        }
    }
}

#[derive(Debug)]
struct Held {
    half: OwnedWriteHalf,
    options: TcpOptions,
}

impl Held {
    fn parts(&mut self) -> (&TcpStream, &mut TcpOptions) {
        (self.half.as_ref(), &mut self.options)
    }
}

/// Empty for a unix socket, and once it is given back.
#[derive(Debug, Default)]
pub struct ClientSocket(Mutex<Option<Held>>);

impl ClientSocket {
    pub fn unix() -> Arc<ClientSocket> {
        Arc::default()
    }

    /// `half` is of the connection's socket, which has these options by now.
    pub fn tcp(half: OwnedWriteHalf, options: TcpOptions) -> Arc<ClientSocket> {
        Arc::new(ClientSocket(Mutex::new(Some(Held { half, options }))))
    }

    /// The connection's half anew, and the session's with it, driven by the runtime that this is called on.
    pub fn moved_here(&self, before: &OwnedReadHalf) -> io::Result<OwnedReadHalf> {
        let before: &TcpStream = before.as_ref();
        let handle = before.as_fd().try_clone_to_owned()?;
        let (reads, half) = TcpStream::from_std(handle.into())?.into_split();
        let spare = match &mut *self.0.lock() {
            Some(held) => std::mem::replace(&mut held.half, half),
            None => half,
        };
        spare.forget();
        Ok(reads)
    }

    /// Brings the socket to what the session's settings are; without a change it costs a comparison.
    pub fn apply(&self, wanted: KeepAlive) {
        if let Some(held) = &mut *self.0.lock() {
            let (socket, options) = held.parts();
            options.apply(socket, wanted);
        }
    }

    /// What SHOW tells of a setting: what the kernel has, in the setting's unit. `None`: it is none of these settings.
    pub fn shown(&self, setting: &str) -> Option<String> {
        let option = TcpOption::of_setting(setting)?;
        let value = match &mut *self.0.lock() {
            None => Some(0),
            Some(held) => {
                let (socket, options) = held.parts();
                options.in_force(&SockRef::from(socket), option)
            }
        };
        Some(value.map_or("-1".to_owned(), |v| v.to_string()))
    }

    /// The session ends. The connection may have its last words to say yet: they are not cut off.
    pub fn give_back(&self) {
        if let Some(held) = self.0.lock().take() {
            held.half.forget();
        }
    }
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// The connection's half, its client's end, and the session's half.
    async fn connected() -> (OwnedReadHalf, TcpStream, Arc<ClientSocket>) {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let client = TcpStream::connect(address).await.expect("it listens");
        let (server, _) = listener.accept().await.expect("a client");
        let (server, half) = server.into_split();
        (
            server,
            client,
            ClientSocket::tcp(half, TcpOptions::default()),
        )
    }

    fn in_kernel(half: &OwnedReadHalf) -> [u32; 4] {
        let stream: &TcpStream = half.as_ref();
        let socket = SockRef::from(stream);
        TcpOption::ALL.map(|option| option.get(&socket).expect("a TCP socket"))
    }

    fn shown(socket: &ClientSocket) -> [u32; 4] {
        [
            "tcp_keepalives_idle",
            "tcp_keepalives_interval",
            "tcp_keepalives_count",
            "tcp_user_timeout",
        ]
        .map(|name| {
            let value = socket.shown(name).expect("its setting");
            value.parse().expect("a number")
        })
    }

    #[tokio::test]
    async fn settings_reach_the_connection_s_socket_and_leave_it_again() {
        let (server, _client, socket) = connected().await;
        let default = in_kernel(&server);
        assert_eq!(shown(&socket), default);
        let wanted = KeepAlive {
            idle: 77,
            interval: 7,
            count: 5,
            user_timeout_ms: 4321,
        };
        socket.apply(wanted);
        assert_eq!(in_kernel(&server), [77, 7, 5, 4321]);
        assert_eq!(shown(&socket), [77, 7, 5, 4321]);
        socket.apply(KeepAlive { idle: 0, ..wanted });
        assert_eq!(in_kernel(&server), [default[0], 7, 5, 4321]);
        socket.apply(KeepAlive::default());
        assert_eq!(in_kernel(&server), default);
        assert_eq!(shown(&socket), default);
        assert_eq!(socket.shown("port"), None);
    }

    /// Linux takes at most 32767 seconds and 127 probes.
    #[tokio::test]
    async fn what_the_kernel_refuses_stays_as_it_was() {
        let (server, _client, socket) = connected().await;
        let wanted = KeepAlive {
            idle: 77,
            count: 5,
            ..KeepAlive::default()
        };
        socket.apply(wanted);
        let before = in_kernel(&server);
        socket.apply(KeepAlive {
            idle: 99_999,
            count: 999,
            interval: 7,
            ..wanted
        });
        assert_eq!(in_kernel(&server), [77, 7, 5, before[3]]);
        assert_eq!(shown(&socket), [77, 7, 5, before[3]]);
    }

    #[tokio::test]
    async fn a_connection_s_end_is_not_held_up_and_its_last_words_are_not_cut_off() {
        let (server, mut client, socket) = connected().await;
        socket.give_back();
        let stream: &TcpStream = server.as_ref();
        stream.writable().await.expect("open");
        assert_eq!(stream.try_write(b"so long").expect("room"), 7);
        drop(server);
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, client.read_to_end(&mut rest));
        end.await.expect("nobody holds it").expect("the end");
        assert_eq!(rest, b"so long");
        assert_eq!(shown(&socket), [0; 4]);
        assert_eq!(shown(&ClientSocket::unix()), [0; 4]);
    }

    #[tokio::test]
    async fn what_is_set_moves_with_the_connection() {
        let (server, mut client, socket) = connected().await;
        let default = in_kernel(&server);
        let wanted = KeepAlive {
            interval: 7,
            ..KeepAlive::default()
        };
        socket.apply(wanted);
        let moved = socket.moved_here(&server).expect("a handle");
        drop(server);
        assert_eq!(in_kernel(&moved)[1], 7);
        socket.apply(KeepAlive::default());
        assert_eq!(in_kernel(&moved), default);
        // Back where it has been given back: the connection is not cut off either.
        socket.give_back();
        let moved = socket.moved_here(&moved).expect("a handle");
        let stream: &TcpStream = moved.as_ref();
        stream.writable().await.expect("open");
        assert_eq!(stream.try_write(b"here").expect("room"), 4);
        let mut heard = [0; 4];
        let read = tokio::time::timeout(PATIENCE, client.read_exact(&mut heard));
        read.await.expect("it comes").expect("not the end");
        assert_eq!(&heard, b"here");
    }
}
