//! The log as administrators know it: the same session on PostgreSQL 15 and here writes the same lines.

use std::time::{Duration, Instant};

use understudy_tests::raw::{Raw, bind, describe, execute, parse, query, startup, sync};
use understudy_tests::twins::{BOTH, Twins};
use understudy_tests::wire::Client;

/// Numbers that are each run's own: times, ports, process ids.
fn without_numbers(line: &str) -> String {
    let mut out = line.to_owned();
    for (lead, stop) in [
        ("duration: ", " ms"),
        ("session time: ", " user="),
        (" port=", ""),
        ("process ", ""),
    ] {
        let Some(at) = out.find(lead) else { continue };
        let from = at + lead.len();
        let end = match stop {
            "" => from + out[from..].bytes().take_while(u8::is_ascii_digit).count(),
            stop => out[from..].find(stop).map_or(out.len(), |n| from + n),
        };
        out.replace_range(from..end, "#");
    }
    out
}

/// Runs `talk` on both with these settings and gives what each logged of it.
fn logged(settings: &[&str], talk: impl Fn(u16)) -> [Vec<String>; 2] {
    let twins = Twins::initdb();
    let mut fewest = 0;
    BOTH.map(|who| {
        let mut arguments = vec!["-c", "listen_addresses=127.0.0.1"];
        for setting in settings {
            arguments.extend(["-c", setting]);
        }
        let running = twins.launch(who, &arguments);
        let until = Instant::now() + Duration::from_secs(20);
        while !twins
            .logged(who)
            .iter()
            .any(|l| l.contains("ready to accept connections"))
        {
            assert!(Instant::now() < until, "{who:?}: {:?}", twins.logged(who));
            std::thread::sleep(Duration::from_millis(10));
        }
        let begin = twins.logged(who).len();
        talk(twins.port(who));
        // What is said at a session's end may come after its client has heard of it: we have time for as many lines as
        // PostgreSQL has written.
        let until = Instant::now() + Duration::from_secs(10);
        let lines = loop {
            std::thread::sleep(Duration::from_millis(150));
            let lines = twins.logged(who).split_off(begin);
            if lines.len() >= fewest || Instant::now() > until {
                break lines;
            }
        };
        fewest = lines.len();
        drop(running);
        lines.iter().map(|l| without_numbers(l)).collect()
    })
}

fn same(settings: &[&str], talk: impl Fn(u16)) {
    let [theirs, own] = logged(settings, talk);
    assert!(!theirs.is_empty(), "PostgreSQL logs nothing");
    assert_eq!(
        own,
        theirs,
        "\nPostgreSQL:\n{}\nours:\n{}",
        theirs.join("\n"),
        own.join("\n")
    );
}

fn client(port: u16) -> Client {
    Client::connect(port).expect("it runs")
}

fn statements(port: u16, statements: &[&str]) {
    let mut client = client(port);
    for sql in statements {
        client.query(sql).expect("an answer");
    }
}

#[test]
fn errors_with_all_their_lines() {
    same(&["log_line_prefix=<%u %d %e %b> "], |port| {
        statements(
            port,
            &[
                "SELECT 1/0",
                "SELECT *\n  FROM none",
                "SELECT 'x'::int",
                "CREATE TABLE t (a int PRIMARY KEY)",
                "INSERT INTO t VALUES (1)",
                "INSERT INTO t VALUES (1)",
                "SELEC 1",
                "SELECT 1; SELECT x; SELECT 2",
                "SELECT nope(1)",
                "BEGIN; SELECT 1/0",
                "SELECT 1",
                "ROLLBACK",
                "COMMIT",
                "DROP TABLE IF EXISTS none",
            ],
        );
    });
}

#[test]
fn levels_choose_what_is_written() {
    let talk = |port: u16| {
        statements(
            port,
            &[
                "SELECT 1/0",
                "ROLLBACK",
                "DROP TABLE IF EXISTS none",
                "SELECT x",
            ],
        )
    };
    same(&["log_line_prefix=", "log_min_messages=notice"], talk);
    same(&["log_line_prefix=", "log_min_error_statement=fatal"], talk);
    same(&["log_line_prefix=", "log_error_verbosity=terse"], talk);
    let quiet = logged(&["log_line_prefix=", "log_min_messages=log"], talk);
    assert_eq!(quiet[0], quiet[1]);
}

#[test]
fn statements_and_durations() {
    let talk = |port: u16| {
        statements(
            port,
            &[
                "SELECT 1",
                "SELECT 1; SELECT 2",
                "CREATE TABLE t (a int)",
                "INSERT INTO t VALUES (1)",
                "SET work_mem = '1MB'",
                "PREPARE p AS SELECT 3",
                "EXECUTE p",
                "TRUNCATE t",
                "DROP TABLE t",
                "SELECT 1/0",
                "BEGIN",
                "COMMIT",
                "",
            ],
        );
    };
    for level in ["all", "mod", "ddl"] {
        same(
            &["log_line_prefix=", &format!("log_statement={level}")],
            talk,
        );
    }
    same(&["log_line_prefix=", "log_min_duration_statement=0"], talk);
    same(&["log_line_prefix=", "log_duration=on"], talk);
    same(
        &[
            "log_line_prefix=",
            "log_statement=all",
            "log_min_duration_statement=0",
        ],
        talk,
    );
}

#[test]
fn statements_of_the_extended_protocol() {
    let talk = |port: u16| {
        let mut raw = Raw::session(port).expect("it runs");
        let bytes = [
            parse("", "SELECT $1::int, $2::text", &[]),
            bind("", "", 0, &[Some(b"41"), None]),
            describe(b'P', ""),
            execute("", 0),
            sync(),
            parse("named", "SELECT generate_series(1, 3)", &[]),
            bind("portal", "named", 0, &[]),
            execute("portal", 1),
            execute("portal", 0),
            sync(),
            parse("", "SELECT $1::int", &[]),
            bind("", "", 0, &[Some(b"x")]),
            sync(),
        ]
        .concat();
        raw.send(&bytes).expect("sent");
        raw.until_ready(3, Duration::from_secs(10));
    };
    same(&["log_line_prefix=", "log_statement=all"], talk);
    same(&["log_line_prefix=", "log_min_duration_statement=0"], talk);
}

/// Values of parameters may be secrets.
#[test]
fn parameters_are_cut_or_left_out() {
    let talk = |port: u16| {
        let mut raw = Raw::session(port).expect("it runs");
        let bytes = [
            parse("", "SELECT $1::text, $2::text", &[]),
            bind("", "", 0, &[Some("it's é".as_bytes()), None]),
            execute("", 0),
            sync(),
        ]
        .concat();
        raw.send(&bytes).expect("sent");
        raw.until_ready(1, Duration::from_secs(20));
    };
    for most in ["0", "4"] {
        let most = format!("log_parameter_max_length={most}");
        same(&["log_line_prefix=", "log_statement=all", &most], talk);
    }
    // In the middle of a character.
    let most = "log_parameter_max_length=6";
    let durations = "log_min_duration_statement=0";
    same(&["log_line_prefix=", durations, most], talk);
}

/// What a session asks of the log outranks the server's settings.
#[test]
fn sessions_have_settings_of_their_own() {
    same(&["log_line_prefix=<%u> "], |port| {
        statements(
            port,
            &[
                "SET log_min_messages = fatal",
                "SELECT not_logged",
                "RESET log_min_messages",
                "SELECT logged",
                "SET log_error_verbosity = terse",
                "SELECT nope(1)",
                "SET log_min_messages = notice",
                "DROP TABLE IF EXISTS none",
                "RESET ALL",
                "DROP TABLE IF EXISTS none",
                "SELECT nope(1)",
            ],
        );
        let mut raw = Raw::connect(port).expect("it listens");
        let parameters = [
            ("user", "postgres"),
            ("database", "postgres"),
            ("options", "-c log_disconnections=on"),
        ];
        raw.send(&startup(&parameters)).expect("sent");
        raw.until_ready(1, Duration::from_secs(20));
        raw.send(b"X\x00\x00\x00\x04").expect("sent");
        raw.rest(Duration::from_secs(20));
    });
}

/// Without what is each run's own, and without CONTEXT, which only errors have here.
fn of_waits(lines: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for line in lines.iter().filter(|l| !l.starts_with("CONTEXT:")) {
        let mut plain = String::new();
        for c in line.replace("PORT", "0").chars() {
            match c {
                c if !c.is_ascii_digit() => plain.push(c),
                _ if plain.ends_with('#') => {}
                _ => plain.push('#'),
            }
        }
        out.push(plain);
    }
    out
}

#[test]
fn long_waits_for_locks() {
    let twins = Twins::initdb();
    let [theirs, own] = BOTH.map(|who| {
        let arguments = [
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "log_line_prefix=",
            "-c",
            "log_lock_waits=on",
            "-c",
            "deadlock_timeout=100ms",
        ];
        let running = twins.launch(who, &arguments);
        let logs = |from: usize, what: &str, times: usize| {
            let until = Instant::now() + Duration::from_secs(30);
            let count = || {
                let lines = twins.logged(who);
                lines[from..].iter().filter(|l| l.contains(what)).count()
            };
            while count() < times {
                assert!(Instant::now() < until, "{who:?}: {:?}", twins.logged(who));
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        logs(0, "ready to accept connections", 1);
        let begin = twins.logged(who).len();
        let mut holder = client(twins.port(who));
        let made = holder.query("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
        made.expect("an answer");
        // Longer than what views show.
        let long = format!("UPDATE t SET a = 4 /* {}*/", "so long ".repeat(500));
        for (held, asked) in [
            ("UPDATE t SET a = 2", "UPDATE t SET a = 3"),
            ("UPDATE t SET a = 2", long.as_str()),
            ("SELECT count(*) FROM t", "TRUNCATE t"),
            // In two modes, by one process.
            ("INSERT INTO t SELECT a FROM t", "TRUNCATE t"),
        ] {
            holder.query("BEGIN").expect("an answer");
            holder.query(held).expect("an answer");
            let from = twins.logged(who).len();
            let mut waiter = client(twins.port(who));
            waiter.send(asked).expect("sent");
            logs(from, "still waiting", 1);
            holder.query("COMMIT").expect("an answer");
            waiter.answers().expect("an answer");
            // The last line of the second report, which tells that it has the lock.
            logs(from, &format!("STATEMENT:  {asked}"), 2);
        }
        let lines = of_waits(&twins.logged(who)[begin..]);
        drop(running);
        lines
    });
    assert!(!theirs.is_empty(), "PostgreSQL logs nothing");
    assert_eq!(own, theirs);
}

/// What others run is for the log only.
#[test]
fn a_deadlock_s_statements_are_logged() {
    let told = std::cell::RefCell::new(Vec::new());
    let [theirs, own] = logged(&["log_line_prefix="], |port| {
        let (mut first, mut victim) = (client(port), client(port));
        let setup =
            "CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 0), (2, 0)";
        first.query(setup).expect("an answer");
        // Only one of them looks.
        first.rows("SET deadlock_timeout = '600s'");
        victim.rows("SET deadlock_timeout = '100ms'");
        for (client, row) in [(&mut first, 1), (&mut victim, 2)] {
            client.rows("BEGIN");
            client.rows(&format!("UPDATE t SET b = 1 WHERE a = {row}"));
        }
        let asked = "UPDATE t\n  SET b = 2 WHERE a = 2";
        first.send(asked).expect("sent");
        let mut watcher = client(port);
        let until = Instant::now() + Duration::from_secs(30);
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        while watcher.value(waits) != "1" {
            assert!(Instant::now() < until, "nobody waits");
            std::thread::sleep(Duration::from_millis(10));
        }
        let error = victim.error("UPDATE t SET b = 2 WHERE a = 1");
        let detail = error.detail.clone().unwrap_or_default();
        assert_eq!(detail.lines().count(), 2, "{error:?}");
        told.borrow_mut()
            .push((error.state, error.message, error.hint));
        victim.rows("ROLLBACK");
        first.answers().expect("it goes on");
        // Of advisory locks, too, which functions take.
        for (client, key) in [(&mut first, 1), (&mut victim, 2)] {
            client.rows("ROLLBACK");
            client.rows("BEGIN");
            client.rows(&format!("SELECT pg_advisory_xact_lock({key})"));
        }
        first.send("SELECT pg_advisory_xact_lock(2)").expect("sent");
        while watcher.value(waits) != "1" {
            assert!(Instant::now() < until, "nobody waits");
            std::thread::sleep(Duration::from_millis(10));
        }
        let error = victim.error("SELECT pg_advisory_xact_lock(1)");
        told.borrow_mut()
            .push((error.state, error.message, error.hint));
        victim.rows("ROLLBACK");
        first.answers().expect("it goes on");
    });
    let told = told.into_inner();
    assert_eq!(told[..2], told[2..], "PostgreSQL's, ours");
    assert_eq!(told[0].0, "40P01");
    let (theirs, own) = (of_waits(&theirs), of_waits(&own));
    assert!(theirs.iter().any(|l| l.contains("Process #: UPDATE t")));
    assert_eq!(own, theirs);
}

#[test]
fn connections_come_and_go() {
    let settings = [
        "log_line_prefix=[%u|%d|%a|%h] ",
        "log_connections=on",
        "log_disconnections=on",
    ];
    same(&settings, |port| {
        let mut raw = Raw::connect(port).expect("it listens");
        let parameters = [
            ("user", "postgres"),
            ("database", "postgres"),
            ("application_name", "my app"),
        ];
        raw.send(&startup(&parameters)).expect("sent");
        raw.until_ready(1, Duration::from_secs(10));
        raw.send(&query("SET application_name = 'other'"))
            .expect("sent");
        raw.until_ready(1, Duration::from_secs(10));
        raw.send(&query("SELECT x")).expect("sent");
        raw.until_ready(1, Duration::from_secs(10));
        raw.send(b"X\x00\x00\x00\x04").expect("sent");
        raw.rest(Duration::from_secs(10));
    });
}

#[test]
fn a_lost_client_is_noticed() {
    same(&["log_line_prefix="], |port| {
        let mut raw = Raw::session(port).expect("it runs");
        raw.send(&query("BEGIN; SELECT 1")).expect("sent");
        raw.until_ready(1, Duration::from_secs(10));
        raw.finish_sending();
        raw.rest(Duration::from_secs(10));
        // Outside of a transaction nobody minds.
        let mut raw = Raw::session(port).expect("it runs");
        raw.finish_sending();
        raw.rest(Duration::from_secs(10));
        // In the middle of a message.
        let mut raw = Raw::session(port).expect("it runs");
        raw.send(b"Q\x00\x00\x00\x20SELECT").expect("sent");
        raw.finish_sending();
        raw.rest(Duration::from_secs(10));
    });
}

#[test]
fn prefixes_know_the_transaction() {
    let both = logged(&["log_line_prefix=%x|"], |port| {
        statements(
            port,
            &[
                "CREATE TABLE t (a int)",
                "SELECT 1/0",
                "BEGIN",
                "INSERT INTO t VALUES (1)",
                "SELECT 1/0",
                "ROLLBACK",
                "SELECT 1/0",
            ],
        );
    });
    // Which number it is is each server's own.
    let [theirs, own] = both.map(|lines| {
        let marked = lines.iter().map(|line| match line.split_once('|') {
            Some(("0", rest)) => format!("none|{rest}"),
            Some((_, rest)) => format!("some|{rest}"),
            None => line.clone(),
        });
        marked.collect::<Vec<_>>()
    });
    assert!(theirs.iter().any(|l| l.starts_with("some|")), "{theirs:?}");
    assert_eq!(own, theirs);
}

/// `%v`: a session, and which of its transactions runs.
#[test]
fn prefixes_know_the_virtual_transaction() {
    let both = logged(&["log_line_prefix=%v|"], |port| {
        statements(
            port,
            &[
                "SELECT 1/0",
                "BEGIN",
                "DROP TABLE IF EXISTS none",
                "SELECT pg_notice_of_nothing()",
                "ROLLBACK",
                "SELECT none",
            ],
        );
        statements(port, &["SELECT none"]);
    });
    for lines in both {
        let ids: Vec<(&str, &str)> = lines
            .iter()
            .filter(|l| l.contains("|ERROR: "))
            .map(|l| {
                let (id, _) = l.split_once('|').expect("a prefix");
                id.split_once('/').expect("session and transaction")
            })
            .collect();
        let [first, second, third, other] = ids[..] else {
            panic!("{lines:?}")
        };
        assert!(
            [first, second, third, other].iter().all(|id| id.1 != "0"),
            "{ids:?}"
        );
        assert_eq!((first.0, first.0), (second.0, third.0), "one session");
        let transactions: std::collections::BTreeSet<_> = [first, second, third, other].into();
        assert_eq!(transactions.len(), 4, "{ids:?}");
    }
}

#[test]
fn prefixes_know_the_session() {
    let [theirs, own] = logged(
        &["log_line_prefix=%a|%u|%d|%r|%h|%b|%q%i|%e|%x|%l|%%|%6u|%-10d| "],
        |port| {
            statements(port, &["SELECT x", "SELECT 1/0"]);
        },
    );
    let portless = |lines: Vec<String>| -> Vec<String> {
        // `%r` has the client's port in brackets.
        let cut = |l: &String| match (l.find('('), l.find(')')) {
            (Some(from), Some(to)) if from < to => format!("{}{}", &l[..from], &l[to + 1..]),
            _ => l.clone(),
        };
        lines.iter().map(cut).collect()
    };
    assert_eq!(portless(own), portless(theirs));
}
