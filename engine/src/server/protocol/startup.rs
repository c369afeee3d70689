//! The first packet of a connection, which has no type byte: StartupMessage, CancelRequest, SSLRequest, GSSENCRequest.

use bytes::{Buf, BytesMut};

use super::ProtocolError;

/// Manual, 55.7; longer packets are refused before they are read.
pub const MAX_STARTUP_PACKET: usize = 10_000;

const PROTOCOL_3: u16 = 3;
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

#[derive(Debug, PartialEq, Eq)]
pub enum StartupPacket {
    Startup(Startup),
    Cancel { pid: u32, key: u32 },
    Ssl,
    GssEnc,
}

/// Parameters of a session, in the client's order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Startup {
    pub user: Option<String>,
    pub database: Option<String>,
    pub replication: Option<String>,
    pub options: Option<String>,
    /// Settings such as `client_encoding` and `application_name`.
    pub settings: Vec<(String, String)>,
    /// A newer minor version than 0, or `_pq_.` options: to be answered with NegotiateProtocolVersion.
    pub minor: u16,
    pub unknown_options: Vec<String>,
}

/// Cuts the packet out of `input`, if it is all there.
pub fn next_packet(input: &mut BytesMut) -> Result<Option<StartupPacket>, ProtocolError> {
    let Some(header) = input.get(..4) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if !(8..=MAX_STARTUP_PACKET).contains(&length) {
        return Err(ProtocolError::StartupLength);
    }
    if input.len() < length {
        return Ok(None);
    }
    let mut packet = input.split_to(length);
    packet.advance(4);
    let code = packet.get_u32();
    match code {
        CANCEL_REQUEST if packet.len() == 8 => Ok(Some(StartupPacket::Cancel {
            pid: packet.get_u32(),
            key: packet.get_u32(),
        })),
        CANCEL_REQUEST => Err(ProtocolError::StartupLength),
        SSL_REQUEST => Ok(Some(StartupPacket::Ssl)),
        GSSENC_REQUEST => Ok(Some(StartupPacket::GssEnc)),
        version => {
            let (major, minor) = ((version >> 16) as u16, (version & 0xffff) as u16);
            if major != PROTOCOL_3 {
                return Err(ProtocolError::UnsupportedVersion { major, minor });
            }
            parameters(&packet, minor).map(|s| Some(StartupPacket::Startup(s)))
        }
    }
}

fn parameters(bytes: &[u8], minor: u16) -> Result<Startup, ProtocolError> {
    let mut out = Startup {
        minor,
        ..Startup::default()
    };
    let mut rest = bytes;
    let mut next = || -> Result<&[u8], ProtocolError> {
        let end = memchr::memchr(0, rest).ok_or(ProtocolError::StartupLayout)?;
        let text = &rest[..end];
        rest = &rest[end + 1..];
        Ok(text)
    };
    let text = |bytes| super::frontend::text(bytes).map(str::to_owned);
    loop {
        let name = text(next()?)?;
        if name.is_empty() {
            break;
        }
        let value = match name.as_str() {
            // Shown, and nothing else: a client's odd encoding is no reason to refuse it.
            "application_name" => printable(next()?),
            _ => text(next()?)?,
        };
        match name.as_str() {
            "user" => out.user = Some(value),
            "database" => out.database = Some(value),
            "replication" => out.replication = Some(value),
            "options" => out.options = Some(value),
            n if n.starts_with("_pq_.") => out.unknown_options.push(name),
            _ => out.settings.push((name, value)),
        }
    }
    if rest.is_empty() {
        Ok(out)
    } else {
        Err(ProtocolError::StartupLayout)
    }
}

/// As the setting would show it: anything but printable ASCII is a question mark.
fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|b| match b {
            b' '..=b'~' => char::from(*b),
            _ => '?',
        })
        .collect()
}

/// Splits `options` as a shell would, but for quotes: white space parts, a backslash keeps the next character.
pub fn split_options(options: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut word = String::new();
    let mut open = false;
    let mut chars = options.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                open = true;
                word.extend(chars.next());
            }
            c if c.is_ascii_whitespace() => {
                if open {
                    out.push(std::mem::take(&mut word));
                    open = false;
                }
            }
            c => {
                open = true;
                word.push(c);
            }
        }
    }
    if open {
        out.push(word);
    }
    out
}
