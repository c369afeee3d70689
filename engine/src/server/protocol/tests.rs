//! Frames and fields against scripted and mutated bytes.

use bytes::BytesMut;
use proptest::prelude::*;

use super::frontend::{AUTH_LIMIT, Bind, Message, Target, next_frame};
use super::startup::{StartupPacket, next_packet, split_options};
use super::{Format, ProtocolError};

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
    out.extend(body);
    out
}

#[test]
fn a_frame_waits_until_it_is_whole() {
    let bytes = frame(b'Q', b"SELECT 1\0");
    let mut input = BytesMut::new();
    for (i, b) in bytes.iter().enumerate() {
        assert_eq!(next_frame(&mut input, None), Ok(None), "after {i} bytes");
        input.extend_from_slice(&[*b]);
    }
    let f = next_frame(&mut input, None)
        .expect("well formed")
        .expect("whole");
    assert_eq!(f.message(), Ok(Message::Query("SELECT 1")));
    assert!(input.is_empty());
}

#[test]
fn impossible_lengths_are_refused_before_anything_is_read() {
    let first = |bytes: &[u8]| next_frame(&mut BytesMut::from(bytes), None);
    assert_eq!(first(b"Q\x00\x00\x00\x03"), Err(ProtocolError::BadLength));
    assert_eq!(first(b"Q\xff\xff\xff\xff"), Err(ProtocolError::BadLength));
    assert_eq!(
        first(b"Q\x3f\xff\xff\xfe"),
        Ok(None),
        "the longest that PostgreSQL takes may still come"
    );
    assert_eq!(first(b"Q\x3f\xff\xff\xff"), Err(ProtocolError::BadLength));
    assert_eq!(first(b"Q\x40\x00\x00\x04"), Err(ProtocolError::BadLength));
    assert_eq!(first(b"S\x00\x00\x27\x15"), Err(ProtocolError::BadLength));
    assert_eq!(first(b"z"), Err(ProtocolError::UnknownType(b'z')));
    assert_eq!(
        first(b"z\x00\x00\x00\x04"),
        Err(ProtocolError::UnknownType(b'z'))
    );
    let unauthenticated = |bytes: &[u8]| next_frame(&mut BytesMut::from(bytes), Some(AUTH_LIMIT));
    assert_eq!(unauthenticated(b"Q"), Err(ProtocolError::UnknownType(b'Q')));
    assert_eq!(
        unauthenticated(b"p\x00\x01\x00\x04"),
        Err(ProtocolError::BadLength)
    );
}

#[test]
fn fields_are_read_in_place() {
    let parse = frame(b'P', b"s\0SELECT $1\0\x00\x01\x00\x00\x00\x17");
    let f = next_frame(&mut BytesMut::from(&parse[..]), None)
        .expect("valid")
        .expect("whole");
    let Ok(Message::Parse { name, query, types }) = f.message() else {
        panic!("not a Parse")
    };
    assert_eq!(
        (name, query, types.iter().collect::<Vec<_>>()),
        ("s", "SELECT $1", vec![23])
    );

    let body = b"p\0s\0\x00\x01\x00\x01\x00\x02\x00\x00\x00\x02ab\xff\xff\xff\xff\x00\x00";
    let bind = frame(b'B', body);
    let f = next_frame(&mut BytesMut::from(&bind[..]), None)
        .expect("valid")
        .expect("whole");
    let Ok(Message::Bind(Bind {
        portal,
        statement,
        parameter_formats,
        parameters,
        result_formats,
    })) = f.message()
    else {
        panic!("not a Bind")
    };
    assert_eq!((portal, statement), ("p", "s"));
    assert_eq!(
        parameter_formats.format_of(1),
        Ok(Format::Binary),
        "one stands for all"
    );
    assert_eq!(
        parameters.iter().collect::<Vec<_>>(),
        [Some(&b"ab"[..]), None]
    );
    assert!(result_formats.is_empty());

    let describe = frame(b'D', b"Sx\0");
    let f = next_frame(&mut BytesMut::from(&describe[..]), None)
        .expect("valid")
        .expect("whole");
    assert_eq!(
        f.message(),
        Ok(Message::Describe {
            target: Target::Statement,
            name: "x"
        })
    );
}

#[test]
fn wrong_fields_have_postgresql_s_words() {
    let of = |tag: u8, body: &[u8]| {
        let bytes = frame(tag, body);
        let f = next_frame(&mut BytesMut::from(&bytes[..]), None)
            .expect("a frame")
            .expect("whole");
        f.message()
            .map(|_| ())
            .map_err(|e| (e.to_string(), e.sqlstate()))
    };
    let bad = |text: &str| Err((text.to_owned(), "08P01"));
    assert_eq!(of(b'Q', b"no end"), bad("invalid string in message"));
    assert_eq!(of(b'Q', b"x\0y"), bad("invalid message format"));
    assert_eq!(
        of(b'B', b"p\0s\0\x00"),
        bad("insufficient data left in message")
    );
    assert_eq!(
        of(b'B', b"\0\0\x00\x00\x00\x01\x7f\xff\xff\xff"),
        bad("insufficient data left in message")
    );
    assert_eq!(
        of(b'D', b"Xx\0"),
        bad("invalid DESCRIBE message subtype 88")
    );
    assert_eq!(
        of(b'Q', b"SELECT '\xc3('\0"),
        Err((
            "invalid byte sequence for encoding \"UTF8\": 0xc3 0x28".to_owned(),
            "22021"
        ))
    );
}

fn packet(code: u32, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.extend_from_slice(&u32::try_from(body.len() + 8).expect("short").to_be_bytes());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(body);
    out
}

#[test]
fn startup_packets() {
    assert_eq!(
        next_packet(&mut packet(80_877_103, b"")),
        Ok(Some(StartupPacket::Ssl))
    );
    assert_eq!(
        next_packet(&mut packet(80_877_102, &[0, 0, 0, 7, 0, 0, 0, 9])),
        Ok(Some(StartupPacket::Cancel { pid: 7, key: 9 }))
    );
    let Ok(Some(StartupPacket::Startup(s))) = next_packet(&mut packet(
        196_608,
        b"user\0me\0application_name\0a\0_pq_.x\0y\0\0",
    )) else {
        panic!("not a start-up message")
    };
    assert_eq!(s.user.as_deref(), Some("me"));
    assert_eq!(
        s.settings,
        [("application_name".to_owned(), "a".to_owned())]
    );
    assert_eq!(s.unknown_options, ["_pq_.x"]);
    for (code, body, error) in [
        (196_608, &b"user\0me\0"[..], ProtocolError::StartupLayout),
        (196_608, b"user\0me\0\0x", ProtocolError::StartupLayout),
        (
            131_072,
            b"",
            ProtocolError::UnsupportedVersion { major: 2, minor: 0 },
        ),
        (80_877_102, b"", ProtocolError::StartupLength),
    ] {
        assert_eq!(next_packet(&mut packet(code, body)), Err(error));
    }
    assert_eq!(
        next_packet(&mut BytesMut::from(&b"GET / HT"[..])),
        Err(ProtocolError::StartupLength)
    );
    assert_eq!(
        next_packet(&mut BytesMut::from(&b"\0\0\0\x07"[..])),
        Err(ProtocolError::StartupLength)
    );
}

#[test]
fn options_are_split_with_backslashes() {
    assert_eq!(
        split_options("  -c a=b\\ c  --d=e\\\\ "),
        ["-c", "a=b c", "--d=e\\"]
    );
    assert_eq!(split_options("\\"), [""]);
    assert!(split_options(" ").is_empty());
}

proptest! {
    /// Whatever comes, reading ends in messages, errors or a wish for more: never in a panic or an endless loop.
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600), auth in any::<bool>()) {
        let mut input = BytesMut::from(&bytes[..]);
        let limit = auth.then_some(AUTH_LIMIT);
        while let Ok(Some(f)) = next_frame(&mut input, limit) {
            if let Ok(Message::Bind(b)) = f.message() {
                prop_assert_eq!(b.parameters.iter().count(), b.parameters.len());
            }
        }
        let mut input = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = next_packet(&mut input) {}
    }

    /// A valid Bind with one byte changed is read or refused.
    #[test]
    fn a_mutated_bind_is_read_or_refused(at in 0usize..40, to in any::<u8>()) {
        let mut bytes = frame(b'B', b"p\0s\0\x00\x01\x00\x01\x00\x02\x00\x00\x00\x02ab\xff\xff\xff\xff\x00\x00");
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(Some(f)) = next_frame(&mut BytesMut::from(&bytes[..]), None) {
            let _ = f.message();
        }
    }
}
