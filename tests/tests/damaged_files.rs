//! Damaged and missing files of every kind in a data directory: each a clear error that names the file, or a clean
//! refusal, never a wrong answer.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use understudy_tests::damage::{Original, middle_segment};
use understudy_tests::programs::{ours, run};
use understudy_tests::server::{Server, Stop};
use understudy_tests::standby::eventually;

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

#[test]
fn a_start_with_a_damaged_history_is_refused_and_names_it() {
    let original = Original::promoted();
    let name = "pg_wal/00000002.history";
    let path = original.dir.path().join("data").join(name);
    let whole = fs::read_to_string(path).expect("the promotion wrote it");
    let within_the_position = whole.find('/').expect("a position") + 3;
    let cuts = [0, 1, 2, within_the_position, whole.len() - 1];
    let absurd = [
        "x\t0/1\ty\n",
        "2\t0/3000000\titself\n",
        "99999999999\t0/3000000\ttoo large\n",
        "1\tFFFFFFFFFFF/0\ttoo large\n",
        "1\t0/3000000\ta\n1\t0/4000000\tb\n",
        "\u{fffd}\u{1}\0\n",
    ];
    let texts = cuts.iter().map(|len| &whole[..*len]).chain(absurd);
    for text in texts {
        let d = original.copy();
        fs::write(d.path(name), text).expect(name);
        d.refused(
            &format!("history {text:?}"),
            &[
                "history file \"00000002.history\"",
                "HINT:  Put the file back",
            ],
        );
    }
    let d = original.copy();
    fs::remove_file(d.path(name)).expect(name);
    d.refused("no history", &["timeline 2 does not exist", "HINT:"]);
    let mut d = original.copy();
    d.server.start();
    d.is_whole();
}

/// A copy of the file is on the primary: a standby takes that, and stays where it is until then.
#[test]
fn a_standby_replaces_a_damaged_history_of_a_newer_timeline() {
    let mut primary = Server::started();
    primary.psql("CREATE TABLE t (a int)");
    let first = primary.started_standby("first");
    let mut second = primary.standby("second");
    second.configure(&format!(
        "primary_conninfo = 'host=127.0.0.1 port={} user=postgres'",
        first.port
    ));
    // What pg_basebackup wrote comes later and would win.
    fs::write(second.data().join("postgresql.auto.conf"), "").expect("ours");
    let history = second.data().join("pg_wal/00000002.history");
    fs::write(&history, "1\t0/30").expect("ours");
    second.start();
    first.wait_for_stream("second");
    primary.psql("INSERT INTO t VALUES (1)");
    eventually("it replays what its upstream passes on", || {
        second.psql("SELECT count(*) FROM t").trim() == "1"
    });
    let log = second.log();
    assert!(log.contains("history file \"00000002.history\""), "{log}");
    primary.stop(Stop::Kill);
    assert_eq!(first.psql("SELECT pg_promote()").trim(), "t");
    first.psql("INSERT INTO t VALUES (2)");
    first.wait_for_replay(&second);
    assert_eq!(second.psql("SELECT sum(a) FROM t").trim(), "3");
    let own = fs::read(first.data().join("pg_wal/00000002.history")).expect("there");
    assert_eq!(fs::read(&history).expect("there"), own);
}

/// A segment has its full size before it has its name, so a short one is not where the log ends.
#[test]
fn log_in_a_file_of_the_wrong_size_or_of_another_cluster_is_refused() {
    let original = Original::new(Stop::Kill);
    let data = original.dir.path().join("data");
    let mut names: Vec<_> = fs::read_dir(data.join("pg_wal"))
        .expect("pg_wal")
        .filter_map(|e| e.expect("readable").file_name().into_string().ok())
        .filter(|n| n.len() == 24)
        .collect();
    names.sort();
    let holds_log = |name: &&String| {
        let number = u64::from_str_radix(&name[16..], 16).expect("hexadecimal");
        let bytes = fs::read(data.join("pg_wal").join(name)).expect("a segment");
        bytes[8..16] == (number << 20).to_le_bytes()
    };
    let last = names.iter().rfind(holds_log).expect("there is log");
    for name in [&middle_segment(&data), last] {
        let segment = format!("pg_wal/{name}");
        for len in [0, 500_000, (1 << 20) - 1, (1 << 20) + 8192] {
            let d = original.copy();
            d.cut(&segment, len);
            d.refused(
                &format!("{segment} of {len} bytes"),
                &[segment.as_str(), "wrong size", "HINT:  Put the file back"],
            );
        }
    }
    let d = original.copy();
    d.flip(&format!("pg_wal/{}", middle_segment(&data)), 24);
    d.refused("another cluster's", &["WAL", "different database system"]);
    let mut d = original.copy();
    d.server.start();
    d.is_whole();
}

#[test]
fn a_start_with_damaged_small_files_is_refused_or_not_in_their_way() {
    let original = Original::new(Stop::Fast);
    let label = "START WAL LOCATION: 0/200028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/200060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-01-01 00:00:00 UTC\nLABEL: x\nSTART TIMELINE: 1\n";
    let refused = ["invalid data in file \"backup_label\"", "HINT:"];
    // Without the line that follows it would ask for less than the backup needs.
    for line in ["BACKUP METHOD", "BACKUP FROM", "START TIMELINE"] {
        let d = original.copy();
        let cut = label.find(line).expect("a line");
        fs::write(d.path("backup_label"), &label[..cut]).expect("written");
        d.refused(&format!("a label up to {line}"), &refused);
    }
    let d = original.copy();
    fs::write(d.path("backup_label"), [0xFF, 0x00, 0xFE, b'\n']).expect("written");
    d.refused("a label of garbage", &refused);

    let d = original.copy();
    fs::write(d.path("backup_label"), label).expect("written");
    fs::write(d.path("tablespace_map"), "16384 /nowhere\n").expect("written");
    d.refused("tablespace_map", &["tablespace_map", "HINT:"]);

    let d = original.copy();
    fs::write(
        d.path("postgresql.auto.conf"),
        [0xFF, 0xFE, 0x00, b'=', b'\n'],
    )
    .expect("written");
    d.refused("postgresql.auto.conf", &["postgresql.auto.conf", "line"]);

    let d = original.copy();
    fs::write(d.path("pg_xact/0000"), vec![0; 32 * 8192]).expect("written");
    d.refused(
        "a commit log of zeroes",
        &["pg_xact/0000", "the transaction that made the cluster"],
    );

    let mut d = original.copy();
    for garbage in [&b""[..], b"\xff\xfe\0\n\n", b"99999999999999999999\n/x\n"] {
        fs::write(d.path("postmaster.pid"), garbage).expect("written");
        d.server.start();
        assert!(d.server.stop(Stop::Fast).success());
    }
    d.server.start();
    d.is_whole();
}
