//! What the settings of a TCP connection ask of the kernel (manual, 20.3.2), as plain numbers. Knows no socket.

/// Zero leaves the system's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// `tcp_keepalives_idle`, seconds.
    pub idle: u32,
    /// `tcp_keepalives_interval`, seconds.
    pub interval: u32,
    /// `tcp_keepalives_count`
    pub count: u32,
    /// `tcp_user_timeout`
    pub user_timeout_ms: u32,
}

impl KeepAlive {
    /// `number` gives a setting's value in its own unit.
    pub fn of(number: impl Fn(&'static str) -> i32) -> KeepAlive {
        // Their ranges begin at 0.
        let of = |name| u32::try_from(number(name)).unwrap_or(0);
        KeepAlive {
            idle: of("tcp_keepalives_idle"),
            interval: of("tcp_keepalives_interval"),
            count: of("tcp_keepalives_count"),
            user_timeout_ms: of("tcp_user_timeout"),
        }
    }
}
