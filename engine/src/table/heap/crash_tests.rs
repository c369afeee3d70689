//! Power cuts: whatever a crash leaves of the data files, redo makes exactly the acknowledged rows of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::catalog::relation::Relation;
use crate::ids::{Lsn, PAGE_SIZE, SystemId, Tid, TimelineId, Xid};
use crate::io::sim::{Frozen, SimDisk};
use crate::io::{Access, Disk, DiskRef};
use crate::storage::{ControlFile, Flow, Store};
use crate::table::check::check_heap;
use crate::table::row::RowDecoder;
use crate::table::testing::{OpenGate, redo_record, relation};
use crate::table::vacuum::{Vacuum, VacuumOptions, VacuumStep};
use crate::table::{TableCx, TableError, files};
use crate::txn::redo::{Effect, RecoveryStart};
use crate::txn::testing::{SEGMENT, START, control_data, options, session};
use crate::txn::{CommitLevel, ReleasePolicy, Snapshot, TxnConfig, TxnManager};
use crate::types::datum::Datum;
use crate::types::oids;
use crate::wal::timeline::History;
use crate::wal::{FileSource, RmgrId, StartWriting, Wal, WalConfig, WalReader};

type Rows = BTreeMap<i32, (Tid, i32, usize)>;
/// What a client has been told, and what the commit under way would make of it.
type Ledger = Arc<Mutex<(Rows, Option<Rows>)>>;

struct Server {
    store: Arc<Store>,
    txns: Arc<TxnManager>,
    rel: Relation,
}

impl Server {
    fn on(disk: &SimDisk, create: bool) -> Server {
        let shared: DiskRef = Arc::new(disk.clone());
        let config = WalConfig {
            segment_size: SEGMENT,
            ..WalConfig::new(SystemId::new(7))
        };
        let wal = Wal::new(shared.clone(), config);
        let control = if create {
            ControlFile::create(shared.clone(), control_data())
        } else {
            ControlFile::open(shared.clone())
        };
        let control = Arc::new(control.expect("a control file"));
        let store = Arc::new(Store::new(shared, wal, control, 24, true));
        let txns = Arc::new(TxnManager::new(store.clone(), TxnConfig::default()));
        let start = RecoveryStart {
            next_xid: Xid::FIRST_NORMAL,
            oldest_active_xid: 0,
            redo: START,
        };
        txns.begin_recovery(start, None);
        let rel = relation(20_000, &[oids::INT4, oids::INT4, oids::TEXT], &[]);
        Server { store, txns, rel }
    }

    fn start_writing(&self, end_of_log: Lsn, last_record: Lsn) {
        let start = StartWriting {
            history: History::root(TimelineId::FIRST),
            end_of_log,
            last_record,
            aborted: None,
        };
        self.store
            .wal
            .begin_writing(start)
            .expect("the log goes on");
        let gate: Arc<dyn crate::storage::WriteGate> = self.store.wal.clone();
        self.store.pool.set_gate(gate);
        self.txns.release().set_policy(ReleasePolicy::Local);
    }

    /// A new server with an empty table; all of it durable.
    fn create(disk: &SimDisk) -> Server {
        let dirs = [
            "pg_wal",
            "pg_wal/archive_status",
            "global",
            "base",
            "base/5",
            "pg_xact",
        ];
        for dir in dirs {
            disk.create_dir(Path::new(dir)).expect("an empty disk");
        }
        for dir in ["", "pg_wal", "base"] {
            disk.sync_dir(Path::new(dir)).expect("synced");
        }
        let server = Server::on(disk, true);
        server.start_writing(START, Lsn::INVALID);
        server.txns.create_commit_log().expect("pg_xact");
        server.txns.finish_recovery(START);
        for file in [server.rel.file, server.rel.overflow.expect("has one")] {
            files::create_untracked(&server.store, Xid::BOOTSTRAP, file).expect("created");
        }
        let wal = &server.store.wal;
        wal.flush_blocking(wal.insert_lsn());
        server
    }

    /// Starts on what a crash left, and replays all of the log.
    fn recover(disk: &SimDisk) -> Server {
        cut_to_pages(disk);
        let server = Server::on(disk, false);
        server.store.pool.set_gate(Arc::new(OpenGate));
        let (store, txns) = (&server.store, &server.txns);
        let history = History::root(TimelineId::FIRST);
        let source = FileSource::new(store.wal.segments().clone(), history);
        let mut log = WalReader::new(source, SEGMENT, START);
        let (mut end, mut last) = (START, Lsn::INVALID);
        while let Ok(record) = log.next() {
            txns.saw_xid(record.xid_low);
            let owners = [RmgrId::TRANSACTION, RmgrId::COMMITLOG, RmgrId::STANDBY];
            if owners.contains(&record.rmgr)
                && let Effect::DropFiles(files) = txns.redo(&record).expect("our own record")
            {
                txns.drop_replayed_files(&files);
            }
            redo_record(store, &record);
            txns.replayed(record.end);
            (end, last) = (record.end, record.start);
        }
        server.start_writing(end, last);
        txns.finish_recovery(end);
        server
    }

    fn cx(&self) -> TableCx<'_> {
        TableCx {
            store: &self.store,
            txns: &self.txns,
        }
    }

    fn rows(&self, snapshot: &Snapshot) -> Rows {
        let (cx, decoder) = (self.cx(), RowDecoder::all(&self.rel));
        let mut scan = scan(cx, &self.rel, snapshot).expect("scan");
        let mut rows = Rows::new();
        let mut out = vec![Datum::Null; 3];
        while let Some(version) = scan.next(cx, snapshot).expect("next") {
            decoder.decode(cx, version, &mut out).expect("decodes");
            let (Datum::Int4(key), Datum::Int4(n), Datum::Text(text)) = (&out[0], &out[1], &out[2])
            else {
                panic!("decoded {out:?}");
            };
            assert!(
                text.bytes().all(|b| b == b'a' + (*key % 26) as u8),
                "a mangled text"
            );
            let again = rows.insert(*key, (version.tid, *n, text.len()));
            assert_eq!(again, None, "row {key} twice");
        }
        rows
    }

    fn vacuum(&self) {
        let options = VacuumOptions {
            freeze_before: self.txns.next_xid(),
            max_dead: 100,
        };
        let mut vacuum = Vacuum::new(self.cx(), &self.rel, options).expect("vacuum");
        while vacuum
            .step::<TableError>(self.cx(), &mut |_| Ok(()))
            .expect("step")
            == VacuumStep::More
        {}
    }
}

/// As recovery does before it replays.
fn cut_to_pages(disk: &SimDisk) {
    let dir = Path::new("base/5");
    for (name, _) in disk.list(dir).expect("listed") {
        let file = disk.open(&dir.join(name), Access::ReadWrite);
        let file = file.expect("it was listed");
        let len = file.len().expect("its length");
        file.set_len(len - len % PAGE_SIZE as u64).expect("cut");
    }
}

fn row(key: i32, n: i32, len: usize) -> Vec<Datum> {
    let text = char::from(b'a' + (key % 26) as u8).to_string().repeat(len);
    vec![Datum::Int4(key), Datum::Int4(n), Datum::text(&text)]
}

/// A transaction of some changes; `rows` becomes what the table holds if it commits.
fn change(server: &Server, random: &mut StdRng, rows: &mut Rows) -> crate::txn::Transaction {
    let (cx, rel) = (server.cx(), &server.rel);
    let mut txn = server.txns.begin(options(), session());
    for _ in 0..random.random_range(1..6) {
        let xid = server.txns.xid(&mut txn).expect("xid");
        let cid = txn.command_id();
        let snapshot = server.txns.snapshot(&txn);
        let key = random.random_range(0..120);
        let n = random.random_range(0..1000);
        let len = match random.random_range(0..12) {
            0 => random.random_range(2500..20_000),
            _ => random.random_range(0..200),
        };
        let done = match rows.get(&key).copied() {
            None => {
                let tid = insert(cx, rel, &row(key, n, len), xid, cid).expect("insert");
                rows.insert(key, (tid, n, len));
                continue_command(&mut txn);
                continue;
            }
            Some((tid, ..)) if random.random_bool(0.2) => {
                rows.remove(&key);
                delete(cx, rel, tid, xid, cid, &snapshot).expect("delete")
            }
            Some((tid, _, len)) => {
                let values = row(key, n, len);
                let done = update(cx, rel, tid, &values, xid, cid, &snapshot).expect("update");
                if let Modified::Done { tid, .. } = done {
                    rows.insert(key, (tid, n, len));
                }
                done
            }
        };
        assert!(matches!(done, Modified::Done { .. }), "{done:?}");
        continue_command(&mut txn);
    }
    txn
}

fn continue_command(txn: &mut crate::txn::Transaction) {
    txn.next_command().expect("next command");
}

/// Runs transactions and keeps what the disk was like before some of the syncs.
fn run(seed: u64) -> Vec<(Frozen, Rows, Option<Rows>)> {
    let disk = SimDisk::new();
    let server = Server::create(&disk);
    let ledger = Ledger::default();
    let kept: Arc<Mutex<Vec<(Frozen, Rows, Option<Rows>)>>> = Arc::default();
    {
        let (ledger, kept) = (ledger.clone(), kept.clone());
        let random = Mutex::new(StdRng::seed_from_u64(seed ^ 1));
        disk.on_sync(move |frozen| {
            if random.lock().random_bool(0.15) {
                let (told, under_way) = ledger.lock().clone();
                kept.lock().push((frozen.clone(), told, under_way));
            }
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..150 {
        let mut rows = ledger.lock().0.clone();
        let txn = change(&server, &mut random, &mut rows);
        if random.random_bool(0.15) {
            server.txns.abort(txn);
        } else {
            ledger.lock().1 = Some(rows.clone());
            let commit = server.txns.commit(txn, CommitLevel::Local);
            runtime.block_on(commit).expect("committed");
            *ledger.lock() = (rows, None);
        }
        if round % 40 == 39 {
            server.vacuum();
        }
        if round % 25 == 24 {
            let pool = &server.store.pool;
            pool.write_dirty(Lsn::MAX, &mut |_| Flow::Continue)
                .expect("written");
        }
    }
    disk.clear_on_sync();
    server.store.wal.stop();
    let kept = std::mem::take(&mut *kept.lock());
    assert!(kept.len() > 5, "only {} syncs were looked at", kept.len());
    kept
}

fn check(image: &SimDisk, told: &Rows, under_way: Option<&Rows>, name: &str) {
    let server = Server::recover(image);
    let reader = server.txns.begin(options(), session());
    let snapshot = server.txns.snapshot(&reader);
    let rows = server.rows(&snapshot);
    assert!(
        rows == *told || Some(&rows) == under_way,
        "{name}: other rows than were acknowledged"
    );
    assert_eq!(
        check_heap(server.cx(), &server.rel).expect("check"),
        [],
        "{name}"
    );
    drop(snapshot);
    // And life goes on, with a free space map that may be torn.
    let mut random = StdRng::seed_from_u64(5);
    let mut rows = rows;
    let txn = change(&server, &mut random, &mut rows);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime
        .block_on(server.txns.commit(txn, CommitLevel::Local))
        .expect("committed");
    server.vacuum();
    let snapshot = server.txns.snapshot(&reader);
    assert_eq!(
        server.rows(&snapshot),
        rows,
        "{name}: after a new transaction"
    );
    assert_eq!(
        check_heap(server.cx(), &server.rel).expect("check"),
        [],
        "{name}"
    );
    drop(snapshot);
    server.store.wal.stop();
}

#[test]
fn acknowledged_rows_survive_power_cuts_at_any_sync() {
    for seed in 0..3 {
        let mut random = StdRng::seed_from_u64(seed ^ 77);
        for (number, (frozen, told, under_way)) in run(seed).iter().enumerate() {
            let n = frozen.pending();
            for attempt in 0..3 {
                let keep: Vec<bool> = match attempt {
                    0 => vec![false; n],
                    _ => (0..n).map(|_| random.random()).collect(),
                };
                let image = frozen.image(|i| keep[i]);
                let name = format!("seed {seed}, sync {number}, attempt {attempt}");
                check(&image, told, under_way.as_ref(), &name);
            }
        }
    }
}
