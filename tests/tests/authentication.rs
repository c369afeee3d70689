//! Who may come in, and what he and the log are told: `pg_hba.conf`'s rules, SCRAM, roles that do not exist, cancel
//! requests. The same roles, rules and attempts on PostgreSQL 15.

use std::process::Command;
use std::time::{Duration, Instant};

use understudy_tests::programs::{postgres, run};
use understudy_tests::raw::{CANCEL_REQUEST, End, Raw, packet, query, short, usual_startup};
use understudy_tests::server::Server;
use understudy_tests::twins::{BOTH, Running, Twins, Who};
use understudy_tests::wire::Client;

const HBA: &str = "\
# a comment
local all postgres trust
host all postgres 127.0.0.1/32 trust
host shop app samehost scram-sha-256
host all +staff 127.0.0.0/8 trust
host replication repl 127.0.0.1 255.255.255.255 trust
host sameuser all 127.0.0.1/32 trust
host \"all\" all all trust
host all nobody,\"expired\",ghost,bare,nologin,app all md5 # md5 means SCRAM where the secret is
host all evil all reject
host all elsewhere 192.0.2.0/24 trust
";

const ROLES: [&str; 10] = [
    "CREATE ROLE app LOGIN PASSWORD 'secret'",
    "CREATE ROLE bare LOGIN",
    "CREATE ROLE nologin PASSWORD 'secret'",
    "CREATE ROLE expired LOGIN PASSWORD 'secret' VALID UNTIL '2001-01-01'",
    "CREATE ROLE staff",
    "CREATE ROLE bob LOGIN IN ROLE staff",
    "CREATE ROLE repl LOGIN REPLICATION",
    "CREATE ROLE evil LOGIN",
    "CREATE ROLE elsewhere LOGIN",
    "CREATE DATABASE shop",
];

/// Both run, with the same roles and rules.
fn both(arguments: &[&str]) -> (Twins, [Running; 2]) {
    let twins = Twins::initdb();
    let running = BOTH.map(|who| {
        twins.write(who, "pg_hba.conf", HBA);
        let running = twins.launch(who, arguments);
        let until = Instant::now() + Duration::from_secs(20);
        let mut client = loop {
            match Client::connect(twins.port(who)) {
                Ok(client) => break client,
                Err(e) => assert!(
                    Instant::now() < until,
                    "{who:?}: {e} {:?}",
                    twins.logged(who)
                ),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        for sql in ROLES {
            client.rows(sql);
        }
        running
    });
    (twins, running)
}

/// psql's exit code and what it prints.
fn attempt(
    twins: &Twins,
    who: Who,
    host: &str,
    conninfo: &str,
    password: &str,
) -> (Option<i32>, Vec<String>) {
    let host = if host == "socket" {
        twins.data(who).display().to_string()
    } else {
        host.to_owned()
    };
    let target = format!("host={host} port={} {conninfo}", twins.port(who));
    let mut command = Command::new(postgres("psql"));
    command.args([
        "-X",
        "-A",
        "-t",
        "-w",
        "-c",
        "SELECT current_user",
        "-d",
        &target,
    ]);
    command.env("PGPASSWORD", password);
    if password.is_empty() {
        command.env_remove("PGPASSWORD");
    }
    let output = run(&mut command);
    let mut lines = twins.plain(who, &String::from_utf8_lossy(&output.stdout));
    lines.extend(twins.plain(who, &String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), lines)
}

#[test]
fn the_rules_decide_as_postgresql_decides() {
    let (twins, _running) = both(&["-c", "log_connections=on"]);
    let mut wrong = Vec::new();
    let mut seen = BOTH.map(|who| twins.logged(who).len());
    let local = "127.0.0.1";
    for (host, conninfo, password) in [
        (local, "user=app dbname=shop", "secret"),
        (local, "user=app dbname=shop", "wrong"),
        (local, "user=app dbname=shop", ""),
        (
            local,
            "user=app dbname=shop channel_binding=disable",
            "secret",
        ),
        (
            local,
            "user=app dbname=shop channel_binding=require",
            "secret",
        ),
        (local, "user=app dbname=postgres", "secret"),
        (local, "user=app dbname=postgres", "wrong"),
        (local, "user=app dbname=none", "secret"),
        (local, "user=ghost dbname=postgres", "secret"),
        (local, "user=ghost dbname=ghost", "secret"),
        (local, "user=bare dbname=postgres", "secret"),
        (local, "user=expired dbname=postgres", "secret"),
        (local, "user=nologin dbname=postgres", "secret"),
        (local, "user=bob dbname=postgres", ""),
        (local, "user=bob dbname=shop", ""),
        (local, "user=staff dbname=postgres", ""),
        (local, "user=evil dbname=postgres", ""),
        (local, "user=evil dbname=evil", ""),
        (local, "user=elsewhere dbname=postgres", ""),
        (local, "user=stranger dbname=postgres", ""),
        (local, "user=stranger dbname=all", ""),
        (local, "user=postgres dbname=none", ""),
        (local, "user=postgres dbname=replication", ""),
        (local, "user=app dbname=shop sslmode=require", "secret"),
        (local, "user=app dbname=shop sslmode=prefer", "secret"),
        (local, "user=app dbname=shop options='-c nope=1'", "secret"),
        (
            local,
            "user=app dbname=shop options='-c log_statement=all'",
            "secret",
        ),
        ("socket", "user=postgres dbname=postgres", ""),
        ("socket", "user=app dbname=shop", "secret"),
    ] {
        let [theirs, own] = BOTH.map(|who| attempt(&twins, who, host, conninfo, password));
        if theirs != own {
            wrong.push(format!(
                "{host} {conninfo} {password:?}\n  PostgreSQL {theirs:?}\n  ours       {own:?}"
            ));
        }
        // A line may come late: what is compared is all that was not compared before.
        let until = Instant::now() + Duration::from_secs(3);
        let [theirs, own] = loop {
            let lines = BOTH.map(|who| twins.logged(who));
            let said = [0, 1].map(|i| of_connections(lines[i][seen[i]..].to_vec()));
            if said[0] == said[1] || Instant::now() > until {
                seen = lines.map(|l| l.len());
                break said;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if theirs != own {
            wrong.push(format!("log of {host} {conninfo} {password:?}\n  PostgreSQL {theirs:#?}\n  ours       {own:#?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Without the ports that the system chose, and without what only one of them logs for good reason.
fn of_connections(lines: Vec<String>) -> Vec<String> {
    lines
        .iter()
        .map(|line| {
            let (lead, rest) = line.split_once("port=").unwrap_or((line, ""));
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{lead}{rest}").trim_end().to_owned()
        })
        // A client that asks for a password and leaves.
        .filter(|line| !line.contains("could not receive data from client"))
        .collect()
}

#[test]
fn a_replication_connection_needs_its_own_rule_and_its_own_right() {
    let (twins, _running) = both(&[]);
    for (conninfo, works) in [
        ("user=repl replication=true", true),
        ("user=bob replication=true", false),
        ("user=app replication=true", false),
        ("user=postgres replication=true", false),
    ] {
        let [theirs, own] = BOTH.map(|who| {
            let target = format!(
                "host=127.0.0.1 port={} dbname=postgres {conninfo}",
                twins.port(who)
            );
            let mut command = Command::new(postgres("psql"));
            command.args([
                "-X",
                "-A",
                "-t",
                "-w",
                "-c",
                "SHOW wal_level",
                "-d",
                &target,
            ]);
            let output = run(&mut command);
            let text = [output.stdout, output.stderr].concat();
            (
                output.status.code(),
                twins.plain(who, &String::from_utf8_lossy(&text)),
            )
        });
        assert_eq!(own, theirs, "{conninfo}");
        assert_eq!(own.0 == Some(0), works, "{conninfo}: {own:?}");
    }
}

#[test]
fn peer_asks_the_system() {
    let twins = Twins::initdb();
    twins.write(
        Who::Ours,
        "pg_hba.conf",
        "local all all peer\nhost all postgres 127.0.0.1/32 trust\n",
    );
    let _running = twins.launch(Who::Ours, &[]);
    let until = Instant::now() + Duration::from_secs(20);
    while Client::connect(twins.port(Who::Ours)).is_err() {
        assert!(Instant::now() < until, "{:?}", twins.logged(Who::Ours));
        std::thread::sleep(Duration::from_millis(20));
    }
    let me = String::from_utf8_lossy(&run(Command::new("id").arg("-un")).stdout)
        .trim()
        .to_owned();
    let other = if me == "postgres" { "root" } else { "postgres" };
    let mut client = Client::connect(twins.port(Who::Ours)).expect("it runs");
    for name in [&me, other] {
        // One of them is the superuser already.
        let _ = client.query(&format!("CREATE ROLE \"{name}\" LOGIN"));
    }
    let (code, lines) = attempt(
        &twins,
        Who::Ours,
        "socket",
        &format!("user={me} dbname=postgres"),
        "",
    );
    assert_eq!((code, lines), (Some(0), vec![me]));
    let (code, lines) = attempt(
        &twins,
        Who::Ours,
        "socket",
        &format!("user={other} dbname=postgres"),
        "",
    );
    assert_eq!(code, Some(2));
    assert!(
        lines
            .join(" ")
            .contains(&format!("Peer authentication failed for user \"{other}\"")),
        "{lines:?}"
    );
}

#[test]
fn secrets_of_md5_are_refused() {
    let server = Server::started();
    let mut client = server.client();
    let md5 = "md5d3ab2c3e8b9d8b2dc03a1a0d6a6f6b10";
    let error = client.error(&format!("CREATE ROLE old LOGIN PASSWORD '{md5}'"));
    assert_eq!(error.state, "0A000", "{error:?}");
    let error = client.error("SET password_encryption = 'md5'");
    assert!(
        ["0A000", "22023"].contains(&error.state.as_str()),
        "{error:?}"
    );
}

/// Runs a long statement and tries to cancel it with `key` made of the real one, so many times: a cancel that comes before
/// the statement has begun is nothing. True if that ended it.
fn cancelled_by(port: u16, tries: u32, change: impl Fn(&mut [u8])) -> bool {
    let mut raw = Raw::connect(port).expect("it listens");
    raw.send(&usual_startup()).expect("sent");
    let (replies, end) = raw.until_ready(1, Duration::from_secs(20));
    assert_eq!(end, End::Ready, "{}", short(&replies));
    let mut key = replies
        .iter()
        .find(|r| r.tag == b'K')
        .expect("a key")
        .body
        .clone();
    change(&mut key);
    raw.send(&query("SELECT count(*) FROM generate_series(1, 400000000)"))
        .expect("sent");
    for _ in 0..tries {
        let mut other = Raw::connect(port).expect("it listens");
        other.send(&packet(CANCEL_REQUEST, &key)).expect("sent");
        let (answer, end) = other.rest(Duration::from_secs(10));
        assert!(
            answer.is_empty() && end == End::Closed,
            "a cancel is not answered: {}",
            short(&answer)
        );
        let (replies, end) = raw.until_ready(1, Duration::from_millis(500));
        if end == End::Ready {
            assert!(
                short(&replies).ends_with("E(ERROR 57014) Z(I)"),
                "{}",
                short(&replies)
            );
            return true;
        }
    }
    false
}

#[test]
fn a_cancel_needs_the_right_key() {
    let server = Server::started();
    assert!(cancelled_by(server.port, 100, |_| {}));
    assert!(!cancelled_by(server.port, 4, |key| key[7] ^= 1));
    assert!(!cancelled_by(server.port, 4, |key| key[3] ^= 1));
    let log = server.log();
    assert!(
        log.contains("canceling statement due to user request"),
        "{log}"
    );
    assert!(
        log.contains("wrong key in cancel request for process"),
        "{log}"
    );
}

/// A session outlives its role; the role's rights do not, and nothing is gained by having none.
#[test]
fn a_dropped_role_may_less_and_not_more() {
    let server = Server::started();
    server.psql("CREATE ROLE app LOGIN; CREATE ROLE boss LOGIN SUPERUSER");
    for name in ["app", "boss"] {
        let mut client = Client::connect_as(server.port, name, "postgres").expect("it may log in");
        client.rows("SELECT 1");
        server.psql(&format!("DROP ROLE {name}"));
        for sql in [
            "SELECT rolpassword FROM pg_authid",
            "UPDATE pg_authid SET rolsuper = true",
        ] {
            assert_eq!(client.error(sql).state, "42501", "{name}: {sql}");
        }
    }
}
