//! Data directories to be damaged: copies of one that was filled and then stopped or killed, and what may become of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::programs::{ours, run, run_ok};
use crate::server::{Server, Stop};
use crate::standby::eventually;

/// A directory with a few tables, stopped cleanly or killed; copies of it are damaged.
pub struct Original {
    pub dir: tempfile::TempDir,
    /// Files of the table `t` and of its index, below the data directory.
    pub table: String,
    pub index: String,
    /// The file of the sequence `s`, which has given out 3.
    pub sequence: String,
}

impl Original {
    pub fn new(stop: Stop) -> Original {
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
        server.psql("CREATE SEQUENCE s");
        server.psql("SELECT nextval('s') FROM generate_series(1, 3)");
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
        let sequence = file("s");
        server.stop(stop);
        Original {
            dir,
            table,
            index,
            sequence,
        }
    }

    /// A cluster that has been promoted once, and stopped cleanly.
    pub fn promoted() -> Original {
        let original = Original::new(Stop::Fast);
        let data = original.dir.path().join("data");
        fs::write(data.join("standby.signal"), "").expect("ours");
        let mut server = Server::over(&data);
        server.start();
        assert_eq!(server.psql("SELECT pg_promote()").trim(), "t");
        server.psql("UPDATE other SET id = 2");
        server.psql("UPDATE other SET id = 1");
        assert!(server.stop(Stop::Fast).success());
        original
    }

    pub fn copy(&self) -> Damaged {
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

const READY: &str = "database system is ready to accept connections";

pub struct Damaged {
    pub server: Server,
    pub data: PathBuf,
    _dir: tempfile::TempDir,
}

impl Damaged {
    pub fn path(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    pub fn flip(&self, name: &str, at: usize) {
        let mut bytes = fs::read(self.path(name)).expect(name);
        bytes[at] ^= 0x55;
        fs::write(self.path(name), bytes).expect(name);
    }

    pub fn length(&self, name: &str) -> u64 {
        fs::metadata(self.path(name)).expect(name).len()
    }

    /// Starts, whether or not anybody can come in.
    pub fn launched(&mut self) {
        let before = self.server.log().matches(READY).count();
        self.server.launch();
        eventually("it is ready", || {
            let log = self.server.log();
            assert!(self.server.exit_status().is_none(), "{log}");
            log.matches(READY).count() > before
        });
    }

    /// What somebody hears who can't come in; the server goes on.
    pub fn turned_away(&mut self, arguments: &[&str]) -> String {
        let mut psql = self.server.psql_command("SELECT 1");
        let output = run(psql.args(arguments));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?}: he came in");
        assert!(self.server.exit_status().is_none(), "{said}");
        let log = self.server.log();
        assert!(!log.contains("panicked"), "{log}");
        said
    }

    /// All that was in the original is there.
    pub fn is_whole(&self) {
        let mut client = self.server.client();
        let rows = client.rows("SELECT count(*), sum(length(v)) FROM t");
        let shown: Vec<_> = rows[0].iter().flatten().collect();
        assert_eq!(shown, ["2000", "222000"]);
        assert_eq!(client.value("SELECT id FROM other"), "1");
        assert_eq!(client.value("SELECT count(*) FROM understudy_check()"), "0");
    }

    pub fn cut(&self, name: &str, len: u64) {
        let file = fs::File::options()
            .write(true)
            .open(self.path(name))
            .expect(name);
        file.set_len(len).expect(name);
    }

    /// The start must be refused with exit code 1 and these words in the log.
    pub fn refused(mut self, what: &str, words: &[&str]) {
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
pub fn middle_segment(data: &Path) -> String {
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

/// The same file, damaged in one way after the other: what the name says, and what is done to it.
pub type Damage = (&'static str, fn(&Damaged, &str));

pub const DAMAGES: [Damage; 3] = [
    ("a flipped byte on each page", |d, name| {
        let pages = d.length(name) as usize / 8192;
        (0..pages).for_each(|page| d.flip(name, page * 8192 + 8000));
    }),
    ("cut within a page", |d, name| {
        d.cut(name, d.length(name) - 100);
    }),
    ("missing", |d, name| {
        fs::remove_file(d.path(name)).expect(name);
    }),
];
