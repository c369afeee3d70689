//! `postgresql.conf` and `pg_hba.conf` that are wrong: a start is refused, a reload leaves things as they were, and the
//! log says why in PostgreSQL 15's own words. PostgreSQL reads the very same files.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use understudy_tests::programs::{postgres, run_ok};
use understudy_tests::raw::{Raw, query, startup};
use understudy_tests::server::{Server, Stop};
use understudy_tests::standby::eventually;
use understudy_tests::twins::{BOTH, Running, Twins, Who};
use understudy_tests::wire::Client;

const HBA: &str = "local all all trust\nhost all all 127.0.0.1/32 trust\n";

/// What each says of its own start, whatever the files hold.
fn of_files(lines: Vec<String>) -> Vec<String> {
    const OF_ITSELF: [&str; 9] = [
        "starting ",
        "listening on ",
        "database system ",
        "received ",
        "aborting any",
        "shutting down",
        "checkpoint ",
        "background worker",
        // PostgreSQL reads the second file once more than we do.
        "skipping missing",
    ];
    lines
        .into_iter()
        .filter(|line| match line.strip_prefix("LOG:  ") {
            Some(text) => !OF_ITSELF.iter().any(|lead| text.starts_with(lead)),
            None => !line.is_empty(),
        })
        .collect()
}

/// Starts over these files; the exit code (`None`: it runs) and what the log says.
fn start(
    twins: &Twins,
    who: Who,
    conf: &[u8],
    hba: &[u8],
    arguments: &[&str],
) -> (Option<i32>, Vec<String>) {
    twins.write(who, "postgresql.conf", conf);
    twins.write(who, "pg_hba.conf", hba);
    let mut running = twins.launch(who, arguments);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(code) = running.ended(Duration::from_millis(5)) {
            return (Some(code), of_files(twins.logged(who)));
        }
        if twins
            .logged(who)
            .iter()
            .any(|l| l.contains("ready to accept connections"))
        {
            running.signal(Signal::INT);
            assert_eq!(running.ended(Duration::from_secs(20)), Some(0), "{who:?}");
            return (None, of_files(twins.logged(who)));
        }
        assert!(Instant::now() < until, "{who:?}: {:?}", twins.logged(who));
    }
}

struct Comparison {
    twins: Twins,
    wrong: Vec<String>,
}

impl Comparison {
    fn new() -> Comparison {
        Comparison {
            twins: Twins::initdb(),
            wrong: Vec::new(),
        }
    }

    fn compare(&mut self, name: &str, conf: &[u8], hba: &[u8], arguments: &[&str]) {
        let [theirs, own] = BOTH.map(|who| start(&self.twins, who, conf, hba, arguments));
        if theirs != own {
            let shown = |(code, lines): &(Option<i32>, Vec<String>)| {
                format!("{code:?}\n      {}", lines.join("\n      "))
            };
            self.wrong.push(format!(
                "{name}\n  PostgreSQL {}\n  ours {}",
                shown(&theirs),
                shown(&own)
            ));
        }
    }

    fn finish(self) {
        assert!(
            self.wrong.is_empty(),
            "{} differ:\n{}",
            self.wrong.len(),
            self.wrong.join("\n")
        );
    }
}

#[test]
fn settings_that_stop_the_start() {
    let mut c = Comparison::new();
    for conf in [
        "nonsense = 1",
        "# a comment\nwork_mem = 4MB\n\nunknown1 = 1\nunknown2 = 2\nwork_mem = banana",
        "shared_buffers = 1",
        "shared_buffers = 12XB",
        "shared_buffers = banana",
        "work_mem = 10s",
        "port = 70000",
        "max_connections = -1",
        "max_connections = 99999999999999",
        "log_min_messages = shouty",
        "wal_level = high",
        "fsync = maybe",
        "checkpoint_timeout = 1",
        "checkpoint_timeout = 3 fortnights",
        "checkpoint_completion_target = 1.5",
        "timezone = 'Nowhere/Town'",
        "datestyle = 'foo'",
        "synchronous_standby_names = 'ANY 3 ('",
        "synchronous_standby_names = 'FIRST 0 (a)'",
        "synchronous_standby_names = 'a b'",
        "log_line_prefix = %m",
        "listen_addresses = 'unterminated",
        "= 5",
        "work_mem",
        "work_mem = 1MB 2MB",
        "1foo = 2",
        "wal_level = minimal\nmax_wal_senders = 10",
        "wal_level = minimal\narchive_mode = on\nmax_wal_senders = 0",
        "server_version = '9'",
        "data_checksums = off",
        "unix_socket_permissions = 0888",
        "default_transaction_isolation = 'chaos'",
        "statement_timeout = 5parsecs",
        "deadlock_timeout = 0",
        "include 'missing.conf'",
        "include = ''",
        "include_dir = ''",
        "include_dir 'missing.d'",
        "include 'postgresql.conf'",
        "listen_addresses = 'a,,b'",
        "listen_addresses = '192.0.2.1'",
        "unix_socket_directories = '/nonexistent'",
        "data_directory = '/nonexistent'",
        "hba_file = 'elsewhere'",
        "@foo",
        "password_encryption = plain",
        "client_encoding = 'XYZ'",
        "search_path = '\"abc'",
        "work_mem = 'a\\'b'",
    ] {
        c.compare(conf, format!("{conf}\n").as_bytes(), HBA.as_bytes(), &[]);
    }
    let many = "= x\n".repeat(120);
    c.compare("120 wrong lines", many.as_bytes(), HBA.as_bytes(), &[]);
    for argument in [
        "nope=1",
        "work_mem=zz",
        "work_mem",
        "server_version=1",
        "max_connections=0",
    ] {
        c.compare(
            &format!("-c {argument}"),
            b"",
            HBA.as_bytes(),
            &["-c", argument],
        );
    }
    c.compare("--nope", b"", HBA.as_bytes(), &["--nope"]);
    c.finish();
}

#[test]
fn settings_that_do_not() {
    let mut c = Comparison::new();
    for conf in [
        "work_mem 8MB",
        "WORK_MEM = 9MB",
        "my.own = 1",
        "work_mem = '1MB' # fine",
        "statement_timeout = '  5 min '",
        "statement_timeout = 0x10",
        "work_mem = banana\nwork_mem = 5MB",
        "listen_addresses = ''",
    ] {
        c.compare(conf, format!("{conf}\n").as_bytes(), HBA.as_bytes(), &[]);
    }
    c.finish();
}

#[test]
fn files_that_are_missing_or_closed() {
    let mut c = Comparison::new();
    for who in BOTH {
        c.twins.write(who, "closed.conf", "work_mem = 1MB\n");
        let closed = c.twins.data(who).join("closed.conf");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o0);
        std::fs::set_permissions(closed, mode).expect("ours to close");
        for i in 0..14 {
            c.twins.write(
                who,
                &format!("deep{i}.conf"),
                format!("include 'deep{}.conf'\n", i + 1),
            );
        }
        c.twins.write(who, "loop.conf", "include 'loop2.conf'\n");
        c.twins.write(who, "loop2.conf", "include 'loop.conf'\n");
    }
    for conf in [
        "include 'closed.conf'\n",
        "include 'deep0.conf'\n",
        "include 'loop.conf'\n",
    ] {
        c.compare(conf, conf.as_bytes(), HBA.as_bytes(), &[]);
    }
    let closed_hba = "hba_file = 'DIR/closed.conf'\n";
    let [theirs, own] = BOTH.map(|who| {
        let conf = closed_hba.replace("DIR", &c.twins.data(who).display().to_string());
        start(&c.twins, who, conf.as_bytes(), HBA.as_bytes(), &[])
    });
    assert_eq!(theirs, own);
    for name in ["pg_hba.conf", "PG_VERSION", "postgresql.conf"] {
        let [theirs, own] = BOTH.map(|who| {
            c.twins.write(who, "postgresql.conf", "");
            c.twins.write(who, "pg_hba.conf", HBA);
            c.twins.write(who, "PG_VERSION", "15\n");
            std::fs::remove_file(c.twins.data(who).join(name)).expect("it was there");
            let mut running = c.twins.launch(who, &[]);
            let code = running.ended(Duration::from_secs(10));
            (code, of_files(c.twins.logged(who)))
        });
        assert!(theirs.0.is_some_and(|code| code != 0), "{name}: {theirs:?}");
        assert_eq!(own, theirs, "without {name}");
    }
    c.finish();
}

#[test]
fn directories_that_are_not_ours() {
    let c = Comparison::new();
    for (version, mode) in [
        ("14\n", 0o700),
        ("abc\n", 0o700),
        ("", 0o700),
        ("15\n", 0o755),
    ] {
        let [theirs, own] = BOTH.map(|who| {
            c.twins.write(who, "PG_VERSION", version);
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(c.twins.data(who), mode).expect("ours");
            let mut running = c.twins.launch(who, &[]);
            let code = running.ended(Duration::from_secs(10));
            let mut lines = of_files(c.twins.logged(who));
            // Which version it is not compatible with.
            lines
                .iter_mut()
                .for_each(|l| *l = l.split(", which").next().unwrap_or("").to_owned());
            (code, lines)
        });
        assert_eq!(theirs.0, Some(1), "{theirs:?}");
        assert_eq!(own, theirs, "{version:?} {mode:o}");
    }
}

#[test]
fn recovery_conf_beside_a_signal_file_stops_the_start() {
    let c = Comparison::new();
    c.twins
        .write(Who::Ours, "recovery.conf", "standby_mode = 'on'\n");
    for signal in ["standby.signal", "recovery.signal"] {
        c.twins.write(Who::Ours, signal, "");
        let (code, lines) = start(&c.twins, Who::Ours, b"", HBA.as_bytes(), &[]);
        assert_eq!(code, Some(1), "{lines:?}");
        let text = lines.join("\n");
        assert!(
            text.contains("FATAL:  ") && text.contains("recovery.conf") && text.contains(signal),
            "{text}"
        );
        std::fs::remove_file(c.twins.data(Who::Ours).join(signal)).expect("written");
    }
    for (conf, expected) in [
        (
            "standby_mode = 'perhaps'\n",
            "parameter \"standby_mode\" requires a Boolean value",
        ),
        ("nope = 'x'\n", "unrecognized recovery parameter \"nope\""),
        (
            "standby_mode = 'off'\n",
            "must specify restore_command when standby mode is not enabled",
        ),
        (
            "standby_mode 'on' off\n",
            "syntax error in file \"DIR/recovery.conf\" line 1, near token \"off\"",
        ),
    ] {
        c.twins.write(Who::Ours, "recovery.conf", conf);
        let (code, lines) = start(&c.twins, Who::Ours, b"", HBA.as_bytes(), &[]);
        assert_eq!(code, Some(1), "{lines:?}");
        assert!(lines.join("\n").contains(expected), "{conf}: {lines:?}");
    }
}

#[test]
fn hba_lines_that_stop_the_start() {
    let mut c = Comparison::new();
    for hba in [
        "",
        "# nothing\n",
        "local\n",
        "local all\n",
        "local all all\n",
        "local all all banana\n",
        "host all all\n",
        "host all all 127.0.0.1\n",
        "host all all 127.0.0.1 trust\n",
        "host all all 127.0.0.1/33 trust\n",
        "host all all 127.0.0.1/-1 trust\n",
        "host all all 127.0.0.1/32x trust\n",
        "host all all ::1/129 trust\n",
        "host all all some.host/24 trust\n",
        "host all all 127.0.0.1 ::ffff trust\n",
        "host all all samehost,127.0.0.1/8 trust\n",
        "wrong all all trust\n",
        "host all all all peer\n",
        "local all all gss\n",
        "host all all all cert\n",
        "local all all trust map=x\n",
        "local all all peer foo=bar\n",
        "local all all peer foo\n",
        "local all all peer map=a extra\n",
        "local all all scram-sha-256 clientcert=verify-ca\n",
        "\"local all all trust\n",
        "local,host all all trust\n",
        "host all all all trust,md5\n",
        "local @missing all trust\n",
        "x\nlocal all all trust\ny\nhost\n",
        "local all \\\nall \\\nbanana\n",
    ] {
        c.compare(hba, b"", hba.as_bytes(), &[]);
    }
    c.compare("a zero byte", b"", b"local a\0b all trust\n", &[]);
    let long = format!("local {} all trust\n", "a".repeat(20_000));
    c.compare("a long word", b"", long.as_bytes(), &[]);
    c.finish();
}

#[test]
fn hba_lines_that_do_not() {
    let mut c = Comparison::new();
    for hba in [
        "host all all 127.0.0.1 255.255.255.0 trust\n",
        "host all all 127.1/8 trust\n",
        "hostnossl all all all md5\n",
        "local all,foo bar, baz trust\n",
        "local all +grp trust\nhost all all samehost trust\nhost all all samenet reject\n",
        "local ,all all trust # comment\n",
        "local \"\" \"all\" trust#comment\n",
        "local sameuser,samerole,samegroup all peer map=\n",
    ] {
        c.compare(hba, b"", hba.as_bytes(), &[]);
    }
    c.compare("not UTF-8", b"", b"local \xff\xfe all trust\n", &[]);
    c.finish();
}

/// For whoever attaches a debugger: the connection waits, before and after it is known who it is.
#[test]
fn connections_wait_for_a_debugger() {
    let mut server = Server::initdb();
    server.configure("pre_auth_delay = 1");
    server.start();
    let came = Instant::now();
    server.client();
    let took = came.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    server.configure("pre_auth_delay = 0\npost_auth_delay = 1");
    server.stop(Stop::Fast);
    server.start();
    for replication in ["false", "true"] {
        let came = Instant::now();
        let mut raw = Raw::connect(server.port).expect("it listens");
        let parameters = [
            ("user", "postgres"),
            ("database", "postgres"),
            ("replication", replication),
        ];
        raw.send(&startup(&parameters)).expect("sent");
        raw.until_ready(1, Duration::from_secs(20));
        let took = came.elapsed();
        assert!(took >= Duration::from_secs(1), "{replication}: {took:?}");
    }
    // A stop need not wait for it.
    server.configure("post_auth_delay = 2000\nlog_connections = on");
    server.stop(Stop::Fast);
    server.launch();
    let ready = "database system is ready to accept connections";
    eventually("it is ready for the third time", || {
        server.log().matches(ready).count() == 3
    });
    let mut late = Raw::connect(server.port).expect("it listens");
    let parameters = [("user", "postgres"), ("database", "postgres")];
    late.send(&startup(&parameters)).expect("sent");
    eventually("it is authenticated", || {
        server.log().contains("connection authorized: ")
    });
    assert!(server.stop(Stop::Fast).success(), "{}", server.log());
}

/// Lines that a reload adds to the log.
fn reload(twins: &Twins, who: Who, running: &Running, conf: &str, hba: &str) -> Vec<String> {
    let before = twins.logged(who).len();
    twins.write(who, "postgresql.conf", conf);
    twins.write(who, "pg_hba.conf", hba);
    running.signal(Signal::HUP);
    let until = Instant::now() + Duration::from_secs(10);
    let mut seen = before;
    loop {
        std::thread::sleep(Duration::from_millis(150));
        let lines = twins.logged(who);
        // It has begun, and nothing more comes.
        if lines.len() > before && lines.len() == seen {
            return of_files(lines[before..].to_vec());
        }
        seen = lines.len();
        assert!(Instant::now() < until, "{who:?} does not reload: {lines:?}");
    }
}

#[test]
fn a_reload_takes_what_is_right_and_says_what_is_not() {
    let twins = Twins::initdb();
    let reloads = [
        ("work_mem = 7MB\n", HBA),
        ("work_mem = zz\nstatement_timeout = 5s\n", HBA),
        ("nope = 1\nwork_mem = 9MB\n", HBA),
        ("max_connections = 50\nwork_mem = 9MB\n", HBA),
        ("work_mem\n", HBA),
        ("shared_buffers = 64MB\nwork_mem = 10MB\n", HBA),
        ("listen_addresses = 'x'\n", HBA),
        ("log_line_prefix = '%m [%p] '\n", HBA),
        ("include 'missing'\n", HBA),
        ("max_connections = zz\n", HBA),
        ("synchronous_standby_names = '('\n", HBA),
        ("timezone = 'nowhere'\n", HBA),
        ("", ""),
        ("", "nonsense\n"),
        ("", "local all all\nhost all all\n"),
        ("", HBA),
    ];
    let [theirs, own] = BOTH.map(|who| {
        twins.write(who, "postgresql.conf", "");
        twins.write(who, "pg_hba.conf", HBA);
        let running = twins.launch(who, &[]);
        let until = Instant::now() + Duration::from_secs(20);
        while !twins
            .logged(who)
            .iter()
            .any(|l| l.contains("ready to accept"))
        {
            assert!(Instant::now() < until, "{who:?}: {:?}", twins.logged(who));
            std::thread::sleep(Duration::from_millis(20));
        }
        reloads.map(|(conf, hba)| (conf, reload(&twins, who, &running, conf, hba)))
    });
    let pairs = own.iter().zip(&theirs);
    let differing: Vec<_> = pairs.filter(|(own, theirs)| own != theirs).collect();
    assert!(differing.is_empty(), "ours, theirs: {differing:#?}");
}

/// Statements about the settings of a session's socket, in order, with what each is answered.
fn told_of_keepalives(port: u16) -> Vec<String> {
    let show = "SHOW tcp_keepalives_idle; SHOW tcp_keepalives_interval; \
                SHOW tcp_keepalives_count; SHOW tcp_user_timeout";
    let mut client = Client::connect(port).expect("it runs");
    let mut told = Vec::new();
    for sql in [
        show,
        "SET tcp_keepalives_idle = '2min'",
        show,
        "BEGIN; SET LOCAL tcp_keepalives_count = 4; SET tcp_user_timeout = 4321",
        show,
        "ROLLBACK",
        show,
        "BEGIN; SET LOCAL tcp_keepalives_count = 4; SET tcp_user_timeout = 4321",
        "SAVEPOINT s; SET tcp_user_timeout = '1s'",
        show,
        "ROLLBACK TO s",
        show,
        "COMMIT",
        show,
        // More than Linux takes: accepted, logged, and without effect.
        "SET tcp_keepalives_idle = 99999",
        show,
        "SELECT set_config('tcp_keepalives_interval', '44', false), current_setting('tcp_keepalives_interval')",
        "SELECT name, setting, reset_val FROM pg_settings WHERE name LIKE 'tcp%' ORDER BY name",
        "SET tcp_keepalives_count = -1",
        "RESET ALL",
        show,
    ] {
        for answer in client.query(sql).expect("an answer") {
            let error = answer.error.map(|e| (e.state, e.message));
            told.push(format!("{sql}: {:?} {error:?}", answer.rows));
        }
    }
    told
}

/// The same over a connection that asks for them when it begins.
fn told_at_the_start(port: u16) -> Vec<String> {
    let mut raw = Raw::connect(port).expect("it listens");
    let parameters = [
        ("user", "postgres"),
        ("database", "postgres"),
        (
            "options",
            "-c tcp_keepalives_idle=55 -c tcp_user_timeout=5s",
        ),
    ];
    raw.send(&startup(&parameters)).expect("sent");
    raw.until_ready(1, Duration::from_secs(20));
    let ask =
        "SHOW tcp_keepalives_idle; SHOW tcp_user_timeout; RESET ALL; SHOW tcp_keepalives_idle";
    raw.send(&query(ask)).expect("sent");
    let (replies, _) = raw.until_ready(1, Duration::from_secs(20));
    let rows = replies.iter().filter(|r| r.tag == b'D');
    rows.map(|r| format!("{:?}", r.body)).collect()
}

/// SET reaches the session's own socket, and SHOW tells what the kernel has of it.
#[test]
fn keepalives_are_those_of_the_session_s_socket() {
    let twins = Twins::initdb();
    let [theirs, own] = BOTH.map(|who| {
        let settings = [
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "tcp_keepalives_interval=33",
        ];
        let running = twins.launch(who, &settings);
        let port = twins.port(who);
        eventually("it answers", || Client::connect(port).is_ok());
        let mut told = told_of_keepalives(port);
        told.extend(told_at_the_start(port));
        // A unix socket has none.
        let mut psql = Command::new(postgres("psql"));
        psql.args(["-X", "-A", "-t", "-U", "postgres", "-d", "postgres", "-h"]);
        psql.arg(twins.data(who)).args(["-p", &port.to_string()]);
        psql.args(["-c", "SET tcp_keepalives_idle = 5"]);
        told.push(run_ok(psql.args(["-c", "SHOW tcp_keepalives_idle"])));
        let lines = twins.logged(who).into_iter();
        told.extend(lines.filter(|l| l.contains("sockopt(") || l.starts_with("STATEMENT:  SET")));
        drop(running);
        told
    });
    assert!(
        theirs.iter().any(|l| l.contains("TCP_KEEPIDLE")),
        "{theirs:?}"
    );
    assert_eq!(own, theirs);
}
