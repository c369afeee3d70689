//! `understudy sql` beside psql 15: the same words, the same rows, the same exit codes, against our server and PostgreSQL's.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use understudy_tests::programs::{ours, postgres, run, run_ok};
use understudy_tests::reference::Reference;
use understudy_tests::server::{Server, Stop};
use understudy_tests::standby::eventually;

/// What a client said and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

#[derive(Clone, Copy)]
struct Address<'a> {
    host: &'a str,
    port: u16,
}

fn psql() -> Command {
    let mut command = Command::new(postgres("psql"));
    command.arg("-X");
    command
}

fn own() -> Command {
    let mut command = Command::new(ours("understudy"));
    command.arg("sql");
    command
}

fn said(mut command: Command, address: Address<'_>, arguments: &[&str], input: &str) -> Said {
    for variable in ["PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD"] {
        command.env_remove(variable);
    }
    command.args(["-h", address.host, "-p", &address.port.to_string()]);
    command.args(["-U", "postgres", "-d", "postgres"]);
    command.args(arguments).env("PGCONNECT_TIMEOUT", "10");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A client that has ended reads no more.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("written");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Said {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr)
            .replace("psql:", "CLIENT:")
            .replace("understudy sql:", "CLIENT:"),
    }
}

/// Where the two differ, over several command lines.
struct Comparison<'a> {
    address: Address<'a>,
    wrong: Vec<String>,
}

impl Comparison<'_> {
    fn same(&mut self, arguments: &[&str], input: &str) {
        let theirs = said(psql(), self.address, arguments, input);
        let ours = said(own(), self.address, arguments, input);
        if theirs != ours {
            self.wrong.push(format!(
                "{arguments:?} {input:?}\n  psql {theirs:#?}\n  ours {ours:#?}"
            ));
        }
    }

    fn finish(self) {
        let count = self.wrong.len();
        assert!(count == 0, "{count} differ:\n{}", self.wrong.join("\n"));
    }
}

const ROWS: &str = "SELECT * FROM (VALUES (1, 'one', 1.5, true), (-20, NULL, NULL, false), \
    (300, E'two\\nlines', 0.25, NULL), (4, E'tab\\there\\rand \\x1b[1m', 100, true), \
    (5, '日本語 é', 7, false)) AS v (a, \"a text\", n, \"is it\")";

/// Everything that both servers answer in the same way.
fn compare(address: Address<'_>) {
    let mut c = Comparison {
        address,
        wrong: Vec::new(),
    };
    formats(&mut c);
    errors(&mut c);
    scripts(&mut c);
    copies(&mut c);
    c.same(&["-c", "\\conninfo"], "");
    c.same(&["-f", "/nonexistent"], "");
    c.same(&["nope", "nobody", "third"], "");
    c.finish();
}

fn formats(c: &mut Comparison<'_>) {
    for format in [
        &[][..],
        &["-t"],
        &["-A"],
        &["-At"],
        &["-x"],
        &["-xt"],
        &["-Ax"],
        &["-Axt"],
        &["--csv"],
        &["--csv", "-t"],
        &["--csv", "-x"],
        &["-A", "-F", " ; "],
        &["-q"],
    ] {
        for query in [
            ROWS,
            "SELECT 1 AS a",
            "SELECT 1 AS \"two\nlines\", 'x' AS b",
            "SELECT 1 WHERE false",
            "SELECT",
            "SELECT '' AS a, 'a,b\"c' AS \"d\"\"e\", E'\\\\.' AS f",
            "SELECT 12345678901 AS x, 'a' AS a_long_name_of_a_column",
            "SHOW work_mem",
            "CREATE TABLE f (a int); INSERT INTO f VALUES (1), (2); UPDATE f SET a = 3 RETURNING a; DROP TABLE f",
            "",
            ";",
        ] {
            let mut arguments = format.to_vec();
            arguments.extend(["-c", query]);
            c.same(&arguments, "");
        }
    }
}

fn errors(c: &mut Comparison<'_>) {
    let long = format!("SELECT '{}', nowhere, '{}'", "a".repeat(80), "b".repeat(80));
    for query in [
        "SELECT nowhere",
        "SELECT 1;\n\n  SELECT 1,\n\t nowhere FROM\n x",
        "SELECT 'é日本', nowhere",
        "SELEC 1",
        "SELECT 1/0",
        "SELECT 1; SELECT 1/0; SELECT 2",
        "INSERT INTO absent VALUES (1)",
        "DROP TABLE IF EXISTS absent",
        "SELECT ('abc')::int",
        "COMMIT",
        &long,
    ] {
        c.same(&["-c", query], "");
        c.same(&[], query);
        c.same(&["-v", "ON_ERROR_STOP=1"], query);
        c.same(&["-f", "-"], query);
    }
    c.same(&["-c", "SELECT 1/0", "-c", "SELECT 2"], "");
    c.same(
        &[
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            "SELECT 1/0",
            "-c",
            "SELECT 2",
        ],
        "",
    );
    c.same(
        &[
            "-1",
            "-c",
            "CREATE TABLE one (a int)",
            "-c",
            "DROP TABLE one",
        ],
        "",
    );
    c.same(
        &[
            "-1",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            "CREATE TABLE one (a int)",
            "-c",
            "SELECT 1/0",
        ],
        "",
    );
    c.same(&["-c", "SELECT * FROM one"], "");
}

fn scripts(c: &mut Comparison<'_>) {
    let script = "-- a note;\n\n  SELECT 1; SELECT\n 2 -- ;\n; /* ; */ SELECT ';', \";\" FROM (SELECT 3) AS x (\";\");\n\
        SELECT $a$;$$;$a$, E'\\';', 'it''s;';\nSELECT (1;\n2);\nSELECT nowhere;\nBEGIN;\nSELECT 1/0;\nSELECT 1;\nROLLBACK;\n\
        \n\nSELECT 'two\n\nlines;';\nSELECT 'no semicolon'";
    c.same(&[], script);
    c.same(&["-f", "-"], script);
    c.same(&["-v", "ON_ERROR_STOP=1", "-f", "-"], script);
    c.same(&["-q", "-A"], script);
    c.same(&[], "SELECT 1;\n\\q\nSELECT 2;\n");
    c.same(&[], "SELECT 1 \\q\n");
    c.same(&[], "\\conninfo\nSELECT 1;\n");
    c.same(
        &[],
        "SET standard_conforming_strings = off;\nSELECT E'\\';';\n",
    );
    c.same(&[], "SELECT 1;\r\nSELECT\r\n2;\r\n");
    c.same(&[], "");
}

/// Each with a table of its own, which the command line makes and drops.
fn copies(c: &mut Comparison<'_>) {
    let table = "CREATE TABLE copied (a int, b text);";
    let end = "DROP TABLE copied;";
    let out = "COPY (SELECT a, b FROM copied ORDER BY 1, 2) TO STDOUT;";
    for data in [
        "1\tone\n2\t\\N\n\\.\n",
        "1\tone",
        "x\ty\n\\.\n",
        "1\tone\r\n2\ttwo\r\n\\.\r\n",
        "",
    ] {
        let copy = "COPY copied FROM STDIN;";
        c.same(&["-c", table, "-c", copy, "-c", out, "-c", end], data);
        let script = format!("{table}\n{copy}\n{data}\nSELECT nowhere;\n{out}\n");
        c.same(&["-f", "-", "-c", end], &script);
    }
    c.same(&["-c", "COPY (SELECT 1/0) TO STDOUT"], "");
    c.same(&["-c", "COPY (SELECT 1 AS a) TO STDOUT; SELECT 2"], "");
}

#[test]
fn it_says_what_psql_says_of_our_server() {
    let server = Server::started();
    let host = server.data().display().to_string();
    compare(Address {
        host: &host,
        port: server.port,
    });
}

#[test]
fn it_says_what_psql_says_of_postgresql() {
    let reference = Reference::started();
    let address = Address {
        host: "127.0.0.1",
        port: reference.port,
    };
    compare(address);
    // What our server does not have, or words otherwise.
    let mut c = Comparison {
        address,
        wrong: Vec::new(),
    };
    let raises = "DO $$ BEGIN RAISE NOTICE 'x' USING DETAIL = 'd', HINT = 'h'; \
        RAISE EXCEPTION 'e' USING DETAIL = 'dd'; END $$";
    c.same(&["-c", raises], "");
    c.same(&["-c", "DO $$ BEGIN PERFORM nowhere; END $$"], "");
    let ends = "SELECT pg_terminate_backend(pg_backend_pid())";
    c.same(&["-c", ends, "-c", "SELECT 1"], "");
    for arguments in [&[][..], &["-f", "-"]] {
        c.same(arguments, &format!("SELECT 1;\n{ends};\nSELECT 2;\n"));
    }
    c.finish();
}

#[test]
fn who_cannot_connect_is_told_as_by_psql() {
    let dir = tempfile::tempdir().expect("a folder");
    let host = dir.path().display().to_string();
    let server = Server::started();
    let mut c = Comparison {
        address: Address {
            host: &host,
            port: server.port,
        },
        wrong: Vec::new(),
    };
    c.same(&["-c", "SELECT 1"], "");
    c.address.host = "127.0.0.1";
    c.same(&["-d", "absent", "-c", "SELECT 1"], "");
    c.same(&["-U", "absent", "-c", "SELECT 1"], "");
    c.same(&["-d", "host=127.0.0.1 dbname=absent"], "");
    c.same(&["-d", "dbname=postgres nonsense=1"], "");
    c.address.port = understudy_tests::programs::free_port();
    c.same(&["-c", "SELECT 1"], "");
    c.finish();
}

#[test]
fn passwords_come_from_the_environment_or_a_file() {
    let mut server = Server::initdb();
    server.start();
    server.psql("CREATE ROLE app LOGIN PASSWORD 'se:cret'");
    server.psql("CREATE DATABASE shop OWNER app");
    let hba = server.data().join("pg_hba.conf");
    std::fs::write(
        &hba,
        "host all app all scram-sha-256\nlocal all all trust\nhost all postgres all trust\n",
    )
    .expect("written");
    server.psql("SELECT pg_reload_conf()");
    let connect = |prepare: &dyn Fn(&mut Command)| {
        let mut command = own();
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &server.port.to_string(),
            "-U",
            "app",
            "-d",
            "shop",
        ]);
        command.args(["-At", "-c", "SELECT current_user, current_database()"]);
        command.env("HOME", "/nonexistent").env_remove("PGPASSWORD");
        prepare(&mut command);
        let output = run(&mut command);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            err,
        )
    };
    eventually("the new pg_hba.conf counts", || {
        let (code, _, err) = connect(&|_| {});
        code == Some(2) && err.contains("no password supplied")
    });
    let expected = (Some(0), "app|shop\n".to_owned(), String::new());
    assert_eq!(
        connect(&|c| {
            c.env("PGPASSWORD", "se:cret");
        }),
        expected
    );
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("pass");
    let line = format!("127.0.0.1:{}:shop:app:se\\:cret\n", server.port);
    std::fs::write(&file, line).expect("written");
    assert_eq!(
        connect(&|c| {
            c.env("PGPASSFILE", &file);
        }),
        expected
    );
    let (code, _, err) = connect(&|c| {
        c.env("PGPASSWORD", "wrong");
    });
    assert_eq!(code, Some(2));
    assert!(
        err.contains("password authentication failed for user \"app\""),
        "{err}"
    );
}

#[test]
fn a_lost_connection_is_exit_code_2() {
    let mut server = Server::started();
    let mut command = own();
    command.args(["-h", "127.0.0.1", "-p", &server.port.to_string()]);
    command.args(["-U", "postgres", "-c", "SELECT pg_sleep(60)"]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.expect("it starts");
    waits_in_sleep(&server, 1);
    server.stop(Stop::Kill);
    let output = child.wait_with_output().expect("it ends");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(
        err.contains("server closed the connection unexpectedly"),
        "{err}"
    );
    assert!(err.ends_with("connection to server was lost\n"), "{err}");
}

fn waits_in_sleep(server: &Server, count: usize) {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
    eventually("the query runs", || {
        server.psql(query).trim() == count.to_string()
    });
}

#[test]
fn ctrl_c_cancels_what_runs() {
    let server = Server::started();
    let mut command = own();
    command.args([
        "-h",
        "127.0.0.1",
        "-p",
        &server.port.to_string(),
        "-U",
        "postgres",
    ]);
    command.args(["-c", "SELECT pg_sleep(60)", "-c", "SELECT 'goes on'"]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.expect("it starts");
    waits_in_sleep(&server, 1);
    kill_process(Pid::from_child(&child), Signal::INT).expect("our child");
    let output = child.wait_with_output().expect("it ends");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        err.contains("ERROR:  canceling statement due to user request"),
        "{err}"
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("goes on"));
    assert_eq!(output.status.code(), Some(0));
}

/// On a terminal: prompts, a statement over several lines, Ctrl-C at a prompt, the end.
#[test]
fn on_a_terminal_it_prompts() {
    let server = Server::started();
    let (mut keys, theirs) = terminal();
    let mut screen = keys.try_clone().expect("a second handle");
    // `setsid -c` makes it the terminal that Ctrl-C on it reaches the client; it then becomes the client.
    let mut child = Command::new("setsid")
        .arg("-c")
        .arg(ours("understudy"))
        .args(["sql", "-U", "postgres", "-h"])
        .arg(server.data())
        .args(["-p", &server.port.to_string()])
        .stdin(theirs.try_clone().expect("a second handle"))
        .stdout(theirs.try_clone().expect("a second handle"))
        .stderr(theirs)
        .spawn()
        .expect("setsid runs");
    let (sender, shown) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        // The end is an error here: the other side is closed.
        while let Ok(n) = screen.read(&mut bytes) {
            if n == 0 || sender.send(bytes[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut all = String::new();
    let mut wait_for = |text: &str| {
        let until = Instant::now() + Duration::from_secs(30);
        let from = all.len();
        while !all[from..].contains(text) {
            let left = until.saturating_duration_since(Instant::now());
            let bytes = shown.recv_timeout(left);
            let bytes = bytes.unwrap_or_else(|_| panic!("no {text:?} in {all}"));
            all.push_str(&String::from_utf8_lossy(&bytes));
        }
    };
    wait_for("postgres=# ");
    for (typed, prompt) in [
        ("SELECT 'one\n", "postgres'# "),
        ("two' AS\n", "postgres-# "),
        ("x;\n", "postgres=# "),
        ("SELECT (\n", "postgres(# "),
        ("\x03", "postgres=# "),
        ("BEGIN;\n", "postgres=*# "),
        ("SELECT 1/0;\n", "postgres=!# "),
        ("ROLLBACK;\n", "postgres=# "),
        ("\\dt\n", "\\dt is not known here"),
        ("help\n", "\\conninfo"),
        ("\\conninfo\n", "You are connected to database"),
        ("CREATE TABLE t (a int);\n", "CREATE TABLE"),
        ("COPY t FROM STDIN;\n", ">> "),
        ("1\n", ">> "),
        ("\\.\n", "COPY 1"),
    ] {
        keys.write_all(typed.as_bytes()).expect("it listens");
        wait_for(prompt);
    }
    keys.write_all(b"\\q\n").expect("it listens");
    let status = child.wait().expect("it ends");
    let rest: Vec<u8> = shown.iter().flatten().collect();
    let rest = String::from_utf8_lossy(&rest);
    assert!(status.success(), "{status} after {all}{rest}");
}

/// A pseudo-terminal: whoever types and looks, and whoever is typed to.
fn terminal() -> (File, File) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let ours = openpt(flags | OpenptFlags::CLOEXEC).expect("a pseudo-terminal");
    grantpt(&ours).expect("granted");
    unlockpt(&ours).expect("unlocked");
    let name = ptsname(&ours, Vec::new()).expect("it has a name");
    let mut options = File::options();
    options.read(true).write(true);
    options.custom_flags(OFlags::NOCTTY.bits().cast_signed());
    let theirs = options.open(name.to_str().expect("a path"));
    (ours.into(), theirs.expect("its other side opens"))
}

/// The shape of what it does not do: no option of psql's is taken and ignored.
#[test]
fn what_it_does_not_do_it_says() {
    for (arguments, said) in [
        (&["-l"][..], "invalid option -- 'l'"),
        (&["--html"], "unrecognized option '--html'"),
        (&["-W"], "PGPASSWORD"),
        (&["-v", "x=1"], "psql has variables"),
        (&["-v", "ON_ERROR_STOP=perhaps"], "Boolean expected"),
        (&["-1"], "-1 can only be used in non-interactive mode"),
    ] {
        let output = run(own().args(arguments));
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(err.contains(said), "{arguments:?}: {err}");
    }
    let help = run_ok(own().arg("--help"));
    assert!(help.contains("/run/understudy"));
    assert!(Path::new(&ours("understudy")).is_file());
}
