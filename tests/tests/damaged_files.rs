//! Damaged and missing files of every kind in a data directory: each a clear error that names the file, or a clean
//! refusal, never a wrong answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use understudy_tests::programs::{ours, run, run_ok};
use understudy_tests::server::{Server, Stop};

/// A directory with a few tables, stopped cleanly or killed; copies of it are damaged.
struct Original {
    dir: tempfile::TempDir,
    /// Files of the table `t` and of its index, below the data directory.
    table: String,
    index: String,
}

impl Original {
    fn new(stop: Stop) -> Original {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("data");
        let mut initdb = Command::new(ours("understudy"));
        initdb.args([
            "initdb",
            "--no-locale",
            "--encoding=UTF8",
            "-U",
            "postgres",
            "-A",
            "trust",
        ]);
        run_ok(initdb.arg("--wal-segsize=1").arg("-D").arg(&data));
        let mut server = Server::over(&data);
        server.configure("max_wal_size = 1GB\ncheckpoint_timeout = 1h");
        server.start();
        server.psql("CREATE TABLE t (id bigint PRIMARY KEY, v text)");
        server.psql("INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 2000) g");
        server.psql("CREATE TABLE other (id bigint)");
        server.psql("INSERT INTO other VALUES (1)");
        server.psql("CHECKPOINT");
        // More than three segments of log behind the last checkpoint.
        for n in 0..12 {
            server.psql(&format!("UPDATE t SET v = repeat('y', {})", 100 + n));
        }
        let file = |relation: &str| {
            let number = server.psql(&format!(
                "SELECT relfilenode FROM pg_class WHERE relname = '{relation}'"
            ));
            format!("base/5/{}", number.trim())
        };
        let (table, index) = (file("t"), file("t_pkey"));
        server.stop(stop);
        Original { dir, table, index }
    }

    fn copy(&self) -> Damaged {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("data");
        run_ok(
            Command::new("cp")
                .arg("-a")
                .arg(self.dir.path().join("data"))
                .arg(&data),
        );
        Damaged {
            server: Server::over(&data),
            data,
            _dir: dir,
        }
    }
}

struct Damaged {
    server: Server,
    data: PathBuf,
    _dir: tempfile::TempDir,
}

impl Damaged {
    fn path(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    fn flip(&self, name: &str, at: usize) {
        let mut bytes = fs::read(self.path(name)).expect(name);
        bytes[at] ^= 0x55;
        fs::write(self.path(name), bytes).expect(name);
    }

    fn cut(&self, name: &str, len: u64) {
        let file = fs::File::options()
            .write(true)
            .open(self.path(name))
            .expect(name);
        file.set_len(len).expect(name);
    }

    /// The start must be refused with exit code 1 and these words in the log.
    fn refused(mut self, what: &str, words: &[&str]) {
        self.server.launch();
        let until = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = self.server.exit_status() {
                break status;
            }
            assert!(
                Instant::now() < until,
                "{what}: it started\n{}",
                self.server.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        let log = self.server.log();
        assert_eq!(status.code(), Some(1), "{what}: {status}\n{log}");
        assert!(log.contains("FATAL"), "{what}: {log}");
        for word in words {
            assert!(log.contains(word), "{what}: no {word:?} in\n{log}");
        }
        assert!(!log.contains("panicked"), "{what}: {log}");
    }
}

/// The segment that holds the middle of the log behind the last checkpoint.
fn middle_segment(data: &Path) -> String {
    let mut names: Vec<String> = fs::read_dir(data.join("pg_wal"))
        .expect("pg_wal")
        .filter_map(|e| e.expect("readable").file_name().into_string().ok())
        .filter(|n| n.len() == 24)
        .collect();
    names.sort();
    let holds_log = |name: &&String| {
        let bytes = fs::read(data.join("pg_wal").join(name)).expect("a segment");
        let number = u64::from_str_radix(&name[16..], 16).expect("hexadecimal");
        bytes[8..16] == (number << 20).to_le_bytes()
    };
    let used: Vec<&String> = names.iter().filter(holds_log).collect();
    assert!(used.len() > 5, "too little log: {names:?}");
    used[used.len() - 3].clone()
}

#[test]
fn a_start_with_damaged_files_is_refused_and_names_them() {
    let original = Original::new(Stop::Fast);
    let d = original.copy();
    d.flip("global/pg_control", 40);
    d.refused("control file", &["incorrect checksum in control file"]);

    let d = original.copy();
    d.cut("global/pg_control", 100);
    d.refused(
        "short control file",
        &["global/pg_control", "read 100 of 288"],
    );

    let d = original.copy();
    fs::remove_file(d.path("global/pg_control")).expect("there");
    d.refused(
        "no control file",
        &["global/pg_control", "No such file or directory"],
    );

    for (content, words) in [
        (Some("14\n"), &["PostgreSQL version 14"][..]),
        (
            Some("nonsense"),
            &["PG_VERSION", "does not contain valid data"],
        ),
        (None, &["PG_VERSION", "is missing"]),
    ] {
        let d = original.copy();
        match content {
            Some(text) => fs::write(d.path("PG_VERSION"), text).expect("written"),
            None => fs::remove_file(d.path("PG_VERSION")).expect("there"),
        }
        d.refused("PG_VERSION", words);
    }

    let d = original.copy();
    d.server.configure("this is = = nonsense");
    d.refused(
        "postgresql.conf",
        &["postgresql.conf", "syntax error", "line"],
    );

    let d = original.copy();
    fs::write(d.path("postgresql.auto.conf"), "work_mem = = 1\n").expect("written");
    d.refused("postgresql.auto.conf", &["postgresql.auto.conf", "line"]);

    let d = original.copy();
    fs::remove_file(d.path("pg_hba.conf")).expect("there");
    d.refused("no pg_hba.conf", &["pg_hba.conf"]);

    let d = original.copy();
    fs::write(d.path("backup_label"), "START WAL LOCATION: nowhere\n").expect("written");
    d.refused("backup_label", &["backup_label"]);

    let d = original.copy();
    fs::remove_file(d.path("pg_xact/0000")).expect("there");
    d.refused(
        "no commit log",
        &["pg_xact/0000", "No such file or directory"],
    );

    let d = original.copy();
    d.cut("pg_xact/0000", 3000);
    d.refused("short commit log", &["pg_xact/0000", "3000 bytes"]);

    let d = original.copy();
    fs::remove_dir_all(d.path("pg_wal")).expect("there");
    d.refused("no pg_wal", &["pg_wal", "No such file or directory"]);

    let d = original.copy();
    for entry in fs::read_dir(d.path("pg_wal")).expect("pg_wal") {
        let path = entry.expect("readable").path();
        if path.is_file() {
            fs::remove_file(path).expect("a segment");
        }
    }
    d.refused(
        "no segments",
        &["could not locate a valid checkpoint record"],
    );
}

#[test]
fn log_damaged_in_the_middle_is_not_taken_for_its_end() {
    let original = Original::new(Stop::Kill);
    let segment = format!(
        "pg_wal/{}",
        middle_segment(&original.dir.path().join("data"))
    );
    let d = original.copy();
    d.flip(&segment, 300_000);
    d.refused("a damaged segment", &["WAL", "damaged"]);

    let d = original.copy();
    fs::remove_file(d.path(&segment)).expect("there");
    d.refused("a missing segment", &["WAL"]);

    // Undamaged, it recovers.
    let mut d = original.copy();
    d.server.start();
    assert_eq!(
        d.server
            .psql("SELECT count(*), min(length(v)) FROM t")
            .trim(),
        "2000|111"
    );
}

#[test]
fn damaged_pages_are_errors_of_their_table_only() {
    let original = Original::new(Stop::Fast);
    let mut d = original.copy();
    d.flip(&original.table, 8192 * 2 + 4000);
    d.server.start();
    let mut client = d.server.client();
    let error = client.error("SELECT count(*) FROM t");
    assert_eq!(error.state, "XX001");
    assert!(
        error.message.contains("block 2") && error.message.contains(&original.table),
        "{error:?}"
    );
    assert_eq!(client.value("SELECT count(*) FROM other"), "1");
    let findings = client.rows("SELECT relation, block, finding FROM understudy_check('t')");
    let first = findings.first().expect("the damage is found");
    assert_eq!(first[0].as_deref(), Some("public.t"), "{findings:?}");
    assert_eq!(first[1].as_deref(), Some("2"), "{findings:?}");
    drop(client);
    d.server.stop(Stop::Fast);
    let amcheck = run(Command::new(ours("understudy"))
        .arg("amcheck")
        .arg("-D")
        .arg(&d.data));
    assert_eq!(amcheck.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&amcheck.stdout).contains("\"public.t\", block 2"));

    let mut d = original.copy();
    d.flip(&original.index, 8192 + 4000);
    d.server.start();
    let mut client = d.server.client();
    let error = client.error("SELECT v FROM t WHERE id = 77");
    assert_eq!(error.state, "XX001", "{error:?}");
    assert_eq!(client.value("SELECT count(*) FROM t"), "2000");
    let findings = client.rows("SELECT relation FROM understudy_check()");
    assert!(
        findings
            .iter()
            .all(|f| f[0].as_deref() == Some("public.t_pkey")),
        "{findings:?}"
    );
    assert!(!findings.is_empty());
    drop(client);

    let mut d = original.copy();
    fs::remove_file(d.path(&original.table)).expect("there");
    d.server.start();
    let mut client = d.server.client();
    let error = client.error("SELECT count(*) FROM t");
    assert_eq!(error.state, "58P01", "{error:?}");
    assert!(error.message.contains(&original.table), "{error:?}");
    assert_eq!(client.value("SELECT count(*) FROM other"), "1");
    let findings = client.rows("SELECT finding FROM understudy_check('t')");
    assert!(!findings.is_empty());
}

#[test]
fn a_missing_index_is_an_error_that_names_it() {
    let original = Original::new(Stop::Fast);
    let mut d = original.copy();
    fs::remove_file(d.path(&original.index)).expect("there");
    d.server.start();
    let mut client = d.server.client();
    let error = client.error("SELECT v FROM t WHERE id = 77");
    assert_eq!(error.state, "58P01", "{error:?}");
    assert!(error.message.contains(&original.index), "{error:?}");
    assert_eq!(client.value("SELECT count(*) FROM other"), "1");
}

/// What is only a hint, or was left by somebody who has gone, may hold anything.
#[test]
fn damaged_hints_and_leftovers_are_in_nobodys_way() {
    let original = Original::new(Stop::Fast);
    let mut d = original.copy();
    d.server.start();
    d.server.psql("VACUUM t");
    assert!(d.server.stop(Stop::Fast).success());
    let map = format!("{}_fsm", original.table);
    let length = fs::metadata(d.path(&map)).expect("vacuum wrote it").len();
    let length = usize::try_from(length).expect("small");
    for (round, byte) in [0x00, 0x55, 0xff].into_iter().enumerate() {
        fs::write(d.path(&map), vec![byte; length]).expect("ours");
        fs::write(d.path("postmaster.pid"), "nobody\n").expect("ours");
        d.server.start();
        let from = 10_000 * (round + 1);
        let upto = from + 499;
        d.server.psql(&format!(
            "INSERT INTO t SELECT g, 'more' FROM generate_series({from}, {upto}) g"
        ));
        let findings = d.server.psql("SELECT count(*) FROM understudy_check()");
        assert_eq!(findings.trim(), "0", "{byte:#x}");
        d.server.psql("VACUUM t");
        assert!(d.server.stop(Stop::Fast).success());
    }
    d.server.start();
    let rows = d.server.psql("SELECT count(*), sum(length(v)) FROM t");
    // The last update left 2,000 of 111 characters.
    assert_eq!(rows.trim(), "3500|228000");
}

#[test]
fn a_damaged_catalog_is_an_error_that_names_it() {
    let original = Original::new(Stop::Fast);
    let mut d = original.copy();
    // pg_class of the database, every page of it.
    let pages = fs::metadata(d.path("base/5/1259")).expect("there").len() as usize / 8192;
    (0..pages).for_each(|page| d.flip("base/5/1259", page * 8192 + 8000));
    d.server.launch();
    let until = Instant::now() + Duration::from_secs(20);
    while !d.server.log().contains("ready to accept connections") {
        assert!(
            d.server.exit_status().is_none() && Instant::now() < until,
            "{}",
            d.server.log()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = run(&mut d.server.psql_command("SELECT count(*) FROM t"));
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("base/5/1259") && said.contains("invalid page in block"),
        "{said}"
    );
    assert!(d.server.exit_status().is_none(), "{}", d.server.log());
    assert!(d.server.stop(Stop::Fast).success());
}
