//! Many sessions at once: what an idle one costs, and that busy ones starve neither a standby nor a health check.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use understudy_tests::programs::free_port;
use understudy_tests::raw::{End, Raw, query, short, startup};
use understudy_tests::server::{Server, Stop};
use understudy_tests::standby::eventually;
use understudy_tests::wire::Client;

const SESSIONS: usize = 1000;
/// All of them together, on top of what the server takes without them.
const MOST_MEMORY_KB: u64 = 50 << 10;

/// Sockets at both ends take descriptors: the test's own half has to fit into its limit.
fn allow_descriptors(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(wanted.min(most)),
            maximum: limit.maximum,
        },
    )
    .expect("within the hard limit");
}

#[test]
fn a_thousand_idle_sessions_cost_kilobytes_each() {
    allow_descriptors(8192);
    let mut server = Server::initdb();
    server.configure(&format!("max_connections = {}", SESSIONS + 50));
    server.start();
    let sql = "SELECT count(*) FROM pg_class WHERE relname = 'pg_class'";
    server.psql(sql);
    let before = server.resident_kb();
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let mut raw = Raw::session(server.port).expect("a place");
        raw.send(&query(sql)).expect("sent");
        let (replies, end) = raw.until_ready(1, Duration::from_secs(20));
        assert_eq!(
            (short(&replies).as_str(), end),
            ("T D C(SELECT 1) Z(I)", End::Ready)
        );
        sessions.push(raw);
    }
    let grown = server.resident_kb().saturating_sub(before);
    println!("{SESSIONS} sessions: {grown} kB");
    assert!(
        grown <= MOST_MEMORY_KB,
        "{SESSIONS} sessions take {grown} kB"
    );
    assert_eq!(
        server
            .client()
            .value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"),
        (SESSIONS + 1).to_string()
    );
    // They do not keep the server from stopping.
    assert!(server.stop(Stop::Fast).success());
}

fn healthz(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn big_sorts_starve_neither_a_walsender_nor_a_health_check() {
    let http = free_port();
    let mut server = Server::initdb();
    server.configure(&format!("http_listen = '127.0.0.1:{http}'"));
    server.start();
    let mut walsender = Raw::connect(server.port).expect("it listens");
    let who = [("user", "postgres"), ("replication", "true")];
    walsender.send(&startup(&who)).expect("sent");
    let (replies, end) = walsender.until_ready(1, Duration::from_secs(20));
    assert_eq!(end, End::Ready, "{}", short(&replies));
    let mut sorting: Vec<Raw> = (0..64)
        .map(|_| Raw::session(server.port).expect("a place"))
        .collect();
    let sql =
        "SELECT count(*) FROM (SELECT g FROM generate_series(1, 200000) g ORDER BY md5(g::text)) s";
    for raw in &mut sorting {
        raw.send(&query(sql)).expect("sent");
    }
    let until = Instant::now() + Duration::from_secs(3);
    let mut slowest = [Duration::ZERO; 2];
    while Instant::now() < until {
        let began = Instant::now();
        walsender.send(&query("IDENTIFY_SYSTEM")).expect("sent");
        let (replies, end) = walsender.until_ready(1, Duration::from_secs(20));
        assert_eq!(end, End::Ready, "{}", short(&replies));
        slowest[0] = slowest[0].max(began.elapsed());
        let began = Instant::now();
        let text = healthz(http).expect("health answers");
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        slowest[1] = slowest[1].max(began.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    let running = server
        .client()
        .value("SELECT count(*) FROM pg_stat_activity WHERE state = 'active'");
    println!(
        "{running} active; slowest walsender answer {:?}, slowest health check {:?}",
        slowest[0], slowest[1]
    );
    assert!(
        running.parse::<u32>().expect("a number") > 32,
        "the sorts are over: {running}"
    );
    // Who is starved waits for whole sorts of 64 sessions. The machine itself may be late: another test runs beside.
    assert!(
        slowest.iter().all(|s| *s < Duration::from_secs(5)),
        "{slowest:?}"
    );
}

/// Rows that a join keeps in memory are work like any other: the threads are given back now and then, cancels heard.
#[test]
fn joins_over_kept_rows_starve_nobody_and_can_be_cancelled() {
    let mut server = Server::initdb();
    server.start();
    server.psql("CREATE TABLE t (a int)");
    server.psql("INSERT INTO t SELECT g FROM generate_series(1, 100) g");
    let mut busy: Vec<Client> = (0..8).map(|_| server.client()).collect();
    for client in &mut busy {
        client
            .send("SELECT count(*) FROM t a, t b, t c, t d, t e")
            .expect("sent");
    }
    let mut other = Client::connect_within(server.port, Duration::from_secs(20)).expect("a place");
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%t e' AND state = 'active'";
    eventually("all of them run", || other.value(running) == "8");
    assert_eq!(other.value("SELECT count(*) FROM t"), "100");
    let cancelled = other.value(
        "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%t e' AND state = 'active'",
    );
    assert_eq!(cancelled, "8");
    for client in &mut busy {
        let answers = client.answers().expect("the session goes on");
        let error = answers.into_iter().find_map(|a| a.error);
        assert_eq!(error.expect("it is cancelled").state, "57014");
    }
}
