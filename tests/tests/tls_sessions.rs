//! Encrypted sessions on the wire: what is no handshake, what never ends, cancels, much data, many sessions.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use understudy_tests::certificates::{
    Certificates, Wanted, encrypted_server, encrypted_twins, psql,
};
use understudy_tests::programs::{run, run_ok};
use understudy_tests::raw::{
    self, CANCEL_REQUEST, End, Raw, SSL_REQUEST, frame, packet, query, short, startup,
    usual_startup,
};
use understudy_tests::server::{Server, Stop};
use understudy_tests::standby::eventually;
use understudy_tests::twins::{BOTH, Running, Twins};

const HBA: &str = "\
local   all all      trust
host    all postgres all trust
hostssl all app      all scram-sha-256
";

fn both(made: &Certificates) -> (Twins, [Running; 2]) {
    encrypted_twins(
        made,
        &[("pg_hba.conf", HBA)],
        &["CREATE ROLE app LOGIN PASSWORD 'secret'"],
        &["-c", "ssl=on", "-c", "ssl_ca_file=root.crt"],
    )
}

fn assert_well(server: &Server) {
    assert_eq!(server.client().value("SELECT 1"), "1");
    let mut raw = Raw::encrypted(server.port)
        .and_then(Raw::begun)
        .expect("a place");
    raw.push(&query("SELECT 1"));
    let (replies, end) = raw.until_ready(1, Duration::from_secs(10));
    assert_eq!(
        (short(&replies).as_str(), end),
        ("T D C(SELECT 1) Z(I)", End::Ready)
    );
}

#[test]
fn plain_bytes_behind_the_request_end_the_connection() {
    let made = Certificates::for_server();
    let (twins, _running) = both(&made);
    for who in BOTH {
        let mut raw = Raw::connect(twins.port(who)).expect("it listens");
        raw.push(&[packet(SSL_REQUEST, b""), usual_startup()].concat());
        assert_eq!(raw.byte().expect("an answer"), b'S');
        raw.encrypt().expect("the handshake itself is right");
        let (replies, end) = raw.rest(Duration::from_secs(10));
        assert_eq!(
            (short(&replies).as_str(), end),
            ("E(FATAL 08P01)", End::Closed),
            "{who:?}"
        );
        assert_eq!(
            replies[0].field(b'M').as_deref(),
            Some("received unencrypted data after SSL request"),
            "{who:?}"
        );
        // Nothing is negotiated within what was negotiated.
        for code in [SSL_REQUEST, raw::GSSENC_REQUEST] {
            let mut raw = Raw::encrypted(twins.port(who)).expect("it listens");
            raw.push(&packet(code, b""));
            let (replies, end) = raw.rest(Duration::from_secs(10));
            assert_eq!(end, End::Closed);
            assert!(
                short(&replies).starts_with("E(FATAL "),
                "{who:?}: {}",
                short(&replies)
            );
        }
    }
}

#[test]
fn a_query_is_cancelled_over_an_encrypted_connection() {
    let made = Certificates::for_server();
    let server = encrypted_server(&made, "", "");
    let mut raw = Raw::encrypted(server.port).expect("it listens");
    raw.push(&usual_startup());
    let (replies, _) = raw.until_ready(1, Duration::from_secs(10));
    let key = replies.iter().find(|r| r.tag == b'K').expect("a key");
    let cancel = packet(CANCEL_REQUEST, &key.body);
    raw.push(&query("SELECT pg_sleep(60)"));
    let begun = Instant::now();
    eventually("the query is cancelled", || {
        Raw::encrypted(server.port)
            .expect("it listens")
            .push(&cancel);
        let (replies, _) = raw.until_ready(1, Duration::from_millis(500));
        short(&replies).ends_with("E(ERROR 57014) Z(I)")
    });
    assert!(begun.elapsed() < Duration::from_secs(30));
}

/// SASLInitialResponse.
fn initial(mechanism: &str, first: &str) -> Vec<u8> {
    let length = (first.len() as u32).to_be_bytes();
    let body = [mechanism.as_bytes(), b"\0", &length, first.as_bytes()].concat();
    frame(b'p', &body)
}

#[test]
fn a_client_from_whom_the_offer_of_binding_was_taken_is_refused() {
    let made = Certificates::for_server();
    let (twins, _running) = both(&made);
    for (mechanism, first, code) in [
        ("SCRAM-SHA-256", "y,,n=,r=abcdef", "28000"),
        (
            "SCRAM-SHA-256",
            "p=tls-server-end-point,,n=,r=abcdef",
            "08P01",
        ),
        ("SCRAM-SHA-256-PLUS", "n,,n=,r=abcdef", "08P01"),
        ("SCRAM-SHA-256-PLUS", "y,,n=,r=abcdef", "08P01"),
        ("SCRAM-SHA-256-PLUS", "p=tls-unique,,n=,r=abcdef", "08P01"),
        ("SCRAM-SHA-1", "n,,n=,r=abcdef", "08P01"),
    ] {
        let said = BOTH.map(|who| {
            let mut raw = Raw::encrypted(twins.port(who)).expect("it listens");
            raw.push(&startup(&[("user", "app"), ("database", "postgres")]));
            raw.push(&initial(mechanism, first));
            let (replies, end) = raw.rest(Duration::from_secs(10));
            assert_eq!(end, End::Closed, "{who:?}");
            assert_eq!(replies[0].tag, b'R', "{who:?}");
            let last = replies.last().expect("an answer");
            let fields = [b'C', b'M', b'D'].map(|f| last.field(f));
            (replies[0].body.clone(), fields)
        });
        assert_eq!(said[0], said[1], "{mechanism} {first}");
        assert_eq!(said[1].1[0].as_deref(), Some(code), "{mechanism} {first}");
    }
    // The binding of another certificate: what a man in the middle would relay.
    let first = "p=tls-server-end-point,,n=,r=abcdef";
    let said = BOTH.map(|who| {
        let mut raw = Raw::encrypted(twins.port(who)).expect("it listens");
        raw.push(&startup(&[("user", "app"), ("database", "postgres")]));
        raw.push(&initial("SCRAM-SHA-256-PLUS", first));
        let until = Instant::now() + Duration::from_secs(10);
        let mut server_first = String::new();
        while !server_first.contains("r=abcdef") && Instant::now() < until {
            let (replies, _) = raw.rest(Duration::from_millis(200));
            server_first = replies
                .iter()
                .map(|r| String::from_utf8_lossy(&r.body).into_owned())
                .collect();
        }
        let from = server_first.find("r=").expect("a nonce");
        let nonce = server_first[from..].split(',').next().expect("one");
        let last = format!("c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsWFhY,{nonce},p=AAAA");
        raw.push(&frame(b'p', last.as_bytes()));
        let (replies, _) = raw.rest(Duration::from_secs(10));
        [b'C', b'M'].map(|f| replies.last().and_then(|r| r.field(f)))
    });
    assert_eq!(said[0], said[1]);
    assert_eq!(
        said[1][1].as_deref(),
        Some("SCRAM channel binding check failed")
    );
}

#[test]
fn what_is_no_handshake_ends_the_connection_and_nothing_else() {
    let made = Certificates::for_server();
    let server = encrypted_server(&made, "", "authentication_timeout = 2");
    let hello = {
        let mut client = understudy_tests::certificates::trusting_client();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("in memory");
        bytes
    };
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = hello.clone();
        match seed % 4 {
            0 => {
                bytes = vec![0; random.random_range(1..600)];
                random.fill_bytes(&mut bytes);
            }
            1 => {
                for _ in 0..random.random_range(1..20) {
                    let at = random.random_range(0..bytes.len());
                    bytes[at] = random.random();
                }
            }
            2 => bytes.truncate(random.random_range(0..bytes.len())),
            _ => bytes = [usual_startup(), hello.clone()].concat(),
        }
        let mut raw = Raw::connect(server.port).expect("it listens");
        raw.push(&packet(SSL_REQUEST, b""));
        assert_eq!(raw.byte().expect("an answer"), b'S', "seed {seed}");
        raw.push(&bytes);
        raw.finish_sending();
        let mut answer = Vec::new();
        let _ = raw.stream.set_read_timeout(Some(Duration::from_secs(10)));
        let _ = std::io::Read::read_to_end(&mut raw.stream, &mut answer);
        // Records of TLS (alert or handshake), never a message in plain text.
        assert!(
            answer.is_empty() || matches!(answer[0], 0x15 | 0x16),
            "seed {seed}: {answer:?}"
        );
    }
    let log = server.log();
    assert!(log.contains("could not accept SSL connection: EOF detected"));
    assert!(
        log.contains("LOG:  could not accept SSL connection: "),
        "{log}"
    );
    assert!(!log.contains("PANIC"), "{log}");
    assert_well(&server);
}

#[test]
fn a_handshake_that_never_ends_is_ended() {
    let made = Certificates::for_server();
    let server = encrypted_server(&made, "", "authentication_timeout = 1");
    let mut waiting = Vec::new();
    for sent in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"\x16"] {
        let mut raw = Raw::connect(server.port).expect("it listens");
        raw.push(&packet(SSL_REQUEST, b""));
        assert_eq!(raw.byte().expect("an answer"), b'S');
        raw.push(sent);
        waiting.push(raw);
    }
    // Encrypted, and then silent.
    let mut silent = Raw::encrypted(server.port).expect("it listens");
    let begun = Instant::now();
    for raw in &mut waiting {
        let (replies, end) = raw.rest(Duration::from_secs(10));
        assert_eq!((replies.len(), end), (0, End::Closed));
    }
    let (replies, end) = silent.rest(Duration::from_secs(10));
    assert_eq!(end, End::Closed, "{}", short(&replies));
    assert!(begun.elapsed() < Duration::from_secs(20));
    // Half-closed: the client has said all it has to say, and still gets its answer.
    let mut half = Raw::encrypted(server.port).expect("it listens");
    half.push(&[usual_startup(), query("SELECT 1")].concat());
    half.finish_sending();
    let (replies, end) = half.rest(Duration::from_secs(10));
    assert_eq!(end, End::Closed);
    assert!(
        short(&replies).ends_with("T D C(SELECT 1) Z(I)"),
        "{}",
        short(&replies)
    );
    assert_well(&server);
}

#[test]
fn every_end_is_said_in_the_encrypted_layer_too() {
    let made = Certificates::for_server();
    let mut server = encrypted_server(&made, "", "authentication_timeout = 2");
    let patience = Duration::from_secs(10);
    for (what, bytes) in [
        ("nothing at all", vec![]),
        (
            "a session that leaves",
            [usual_startup(), query("SELECT 1"), frame(b'X', b"")].concat(),
        ),
        (
            "an unknown role",
            startup(&[("user", "nobody"), ("database", "postgres")]),
        ),
        ("a cancel request", packet(CANCEL_REQUEST, &[0; 8])),
    ] {
        let mut raw = Raw::encrypted(server.port).expect("it listens");
        raw.push(&bytes);
        assert!(raw.ends_with_a_word(patience), "{what}");
    }
    let mut idle = Raw::encrypted(server.port)
        .and_then(Raw::begun)
        .expect("a place");
    assert!(server.stop(Stop::Fast).success());
    assert!(idle.ends_with_a_word(patience), "a shutdown");
}

#[test]
fn handshakes_under_way_take_no_place_of_a_session_and_hold_up_no_shutdown() {
    let made = Certificates::for_server();
    for how in [Stop::Smart, Stop::Fast] {
        let settings = "max_connections = 6\nauthentication_timeout = 60";
        let mut server = encrypted_server(&made, "", settings);
        let under_way: Vec<Raw> = (0..8)
            .map(|_| {
                let mut raw = Raw::connect(server.port).expect("it listens");
                raw.push(&packet(SSL_REQUEST, b""));
                assert_eq!(raw.byte().expect("an answer"), b'S');
                raw.push(b"\x16\x03\x01\x02\x00\x01");
                raw
            })
            .collect();
        assert_well(&server);
        let begun = Instant::now();
        assert!(server.stop(how).success());
        assert!(begun.elapsed() < Duration::from_secs(10), "{how:?}");
        drop(under_way);
    }
}

#[test]
fn a_client_that_does_not_read_costs_little_and_can_be_ended() {
    /// Its result has 400 MB; what waits for it are a few buffers.
    const MOST_MEMORY_KB: u64 = 16 << 10;
    let made = Certificates::for_server();
    let server = encrypted_server(&made, "", "");
    server.psql("SELECT count(*) FROM generate_series(1, 1000)");
    let before = server.resident_kb();
    let mut raw = Raw::encrypted(server.port)
        .and_then(Raw::begun)
        .expect("a place");
    let sql = "SELECT repeat('x', 4000) FROM generate_series(1, 100000)";
    raw.push(&query(sql));
    std::thread::sleep(Duration::from_secs(2));
    let stuck = format!("SELECT pid FROM pg_stat_activity WHERE query = $${sql}$$");
    let pid = server.psql(&stuck).trim().to_owned();
    let grown = server.resident_kb().saturating_sub(before);
    assert!(grown < MOST_MEMORY_KB, "{grown} kB");
    server.psql(&format!("SELECT pg_terminate_backend({pid})"));
    eventually("the session ends", || server.psql(&stuck).trim().is_empty());
    assert_well(&server);
}

#[test]
fn every_usual_kind_of_key_serves() {
    const RSA: &[&str] = &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    const P384: &[&str] = &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
    // A signature of Ed25519 has no hash that a binding could use; libpq has no way to bind to it either.
    for (key, old, binding) in [
        (RSA, false, "require"),
        (RSA, true, "require"),
        (P384, false, "require"),
        (P384, true, "require"),
        (&["ED25519"][..], false, "prefer"),
    ] {
        let made = Certificates::new();
        made.certificate(
            "server",
            Wanted {
                key,
                by: if key == RSA { "root" } else { "" },
                ..Wanted::default()
            },
        );
        if old {
            made.old_form("server");
        }
        let server = encrypted_server(&made, HBA, "password_encryption = 'scram-sha-256'");
        server.psql("CREATE ROLE app LOGIN PASSWORD 'secret'");
        let root = if key == RSA { "root.crt" } else { "server.crt" };
        for version in ["TLSv1.2", "TLSv1.3"] {
            let target = format!(
                "host=127.0.0.1 port={} user=app password=secret dbname=postgres sslmode=verify-full \
                 sslrootcert={} channel_binding={binding} ssl_max_protocol_version={version}",
                server.port,
                made.shown(root)
            );
            let sql = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            let shown = run_ok(&mut psql(&target, sql));
            assert_eq!(shown.trim(), version, "{key:?}");
        }
    }
}

#[test]
fn much_goes_through_both_ways() {
    let made = Certificates::for_server();
    let server = encrypted_server(&made, "", "");
    let target = format!(
        "host=127.0.0.1 port={} user=postgres dbname=postgres sslmode=verify-full sslrootcert={}",
        server.port,
        made.shown("root.crt")
    );
    let run_sql = |sql: &str| run_ok(&mut psql(&target, sql));
    run_sql("CREATE TABLE t (n int, x text)");
    run_sql("INSERT INTO t SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 30000) n");
    let file = made.shown("rows");
    run_sql(&format!("\\copy t TO '{file}'"));
    assert!(std::fs::metadata(&file).expect("written").len() > 15 << 20);
    run_sql("CREATE TABLE u (n int, x text)");
    run_sql(&format!("\\copy u FROM '{file}'"));
    let same = run_sql("SELECT count(*) FROM t JOIN u USING (n) WHERE t.x = u.x");
    assert_eq!(same.trim(), "30000");
    // A client that sends on and on before it reads: neither side may wait for the other.
    let mut raw = Raw::encrypted(server.port)
        .and_then(Raw::begun)
        .expect("a place");
    let many = query("SELECT repeat('x', 20000)").repeat(1000);
    raw.stream
        .set_write_timeout(Some(Duration::from_secs(30)))
        .expect("a limit");
    let half = many.len() / 2;
    raw.send(&many[..half]).expect("taken");
    raw.send(&many[half..]).expect("taken");
    let (replies, end) = raw.until_ready(1000, Duration::from_secs(60));
    assert_eq!(end, End::Ready);
    let rows: usize = replies.iter().filter(|r| r.tag == b'D').count();
    assert_eq!(rows, 1000);
    // What ends a session reaches the client as a message, not as a broken connection.
    let sleeping = std::thread::spawn(move || run(&mut psql(&target, "SELECT pg_sleep(60)")));
    eventually("the session is found", || {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'";
        server.psql(sql).trim() == "t"
    });
    let output = sleeping.join().expect("psql ran");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("FATAL:  terminating connection due to administrator command"),
        "{said}"
    );
    assert!(!said.contains("unexpected eof"), "{said}");
}

#[test]
fn pgbench_runs_encrypted() {
    let made = Certificates::for_server();
    let server = encrypted_server(&made, "", "");
    let bench = |arguments: &[&str]| {
        let mut command = server.tool("pgbench");
        command.env("PGSSLMODE", "verify-full");
        command.env("PGSSLROOTCERT", made.path("root.crt"));
        run_ok(command.args(arguments))
    };
    bench(&["-i", "-q", "-s", "1"]);
    for protocol in ["simple", "extended", "prepared"] {
        let said = bench(&["-n", "-M", protocol, "-c", "4", "-j", "2", "-t", "100"]);
        assert!(
            said.contains("number of transactions actually processed: 400/400"),
            "{said}"
        );
    }
}

#[test]
fn a_thousand_idle_encrypted_sessions_cost_kilobytes_each() {
    const SESSIONS: usize = 1000;
    /// All of them together, on top of what the server takes without them.
    const MOST_MEMORY_KB: u64 = 80 << 10;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(8192.min(maximum.unwrap_or(u64::MAX)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("within the hard limit");
    let made = Certificates::for_server();
    let settings = format!("max_connections = {}", SESSIONS + 50);
    let mut server = encrypted_server(&made, "", &settings);
    let sql = "SELECT count(*) FROM pg_class WHERE relname = 'pg_class'";
    server.psql(sql);
    let before = server.resident_kb();
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let mut raw = Raw::encrypted(server.port)
            .and_then(Raw::begun)
            .expect("a place");
        raw.send(&query(sql)).expect("sent");
        let (replies, end) = raw.until_ready(1, Duration::from_secs(20));
        assert_eq!(
            (short(&replies).as_str(), end),
            ("T D C(SELECT 1) Z(I)", End::Ready)
        );
        sessions.push(raw);
    }
    let grown = server.resident_kb().saturating_sub(before);
    println!("{SESSIONS} encrypted sessions: {grown} kB");
    assert!(
        grown <= MOST_MEMORY_KB,
        "{SESSIONS} encrypted sessions take {grown} kB"
    );
    assert_eq!(
        server
            .client()
            .value("SELECT count(*) FROM pg_stat_ssl WHERE ssl AND version = 'TLSv1.3'"),
        SESSIONS.to_string()
    );
    assert!(server.stop(Stop::Fast).success());
}
