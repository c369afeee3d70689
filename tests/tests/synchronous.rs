//! Synchronous replication: who is waited for, what each `synchronous_commit` asks, what nobody may see before,
//! a cancelled wait, and a stop that leaves nothing behind.

use std::process::Command;
use std::time::Duration;

use rand::Rng;
use rustix::process::Signal;
use understudy_tests::programs::{postgres, run_ok};
use understudy_tests::raw::{self, End, Raw};
use understudy_tests::server::{Server, Stop};
use understudy_tests::soak::{rounds, seeded};
use understudy_tests::standby::{eventually, frozen};
use understudy_tests::wire::Client;

/// Long enough that an answer that comes at all would have come, and that a commit has come to where it waits.
const NOT_YET: Duration = Duration::from_secs(1);

/// A primary with two standbys, named `s1` and `s2`, both waited for as `names` says.
fn cluster(names: &str) -> (Server, Server, Server) {
    let mut primary = Server::initdb();
    primary.configure("wal_keep_size = 256MB");
    primary.start();
    primary.psql("CREATE TABLE t (a int PRIMARY KEY, b text)");
    let first = primary.started_standby("s1");
    let second = primary.started_standby("s2");
    primary.configure(&format!("synchronous_standby_names = '{names}'"));
    primary.psql("SELECT pg_reload_conf()");
    eventually("the setting is in force", || {
        primary.psql("SHOW synchronous_standby_names").trim() == names
    });
    (primary, first, second)
}

/// Sends a statement that must not come back yet.
fn waiting(server: &Server, sql: &str) -> Client {
    let mut client = server.client();
    client.send(sql).expect("sent");
    client.set_read_timeout(NOT_YET);
    assert!(client.answers().is_err(), "{sql} was acknowledged");
    client.set_read_timeout(Duration::from_secs(60));
    client
}

fn acknowledged(mut client: Client) {
    let answers = client.answers().expect("it comes now");
    assert!(answers.iter().all(|a| a.error.is_none()), "{answers:?}");
}

fn states(primary: &Server) -> String {
    let sql =
        "SELECT application_name, sync_state, sync_priority FROM pg_stat_replication ORDER BY 1";
    primary.psql(sql).trim().replace('\n', " ")
}

#[test]
fn the_first_in_the_list_is_waited_for_and_nobody_sees_more() {
    let (primary, first, second) = cluster("FIRST 1 (s1, s2)");
    assert_eq!(states(&primary), "s1|sync|1 s2|potential|2");
    primary.psql("INSERT INTO t VALUES (1, 'both')");
    let stopped = frozen(&first);
    let wait = waiting(&primary, "INSERT INTO t VALUES (2, 'waits')");
    // The second standby has it, but a failover to the first would lose it.
    let end = primary.psql("SELECT pg_current_wal_flush_lsn()");
    let has = format!(
        "SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '{}') >= 0",
        end.trim()
    );
    eventually("the second standby has replayed it", || {
        second.psql(&has).trim() == "t"
    });
    for server in [&primary, &second] {
        assert_eq!(server.psql("SELECT count(*) FROM t").trim(), "1");
    }
    // Who asks for less goes ahead, and is seen.
    let mut client = primary.client();
    for level in ["local", "off"] {
        client.rows(&format!("SET synchronous_commit = {level}"));
        client.rows(&format!(
            "INSERT INTO t VALUES ({}, 'alone')",
            level.len() * 10
        ));
    }
    assert_eq!(primary.psql("SELECT sum(a) FROM t").trim(), "81");
    // For writers the row is there, not decided.
    let rival = waiting(&primary, "INSERT INTO t VALUES (2, 'rival')");
    drop(stopped);
    acknowledged(wait);
    let mut rival = rival;
    let refused = rival.answers().expect("it comes now");
    assert_eq!(refused[0].error.as_ref().expect("refused").state, "23505");
    for server in [&primary, &first, &second] {
        eventually("everybody sees it", || {
            server.psql("SELECT sum(a) FROM t").trim() == "83"
        });
    }
}

#[test]
fn any_takes_whoever_is_there() {
    let (primary, first, second) = cluster("ANY 1 (s1, s2)");
    assert_eq!(states(&primary), "s1|quorum|1 s2|quorum|1");
    for (n, who) in [&first, &second].into_iter().enumerate() {
        let _stopped = frozen(who);
        primary.psql(&format!("INSERT INTO t VALUES ({n}, 'one of two')"));
    }
    let _one = frozen(&first);
    let other = frozen(&second);
    let wait = waiting(&primary, "INSERT INTO t VALUES (2, 'nobody')");
    drop(other);
    acknowledged(wait);
}

#[test]
fn each_level_waits_for_what_it_says() {
    let (primary, first, _second) = cluster("s1");
    let mut client = primary.client();
    let mut standby = first.client();
    client.rows("SET synchronous_commit = remote_apply");
    for n in 0..rounds(30, 2000) {
        client.rows(&format!("INSERT INTO t VALUES ({n}, 'applied')"));
        // No waiting here: that is what the level is for.
        assert_eq!(standby.value("SELECT max(a) FROM t"), n.to_string());
    }
    for level in ["on", "remote_write"] {
        client.rows(&format!("SET synchronous_commit = {level}"));
        let stopped = frozen(&first);
        client
            .send("UPDATE t SET b = 'waits' WHERE a = 1")
            .expect("sent");
        client.set_read_timeout(NOT_YET);
        assert!(client.answers().is_err(), "{level} did not wait");
        client.set_read_timeout(Duration::from_secs(60));
        drop(stopped);
        let answers = client.answers().expect("it comes now");
        assert!(answers.iter().all(|a| a.error.is_none()), "{answers:?}");
    }
}

#[test]
fn a_cancelled_wait_ends_the_session_and_the_commit_goes_on() {
    let (primary, first, _second) = cluster("s1");
    let stopped = frozen(&first);
    let mut client = primary.client();
    let pid = client.value("SELECT pg_backend_pid()");
    client
        .send("INSERT INTO t VALUES (1, 'unknown')")
        .expect("sent");
    client.set_read_timeout(NOT_YET);
    assert!(client.answers().is_err(), "it was acknowledged");
    client.set_read_timeout(Duration::from_secs(60));
    assert_eq!(
        primary
            .psql(&format!("SELECT pg_cancel_backend({pid})"))
            .trim(),
        "t"
    );
    let told = ending(&mut client);
    assert!(
        told.contains("C08007\0") && told.contains("SFATAL\0"),
        "{told}"
    );
    assert_eq!(primary.psql("SELECT count(*) FROM t").trim(), "0");
    drop(stopped);
    eventually("it is released all the same", || {
        primary.psql("SELECT count(*) FROM t").trim() == "1"
    });
}

/// What the server says before it closes the connection.
fn ending(client: &mut Client) -> String {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let _ = client.raw().read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_fast_stop_leaves_the_standby_with_everything() {
    let (mut primary, first, _second) = cluster("");
    let stopped = frozen(&first);
    primary.psql("INSERT INTO t SELECT g, 'last' FROM generate_series(1, 1000) g");
    primary.signal(Signal::INT);
    std::thread::sleep(NOT_YET);
    assert!(primary.exit_status().is_none(), "it did not wait for s1");
    drop(stopped);
    let mut status = None;
    eventually("it ends", || {
        status = primary.exit_status();
        status.is_some()
    });
    assert!(status.is_some_and(|s| s.success()));
    let control = run_ok(Command::new(postgres("pg_controldata")).arg(primary.data()));
    let line = control
        .lines()
        .find_map(|l| l.strip_prefix("Latest checkpoint location:"));
    let checkpoint = line.expect("it is there").trim();
    let asked = format!("SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '{checkpoint}') > 0");
    assert_eq!(first.psql(&asked).trim(), "t");
    eventually("it shows everything", || {
        first.psql("SELECT count(*) FROM t").trim() == "1000"
    });
}

#[test]
fn the_views_say_how_far_everybody_is() {
    let (primary, first, _second) = cluster("s1");
    primary.psql("INSERT INTO t VALUES (1, 'x')");
    let end = primary.psql("SELECT pg_current_wal_flush_lsn()");
    let end = end.trim();
    let far = format!(
        "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sent_lsn = '{end}' \
         AND write_lsn = '{end}' AND flush_lsn = '{end}' AND replay_lsn = '{end}' \
         AND client_addr = '127.0.0.1' AND usename = 'postgres' AND reply_time IS NOT NULL"
    );
    eventually("both have reported", || primary.psql(&far).trim() == "2");
    let receiver = format!(
        "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND flushed_lsn = '{end}' \
         AND received_tli = 1 AND sender_host = '127.0.0.1' AND sender_port = {}",
        primary.port
    );
    assert_eq!(first.psql(&receiver).trim(), "1");
    let mut primary = primary;
    primary.stop(Stop::Fast);
}

/// Standbys die, freeze and return while commits are made: each commit that was acknowledged is flushed where the rule
/// wants it, at that moment.
#[test]
fn standbys_come_and_go_and_every_commit_is_where_it_must_be() {
    let (seed, mut random) = seeded();
    for names in ["FIRST 1 (s1, s2)", "ANY 1 (s1, s2)", "ANY 2 (s1, s2)"] {
        let (primary, mut first, mut second) = cluster(names);
        let mut row = 0;
        let mut write = || {
            row += 1;
            primary.psql(&format!("INSERT INTO t VALUES ({row}, 'x')"));
            row
        };
        for round in 1..=rounds(1, 40) {
            for _ in 0..random.random_range(1..5) {
                write();
            }
            let dies = if random.random_bool(0.5) {
                &mut first
            } else {
                &mut second
            };
            let how = [Stop::Kill, Stop::Fast, Stop::Immediate][random.random_range(0..3)];
            dies.stop(how);
            if names.starts_with("ANY 2") {
                let waits = waiting(
                    &primary,
                    &format!("INSERT INTO t VALUES ({}, 'x')", -i64::from(round)),
                );
                dies.start();
                acknowledged(waits);
            } else {
                eventually("the dead one is gone", || {
                    primary
                        .psql("SELECT count(*) FROM pg_stat_replication")
                        .trim()
                        == "1"
                });
                write();
                dies.start();
            }
            eventually("both stream", || {
                primary
                    .psql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
                    .trim()
                    == "2"
            });
        }
        let sum = primary.psql("SELECT count(*), sum(a) FROM t");
        for standby in [&first, &second] {
            primary.wait_for_replay(standby);
            assert_eq!(
                standby.psql("SELECT count(*), sum(a) FROM t"),
                sum,
                "{names}, UNDERSTUDY_SEED={seed}"
            );
        }
    }
}

/// A standby played by the test: it says what it is told to say.
struct Played {
    raw: Raw,
    end: u64,
}

impl Played {
    fn streaming(primary: &Server, name: &str) -> Played {
        let start = primary.psql("SELECT pg_current_wal_flush_lsn()");
        let mut raw = Raw::connect(primary.port).expect("connected");
        raw.send(&raw::startup(&[
            ("user", "postgres"),
            ("replication", "true"),
            ("application_name", name),
            ("understudy.messages", "on"),
        ]))
        .expect("sent");
        let (replies, end) = raw.until_ready(1, Duration::from_secs(20));
        assert_eq!(end, End::Ready, "{}", raw::short(&replies));
        let command = format!("START_REPLICATION {} TIMELINE 1", start.trim());
        raw.send(&raw::query(command)).expect("sent");
        let (high, low) = start.trim().split_once('/').expect("an LSN");
        let number = |part| u64::from_str_radix(part, 16).expect("hexadecimal");
        let end = number(high) << 32 | number(low);
        let mut played = Played { raw, end };
        played.report();
        played
    }

    /// That it has everything it was sent.
    fn report(&mut self) {
        let mut body = vec![b'r'];
        for position in [self.end; 3] {
            body.extend(position.to_be_bytes());
        }
        body.extend([0; 9]);
        self.raw.send(&raw::frame(b'd', &body)).expect("sent");
    }

    /// What the primary has sent; the number that it wants back, if it does.
    fn hear(&mut self) -> Option<u64> {
        let (replies, end) = self.raw.rest(Duration::from_millis(300));
        assert_eq!(end, End::Quiet, "{}", raw::short(&replies));
        let number = |body: &[u8], at: usize| {
            u64::from_be_bytes(body[at..at + 8].try_into().expect("eight bytes"))
        };
        let mut probe = None;
        for reply in replies.iter().filter(|r| r.tag == b'd') {
            match reply.body[0] {
                b'w' => self.end = number(&reply.body, 1) + reply.body.len() as u64 - 25,
                b'p' => probe = Some(number(&reply.body, 1)),
                _ => {}
            }
        }
        probe
    }

    /// Says what it has; on a busy machine the primary may ask at any time.
    fn answer(&mut self) {
        while let Some(number) = self.hear() {
            self.echo(number);
        }
        self.report();
    }

    fn echo(&mut self, number: u64) {
        let mut body = vec![b'e'];
        body.extend(number.to_be_bytes());
        self.raw.send(&raw::frame(b'd', &body)).expect("sent");
    }
}

/// What lay in a primary's socket while it was frozen may have been said before its standby promised another term.
#[test]
fn a_woken_primary_asks_before_it_believes_what_it_finds_in_its_sockets() {
    let primary = Server::started();
    primary.psql("CREATE TABLE t (a int PRIMARY KEY, b text)");
    primary.configure("synchronous_standby_names = 'played'");
    primary.psql("SELECT pg_reload_conf()");
    eventually("the setting is in force", || {
        primary.psql("SHOW synchronous_standby_names").trim() == "played"
    });
    let mut standby = Played::streaming(&primary, "played");
    standby.answer();
    let client = waiting(&primary, "INSERT INTO t VALUES (1, 'one')");
    standby.answer();
    acknowledged(client);

    let mut client = waiting(&primary, "INSERT INTO t VALUES (2, 'two')");
    standby.hear();
    {
        let _still = frozen(&primary);
        std::thread::sleep(Duration::from_millis(500));
        standby.report();
    }
    client.set_read_timeout(NOT_YET);
    assert!(client.answers().is_err(), "acknowledged without asking");
    let seen = primary.psql("SELECT count(*) FROM t");
    assert_eq!(seen.trim(), "1", "and shown to others");
    let number = standby.hear().expect("it asks");
    // Not even a machine that is very busy makes it ask so often.
    standby.echo(number + 1000);
    assert!(client.answers().is_err(), "not the number");
    standby.echo(number);
    standby.answer();
    client.set_read_timeout(Duration::from_secs(60));
    acknowledged(client);
    assert_eq!(primary.psql("SELECT count(*) FROM t").trim(), "2");
}

/// A primary that restarts may have recovered what no standby has: who waits for that is told why.
#[test]
fn who_waits_for_a_restarted_primary_finds_out_why() {
    let mut primary = Server::started();
    primary.psql("CREATE TABLE t (a int)");
    primary.configure("synchronous_standby_names = 'ANY 1 (gone, lost)'");
    primary.stop(Stop::Fast);
    primary.start();
    let client = waiting(&primary, "SELECT count(*) FROM t");
    eventually("the log says it", || {
        let log = primary.log();
        log.contains(
            "LOG:  statements wait until ANY 1 (gone, lost) has what this server recovered",
        )
    });
    primary.configure("synchronous_standby_names = ''");
    primary.signal(Signal::HUP);
    acknowledged(client);
    assert!(primary.log().contains("statements go on"));
}
