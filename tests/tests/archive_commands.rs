//! `archive_command` and `restore_command` with our own copying programs, and where there is no shell.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use understudy_tests::programs::{ours, run};
use understudy_tests::server::{Server, Stop};
use understudy_tests::standby::eventually;

fn archive_command(folder: &Path) -> String {
    format!(
        "archive_command = '{} archive-copy %p \"{}/%f\"'",
        ours("understudy").display(),
        folder.display()
    )
}

fn restore_command(folder: &Path) -> String {
    format!(
        "restore_command = '{} restore-copy {}/%f \"%p\"'",
        ours("understudy").display(),
        folder.display()
    )
}

fn archived(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries
        .filter(|entry| entry.file_name().len() == 24)
        .count()
}

fn primary(folder: &Path) -> Server {
    let server = Server::initdb();
    server.configure(&format!("archive_mode = on\n{}", archive_command(folder)));
    server
}

fn fill(server: &Server, rounds: usize) {
    for _ in 0..rounds {
        server.psql("INSERT INTO t SELECT g FROM generate_series(1, 100) g");
        server.psql("SELECT pg_switch_wal()");
    }
}

#[test]
fn a_standby_is_made_of_what_was_archived() {
    let archive = tempfile::tempdir().expect("a folder");
    let mut server = primary(archive.path());
    server.start();
    server.psql("CREATE TABLE t (a int)");
    let mut standby = server.standby("follower");
    fill(&server, 4);
    eventually("four segments are archived", || {
        archived(archive.path()) >= 4
    });
    for entry in fs::read_dir(archive.path()).expect("a folder").flatten() {
        let name = entry.file_name();
        let kept = server.data().join("pg_wal").join(&name);
        if let Ok(bytes) = fs::read(kept) {
            assert!(
                bytes == fs::read(entry.path()).expect("archived"),
                "{name:?}"
            );
        }
    }
    // Nothing but the archive to go by.
    standby.configure(&format!(
        "primary_conninfo = ''\nwal_retrieve_retry_interval = 200ms\n{}",
        restore_command(archive.path())
    ));
    fs::write(standby.data().join("postgresql.auto.conf"), "").expect("written");
    standby.start();
    eventually("the standby has the rows", || {
        standby.psql("SELECT count(*) FROM t").trim() == "400"
    });
    let log = standby.log();
    assert!(log.contains("restored log file"), "{log}");
}

/// Two servers that archive to one place: the first one's files stay, the second one's are not called archived.
#[test]
fn an_archive_is_not_overwritten_by_another_server() {
    let archive = tempfile::tempdir().expect("a folder");
    let mut first = primary(archive.path());
    first.start();
    first.psql("CREATE TABLE t (a int)");
    fill(&first, 1);
    eventually("it is archived", || archived(archive.path()) >= 1);
    let mut second = primary(archive.path());
    second.start();
    second.psql("CREATE TABLE t (a int)");
    fill(&second, 1);
    let said = "is in the archive with other contents; it is left as it is";
    eventually("the second server says so", || second.log().contains(said));
    let ready = fs::read_dir(second.data().join("pg_wal/archive_status"))
        .expect("a folder")
        .flatten()
        .filter(|e| e.path().extension().is_some_and(|e| e == "ready"))
        .count();
    assert!(ready > 0, "nothing waits to be archived");
}

/// A command that is not there is not taken for an archive that ends here: PostgreSQL 15 stops then.
#[test]
fn a_restore_command_that_does_not_run_stops_recovery() {
    let mut server = Server::started();
    server.psql("CREATE TABLE t (a int)");
    for command in [
        "/nonexistent/restore %f %p",
        "exit 127",
        "kill -9 $$",
        "exit 200",
    ] {
        let mut standby = server.standby("confused");
        standby.configure(&format!("restore_command = '{command}'"));
        standby.launch();
        eventually("it stops", || standby.exit_status().is_some());
        let log = standby.log();
        assert!(log.contains("restore"), "{command}: {log}");
    }
    // That the archive does not have it is no reason to.
    let mut standby = server.standby("content");
    standby.configure("restore_command = 'exit 1'");
    standby.start();
    server.wait_for_stream("content");
    server.stop(Stop::Fast);
}

/// A server of ours in a mount namespace in which the shell is no program.
struct WithoutShell(Child);

impl WithoutShell {
    fn start(server: &Server) -> WithoutShell {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(server.log_path())
            .expect("a log");
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "sh", "-c"]);
        command.arg("mount --bind /dev/null \"$(readlink -f /bin/sh)\" && exec \"$0\" \"$@\"");
        command.arg(ours("understudy")).args(["postgres", "-D"]);
        command
            .arg(server.data())
            .args(["-c", &format!("port={}", server.port)]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c"]);
        command.arg(format!(
            "unix_socket_directories={}",
            server.data().display()
        ));
        command.stdin(Stdio::null());
        command
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        WithoutShell(command.spawn().expect("unshare runs"))
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).expect("our child");
        self.0.wait().expect("it ends");
    }
}

impl Drop for WithoutShell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn without_a_shell_words_run_and_everything_else_is_refused_with_the_remedy() {
    let archive = tempfile::tempdir().expect("a folder");
    let mut server = primary(archive.path());
    let running = WithoutShell::start(&server);
    server.wait_until_ready(Duration::from_secs(30));
    server.psql("CREATE TABLE t (a int)");
    fill(&server, 1);
    eventually("it is archived", || archived(archive.path()) >= 1);

    let shell = "test ! -f /a/%f && cp %p /a/%f";
    let output =
        run(&mut server.psql_command(&format!("ALTER SYSTEM SET archive_command = '{shell}'")));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    for part in ["The command needs a shell", "understudy archive-copy %p"] {
        assert!(said.contains(part), "{said}");
    }
    // At a reload what was there stays.
    let before = server.psql("SHOW archive_command");
    server.configure(&format!("archive_command = '{shell}'"));
    server.psql("SELECT pg_reload_conf()");
    eventually("the reload complains", || {
        server.log().contains("The command needs a shell")
    });
    assert_eq!(server.psql("SHOW archive_command"), before);
    running.stop();
    // At a start it is refused.
    let mut refused = WithoutShell::start(&server);
    let status = refused.0.wait().expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", server.log());
    let log = server.log();
    assert!(log.contains("Use \"understudy archive-copy %p"), "{log}");
}

#[test]
fn the_copying_programs_say_how_they_are_used() {
    for program in ["archive-copy", "restore-copy"] {
        let help = run(Command::new(ours("understudy")).args([program, "--help"]));
        let text = String::from_utf8_lossy(&help.stdout).into_owned();
        assert!(
            help.status.success() && text.contains("SOURCE TARGET"),
            "{text}"
        );
    }
    let code = |arguments: &[&str]| {
        let output = run(Command::new(ours("understudy")).args(arguments));
        output.status.code()
    };
    assert_eq!(code(&["archive-copy", "only-one"]), Some(1));
    assert_eq!(code(&["archive-copy", "/nonexistent/a", "/tmp/b"]), Some(1));
    assert_eq!(code(&["restore-copy", "only-one"]), Some(126));
    assert_eq!(
        code(&["restore-copy", "/nonexistent/a", "/tmp/b"]),
        Some(126)
    );
    let dir = tempfile::tempdir().expect("a folder");
    let absent = dir.path().join("000000010000000000000001");
    let target = dir.path().join("target");
    let paths = [&absent, &target].map(|path| path.display().to_string());
    assert_eq!(code(&["restore-copy", &paths[0], &paths[1]]), Some(1));
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0);
}
