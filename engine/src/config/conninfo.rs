//! Connection strings: `keyword=value` pairs and `postgresql://` addresses, with every keyword of libpq 15.
//!
//! Source: manual, 34.1.1 and 34.1.2. The words of the errors are libpq's.

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnInfoError {
    #[error("missing \"=\" after \"{0}\" in connection info string")]
    MissingEquals(String),
    #[error("unterminated quoted string in connection info string")]
    UnterminatedQuote,
    #[error("invalid connection option \"{0}\"")]
    UnknownOption(String),
    #[error("invalid URI query parameter: \"{0}\"")]
    UnknownQueryParameter(String),
    #[error("invalid percent-encoded token: \"{0}\"")]
    BadPercent(String),
    #[error(
        "end of string reached when looking for matching \"]\" in IPv6 host address in URI: \"{0}\""
    )]
    OpenBracket(String),
    #[error("missing key/value separator \"=\" in URI query parameter: \"{0}\"")]
    MissingQueryEquals(String),
    #[error("invalid integer value \"{value}\" for connection option \"{option}\"")]
    BadInteger { option: &'static str, value: String },
    #[error("invalid {option} value: \"{value}\"")]
    BadChoice { option: &'static str, value: String },
}

/// How much encryption a client wants, and how sure it wants to be of the server. Manual, 34.19.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    Disable,
    /// Only if the server insists.
    Allow,
    /// If the server can.
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    pub fn verifies(self) -> bool {
        self >= SslMode::VerifyCa
    }
}

/// Whether an authentication has to be tied to the encrypted connection that it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// libpq's keywords, and three of older releases that did nothing for long.
const KEYWORDS: [&str; 43] = [
    "service",
    "user",
    "password",
    "passfile",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "port",
    "client_encoding",
    "options",
    "application_name",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "sslmode",
    "sslcompression",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "requirepeer",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "gssencmode",
    "krbsrvname",
    "gsslib",
    "replication",
    "target_session_attrs",
    "authtype",
    "tty",
    "requiressl",
    "sslcertmode",
    "load_balance_hosts",
    "require_auth",
    "gssdelegation",
];

/// A parsed connection string. What it does not say has libpq's default.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ConnInfo {
    pairs: Vec<(&'static str, String)>,
}

impl fmt::Debug for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_password())
    }
}

/// Where to connect to: a TCP host and port, or a socket directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name, an address, or an absolute directory of a unix socket.
    pub host: String,
    /// A numeric address to use without looking `host` up.
    pub hostaddr: Option<String>,
    /// False where `hostaddr` stands in for a host that was not given: certificates are not checked against that.
    pub is_named: bool,
    pub port: u16,
}

/// As libpq says where a server is, or should be.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.hostaddr.is_none() && self.host.starts_with('/') {
            write!(f, "on socket \"{}/.s.PGSQL.{}\"", self.host, self.port)
        } else {
            write!(f, "at \"{}\", port {}", self.host, self.port)
        }
    }
}

impl ConnInfo {
    pub fn parse(s: &str) -> Result<ConnInfo, ConnInfoError> {
        let rest = s
            .strip_prefix("postgresql://")
            .or_else(|| s.strip_prefix("postgres://"));
        let info = match rest {
            Some(rest) => parse_uri(rest)?,
            None => parse_pairs(s)?,
        };
        info.endpoints()?;
        Ok(info)
    }

    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(k, _)| *k == keyword)
            .map(|(_, v)| v.as_str())
    }

    /// The last word on a keyword wins, as in libpq.
    pub fn set(&mut self, keyword: &str, value: &str) -> Result<(), ConnInfoError> {
        let known = KEYWORDS
            .iter()
            .find(|k| **k == keyword)
            .ok_or_else(|| ConnInfoError::UnknownOption(keyword.to_owned()))?;
        match self.pairs.iter_mut().find(|(k, _)| k == known) {
            Some((_, v)) => value.clone_into(v),
            None => self.pairs.push((known, value.to_owned())),
        }
        Ok(())
    }

    pub fn user(&self) -> Option<&str> {
        self.get("user").filter(|v| !v.is_empty())
    }
    pub fn password(&self) -> Option<&str> {
        self.get("password").filter(|v| !v.is_empty())
    }
    pub fn dbname(&self) -> Option<&str> {
        self.get("dbname").filter(|v| !v.is_empty())
    }

    /// `application_name`, or what should stand in for it.
    pub fn application_name(&self) -> Option<&str> {
        self.get("application_name")
            .or_else(|| self.get("fallback_application_name"))
            .filter(|v| !v.is_empty())
    }

    /// Seconds; `None` waits for ever. One second means two, as in libpq.
    pub fn connect_timeout(&self) -> Result<Option<u64>, ConnInfoError> {
        let Some(v) = self.get("connect_timeout").filter(|v| !v.is_empty()) else {
            return Ok(None);
        };
        let n: i64 = v.trim().parse().map_err(|_| ConnInfoError::BadInteger {
            option: "connect_timeout",
            value: v.to_owned(),
        })?;
        Ok(u64::try_from(n).ok().filter(|n| *n > 0).map(|n| n.max(2)))
    }

    /// What the string says, or else libpq's environment variable. Empty is nothing.
    pub fn or_environment(&self, keyword: &str, variable: &str) -> Option<String> {
        self.get(keyword)
            .map(str::to_owned)
            .or_else(|| std::env::var(variable).ok())
            .filter(|v| !v.is_empty())
    }

    pub fn ssl_mode(&self) -> Result<SslMode, ConnInfoError> {
        let Some(mode) = self.or_environment("sslmode", "PGSSLMODE") else {
            return Ok(SslMode::Prefer);
        };
        Ok(match mode.as_str() {
            "disable" => SslMode::Disable,
            "allow" => SslMode::Allow,
            "prefer" => SslMode::Prefer,
            "require" => SslMode::Require,
            "verify-ca" => SslMode::VerifyCa,
            "verify-full" => SslMode::VerifyFull,
            _ => {
                return Err(ConnInfoError::BadChoice {
                    option: "sslmode",
                    value: mode,
                });
            }
        })
    }

    pub fn channel_binding(&self) -> Result<ChannelBinding, ConnInfoError> {
        let Some(mode) = self.or_environment("channel_binding", "PGCHANNELBINDING") else {
            return Ok(ChannelBinding::Prefer);
        };
        Ok(match mode.as_str() {
            "disable" => ChannelBinding::Disable,
            "prefer" => ChannelBinding::Prefer,
            "require" => ChannelBinding::Require,
            _ => {
                return Err(ConnInfoError::BadChoice {
                    option: "channel_binding",
                    value: mode,
                });
            }
        })
    }

    /// Every host with its port, in the order to try them.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, ConnInfoError> {
        let split = |k: &str| -> Vec<String> {
            self.get(k)
                .filter(|v| !v.is_empty())
                .map(|v| v.split(',').map(|p| p.trim().to_owned()).collect())
                .unwrap_or_default()
        };
        let hosts = split("host");
        let addresses = split("hostaddr");
        let ports = split("port");
        let count = hosts.len().max(addresses.len()).max(1);
        let mut out = Vec::with_capacity(count);
        for i in 0..count {
            let port = match ports.len() {
                0 => "",
                1 => &ports[0],
                _ => ports.get(i).map_or("", String::as_str),
            };
            let port = if port.is_empty() { "5432" } else { port };
            let hostaddr = addresses.get(i).filter(|a| !a.is_empty()).cloned();
            let host = hosts.get(i).filter(|h| !h.is_empty()).cloned();
            out.push(Endpoint {
                is_named: host.is_some(),
                host: host
                    .or_else(|| hostaddr.clone())
                    .unwrap_or_else(|| "/tmp".to_owned()),
                hostaddr,
                port: port.parse().ok().filter(|p| *p > 0).ok_or_else(|| {
                    ConnInfoError::BadInteger {
                        option: "port",
                        value: port.to_owned(),
                    }
                })?,
            });
        }
        Ok(out)
    }

    /// For `pg_stat_wal_receiver.conninfo` and logs.
    pub fn without_password(&self) -> String {
        self.render(|k| matches!(k, "password" | "sslpassword").then_some("********"))
    }

    fn render(&self, replace: impl Fn(&str) -> Option<&'static str>) -> String {
        let mut out = String::new();
        for (k, v) in &self.pairs {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(k);
            out.push('=');
            out.push_str(&quote(replace(k).unwrap_or(v)));
        }
        out
    }
}

impl fmt::Display for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(|_| None))
    }
}

fn quote(v: &str) -> String {
    let plain = !v.is_empty()
        && v.chars()
            .all(|c| !c.is_whitespace() && c != '\'' && c != '\\');
    if plain {
        return v.to_owned();
    }
    let mut out = String::with_capacity(v.len() + 2);
    out.push('\'');
    for c in v.chars() {
        if matches!(c, '\'' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('\'');
    out
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn parse_pairs(s: &str) -> Result<ConnInfo, ConnInfoError> {
    let mut info = ConnInfo::default();
    let mut rest = s.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = rest.find(|c| c == '=' || is_space(c)).unwrap_or(rest.len());
        let keyword = &rest[..end];
        let value = rest[end..]
            .trim_start_matches(is_space)
            .strip_prefix('=')
            .ok_or_else(|| ConnInfoError::MissingEquals(keyword.to_owned()))?
            .trim_start_matches(is_space);
        let (value, after) = match value.strip_prefix('\'') {
            Some(quoted) => take_quoted(quoted)?,
            None => take_bare(value),
        };
        info.set(keyword, &value)?;
        rest = after.trim_start_matches(is_space);
    }
    Ok(info)
}

fn take_quoted(s: &str) -> Result<(String, &str), ConnInfoError> {
    let mut out = String::new();
    let mut chars = s.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\'' => return Ok((out, &s[i + 1..])),
            '\\' => out.extend(chars.next().map(|(_, c)| c)),
            c => out.push(c),
        }
    }
    Err(ConnInfoError::UnterminatedQuote)
}

fn take_bare(s: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = s.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            c if is_space(c) => return (out, &s[i..]),
            '\\' => out.extend(chars.next().map(|(_, c)| c)),
            c => out.push(c),
        }
    }
    (out, "")
}

fn parse_uri(rest: &str) -> Result<ConnInfo, ConnInfoError> {
    let mut info = ConnInfo::default();
    let (main, query) = match rest.split_once('?') {
        Some((m, q)) => (m, Some(q)),
        None => (rest, None),
    };
    let (authority, path) = match main.split_once('/') {
        Some((a, p)) => (a, Some(p)),
        None => (main, None),
    };
    let hosts = match authority.split_once('@') {
        Some((who, hosts)) => {
            let (user, password) = match who.split_once(':') {
                Some((u, p)) => (u, Some(p)),
                None => (who, None),
            };
            if !user.is_empty() {
                info.set("user", &unpercent(user)?)?;
            }
            if let Some(p) = password.filter(|p| !p.is_empty()) {
                info.set("password", &unpercent(p)?)?;
            }
            hosts
        }
        None => authority,
    };
    uri_hosts(hosts, &mut info)?;
    if let Some(p) = path.filter(|p| !p.is_empty()) {
        info.set("dbname", &unpercent(p)?)?;
    }
    for pair in query.unwrap_or("").split('&').filter(|p| !p.is_empty()) {
        let (k, v) = pair
            .split_once('=')
            .ok_or_else(|| ConnInfoError::MissingQueryEquals(pair.to_owned()))?;
        let (k, v) = (unpercent(k)?, unpercent(v)?);
        let done = match (k.as_str(), v.as_str()) {
            ("ssl", "true") => info.set("sslmode", "require"),
            (k, v) => info.set(k, v),
        };
        done.map_err(|_| ConnInfoError::UnknownQueryParameter(k))?;
    }
    Ok(info)
}

fn uri_hosts(hosts: &str, info: &mut ConnInfo) -> Result<(), ConnInfoError> {
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for host in hosts.split(',') {
        let (name, port) = if let Some(inner) = host.strip_prefix('[') {
            let (name, after) = inner
                .split_once(']')
                .ok_or_else(|| ConnInfoError::OpenBracket(hosts.to_owned()))?;
            (name, after.strip_prefix(':').unwrap_or(""))
        } else {
            host.split_once(':').unwrap_or((host, ""))
        };
        names.push(unpercent(name)?);
        ports.push(unpercent(port)?);
    }
    if names.iter().any(|n| !n.is_empty()) {
        info.set("host", &names.join(","))?;
    }
    if ports.iter().any(|p| !p.is_empty()) {
        info.set("port", &ports.join(","))?;
    }
    Ok(())
}

fn unpercent(s: &str) -> Result<String, ConnInfoError> {
    let bad = || ConnInfoError::BadPercent(s.to_owned());
    let b = s.as_bytes();
    let mut out = Vec::with_capacity(b.len());
    let mut i = 0;
    while i < b.len() {
        if b[i] == b'%' {
            let hex = s.get(i + 1..i + 3).ok_or_else(bad)?;
            let byte = u8::from_str_radix(hex, 16).map_err(|_| bad())?;
            if byte == 0 {
                return Err(bad());
            }
            out.push(byte);
            i += 3;
        } else {
            out.push(b[i]);
            i += 1;
        }
    }
    String::from_utf8(out).map_err(|_| bad())
}
