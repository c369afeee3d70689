//! Bytes that no client should send, at every state of the protocol: each ends in a clear error or a closed
//! connection, the server lives on, its memory does not grow, and nobody comes in who has not proved who he is.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use understudy_tests::raw::{
    self, CANCEL_REQUEST, End, GSSENC_REQUEST, PROTOCOL_3, Raw, SSL_REQUEST, bind, describe,
    execute, frame, header, packet, parse, query, short, startup, sync, usual_startup,
};
use understudy_tests::reference::Reference;
use understudy_tests::server::Server;
use understudy_tests::soak;
use understudy_tests::wire::Client;

/// Rounds of random input at each state.
fn rounds() -> u64 {
    soak::rounds(300, 20_000).into()
}

/// The server answers, nothing panicked, and the sessions of the test are gone.
fn assert_well(server: &Server) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        // A place that was just given up may still be taken: a session's end takes its time, in PostgreSQL too.
        let others = Client::connect(server.port).map(|mut client| {
            client.value(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
            )
        });
        if matches!(&others, Ok(count) if count == "1") {
            break;
        }
        assert!(Instant::now() < until, "sessions are left: {others:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = server.log();
    assert!(!log.contains("panic"), "a panic:\n{log}");
}

/// What may come before the session, and what must not lead into one.
fn wrong_beginnings() -> Vec<(&'static str, Vec<u8>)> {
    let good = usual_startup();
    let mut too_long = 10_001u32.to_be_bytes().to_vec();
    too_long.extend_from_slice(&PROTOCOL_3.to_be_bytes());
    too_long.resize(10_001, b'a');
    let user = |more: &[(&str, &str)]| {
        let all: Vec<(&str, &str)> = [("user", "postgres"), ("database", "postgres")]
            .iter()
            .chain(more)
            .copied()
            .collect();
        startup(&all)
    };
    let mut not_utf8 = b"user\0\xff\xfe\0database\0postgres\0\0".to_vec();
    not_utf8 = packet(PROTOCOL_3, &not_utf8);
    vec![
        ("no length", 0u32.to_be_bytes().to_vec()),
        ("length of itself", 4u32.to_be_bytes().to_vec()),
        ("negative length", vec![0xff; 4]),
        ("1 GiB", (1u32 << 30).to_be_bytes().to_vec()),
        ("too long", too_long),
        ("http", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("a query first", query("SELECT 1")),
        ("no parameters", packet(PROTOCOL_3, b"")),
        ("no user", startup(&[("database", "postgres")])),
        ("an empty user", startup(&[("user", "")])),
        ("no terminator", packet(PROTOCOL_3, b"user\0postgres\0")),
        ("half a parameter", packet(PROTOCOL_3, b"user\0\0")),
        (
            "something behind the end",
            packet(PROTOCOL_3, b"user\0postgres\0\0abc"),
        ),
        ("protocol 1", packet(1 << 16, &good[8..])),
        ("protocol 2", packet(2 << 16, &good[8..])),
        ("protocol 4", packet(4 << 16, &good[8..])),
        ("not UTF-8", not_utf8),
        (
            "unknown role",
            startup(&[("user", "nobody"), ("database", "postgres")]),
        ),
        (
            "unknown database",
            startup(&[("user", "postgres"), ("database", "none")]),
        ),
        ("unknown setting", user(&[("nope", "1")])),
        ("wrong value", user(&[("work_mem", "banana")])),
        (
            "a setting of the server",
            user(&[("shared_buffers", "1GB")]),
        ),
        ("a setting of nobody", user(&[("is_superuser", "on")])),
        ("another role", user(&[("role", "nobody")])),
        ("another user", user(&[("session_authorization", "nobody")])),
        ("unknown switch", user(&[("options", "-z")])),
        ("no value", user(&[("options", "-c work_mem")])),
        ("replication?", user(&[("replication", "perhaps")])),
        ("a short cancel", packet(CANCEL_REQUEST, &[0; 4])),
        ("a long cancel", packet(CANCEL_REQUEST, &[0; 12])),
        ("an unknown request", packet(80_877_199, b"")),
    ]
}

#[test]
fn every_error_before_the_session_is_fatal_and_ends_the_connection() {
    let server = Server::started();
    for (name, bytes) in wrong_beginnings() {
        let mut raw = Raw::connect(server.port).expect("it listens");
        raw.push(&bytes);
        // A client that sends half of something and waits is the slow client's test.
        raw.finish_sending();
        let (replies, end) = raw.rest(Duration::from_secs(10));
        assert_eq!(end, End::Closed, "{name}: {}", short(&replies));
        let last = replies.last().map(raw::Reply::short).unwrap_or_default();
        assert!(last.starts_with("E(FATAL "), "{name}: {}", short(&replies));
        assert!(
            replies.iter().all(|r| r.tag != b'Z'),
            "{name}: {}",
            short(&replies)
        );
    }
    assert_well(&server);
}

#[test]
fn requests_for_encryption_are_declined_once_and_nothing_may_follow_unasked() {
    let server = Server::started();
    for code in [SSL_REQUEST, GSSENC_REQUEST] {
        let mut raw = Raw::connect(server.port).expect("it listens");
        raw.push(&packet(code, b""));
        assert_eq!(raw.byte().expect("an answer"), b'N');
        raw.push(&usual_startup());
        let (replies, end) = raw.until_ready(1, Duration::from_secs(10));
        assert_eq!(end, End::Ready, "{}", short(&replies));

        let twice = [packet(code, b""), packet(code, b"")];
        let mut raw = Raw::connect(server.port).expect("it listens");
        raw.push(&twice[0]);
        assert_eq!(raw.byte().expect("an answer"), b'N');
        raw.push(&twice[1]);
        let (replies, end) = raw.rest(Duration::from_secs(10));
        assert_eq!(
            (short(&replies).as_str(), end),
            ("E(FATAL 08P01)", End::Closed)
        );

        // What lies behind the request in the same packet might have been put there by somebody else.
        let mut raw = Raw::connect(server.port).expect("it listens");
        raw.push(&[packet(code, b""), usual_startup()].concat());
        assert_eq!(raw.byte().expect("an answer"), b'N');
        let (replies, end) = raw.rest(Duration::from_secs(10));
        assert_eq!(
            (short(&replies).as_str(), end),
            ("E(FATAL 08P01)", End::Closed)
        );
    }
}

/// Flips, limits, cuts and noise.
fn mutate(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..6) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.random()),
            4 => {
                let limits = [0u32, 3, 4, 0x3fff_ffff, 0x4000_0000, 0x7fff_ffff, u32::MAX];
                let limit = limits[random.random_range(0..limits.len())].to_be_bytes();
                for (to, from) in bytes[at..].iter_mut().zip(limit) {
                    *to = from;
                }
            }
            _ => {
                let end = (at + 20).min(bytes.len());
                random.fill_bytes(&mut bytes[at..end]);
            }
        }
    }
}

#[test]
fn nobody_comes_in_without_the_password_whatever_he_sends() {
    let mut server = Server::initdb();
    let rules = "host all postgres 127.0.0.1/32 trust\nhost all all all scram-sha-256\nhost replication all all scram-sha-256\n";
    std::fs::write(server.data().join("pg_hba.conf"), rules).expect("writable");
    server.start();
    server.psql("CREATE ROLE victim LOGIN REPLICATION PASSWORD 'secret'");
    let first = b"SCRAM-SHA-256\0\x00\x00\x00\x0en,,n=,r=abcdef";
    let stream = [
        startup(&[("user", "victim"), ("database", "postgres")]),
        frame(b'p', first),
        frame(
            b'p',
            b"c=biws,r=abcdef,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ),
        query("SELECT 1"),
    ];
    let kinds: [fn(&mut Vec<u8>, &mut StdRng); 2] =
        [|_, _| {}, |bytes, random| mutate(bytes, random)];
    for seed in 0..rounds() {
        let mut random = StdRng::seed_from_u64(seed);
        let mut raw = Raw::connect(server.port).expect("it listens");
        // Any order, any of them left out, any of them changed.
        for part in &stream {
            let mut bytes = part.clone();
            kinds[random.random_range(0..2)](&mut bytes, &mut random);
            if random.random_ratio(9, 10) {
                raw.push(&bytes);
            }
        }
        raw.finish_sending();
        let (replies, end) = raw.rest(Duration::from_secs(10));
        assert_eq!(end, End::Closed, "seed {seed}: {}", short(&replies));
        let inside = replies.iter().any(|r| {
            matches!(r.tag, b'Z' | b'K' | b'D' | b'T') || (r.tag == b'R' && r.body == [0; 4])
        });
        assert!(!inside, "seed {seed}: {}", short(&replies));
    }
    assert_well(&server);
}

/// Ways into each state of a session, and what is rightly sent there.
fn states() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let extended = [
        parse("", "SELECT $1::int + 1", &[]),
        bind("", "", 0, &[Some(b"41")]),
        describe(b'P', ""),
        execute("", 0),
    ]
    .concat();
    vec![
        ("idle", Vec::new(), query("SELECT 1")),
        (
            "pipeline",
            Vec::new(),
            [extended.clone(), sync(), extended.clone()].concat(),
        ),
        (
            "in the middle of a pipeline",
            [
                parse("s", "SELECT $1::text", &[]),
                bind("p", "s", 0, &[Some(b"x")]),
            ]
            .concat(),
            [execute("p", 1), describe(b'S', "s"), sync()].concat(),
        ),
        (
            "in a transaction",
            query("BEGIN; SELECT 1"),
            [query("SELECT 2"), extended, sync(), query("COMMIT")].concat(),
        ),
        (
            "in a failed transaction",
            query("BEGIN; SELECT 1/0"),
            [query("SELECT 2"), query("ROLLBACK")].concat(),
        ),
        (
            "in a query",
            query("SELECT count(*) FROM generate_series(1, 20000)"),
            query("SELECT 1"),
        ),
        (
            "copy in",
            query("COPY wares FROM STDIN"),
            [
                frame(b'd', b"1\tone\n2\ttwo\n"),
                frame(b'd', b"3\t\\N\n"),
                frame(b'c', b""),
                query("SELECT 1"),
            ]
            .concat(),
        ),
        (
            "copy in, csv",
            query("COPY wares FROM STDIN WITH (FORMAT csv)"),
            [
                frame(b'd', b"1,\"o\"\"ne\"\n2,two\n"),
                frame(b'f', b"why\0"),
                query("SELECT 1"),
            ]
            .concat(),
        ),
    ]
}

#[test]
fn any_bytes_at_every_state_of_a_session() {
    let server = Server::started();
    server.psql("CREATE TABLE wares (id int, name text)");
    for (name, way, right) in states() {
        let before = server.resident_kb();
        for seed in 0..rounds() / 4 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut raw = Raw::session(server.port).expect("the server lives");
            raw.push(&way);
            let mut bytes = right.clone();
            if random.random_ratio(1, 5) {
                bytes.resize(random.random_range(1..3000), 0);
                random.fill_bytes(&mut bytes);
            } else {
                mutate(&mut bytes, &mut random);
            }
            raw.push(&bytes);
            if random.random() {
                raw.finish_sending();
                let (replies, end) = raw.rest(Duration::from_secs(20));
                assert_eq!(end, End::Closed, "{name}, seed {seed}: {}", short(&replies));
            }
        }
        assert_well(&server);
        let grown = server.resident_kb().saturating_sub(before);
        assert!(grown < 32 << 10, "{name}: {grown} kB more");
    }
}

#[test]
fn any_bytes_to_a_walsender() {
    let server = Server::started();
    let start = query("START_REPLICATION 0/1000000 TIMELINE 1");
    let status = [&b"r"[..], &[0; 33]].concat();
    let feedback = [&b"h"[..], &[0; 16]].concat();
    let states = [
        (Vec::new(), query("IDENTIFY_SYSTEM")),
        (
            Vec::new(),
            query("BASE_BACKUP (LABEL 'x', CHECKPOINT 'fast')"),
        ),
        (
            Vec::new(),
            query("CREATE_REPLICATION_SLOT \"s\" TEMPORARY PHYSICAL (RESERVE_WAL)"),
        ),
        (
            start,
            [
                frame(b'd', &status),
                frame(b'd', &feedback),
                frame(b'c', b""),
            ]
            .concat(),
        ),
    ];
    for seed in 0..rounds() / 4 {
        let mut random = StdRng::seed_from_u64(seed);
        let (way, right) = &states[random.random_range(0..states.len())];
        let mut raw = Raw::connect(server.port).expect("the server lives");
        raw.push(&startup(&[("user", "postgres"), ("replication", "true")]));
        let (replies, end) = raw.until_ready(1, Duration::from_secs(20));
        assert_eq!(end, End::Ready, "{}", short(&replies));
        raw.push(way);
        let mut bytes = right.clone();
        mutate(&mut bytes, &mut random);
        raw.push(&bytes);
        raw.finish_sending();
        let (replies, end) = raw.rest(Duration::from_secs(30));
        assert_eq!(end, End::Closed, "seed {seed}: {}", short(&replies));
    }
    assert_well(&server);
}

#[test]
fn lengths_that_cannot_be_end_the_connection() {
    let server = Server::started();
    let before = server.resident_kb();
    for tag in *b"QPBEDCSHXFdcfp" {
        for length in [
            0,
            3,
            0x4000_0000,
            0x7fff_ffff,
            0x8000_0000,
            u32::MAX - 4,
            u32::MAX,
        ] {
            let mut raw = Raw::session(server.port).expect("the server lives");
            raw.push(&header(tag, length));
            let (replies, end) = raw.rest(Duration::from_secs(10));
            let what = format!("{} of length {length}", char::from(tag));
            assert_eq!(end, End::Closed, "{what}: {}", short(&replies));
            assert_eq!(short(&replies), "E(FATAL 08P01)", "{what}");
        }
    }
    for tag in [0, b'!', b'a', b'G', 0x80, 0xff] {
        let mut raw = Raw::session(server.port).expect("the server lives");
        raw.push(&header(tag, 4));
        let (replies, end) = raw.rest(Duration::from_secs(10));
        assert_eq!(
            (short(&replies).as_str(), end),
            ("E(FATAL 08P01)", End::Closed),
            "type {tag}"
        );
    }
    // Announced, not sent: no memory is set aside for it.
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut raw = Raw::session(server.port).expect("the server lives");
        raw.push(&header(b'Q', 0x3fff_fff0));
        raw.push(&[b' '; 1000]);
        waiting.push(raw);
    }
    std::thread::sleep(Duration::from_millis(100));
    let grown = server.resident_kb().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} kB more");
    drop(waiting);
    assert_well(&server);
}

/// Well-framed messages that are wrong inside: what PostgreSQL says, we say.
fn wrong_messages() -> Vec<(&'static str, Vec<u8>)> {
    let one = || parse("", "SELECT $1::int", &[]);
    let tail = || [sync(), query("SELECT 1")].concat();
    let after = |bytes: Vec<u8>| [bytes, tail()].concat();
    let text = || parse("", "SELECT $1::text", &[]);
    vec![
        ("query without its end", after(frame(b'Q', b"SELECT 1"))),
        ("query with two ends", after(frame(b'Q', b"SELECT 1\0 x\0"))),
        ("query not UTF-8", after(query(b"SELECT '\xff'"))),
        (
            "query with a cut character",
            after(query(b"SELECT '\xe2\x82'")),
        ),
        (
            "query with a surrogate",
            after(query(b"SELECT '\xed\xa0\x80'")),
        ),
        (
            "query with an overlong zero",
            after(query(b"SELECT '\xc0\x80'")),
        ),
        ("empty query", after(query(""))),
        ("parse without its end", after(frame(b'P', b"abc"))),
        (
            "parse with too many types",
            after(frame(b'P', b"\0SELECT 1\0\xff\xff")),
        ),
        (
            "parse with something behind",
            after(frame(b'P', b"\0SELECT 1\0\0\0xyz")),
        ),
        (
            "parse of two statements",
            after(parse("", "SELECT 1; SELECT 2", &[])),
        ),
        (
            "parse of nothing",
            after([parse("", "", &[]), bind("", "", 0, &[]), execute("", 0)].concat()),
        ),
        ("parse of parameter 0", after(parse("", "SELECT $0", &[]))),
        (
            "parse of a name twice",
            after([parse("a", "SELECT 1", &[]), parse("a", "SELECT 2", &[])].concat()),
        ),
        (
            "error, then skipped",
            after([parse("", "bad", &[]), one(), execute("", 0)].concat()),
        ),
        ("bind of no statement", after(bind("", "nope", 0, &[]))),
        ("bind cut", after([one(), frame(b'B', b"\0\0\0")].concat())),
        (
            "bind of a length below -1",
            after([one(), frame(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0")].concat()),
        ),
        (
            "bind of 2 GiB",
            after([one(), frame(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0")].concat()),
        ),
        (
            "bind with something behind",
            after(
                [
                    parse("", "SELECT 1", &[]),
                    frame(b'B', b"\0\0\0\0\0\0\0\0zz"),
                ]
                .concat(),
            ),
        ),
        (
            "bind of too few",
            after([one(), bind("", "", 0, &[])].concat()),
        ),
        (
            "bind of too many",
            after([one(), bind("", "", 0, &[Some(b"1"), Some(b"2")])].concat()),
        ),
        (
            "bind of no number",
            after([one(), bind("", "", 0, &[Some(b"x")]), execute("", 0)].concat()),
        ),
        (
            "bind of a short binary",
            after([one(), bind("", "", 1, &[Some(b"12")]), execute("", 0)].concat()),
        ),
        (
            "bind of a long binary",
            after([one(), bind("", "", 1, &[Some(b"12345")]), execute("", 0)].concat()),
        ),
        (
            "bind of format 7",
            after([one(), bind("", "", 7, &[Some(b"1")])].concat()),
        ),
        (
            "bind of text not UTF-8",
            after([text(), bind("", "", 0, &[Some(b"a\xff")])].concat()),
        ),
        (
            "bind of text with a zero",
            after([text(), bind("", "", 0, &[Some(b"a\0b")])].concat()),
        ),
        (
            "bind of binary text with a zero",
            after([text(), bind("", "", 1, &[Some(b"a\0b")])].concat()),
        ),
        (
            "bind of NULL",
            after([one(), bind("", "", 0, &[None]), execute("", 0)].concat()),
        ),
        (
            "bind of a portal twice",
            after([one(), bind("p", "", 0, &[None]), bind("p", "", 0, &[None])].concat()),
        ),
        ("execute of no portal", after(execute("nope", 0))),
        (
            "execute after its end",
            after(
                [
                    one(),
                    bind("", "", 0, &[None]),
                    execute("", 0),
                    execute("", 0),
                ]
                .concat(),
            ),
        ),
        (
            "execute cut",
            after([one(), bind("", "", 0, &[None]), frame(b'E', b"\0\0")].concat()),
        ),
        ("describe of nothing", after(frame(b'D', b""))),
        ("describe of neither", after(frame(b'D', b"x\0"))),
        ("describe of no statement", after(describe(b'S', "nope"))),
        ("close of neither", after(frame(b'C', b"x\0"))),
        ("close of nobody", after(frame(b'C', b"Snope\0"))),
        (
            "copy data outside of a copy",
            after(
                [
                    frame(b'd', b"abc"),
                    frame(b'c', b"x"),
                    frame(b'f', b"\xff\0"),
                ]
                .concat(),
            ),
        ),
        ("terminate with a body", frame(b'X', b"zzz")),
        ("a password in a session", after(frame(b'p', b"secret\0"))),
        (
            "nesting",
            after(query(format!(
                "SELECT {}1{}",
                "(".repeat(50),
                ")".repeat(50)
            ))),
        ),
    ]
}

#[test]
fn wrong_messages_are_answered_as_postgresql_answers_them() {
    let server = Server::started();
    let reference = Reference::started();
    let mut wrong = Vec::new();
    for (name, bytes) in wrong_messages() {
        let answer = |port: u16| {
            let mut raw = Raw::session(port).expect("it answers");
            raw.push(&bytes);
            raw.finish_sending();
            let (replies, end) = raw.rest(Duration::from_secs(20));
            (short(&replies), end)
        };
        let (theirs, own) = (answer(reference.port), answer(server.port));
        if own != theirs {
            wrong.push(format!(
                "{name}:\n  PostgreSQL {theirs:?}\n  ours       {own:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_well(&server);
}

/// The change is made whole before its first row goes out, as PostgreSQL makes it.
#[test]
fn a_change_whose_rows_are_taken_in_parts_is_whole() {
    let server = Server::started();
    let reference = Reference::started();
    for change in [
        "UPDATE parts SET a = a + 10 WHERE a < 4 RETURNING a",
        "INSERT INTO parts SELECT n FROM generate_series(21, 25) n RETURNING a",
        "DELETE FROM parts WHERE a > 2 RETURNING a",
        "UPDATE parts SET a = 1 / (a - 3) RETURNING a",
    ] {
        for rows in [
            &[1, 1, 1, 1, 1, 1, 1][..],
            &[2, 0],
            &[1],
            &[9, 9],
            &[2, 7, 3],
        ] {
            let mut bytes = query("CREATE TABLE parts (a int)");
            bytes.extend(query("INSERT INTO parts VALUES (1), (2), (3), (4), (5)"));
            bytes.extend(parse("", change, &[]));
            bytes.extend(bind("", "", 0, &[]));
            bytes.extend(rows.iter().flat_map(|rows| execute("", *rows)));
            bytes.extend(sync());
            bytes.extend(query("SELECT a FROM parts ORDER BY a"));
            bytes.extend(query("DROP TABLE parts"));
            let answer = |port: u16| {
                let mut raw = Raw::session(port).expect("it answers");
                raw.push(&bytes);
                raw.finish_sending();
                let (replies, end) = raw.rest(Duration::from_secs(20));
                (short(&replies), end)
            };
            let (theirs, own) = (answer(reference.port), answer(server.port));
            assert_eq!(own, theirs, "{change}, {rows:?} rows");
        }
    }
}

#[test]
fn many_parameters() {
    let server = Server::started();
    let list: Vec<String> = (1..=65_535).map(|i| format!("${i}")).collect();
    let sql = format!(
        "SELECT count(*) FROM generate_series(1, 3) g WHERE g IN ({})",
        list.join(",")
    );
    let values: Vec<Option<&[u8]>> = vec![Some(b"2"); 65_535];
    let mut raw = Raw::session(server.port).expect("it answers");
    let bytes = [
        parse("", sql, &[]),
        bind("", "", 0, &values),
        execute("", 0),
        sync(),
    ]
    .concat();
    raw.send(&bytes).expect("taken");
    let (replies, end) = raw.until_ready(1, Duration::from_secs(60));
    assert_eq!(
        (short(&replies).as_str(), end),
        ("1 2 D C(SELECT 1) Z(I)", End::Ready)
    );
}

#[test]
fn too_many_clients_are_told_so_and_some_places_are_kept() {
    let mut server = Server::initdb();
    server.configure("max_connections = 10\nsuperuser_reserved_connections = 3");
    server.start();
    server.psql("CREATE ROLE app LOGIN");
    let come = |user: &str| {
        let mut raw = Raw::connect(server.port).expect("it listens");
        raw.push(&startup(&[("user", user), ("database", "postgres")]));
        let (replies, end) = raw.until_ready(1, Duration::from_secs(10));
        let message = replies
            .last()
            .and_then(|r| r.field(b'M'))
            .unwrap_or_default();
        (end == End::Ready)
            .then_some(raw)
            .ok_or((short(&replies), message))
    };
    // A place that was just given up may still be taken.
    let place = |user: &str| {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            match come(user) {
                Ok(raw) => return raw,
                Err(refused) => assert!(Instant::now() < until, "{refused:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let ordinary: Vec<Raw> = (0..7).map(|_| place("app")).collect();
    let (last, message) = come("app").err().expect("the rest is reserved");
    assert!(last.ends_with("E(FATAL 53300)"), "{last}");
    assert_eq!(
        message,
        "remaining connection slots are reserved for non-replication superuser connections"
    );
    let special: Vec<Raw> = (0..3).map(|_| place("postgres")).collect();
    let (last, message) = come("postgres").err().expect("everything is taken");
    assert!(last.ends_with("E(FATAL 53300)"), "{last}");
    assert_eq!(message, "sorry, too many clients already");
    drop(special);
    drop(ordinary);
    assert_well(&server);
}

#[test]
fn slow_clients_are_sent_away_and_keep_nobody_out() {
    let mut server = Server::initdb();
    server.configure("authentication_timeout = 1s\nmax_connections = 50");
    server.start();
    let mut silent: Vec<Raw> = (0..60)
        .map(|_| Raw::connect(server.port).expect("it listens"))
        .collect();
    // One byte at a time is not faster.
    let mut slow = Raw::connect(server.port).expect("it listens");
    let began = Instant::now();
    let cut = usual_startup().iter().any(|byte| {
        std::thread::sleep(Duration::from_millis(100));
        slow.send(&[*byte]).is_err() || slow.rest(Duration::from_millis(1)).1 == End::Closed
    });
    assert!(cut, "it was let through after {:?}", began.elapsed());
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "only after {:?}",
        began.elapsed()
    );
    for raw in &mut silent {
        let (replies, end) = raw.rest(Duration::from_secs(10));
        assert_eq!(
            (short(&replies).as_str(), end),
            ("E(FATAL 57014)", End::Closed)
        );
    }
    assert_well(&server);
}

#[test]
fn a_flood_that_nobody_reads_stops_at_the_socket() {
    let server = Server::started();
    let before = server.resident_kb();
    let simple = query("SELECT repeat('x', 1000) FROM generate_series(1, 100)").repeat(100);
    let extended = [
        parse("", "SELECT $1::text", &[]),
        bind("", "", 0, &[Some(&[b'y'; 1000])]),
        execute("", 0),
    ]
    .concat()
    .repeat(100);
    for flood in [
        simple,
        extended,
        sync().repeat(10_000),
        frame(b'H', b"").repeat(10_000),
    ] {
        let mut raw = Raw::session(server.port).expect("it answers");
        let _ = raw.stream.set_write_timeout(Some(Duration::from_secs(1)));
        let mut sent = 0;
        while sent < 8 << 20 && raw.send(&flood).is_ok() {
            sent += flood.len();
        }
        let grown = server.resident_kb().saturating_sub(before);
        assert!(grown < 32 << 10, "{grown} kB more after {sent} bytes");
        // Others are served meanwhile.
        assert_eq!(server.client().value("SELECT 1"), "1");
    }
    assert_well(&server);
}

#[test]
fn clients_that_vanish_leave_nothing() {
    let server = Server::started();
    server.psql("CREATE TABLE wares (id int, name text)");
    let whole = [
        usual_startup(),
        query("BEGIN; INSERT INTO wares VALUES (1, 'x')"),
        parse("", "SELECT count(*) FROM generate_series(1, 100000)", &[]),
        bind("", "", 0, &[]),
        execute("", 0),
        sync(),
        query("COPY wares FROM STDIN"),
        frame(b'd', b"2\ty\n"),
    ]
    .concat();
    for seed in 0..rounds() {
        let mut random = StdRng::seed_from_u64(seed);
        let mut raw = Raw::connect(server.port).expect("it listens");
        raw.push(&whole[..random.random_range(0..=whole.len())]);
        if random.random() {
            raw.rest(Duration::from_millis(random.random_range(1..10)));
        }
    }
    assert_well(&server);
    assert_eq!(server.client().value("SELECT count(*) FROM wares"), "0");
    // Nobody holds a lock on it any more.
    let mut client = server.client();
    client.rows("SET lock_timeout = '20s'");
    client.rows("DROP TABLE wares");
}
