//! Redo of the rooms below: transactions and relation files.

use super::*;
use crate::table::files;
use crate::txn::{
    CommitLevel, Interrupts, Isolation, Outcome as Ending, RecoveryStart, ReleasePolicy,
    Transaction, TxnConfig, TxnManager, TxnOptions,
};

struct TxnRooms(Arc<TxnManager>);

impl Participant for TxnRooms {
    fn oldest_running_xid(&self) -> u32 {
        let oldest = self.0.oldest_running_xid();
        if oldest < self.0.next_xid() {
            oldest.low()
        } else {
            0
        }
    }
    fn next_xid(&self) -> Xid {
        self.0.next_xid()
    }
    fn next_oid(&self) -> Oid {
        Oid::FIRST_NORMAL
    }
    fn flush(&self, _redo: Lsn) -> io::Result<()> {
        self.0.checkpoint()
    }
    fn begin_recovery(&self, checkpoint: &CheckPoint) {
        let start = RecoveryStart {
            next_xid: checkpoint.next_xid,
            oldest_active_xid: checkpoint.oldest_active_xid,
            redo: checkpoint.redo,
        };
        self.0.begin_recovery(start, None);
    }
    fn saw_xid(&self, xid_low: u32) {
        self.0.saw_xid(xid_low);
    }
    fn saw_checkpoint(&self, checkpoint: &CheckPoint, shutdown: bool) {
        if shutdown {
            self.0.primary_restarted(checkpoint.next_xid);
        }
    }
    fn saw_end_of_recovery(&self, _at: Lsn) {
        self.0.primary_restarted(self.0.next_xid());
    }
    fn saw_next_oid(&self, _next: Oid) {}
    fn replayed(&self, replayed: Lsn) {
        self.0.replayed(replayed);
    }
    fn end_recovery(&self, _end: Lsn) -> io::Result<()> {
        Ok(())
    }
    fn begin_writing(&self, end_of_recovery: Lsn) {
        self.0.release().set_policy(ReleasePolicy::Local);
        self.0.finish_recovery(end_of_recovery);
    }
}

struct Database {
    store: Arc<Store>,
    txns: Arc<TxnManager>,
    outcome: Outcome,
    checkpointer: Checkpointer,
}

fn session() -> Arc<Interrupts> {
    Interrupts::new(crate::ids::ProcessId::MIN)
}

fn start(disk: &SimDisk, first: bool) -> Database {
    let store = open_store(disk, 64);
    let txns = Arc::new(TxnManager::new(store.clone(), TxnConfig::default()));
    if first {
        txns.create_commit_log().expect("pg_xact");
    }
    let state = Arc::new(RecoveryState::default());
    let participant = Arc::new(TxnRooms(txns.clone()));
    let checkpointer = Checkpointer::start(
        store.clone(),
        state.clone(),
        participant.clone(),
        Arc::new(KeepNothing),
        Arc::new(checkpoint_settings),
    );
    let conflicts = ReplayConflicts {
        state: state.clone(),
        startup: session(),
        delay: Arc::new(|_| None),
        is_in: Arc::new(|_, _| false),
    };
    let outcome = Startup::new(StartupConfig {
        store: store.clone(),
        redo: redo_table(&txns, &conflicts),
        participant,
        state,
        mode: Mode::Primary,
        request_file: None,
        settings: RecoverySettings::default(),
        archive: None,
        upstream: None,
        trigger: None,
    })
    .run()
    .expect("starts");
    Database {
        store,
        txns,
        outcome,
        checkpointer: checkpointer.expect("thread"),
    }
}

impl Database {
    fn begin(&self) -> Transaction {
        let options = TxnOptions {
            isolation: Isolation::ReadCommitted,
            read_only: false,
            deferrable: false,
            database: Oid::new(5),
        };
        self.txns.begin(options, session())
    }
    /// A transaction that has made a file.
    fn make(&self, number: u32) -> (Transaction, Xid, RelFile) {
        let file = RelFile::of_database(Oid::new(5), Oid::new(number));
        let mut txn = self.begin();
        let xid = self.txns.xid(&mut txn).expect("room");
        files::create(&self.store, &mut txn, xid, file).expect("made");
        (txn, xid, file)
    }
    fn has(&self, file: RelFile) -> bool {
        self.store.files.exists(file, Fork::Main).expect("asked")
    }
    fn end(self) {
        self.checkpointer.end_thread();
        self.store.wal.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_and_files_are_those_of_the_log_after_a_crash() {
    let disk = initialise();
    let db = start(&disk, true);
    assert_eq!(db.outcome.kind, OutcomeKind::Clean);
    let (kept, committed, kept_file) = db.make(20001);
    db.txns
        .commit(kept, CommitLevel::On)
        .await
        .expect("committed");
    let (given_up, aborted, aborted_file) = db.make(20002);
    db.txns.abort(given_up);
    let mut dropper = db.begin();
    db.txns.xid(&mut dropper).expect("room");
    let (made, _, dropped_file) = db.make(20003);
    db.txns
        .commit(made, CommitLevel::On)
        .await
        .expect("committed");
    files::drop_at_commit(&mut dropper, dropped_file);
    db.txns
        .commit(dropper, CommitLevel::On)
        .await
        .expect("committed");
    let checkpoint = db.checkpointer.checkpoint(CheckpointKind::Immediate).await;
    checkpoint
        .expect("a checkpoint")
        .expect("something was logged");
    let (later, after, after_file) = db.make(20004);
    db.txns
        .commit(later, CommitLevel::On)
        .await
        .expect("committed");
    let (unfinished, running, running_file) = db.make(20005);
    // It ends neither way: its server dies.
    std::mem::forget(unfinished);
    db.store.wal.flushed(db.store.wal.end_lsn()).await;
    let next = db.txns.next_xid();
    let crashed = disk.crash();
    db.end();
    for round in 0..2 {
        let db = start(&crashed, false);
        assert_eq!(db.outcome.kind, OutcomeKind::Crash, "round {round}");
        for (xid, committed) in [
            (committed, true),
            (aborted, false),
            (after, true),
            (running, false),
        ] {
            let outcome = db.txns.outcome(xid);
            assert_eq!(
                matches!(outcome, Ending::Committed { .. }),
                committed,
                "{xid}: {outcome:?}"
            );
            assert!(!matches!(outcome, Ending::InProgress), "{xid}");
        }
        for (file, there) in [
            (kept_file, true),
            (aborted_file, false),
            (dropped_file, false),
            (after_file, true),
            (running_file, false),
        ] {
            assert_eq!(db.has(file), there, "round {round}: {file}");
        }
        assert!(db.txns.next_xid() >= next, "an xid would be used twice");
        db.end();
    }
}
