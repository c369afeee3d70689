//! `initdb`, `pg_ctl` and `postgres` as administrators type them: exit codes and words are PostgreSQL 15's, by link name
//! and by sub-command.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use understudy_tests::programs::{ours, run};
use understudy_tests::server::{Server, Stop};
use understudy_tests::twins::{BOTH, Said, Twins, Who};

/// Runs a command on both and gathers where they differ.
struct Comparison {
    twins: Twins,
    wrong: Vec<String>,
}

/// Which of 15's minor releases the referee is depends on the day on which the machine got it.
fn without_minor(line: &str) -> String {
    const MAJOR: &str = "(PostgreSQL) 15.";
    match line.split_once(MAJOR) {
        Some((before, after)) => {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}{MAJOR}{after}")
        }
        None => line.to_owned(),
    }
}

impl Comparison {
    fn said(&self, words: &[&str]) -> [Said; 2] {
        BOTH.map(|who| {
            let mut said = self.twins.run(who, words);
            // A dot for each second, and what is ours to word: the server's own lines, its name in the options file.
            for line in &mut said.out {
                *line = line
                    .replace("....", ".")
                    .replace("...", ".")
                    .replace("..", ".");
                *line = line.replace("understudy \"postgres\" \"-D\"", "postgres \"-D\"");
                *line = without_minor(line);
            }
            said.err.retain(|l| !l.starts_with("LOG:  "));
            said
        })
    }

    fn same(&mut self, words: &[&str]) {
        let [theirs, own] = self.said(words);
        if theirs != own {
            self.wrong.push(format!(
                "{words:?}\n  PostgreSQL {theirs:?}\n  ours       {own:?}"
            ));
        }
    }

    /// Where we have less or more to say on stdout.
    fn same_code_and_complaint(&mut self, words: &[&str]) {
        let [theirs, own] = self.said(words);
        if (theirs.code, &theirs.err) != (own.code, &own.err) {
            self.wrong.push(format!(
                "{words:?}\n  PostgreSQL {theirs:?}\n  ours       {own:?}"
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
fn what_initdb_refuses() {
    let mut c = Comparison {
        twins: Twins::new(),
        wrong: Vec::new(),
    };
    for words in [
        &["initdb"][..],
        &["initdb", "-D", "DIR", "--nope"],
        &["initdb", "-D", "DIR", "-E"],
        &["initdb", "-D", "DIR", "--wal-segsize=3"],
        &["initdb", "-D", "DIR", "--wal-segsize=abc"],
        &["initdb", "-D", "DIR", "-A", "scram-sha-256"],
        &["initdb", "-D", "DIR", "-U", "pg_bad"],
        &["initdb", "-D", "DIR", "a", "b"],
        &["initdb", "--version"],
        &["initdb", "-V"],
    ] {
        c.same(words);
    }
    for words in [
        &[
            "initdb",
            "-D",
            "DIR",
            "--pwfile=/nonexistent",
            "-A",
            "scram-sha-256",
        ][..],
        &["initdb", "-D", "/proc/nowhere", "--no-locale"],
        &["initdb", "-D", "/etc/passwd", "--no-locale"],
    ] {
        c.same_code_and_complaint(words);
    }
    for who in BOTH {
        std::fs::create_dir(c.twins.data(who)).expect("writable");
        std::fs::write(c.twins.data(who).join(".hidden"), "").expect("writable");
    }
    c.same_code_and_complaint(&["initdb", "-D", "DIR", "--no-locale"]);
    for who in BOTH {
        std::fs::create_dir(c.twins.data(who).join("lost+found")).expect("writable");
    }
    c.same_code_and_complaint(&["initdb", "-D", "DIR", "--no-locale"]);
    for who in BOTH {
        std::fs::write(c.twins.data(who).join("file"), "").expect("writable");
        std::fs::remove_dir(c.twins.data(who).join("lost+found")).expect("made");
    }
    c.same_code_and_complaint(&["initdb", "-D", "DIR", "--no-locale"]);
    c.finish();
}

#[test]
fn pg_ctl_says_what_it_does() {
    let mut c = Comparison {
        twins: Twins::initdb(),
        wrong: Vec::new(),
    };
    let start: &[&str] = &[
        "pg_ctl",
        "start",
        "-D",
        "DIR",
        "-o",
        "-p PORT -k DIR",
        "-l",
        "DIR.log",
    ];
    for words in [
        &["pg_ctl"][..],
        &["pg_ctl", "nope", "-D", "DIR"],
        &["pg_ctl", "status"],
        &["pg_ctl", "status", "-D", "DIR"],
        &["pg_ctl", "status", "-D", "DIR.none"],
        &["pg_ctl", "start", "-D", "DIR.none"],
        &["pg_ctl", "status", "-D", "/tmp"],
        &["pg_ctl", "stop", "-D", "DIR"],
        &["pg_ctl", "reload", "-D", "DIR"],
        &["pg_ctl", "promote", "-D", "DIR"],
        &["pg_ctl", "stop", "-m", "nope", "-D", "DIR"],
        &["pg_ctl", "-z"],
        &["pg_ctl", "start", "-D", "DIR", "-l"],
        &["pg_ctl", "kill"],
        &["pg_ctl", "kill", "TERM"],
        &["pg_ctl", "kill", "NOPE", "1"],
        &["pg_ctl", "kill", "TERM", "999999"],
        &["pg_ctl", "--version"],
        &[
            "pg_ctl",
            "start",
            "-D",
            "DIR",
            "-o",
            "-c nope=1",
            "-l",
            "DIR.log",
        ],
        start,
        &["pg_ctl", "status", "-D", "DIR"],
        &["pg_ctl", "promote", "-D", "DIR"],
        &["pg_ctl", "reload", "-D", "DIR"],
        &["pg_ctl", "reload", "-s", "-D", "DIR"],
        &["pg_ctl", "restart", "-D", "DIR", "-l", "DIR.log"],
        &["pg_ctl", "status", "-D", "DIR"],
        &[
            "pg_ctl",
            "restart",
            "-m",
            "immediate",
            "-D",
            "DIR",
            "-l",
            "DIR.log",
        ],
        &["pg_ctl", "stop", "-m", "smart", "-D", "DIR"],
        &["pg_ctl", "stop", "-D", "DIR"],
    ] {
        c.same(words);
    }
    // A restart of a server that does not run starts one.
    c.same(&[
        "pg_ctl",
        "restart",
        "-D",
        "DIR",
        "-o",
        "-p PORT -k DIR",
        "-l",
        "DIR.log",
    ]);
    c.same(&["pg_ctl", "stop", "-s", "-m", "immediate", "-D", "DIR"]);
    c.same(&[
        "pg_ctl",
        "start",
        "-s",
        "-D",
        "DIR",
        "-o",
        "-p PORT -k DIR",
        "-l",
        "DIR.log",
    ]);
    c.same(&["pg_ctl", "stop", "-m", "fast", "-D", "DIR"]);
    for text in ["junk\n", "", "999999\n/elsewhere\n1\n"] {
        for who in BOTH {
            c.twins.write(who, "postmaster.pid", text);
        }
        c.same(&["pg_ctl", "status", "-D", "DIR"]);
        c.same(&["pg_ctl", "stop", "-D", "DIR"]);
    }
    c.finish();
}

#[test]
fn what_postgres_refuses() {
    let mut c = Comparison {
        twins: Twins::initdb(),
        wrong: Vec::new(),
    };
    for words in [
        &["postgres"][..],
        &["postgres", "-D", "/nonexistent"],
        &["postgres", "--version"],
        &["postgres", "-V"],
        &["postgres", "-D", "DIR", "-C", "port"],
        &["postgres", "-D", "DIR", "-C", "nope"],
        &[
            "postgres",
            "-D",
            "DIR",
            "-c",
            "work_mem=3MB",
            "-C",
            "work_mem",
        ],
        &["postgres", "-D", "DIR", "-F", "-C", "fsync"],
        &["postgres", "-D", "DIR", "-i", "-C", "listen_addresses"],
        &["postgres", "-D", "DIR", "-p", "0"],
        &["postgres", "-D", "DIR", "extra"],
    ] {
        c.same(words);
    }
    c.finish();
}

#[test]
fn a_sub_command_is_as_good_as_a_link() {
    let twins = Twins::new();
    for name in ["initdb", "pg_ctl", "postgres"] {
        let link = twins.run(Who::Ours, &[name, "--version"]);
        let sub = twins.run(Who::Ours, &["understudy", name, "--version"]);
        assert_eq!(link, sub);
        assert_eq!(link.code, Some(0));
        assert!(
            link.out[0].starts_with(&format!("{name} (PostgreSQL) 15.")),
            "{link:?}"
        );
    }
    assert_eq!(twins.run(Who::Ours, &["understudy"]).code, Some(1));
    assert_eq!(twins.run(Who::Ours, &["understudy", "nope"]).code, Some(1));
}

#[test]
fn signals_mean_what_they_mean_there() {
    let mut server = Server::started();
    // SIGTERM waits for those who are here.
    let mut client = server.client();
    server.signal(Signal::TERM);
    let until = Instant::now() + Duration::from_secs(60);
    while understudy_tests::wire::Client::connect(server.port).is_ok() {
        assert!(Instant::now() < until, "newcomers are let in");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(client.value("SELECT 1"), "1");
    assert!(server.exit_status().is_none(), "it did not wait");
    // SIGINT does not.
    server.signal(Signal::INT);
    while server.exit_status().is_none() {
        assert!(
            Instant::now() < until,
            "it does not stop:\n{}",
            server.log()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    client.query("SELECT 1").expect_err("the session was ended");
    let told = "terminating connection due to administrator command";
    assert!(server.log().contains(told), "{}", server.log());
    assert!(
        server.log().contains("received smart shutdown request"),
        "{}",
        server.log()
    );
    assert!(
        server.log().contains("received fast shutdown request"),
        "{}",
        server.log()
    );
    assert!(!server.data().join("postmaster.pid").exists());

    // SIGQUIT leaves recovery to the next start.
    server.start();
    server.psql("CREATE TABLE t (a int)");
    server.psql("INSERT INTO t VALUES (1)");
    assert!(server.stop(Stop::Immediate).success(), "as PostgreSQL's");
    assert!(!server.data().join("postmaster.pid").exists());
    assert!(
        server.log().contains("received immediate shutdown request"),
        "{}",
        server.log()
    );
    server.start();
    assert_eq!(server.psql("SELECT a FROM t").trim(), "1");
    assert!(server.stop(Stop::Smart).success());
}

#[test]
fn a_second_server_is_kept_out_and_a_stale_file_is_not_in_the_way() {
    let mut server = Server::started();
    let second = |server: &Server| {
        let mut command = Command::new(ours("understudy"));
        command.args([
            "postgres",
            "-p",
            "1",
            "-c",
            "listen_addresses=",
            "-c",
            "unix_socket_directories=",
            "-D",
        ]);
        let output = run(command.arg(server.data()));
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, text) = second(&server);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("FATAL:  lock file \"postmaster.pid\" already exists"),
        "{text}"
    );
    let pid = server.pid().as_raw_nonzero();
    let hint = format!("Is another postmaster (PID {pid}) running in data directory");
    assert!(text.contains(&hint), "{text}");
    // Not even if somebody removed the file.
    std::fs::remove_file(server.data().join("postmaster.pid")).expect("it was there");
    let (code, text) = second(&server);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(server.client().value("SELECT 1"), "1");
    server.stop(Stop::Kill);
    std::fs::write(
        server.data().join("postmaster.pid"),
        "1\n/elsewhere\n1\n5432\n",
    )
    .expect("writable");
    server.start();
    assert_eq!(server.client().value("SELECT 1"), "1");
}

/// `pg_ctl stop` waits for the pid file to go; the next server may be started in that very moment.
#[test]
fn a_stopped_server_gives_up_its_port_before_its_pid_file() {
    let mut server = Server::started();
    let pid_file = server.data().join("postmaster.pid");
    for _ in 0..5 {
        server.signal(Signal::INT);
        let until = Instant::now() + Duration::from_secs(20);
        while pid_file.exists() {
            assert!(Instant::now() < until, "{}", server.log());
            std::hint::spin_loop();
        }
        let free = TcpListener::bind(("127.0.0.1", server.port));
        assert!(free.is_ok(), "port {}: {free:?}", server.port);
        drop(free);
        server.stop(Stop::Fast);
        server.start();
    }
}

#[test]
fn root_is_warned_once() {
    let mut server = Server::started();
    let expected = usize::from(rustix::process::geteuid().is_root());
    server.stop(Stop::Fast);
    let warnings = server.log().matches("running as root").count();
    assert_eq!(warnings, expected, "{}", server.log());
}

#[test]
fn the_pid_file_has_the_lines_that_tools_read() {
    let twins = Twins::initdb();
    let lines = BOTH.map(|who| {
        let running = twins.launch(who, &["-c", "listen_addresses=127.0.0.1"]);
        let until = Instant::now() + Duration::from_secs(20);
        let text = loop {
            let text =
                std::fs::read_to_string(twins.data(who).join("postmaster.pid")).unwrap_or_default();
            if text.contains("ready") {
                break text;
            }
            assert!(Instant::now() < until, "{:?}", twins.logged(who));
            std::thread::sleep(Duration::from_millis(10));
        };
        let pid = running.pid().expect("it runs");
        kill_process(pid, Signal::INT).expect("ours to signal");
        let mut lines = twins.plain(who, &text);
        assert_eq!(lines[0], pid.as_raw_nonzero().to_string());
        // The process, the time and the shared memory are each server's own.
        for own in [0, 2, 6] {
            lines[own].clear();
        }
        lines
    });
    assert_eq!(lines[0], lines[1]);
}
