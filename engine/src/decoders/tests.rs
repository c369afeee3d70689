//! Each decoder fed with a real file or message, and with thousands of mutations of it. The seed is printed when one
//! fails, and a failing seed is all that is needed to see it again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::config::scram::Verifier;
use crate::ids::{Lsn, PAGE_SIZE, TimelineId};
use crate::node::Node;
use crate::replication::messages::{FromPrimary, FromStandby};
use crate::server::cli::{NewCluster, Programs};
use crate::wal::timeline::History;

const ROUNDS: u64 = 2_000;

/// Flips, numbers that are limits, cuts, repeats, and pieces from elsewhere in the same bytes.
fn mutate(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..=4) {
        if bytes.is_empty() {
            bytes.push(random.random());
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..8) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => {
                let limits: [u32; 8] = [
                    0,
                    1,
                    4,
                    0x7fff_ffff,
                    0x8000_0000,
                    u32::MAX,
                    8192,
                    0x3fff_ffff,
                ];
                let limit = limits[random.random_range(0..limits.len())];
                let limit = if random.random() {
                    limit.to_be_bytes()
                } else {
                    limit.to_le_bytes()
                };
                for (to, from) in bytes[at..].iter_mut().zip(limit) {
                    *to = from;
                }
            }
            3 => bytes.truncate(at),
            4 => {
                bytes.remove(at);
            }
            5 => bytes.insert(at, random.random()),
            6 => {
                let from = random.random_range(0..bytes.len());
                let piece =
                    bytes[from..(from + random.random_range(1..40)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let end = (at + random.random_range(1..16)).min(bytes.len());
                random.fill_bytes(&mut bytes[at..end]);
            }
        }
    }
}

/// Runs `decode` over `seed` and over `rounds` mutations of it.
fn hammer(name: &str, seed: &[u8], rounds: u64, decode: impl Fn(&[u8])) {
    decode(seed);
    for number in 0..rounds {
        let mut random = StdRng::seed_from_u64(number);
        let mut bytes = seed.to_vec();
        mutate(&mut bytes, &mut random);
        let outcome = catch_unwind(AssertUnwindSafe(|| decode(&bytes)));
        assert!(outcome.is_ok(), "{name}: seed {number} panics");
    }
}

/// A new cluster with 1 MiB segments: a log with records of most kinds, a control file.
fn cluster() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for name in [
        "global",
        "base",
        "pg_wal",
        "pg_wal/archive_status",
        "pg_xact",
        "pg_multixact",
    ] {
        std::fs::create_dir_all(dir.path().join(name)).expect("writable");
    }
    let cluster = NewCluster {
        data_directory: dir.path().to_owned(),
        superuser: "postgres".to_owned(),
        password: None,
        checksums: true,
        wal_segment_size: super::SEGMENT_SIZE,
        locale: "C".to_owned(),
    };
    Node.bootstrap(&cluster).expect("a cluster is made");
    dir
}

fn first_segment(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("pg_wal/000000010000000000000001")).expect("the first segment")
}

#[test]
fn the_log_and_the_control_file() {
    let dir = cluster();
    let log = first_segment(dir.path());
    let (whole, _) = super::wal(&log);
    assert!(whole > 100, "only {whole} records");
    // The first pages, so that most mutations hit something.
    hammer("wal", &log[..4 * PAGE_SIZE], ROUNDS, |bytes| {
        let (records, _) = super::wal(bytes);
        assert!(records <= whole);
    });
    let control = std::fs::read(dir.path().join("global/pg_control")).expect("written");
    assert!(super::control_file(&control));
    hammer("control file", &control, ROUNDS, |bytes| {
        super::control_file(bytes);
    });
}

#[test]
fn records_whose_crc_is_right() {
    let dir = cluster();
    let log = first_segment(dir.path());
    let mut kinds = std::collections::HashSet::new();
    // Records that lie in one page: at their LSN they have the length that their header says.
    for page in log.chunks_exact(PAGE_SIZE).take(100) {
        let mut at = 40;
        while let Some(header) = page.get(at..at + 24) {
            let total = u32::from_le_bytes(header[..4].try_into().expect("four bytes")) as usize;
            let Some(record) = page.get(at..at + total).filter(|_| total >= 24) else {
                at += 8;
                continue;
            };
            if super::wal_record(record) && kinds.insert((record[17], record[16])) {
                hammer("wal record", record, ROUNDS / 4, |bytes| {
                    super::wal_record(bytes);
                });
            }
            at += 8;
        }
    }
    assert!(kinds.len() > 3, "only {kinds:?}");
}

#[test]
fn messages_of_clients() {
    let mut bytes = Vec::new();
    let mut frame = |tag: u8, body: &[u8]| {
        bytes.push(tag);
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
    };
    frame(
        b'P',
        b"s\0SELECT $1\0\x00\x02\x00\x00\x00\x17\x00\x00\x00\x19",
    );
    frame(
        b'B',
        b"p\0s\0\x00\x01\x00\x01\x00\x02\x00\x00\x00\x02ab\xff\xff\xff\xff\x00\x00",
    );
    frame(b'D', b"Pp\0");
    frame(b'E', b"p\0\x00\x00\x00\x00");
    frame(b'C', b"Ss\0");
    frame(b'Q', b"SELECT 1\0");
    frame(b'd', b"1\tx\n");
    frame(b'f', b"no\0");
    frame(b'S', b"");
    hammer("protocol", &bytes, ROUNDS, super::protocol);
    let startup =
        b"\x00\x00\x00\x38\x00\x03\x00\x00user\0postgres\0database\0postgres\0options\0-c a=b\0\0";
    hammer("start-up", startup, ROUNDS, super::protocol);
    hammer(
        "scram",
        b"n,,n=,r=fyko\nc=biws,r=fyko,p=AAAA",
        ROUNDS,
        super::scram,
    );
    let bound = b"p=tls-server-end-point,,n=,r=fyko\nc=cD10bHM=,r=fyko,p=AAAA";
    hammer("bound scram", bound, ROUNDS, super::scram);
    let verifier = Verifier::of_password("x").to_string();
    hammer("verifier", verifier.as_bytes(), ROUNDS, super::scram);
}

#[test]
fn messages_of_replication() {
    let lsn = Lsn::new(0x1_0000_0028);
    let mut out = Vec::new();
    for message in [
        FromPrimary::Keepalive {
            end: lsn,
            sent_at: 7,
            reply_requested: true,
        },
        FromPrimary::XLogData {
            start: lsn,
            end: lsn,
            sent_at: 7,
            data: vec![1u8; 50].into(),
        },
    ] {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        out.push(bytes.to_vec());
    }
    let mut bytes = BytesMut::new();
    FromStandby::Status {
        write: lsn,
        flush: lsn,
        apply: lsn,
        sent_at: 1,
        reply_requested: false,
    }
    .encode(&mut bytes);
    out.push(bytes.to_vec());
    out.push(b"START_REPLICATION SLOT \"s\" PHYSICAL 0/1000028 TIMELINE 3".to_vec());
    out.push(b"BASE_BACKUP (LABEL 'x', PROGRESS, CHECKPOINT 'fast', WAL, MANIFEST 'yes')".to_vec());
    for seed in out {
        hammer("replication", &seed, ROUNDS, super::replication);
    }
}

#[test]
fn certificates() {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    for pem in [
        include_str!("../tls/fixtures/names.pem"),
        include_str!("../tls/fixtures/version1.pem"),
    ] {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        hammer("certificate", &der, ROUNDS, super::certificate);
    }
}

#[test]
fn files_of_text() {
    let hba = b"local all all trust\nhost replication,\"a b\" +staff,bob 10.0.0.0/8 scram-sha-256 # x\nhost all all 127.0.0.1 255.0.0.0 md5\n";
    hammer("hba", hba, ROUNDS, super::hba);
    let tls = b"hostssl all all samenet cert map=map clientname=DN\nhostssl all all ::1/128 scram-sha-256 clientcert=verify-ca\n";
    hammer("hba", tls, ROUNDS, super::hba);
    let ident = b"map /^(.*)@here\\.org$ \\1\nmap \"a b\" role # x\n";
    hammer("ident", ident, ROUNDS, super::ident);
    let conf = b"port = 5433\nwork_mem = '64MB' # c\nlog_line_prefix = '%m [%p] ''x'\\n'\nstatement_timeout 1.5min\nTimeZone = 'Europe/Berlin'\nsynchronous_standby_names = 'ANY 2 (a, \"b\", *)'\nDateStyle = 'iso, dmy'\nsearch_path = '\"$user\", public'\nprimary_conninfo = 'host=a port=5432 user=''u'' password=x'\n";
    hammer("settings", conf, ROUNDS, super::settings);
    hammer(
        "conninfo",
        b"postgresql://u:p%20w@h1:5432,[::1]:5433/db?application_name=x&connect_timeout=3",
        ROUNDS,
        super::settings,
    );
    let history = History::root(TimelineId::FIRST)
        .fork(
            TimelineId::new(3),
            Lsn::new(0x300_0000),
            "no recovery target specified",
        )
        .fork(TimelineId::new(9), Lsn::new(0x500_0028), "why")
        .to_text();
    hammer(
        "history",
        history.as_bytes(),
        ROUNDS,
        super::timeline_history,
    );
    let label = b"START WAL LOCATION: 0/2000028 (file 000000010000000000000020)\nCHECKPOINT LOCATION: 0/2000060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-01-01 00:00:00 UTC\nLABEL: x\nSTART TIMELINE: 1\n";
    hammer("label", label, ROUNDS, super::backup_label);
    let sql = b"WITH a AS (SELECT 1 AS x, 'y''z' || E'\\n' FROM t WHERE b IN (1, 2.5e3) ORDER BY 1 LIMIT 3) INSERT INTO \"T\" (c) SELECT $1::int[] FROM a ON CONFLICT DO NOTHING RETURNING *; COPY t FROM STDIN WITH (FORMAT csv); CREATE TABLE u (a int PRIMARY KEY DEFAULT nextval('s'), CHECK (a > 0));";
    hammer("sql", sql, ROUNDS, super::sql);
}
