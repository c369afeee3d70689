//! The messages inside CopyBoth: PostgreSQL's `w k r h`, and four of our own that only our receiver asks for.
//!
//! ```text
//! 'w' XLogData          start u64 | end u64 | sent_at i64 | WAL bytes            primary -> standby
//! 'k' keepalive         end u64 | sent_at i64 | reply_requested u8               primary -> standby
//! 'u' released          released u64 | synchronous u8                            primary -> standby, ours
//! 'p' probe             number u64                                             primary -> standby, ours
//! 'r' status            write u64 | flush u64 | apply u64 | sent_at i64 | reply u8   standby -> primary
//! 'h' feedback          sent_at i64 | xmin u32 | epoch u32 | cat_xmin u32 | cat_epoch u32   standby -> primary
//! 'n' needed            oldest snapshot LSN u64 (0: none)                        standby -> primary, ours
//! 'e' echo              number u64                                             standby -> primary, ours
//! ```
//!
//! Integers are big-endian; times are microseconds since 2000-01-01 UTC. PostgreSQL's positions mean "the last
//! byte plus one". Source: PostgreSQL 15 manual, 55.4. A receiver that did not give the start-up option
//! `understudy.messages` (or `understudy.instance_id`) is never sent `u` or `p`.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ids::Lsn;

/// From a sender.
#[derive(Debug, Clone, PartialEq)]
pub enum FromPrimary {
    XLogData {
        start: Lsn,
        end: Lsn,
        sent_at: i64,
        data: Bytes,
    },
    Keepalive {
        end: Lsn,
        sent_at: i64,
        reply_requested: bool,
    },
    /// Every commit at or below `released` has been released and is on the required standbys; with
    /// `synchronous` false there are none required and whatever is replayed may be shown.
    Released { released: Lsn, synchronous: bool },
    /// Asks for an [`FromStandby::Echo`] of the number, at once.
    Probe { number: u64 },
}

/// From a receiver.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FromStandby {
    Status {
        write: Lsn,
        flush: Lsn,
        apply: Lsn,
        sent_at: i64,
        reply_requested: bool,
    },
    Feedback {
        sent_at: i64,
        xmin: u32,
        epoch: u32,
    },
    /// The oldest snapshot in use on the standby; `None` if there is none.
    Needed {
        oldest: Option<Lsn>,
    },
    /// The number of a [`FromPrimary::Probe`]: what was said after it was said after the probe was sent.
    Echo {
        number: u64,
    },
}

/// A payload that is not one of the messages above.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("unexpected replication message type '{}'", char::from(*.0))]
    UnknownType(u8),
    #[error("replication message of type '{}' is {length} bytes long", char::from(*.kind))]
    WrongLength { kind: u8, length: usize },
    #[error("replication message is empty")]
    Empty,
}

/// Room for an `XLogData` header in front of WAL bytes: type, start, end, time.
pub const XLOG_DATA_HEADER: usize = 25;

/// Writes the header of an `XLogData` payload; the caller puts the WAL bytes behind it.
pub fn put_xlog_data_header(out: &mut BytesMut, start: Lsn, end: Lsn, sent_at: i64) {
    out.put_u8(b'w');
    out.put_u64(start.raw());
    out.put_u64(end.raw());
    out.put_i64(sent_at);
}

impl FromPrimary {
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            FromPrimary::XLogData {
                start,
                end,
                sent_at,
                data,
            } => {
                put_xlog_data_header(out, *start, *end, *sent_at);
                out.put_slice(data);
            }
            FromPrimary::Keepalive {
                end,
                sent_at,
                reply_requested,
            } => {
                out.put_u8(b'k');
                out.put_u64(end.raw());
                out.put_i64(*sent_at);
                out.put_u8(u8::from(*reply_requested));
            }
            FromPrimary::Released {
                released,
                synchronous,
            } => {
                out.put_u8(b'u');
                out.put_u64(released.raw());
                out.put_u8(u8::from(*synchronous));
            }
            FromPrimary::Probe { number } => {
                out.put_u8(b'p');
                out.put_u64(*number);
            }
        }
    }

    pub fn decode(mut payload: Bytes) -> Result<FromPrimary, MessageError> {
        let length = payload.len();
        let kind = take_kind(&mut payload)?;
        let expect = |ok: bool| {
            if ok {
                Ok(())
            } else {
                Err(MessageError::WrongLength { kind, length })
            }
        };
        match kind {
            b'w' => {
                expect(length >= XLOG_DATA_HEADER)?;
                Ok(FromPrimary::XLogData {
                    start: Lsn::new(payload.get_u64()),
                    end: Lsn::new(payload.get_u64()),
                    sent_at: payload.get_i64(),
                    data: payload,
                })
            }
            b'k' => {
                expect(length == 18)?;
                Ok(FromPrimary::Keepalive {
                    end: Lsn::new(payload.get_u64()),
                    sent_at: payload.get_i64(),
                    reply_requested: payload.get_u8() != 0,
                })
            }
            b'u' => {
                expect(length == 10)?;
                Ok(FromPrimary::Released {
                    released: Lsn::new(payload.get_u64()),
                    synchronous: payload.get_u8() != 0,
                })
            }
            b'p' => {
                expect(length == 9)?;
                Ok(FromPrimary::Probe {
                    number: payload.get_u64(),
                })
            }
            other => Err(MessageError::UnknownType(other)),
        }
    }
}

impl FromStandby {
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            FromStandby::Status {
                write,
                flush,
                apply,
                sent_at,
                reply_requested,
            } => {
                out.put_u8(b'r');
                out.put_u64(write.raw());
                out.put_u64(flush.raw());
                out.put_u64(apply.raw());
                out.put_i64(*sent_at);
                out.put_u8(u8::from(*reply_requested));
            }
            FromStandby::Feedback {
                sent_at,
                xmin,
                epoch,
            } => {
                out.put_u8(b'h');
                out.put_i64(*sent_at);
                out.put_u32(*xmin);
                out.put_u32(*epoch);
                out.put_u64(0);
            }
            FromStandby::Needed { oldest } => {
                out.put_u8(b'n');
                out.put_u64(oldest.map_or(0, Lsn::raw));
            }
            FromStandby::Echo { number } => {
                out.put_u8(b'e');
                out.put_u64(*number);
            }
        }
    }

    pub fn decode(mut payload: Bytes) -> Result<FromStandby, MessageError> {
        let length = payload.len();
        let kind = take_kind(&mut payload)?;
        let expect = |want: usize| {
            if length == want {
                Ok(())
            } else {
                Err(MessageError::WrongLength { kind, length })
            }
        };
        match kind {
            b'r' => {
                expect(34)?;
                Ok(FromStandby::Status {
                    write: Lsn::new(payload.get_u64()),
                    flush: Lsn::new(payload.get_u64()),
                    apply: Lsn::new(payload.get_u64()),
                    sent_at: payload.get_i64(),
                    reply_requested: payload.get_u8() != 0,
                })
            }
            b'h' => {
                expect(25)?;
                let sent_at = payload.get_i64();
                Ok(FromStandby::Feedback {
                    sent_at,
                    xmin: payload.get_u32(),
                    epoch: payload.get_u32(),
                })
            }
            b'n' => {
                expect(9)?;
                let oldest = Lsn::new(payload.get_u64());
                Ok(FromStandby::Needed {
                    oldest: oldest.is_valid().then_some(oldest),
                })
            }
            b'e' => {
                expect(9)?;
                Ok(FromStandby::Echo {
                    number: payload.get_u64(),
                })
            }
            other => Err(MessageError::UnknownType(other)),
        }
    }
}

fn take_kind(payload: &mut Bytes) -> Result<u8, MessageError> {
    if payload.has_remaining() {
        Ok(payload.get_u8())
    } else {
        Err(MessageError::Empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn through<T, E: std::fmt::Debug>(
        encode: impl FnOnce(&mut BytesMut),
        decode: impl FnOnce(Bytes) -> Result<T, E>,
    ) -> T {
        let mut out = BytesMut::new();
        encode(&mut out);
        decode(out.freeze()).expect("what was encoded decodes")
    }

    proptest! {
        #[test]
        fn messages_round_trip(a: u64, b: u64, c: u64, at: i64, flag: bool, data: Vec<u8>) {
            let (a, b, c) = (Lsn::new(a), Lsn::new(b), Lsn::new(c));
            for message in [
                FromPrimary::XLogData { start: a, end: b, sent_at: at, data: Bytes::from(data.clone()) },
                FromPrimary::Keepalive { end: c, sent_at: at, reply_requested: flag },
                FromPrimary::Released { released: a, synchronous: flag },
                FromPrimary::Probe { number: b.raw() },
            ] {
                prop_assert_eq!(through(|o| message.encode(o), FromPrimary::decode), message.clone());
            }
            for message in [
                FromStandby::Status { write: a, flush: b, apply: c, sent_at: at, reply_requested: flag },
                FromStandby::Feedback { sent_at: at, xmin: 7, epoch: 1 },
                FromStandby::Needed { oldest: a.is_valid().then_some(a) },
                FromStandby::Echo { number: b.raw() },
            ] {
                prop_assert_eq!(through(|o| message.encode(o), FromStandby::decode), message);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes: Vec<u8>) {
            let _ = FromPrimary::decode(Bytes::from(bytes.clone()));
            let _ = FromStandby::decode(Bytes::from(bytes));
        }
    }
}
