//! A streaming-replication pair set up by hand, literally as PostgreSQL 9.0's users did it, with psql and tar; then
//! the same with the modern spellings.

use std::fs::{self, File};
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use understudy_tests::programs::{free_port, ours, postgres, run, run_ok};
use understudy_tests::soak::rounds;
use understudy_tests::standby::eventually;
use understudy_tests::wire::Client;

/// A data directory with its server, driven by `pg_ctl` only.
struct Node {
    data: PathBuf,
    port: u16,
}

impl Node {
    fn at(dir: &Path, name: &str) -> Node {
        let data = dir.join(name).join("data");
        fs::create_dir_all(data.parent().expect("two levels")).expect("a folder");
        Node {
            data,
            port: free_port(),
        }
    }

    fn log_path(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn pg_ctl(&self, arguments: &[&str]) {
        let mut command = Command::new(ours("understudy"));
        command.args(["pg_ctl", "-D"]).arg(&self.data);
        run_ok(command.args(arguments));
    }

    fn start(&self) {
        let log = self.log_path().display().to_string();
        self.pg_ctl(&["-w", "-l", &log, "start"]);
    }

    /// Appends to a file of the data directory.
    fn append(&self, file: &str, lines: &str) {
        let path = self.data.join(file);
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .expect("ours");
        writeln!(file, "{lines}").expect("written");
    }

    /// Where it listens: the machine's usual port and socket are not ours to take.
    fn listen(&self) {
        let sockets = self.data.parent().expect("two levels").display();
        self.append(
            "postgresql.conf",
            &format!(
                "port = {}\nunix_socket_directories = '{sockets}'",
                self.port
            ),
        );
    }

    fn psql(&self, sql: &str) -> Output {
        let mut command = Command::new(postgres("psql"));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string());
        run(command.args(["-X", "-A", "-t", "-c", sql, "template1"]))
    }

    fn ask(&self, sql: &str) -> String {
        let output = self.psql(sql);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(
            output.status.success(),
            "{sql}: {}\n{}",
            text(&output.stderr),
            self.log()
        );
        text(&output.stdout)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.data.display(), self.log());
        }
        let mut command = Command::new(ours("understudy"));
        command.args(["pg_ctl", "stop", "-m", "immediate", "-D"]);
        // It may not run.
        let _ = command.arg(&self.data).output();
    }
}

/// pgbench's TPC-B, running beside whatever the test does.
struct Load(Option<Child>);

impl Load {
    fn on(node: &Node, user: &str, seconds: u32) -> Load {
        let mut command = pgbench(node, user);
        command.args(["-n", "-c", "4", "-T", &seconds.to_string(), "template1"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        Load(Some(child.expect("pgbench starts")))
    }

    /// How many transactions it was told are committed; all of them were.
    fn end(mut self) -> u32 {
        let child = self.0.take().expect("ended once");
        let output = child.wait_with_output().expect("our child");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        let line = said
            .lines()
            .find_map(|l| l.strip_prefix("number of transactions actually processed: "));
        line.and_then(|n| n.trim().parse().ok())
            .expect("its report")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn pgbench(node: &Node, user: &str) -> Command {
    let mut command = Command::new(postgres("pgbench"));
    command.args(["-h", "127.0.0.1", "-U", user, "-p"]);
    command.arg(node.port.to_string());
    command
}

const SUMS: &str = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), \
     (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches), \
     (SELECT coalesce(sum(delta), 0) FROM pgbench_history), \
     (SELECT count(*) FROM pgbench_history)";

/// The four sums agree; gives the number of transactions.
fn check_sums(node: &Node) -> u32 {
    let sums = node.ask(SUMS);
    let parts: Vec<&str> = sums.split('|').collect();
    assert!(parts[1..4].iter().all(|sum| *sum == parts[0]), "{sums}");
    parts[4].parse().expect("a count")
}

/// GNU tar ends with 1 where a file changed while it was read: that is what the log is for.
fn tar(arguments: &[&str]) {
    let output = run(Command::new("tar").args(arguments));
    assert!(
        output.status.code().is_some_and(|code| code <= 1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn unpack(archive: &str, node: &Node) {
    let into = node.data.parent().expect("two levels");
    tar(&["xf", archive, "-C", &into.display().to_string()]);
    let _ = fs::remove_file(node.data.join("postmaster.pid"));
    node.listen();
}

/// A program that streams from the server, for the count of walsenders.
struct Receiving(Child);

impl Receiving {
    fn from(node: &Node, user: &str, dir: &Path, n: u32) -> Receiving {
        let target = dir.join(format!("received{n}"));
        fs::create_dir_all(&target).expect("a folder");
        let mut command = Command::new(postgres("pg_receivewal"));
        command.args(["-n", "-h", "127.0.0.1", "-U", user, "-p"]);
        command.arg(node.port.to_string()).arg("-D").arg(target);
        Receiving(command.stderr(Stdio::null()).spawn().expect("it starts"))
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn streams(node: &Node) -> u32 {
    let count = node.ask("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'");
    count.parse().expect("a count")
}

fn the_sixth_walsender_is_refused(primary: &Node, user: &str, dir: &Path) {
    let taken = streams(primary);
    let _receiving: Vec<_> = (taken..5)
        .map(|n| Receiving::from(primary, user, dir, n))
        .collect();
    eventually("five walsenders stream", || streams(primary) == 5);
    let sixth = run(Command::new(postgres("psql"))
        .args(["-X", "-c", "IDENTIFY_SYSTEM"])
        .arg(format!(
            "host=127.0.0.1 port={} user={user} replication=true",
            primary.port
        )));
    let said = String::from_utf8_lossy(&sixth.stderr).into_owned();
    assert!(
        said.contains(
            "FATAL:  number of requested standby connections exceeds max_wal_senders (currently 5)"
        ),
        "{said}"
    );
}

fn log_lines_are_there(primary: &Node, standby: &Node, user: &str) {
    let line = format!("LOG:  replication connection authorized: user={user} host=127.0.0.1 port=");
    assert!(primary.log().contains(&line), "{}", primary.log());
    let line = "LOG:  streaming replication successfully connected to primary";
    assert!(standby.log().contains(line), "{}", standby.log());
}

/// While transactions run on the primary the standby shows ever more of them, always whole, and refuses to write.
fn the_standby_shows_a_moving_primary(primary: &Node, standby: &Node, user: &str) {
    let load = Load::on(primary, user, rounds(6, 120));
    let count = || -> u32 {
        let count = standby.ask("SELECT count(*) FROM pgbench_history");
        count.parse().expect("a count")
    };
    let mut seen = count();
    for _ in 0..rounds(3, 60) {
        eventually("new rows on the standby", || {
            let now = count();
            let moved = now > seen;
            seen = seen.max(now);
            moved
        });
    }
    check_sums(standby);
    let mut client = Client::connect_as(standby.port, user, "template1").expect("read-only");
    let refused = client.error("INSERT INTO pgbench_history VALUES (1, 1)");
    assert_eq!(refused.state, "25006", "{}", refused.message);
    let acknowledged = load.end();
    let count = check_sums(primary);
    assert!(count >= acknowledged);
    eventually("everything on the standby", || check_sums(standby) == count);
}

fn initialise(dir: &Path) -> (Node, String) {
    let primary = Node::at(dir, "primary");
    let mut initdb = Command::new(ours("understudy"));
    initdb.args(["initdb", "-D"]).arg(&primary.data);
    run_ok(initdb.args(["--no-locale", "--encoding=UTF8"]));
    primary.listen();
    primary.start();
    let user = primary.ask("SELECT current_user");
    run_ok(pgbench(&primary, &user).args(["-i", "-q", "-s", "1", "template1"]));
    // A backup begins with a checkpoint that is spread; with nothing to write it is short.
    primary.ask("CHECKPOINT");
    (primary, user)
}

const PRIMARY: &str =
    "listen_addresses = '*'\nwal_level = hot_standby\narchive_mode = on\nmax_wal_senders = 5";

#[test]
fn the_spellings_of_9_0() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (primary, user) = initialise(dir.path());
    // Step 2; transactions run while the directory is copied.
    primary.ask("SELECT pg_start_backup('initial backup for SR')");
    let load = Load::on(&primary, &user, rounds(4, 40));
    let archive = dir.path().join("pg_base_backup.tar").display().to_string();
    let top = dir.path().join("primary").display().to_string();
    tar(&["cvf", &archive, "-C", &top, "data"]);
    primary.ask("SELECT pg_stop_backup()");
    assert!(load.end() > 0);
    let (standby, second) = (
        Node::at(dir.path(), "standby"),
        Node::at(dir.path(), "second"),
    );
    unpack(&archive, &standby);
    unpack(&archive, &second);
    // Step 3.
    let archived = dir.path().join("archive");
    fs::create_dir(&archived).expect("a folder");
    let archived = archived.display();
    primary.append(
        "postgresql.conf",
        &format!("{PRIMARY}\narchive_command = 'cp %p {archived}/%f'\nwal_keep_segments = 32"),
    );
    primary.append("pg_hba.conf", "host replication all 127.0.0.1/32 trust");
    // Step 4.
    let trigger = dir.path().join("pg_failover_trigger");
    for node in [&standby, &second] {
        let own = trigger.with_extension(node.port.to_string());
        let own = if node.port == standby.port {
            &trigger
        } else {
            &own
        };
        node.append("postgresql.conf", "hot_standby = on");
        node.append(
            "recovery.conf",
            &format!(
                "standby_mode = 'on'\nprimary_conninfo = 'host=127.0.0.1 port={} user={user}'\n\
                 trigger_file = '{}'\nrestore_command = 'cp {archived}/%f \"%p\"'",
                primary.port,
                own.display()
            ),
        );
    }
    // Step 5.
    primary.pg_ctl(&["-w", "stop"]);
    primary.start();
    standby.start();
    second.start();
    eventually("both standbys stream", || streams(&primary) == 2);
    log_lines_are_there(&primary, &standby, &user);
    the_standby_shows_a_moving_primary(&primary, &standby, &user);
    the_sixth_walsender_is_refused(&primary, &user, dir.path());
    let before = check_sums(&primary);
    eventually("the second standby has everything", || {
        check_sums(&second) == before
    });
    primary.pg_ctl(&["-m", "immediate", "stop"]);
    File::create(&trigger).expect("ours");
    becomes_writable(&standby, before..=before);
    assert!(standby.data.join("recovery.done").is_file());
    assert!(!standby.data.join("recovery.conf").exists());
}

/// One row more than `before`: a standby that is promoted after another may have followed it through the archive that
/// both use, and then has that one's row too.
fn becomes_writable(standby: &Node, before: RangeInclusive<u32>) {
    eventually("the standby accepts writes", || {
        standby
            .psql("INSERT INTO pgbench_history (delta) VALUES (0)")
            .status
            .success()
    });
    let rows = check_sums(standby);
    assert!(
        before.contains(&(rows - 1)),
        "{rows} rows, before it was {before:?}"
    );
    assert!(standby.data.join("pg_wal/00000002.history").is_file());
    assert_eq!(standby.ask("SELECT pg_is_in_recovery()"), "f");
}

#[test]
fn the_modern_spellings() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (primary, user) = initialise(dir.path());
    let archived = dir.path().join("archive");
    fs::create_dir(&archived).expect("a folder");
    let archived = archived.display();
    primary.append(
        "postgresql.conf",
        &format!("{PRIMARY}\narchive_command = 'cp %p {archived}/%f'\nwal_keep_size = 512MB"),
    );
    primary.pg_ctl(&[
        "-w",
        "-l",
        &primary.log_path().display().to_string(),
        "restart",
    ]);
    let load = Load::on(&primary, &user, rounds(4, 40));
    let archive = dir.path().join("pg_base_backup.tar").display().to_string();
    let mut client = Client::connect_as(primary.port, &user, "template1").expect("it runs");
    client.rows("SELECT pg_backup_start('initial backup for SR', fast => true)");
    let top = dir.path().join("primary").display().to_string();
    tar(&["cvf", &archive, "-C", &top, "data"]);
    let label = client.value("SELECT labelfile FROM pg_backup_stop(wait_for_archive => false)");
    assert!(load.end() > 0);
    let (standby, second) = (
        Node::at(dir.path(), "standby"),
        Node::at(dir.path(), "second"),
    );
    for node in [&standby, &second] {
        unpack(&archive, node);
        fs::write(node.data.join("backup_label"), &label).expect("ours");
        File::create(node.data.join("standby.signal")).expect("ours");
        node.append(
            "postgresql.conf",
            &format!(
                "primary_conninfo = 'host=127.0.0.1 port={} user={user}'\n\
                 promote_trigger_file = '{}'\nrestore_command = 'cp {archived}/%f \"%p\"'",
                primary.port,
                node.data.with_extension("trigger").display()
            ),
        );
        node.start();
    }
    eventually("both standbys stream", || streams(&primary) == 2);
    log_lines_are_there(&primary, &standby, &user);
    the_standby_shows_a_moving_primary(&primary, &standby, &user);
    the_sixth_walsender_is_refused(&primary, &user, dir.path());
    let before = check_sums(&primary);
    eventually("the second standby has everything", || {
        check_sums(&second) == before
    });
    primary.pg_ctl(&["-m", "immediate", "stop"]);
    assert_eq!(standby.ask("SELECT pg_promote()"), "t");
    becomes_writable(&standby, before..=before);
    assert!(!standby.data.join("standby.signal").exists());
    // By trigger file, and beside recovery.conf it does not start at all.
    File::create(second.data.with_extension("trigger")).expect("ours");
    becomes_writable(&second, before..=before + 1);
    second.pg_ctl(&["-w", "stop"]);
    File::create(second.data.join("standby.signal")).expect("ours");
    second.append("recovery.conf", "standby_mode = 'on'");
    let mut start = Command::new(ours("understudy"));
    let refused = run(start.args(["postgres", "-D"]).arg(&second.data));
    assert_eq!(refused.status.code(), Some(1));
}
