//! The session's own TCP socket, as far as its settings reach it: keepalives and the time-out of data that nobody
//! confirms (manual, 20.3.2).
//!
//! The settings change inside of statements, which know no connection: so the session has a handle of its own to the
//! socket, beside the connection's. It is given back with the session's place, so that nobody who still looks at the
//! session keeps the connection open. A unix socket has no such options: nothing is set, and 0 is shown, as PostgreSQL
//! does it (`pqcomm.c`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};

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
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpOptions {
    /// What was asked for last: what the kernel has refused is not tried again before that changes.
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
        self.asked = wanted;
        let socket = SockRef::from(socket);
        for option in TcpOption::ALL {
            self.put(&socket, option, option.wanted(&wanted));
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
    handle: OwnedFd,
    options: TcpOptions,
}

/// Empty for a unix socket, and once it is given back.
#[derive(Debug, Default)]
pub struct ClientSocket(Mutex<Option<Held>>);

impl ClientSocket {
    pub fn unix() -> ClientSocket {
        ClientSocket::default()
    }

    /// `handle` is a second one to the connection's socket, which has these options by now.
    pub fn tcp(handle: OwnedFd, options: TcpOptions) -> ClientSocket {
        ClientSocket(Mutex::new(Some(Held { handle, options })))
    }

    /// Brings the socket to what the session's settings are; without a change it costs a comparison.
    pub fn apply(&self, wanted: KeepAlive) {
        if let Some(Held { handle, options }) = &mut *self.0.lock() {
            options.apply(handle, wanted);
        }
    }

    /// What SHOW tells of a setting: what the kernel has, in the setting's unit. `None`: it is none of these settings.
    pub fn shown(&self, setting: &str) -> Option<String> {
        let option = TcpOption::of_setting(setting)?;
        let mut held = self.0.lock();
        let value = match &mut *held {
            None => Some(0),
            Some(Held { handle, options }) => options.in_force(&SockRef::from(&*handle), option),
        };
        Some(value.map_or("-1".to_owned(), |v| v.to_string()))
    }

    /// The connection ends.
    pub fn give_back(&self) {
        *self.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// The connection's socket, its client's end, and the session's handle.
    fn connected() -> (TcpStream, TcpStream, ClientSocket) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let client = TcpStream::connect(address).expect("it listens");
        let (server, _) = listener.accept().expect("a client");
        let handle = server.as_fd().try_clone_to_owned().expect("a handle");
        let socket = ClientSocket::tcp(handle, TcpOptions::default());
        (server, client, socket)
    }

    fn in_kernel(socket: &TcpStream) -> [u32; 4] {
        let socket = SockRef::from(socket);
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

    #[test]
    fn settings_reach_the_connection_s_socket_and_leave_it_again() {
        let (server, _client, socket) = connected();
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
    #[test]
    fn what_the_kernel_refuses_stays_as_it_was() {
        let (server, _client, socket) = connected();
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

    #[test]
    fn a_connection_s_end_is_not_held_up() {
        use std::io::Read as _;
        let (server, mut client, socket) = connected();
        drop(server);
        socket.give_back();
        let mut rest = Vec::new();
        let limit = Some(Duration::from_secs(20));
        client.set_read_timeout(limit).expect("a limit");
        assert_eq!(client.read_to_end(&mut rest).expect("the end"), 0);
        assert_eq!(shown(&socket), [0; 4]);
        assert_eq!(shown(&ClientSocket::unix()), [0; 4]);
    }
}
