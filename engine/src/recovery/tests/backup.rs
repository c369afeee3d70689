//! Backups, archives, the archiver.

use super::*;
use crate::ids::SegmentNumber;
use crate::io::sim::{Fault, Operation};
use crate::recovery::source::{SourceParts, StandbySource};
use crate::wal::Segments;

/// An archive in memory.
#[derive(Default)]
struct MemoryArchive {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    disk: Mutex<Option<SimDisk>>,
    asked: Mutex<Vec<String>>,
}

impl ArchiveShell for MemoryArchive {
    fn restore(&self, file: &str, target: &Path, _oldest_kept: &str) -> io::Result<bool> {
        self.asked.lock().push(file.to_owned());
        let Some(bytes) = self.files.lock().get(file).cloned() else {
            return Ok(false);
        };
        let disk = self.disk.lock().clone().expect("a disk is set");
        durable::replace(&disk, target, &bytes)?;
        Ok(true)
    }
}

fn archive_of(node: &Node) -> MemoryArchive {
    let archive = MemoryArchive::default();
    for (timeline, segment) in node.store.wal.segments().list().expect("listed") {
        let path = node.store.wal.segments().path(timeline, segment);
        let bytes = durable::read(&node.disk, &path).expect("read");
        archive
            .files
            .lock()
            .insert(segment.file_name(timeline, SEGMENT), bytes);
    }
    archive
}

#[test]
fn a_backup_is_completed_from_the_archive() {
    let disk = initialise();
    let (primary, _) = Node::start(&disk, 64).expect("starts");
    primary.store.wal.force_full_page_writes(true);
    let start = primary.checkpoint().expect("made");
    for i in 1..=40_u64 {
        primary.set((i % u64::from(PAGES)) as u32, i);
    }
    // The copy is taken while pages go to disk, and has pg_control from before.
    let copy = disk.crash();
    let label = backup_label::BackupLabel {
        start: start.checkpoint.redo,
        checkpoint: start.lsn,
        streamed: true,
        from_standby: false,
        start_time: "now".to_owned(),
        label: "test".to_owned(),
        timeline: TimelineId::FIRST,
    };
    durable::replace(
        &copy,
        Path::new("backup_label"),
        label.to_text(SEGMENT).as_bytes(),
    )
    .expect("written");
    durable::replace(&copy, Path::new("recovery.conf"), b"").expect("written");
    let main = xlog_records::encode_backup_end(start.checkpoint.redo);
    let record = Record {
        rmgr: RmgrId::XLOG,
        info: xlog_records::BACKUP_END,
        xid: Xid::INVALID,
        main: &main,
        blocks: &[],
    };
    let before_end = archive_of(&primary);
    primary.store.wal.insert(&record);
    primary.set(2, 1000);
    primary.store.wal.switch_segment();
    primary.flush(primary.store.wal.end_lsn());
    let expected = primary.counters();
    let archive = Arc::new(archive_of(&primary));
    primary.abandon();
    remove_segments(&copy);
    let incomplete = copy.crash();
    let failed = recover_from_archive(&incomplete, Arc::new(before_end));
    assert!(matches!(
        failed,
        Err(RecoveryError::EndsBeforeBackupEnd { required: true })
    ));
    let (node, outcome) = recover_from_archive(&copy, archive).expect("recovers");
    assert_eq!(
        (outcome.kind, outcome.timeline),
        (OutcomeKind::Promoted, TimelineId::new(2))
    );
    assert_eq!(node.counters(), expected);
    for (name, wanted) in [
        ("backup_label", false),
        ("backup_label.old", true),
        ("recovery.conf", false),
        ("recovery.done", true),
    ] {
        assert_eq!(
            copy.exists(Path::new(name)).expect("asked"),
            wanted,
            "{name}"
        );
    }
    node.abandon();
}

fn remove_segments(disk: &SimDisk) {
    for (name, _) in disk.list(Path::new("pg_wal")).expect("listed") {
        if name.len() == 24 {
            durable::remove(disk, &Path::new("pg_wal").join(name)).expect("removed");
        }
    }
}

fn recover_from_archive(
    disk: &SimDisk,
    archive: Arc<MemoryArchive>,
) -> Result<(Node, Outcome), RecoveryError> {
    *archive.disk.lock() = Some(disk.clone());
    let node = Node::new(disk, 64);
    let wishes = Wishes {
        mode: Mode::Archive,
        request_file: Some("recovery.conf"),
        archive: Some(archive),
        ..Wishes::default()
    };
    match startup(&node.store, &node.rooms, &node.state, wishes).run() {
        Ok(outcome) => Ok((node, outcome)),
        Err(error) => {
            node.checkpointer.end_thread();
            Err(error)
        }
    }
}

/// A server that dies while it archives its timeline's history leaves half of one, for ever.
#[test]
fn half_a_history_in_the_archive_hides_no_later_timeline() {
    let disk = SimDisk::new();
    disk.create_dir(Path::new("pg_wal")).expect("new");
    let archive = Arc::new(MemoryArchive::default());
    *archive.disk.lock() = Some(disk.clone());
    let put = |timeline: u32, text: &str| {
        let name = TimelineId::new(timeline).history_file_name();
        archive.files.lock().insert(name, text.as_bytes().to_vec());
    };
    put(2, "1\t0/30");
    put(3, "1\t0/3000100\tpromoted\n");
    let log = Segments::new(Arc::new(disk), "pg_wal".into(), SEGMENT, SYSTEM);
    let source = StandbySource::new(SourceParts {
        segments: Arc::new(log),
        state: Arc::new(RecoveryState::default()),
        archive: Some(archive.clone()),
        upstream: None,
        standby: true,
        target: TargetTimeline::Latest,
        retry_interval: Duration::ZERO,
        oldest_kept: String::new(),
        archive_too: false,
        history: History::root(TimelineId::FIRST),
    });
    let newest = || source.newest_timeline(TimelineId::FIRST).expect("asked");
    let third = TimelineId::new(3);
    assert_eq!(newest(), Some(third));
    let history = source.read_history(third).expect("whole");
    assert_eq!(history.map(|h| h.timeline()), Some(third));
    // One that has garbage under every name is not asked for ever. The numbers are taken.
    (4..100).for_each(|timeline| put(timeline, "garbage"));
    let before = archive.asked.lock().len();
    assert!(newest() > Some(third));
    let asked = archive.asked.lock().len() - before;
    assert!(asked < 10, "{asked}");
}

fn backups(node: &Node) -> Backups {
    Backups::new(
        node.store.clone(),
        node.state.clone(),
        node.checkpointer.clone(),
    )
}

#[tokio::test]
async fn a_backup_from_start_to_stop_makes_a_copy_that_recovers() {
    let disk = initialise();
    let (node, _) = Node::start(&disk, 64).expect("starts");
    let backups = backups(&node);
    node.set(1, 1);
    let started = backups.start("a label", true).await.expect("begun");
    assert_eq!(backups.keep_from(), Some(started.label.start));
    assert!(
        started
            .text
            .contains("BACKUP METHOD: streamed\nBACKUP FROM: primary\n")
    );
    node.set(2, 2);
    let copy = disk.crash();
    node.set(3, 3);
    let stopped = backups.stop(&started, true).await.expect("ended");
    assert_eq!(backups.keep_from(), None);
    node.set(4, 4);
    let expected = [0, 1, 2, 3];
    let archive = Arc::new(archive_of(&node));
    let names = disk.list(Path::new("pg_wal")).expect("listed");
    assert!(
        names.iter().any(|(name, _)| name.ends_with(".backup")),
        "{names:?}"
    );
    node.abandon();
    durable::replace(
        &copy,
        Path::new("backup_label"),
        stopped.label_text.as_bytes(),
    )
    .expect("put");
    durable::replace(&copy, Path::new("recovery.conf"), b"").expect("put");
    let (again, _) = recover_from_archive(&copy, archive).expect("recovers");
    assert_eq!(again.counters()[..4], expected);
    again.abandon();
}

#[tokio::test]
async fn the_log_of_a_backup_stays_while_somebody_sends_it() {
    let disk = initialise();
    let (node, _) = Node::start(&disk, 64).expect("starts");
    let backups = backups(&node);
    let started = backups.start("a label", true).await.expect("begun");
    let from = started.label.start;
    let sending = backups.hold_log(from);
    let also_sending = backups.hold_log(from);
    backups.stop(&started, false).await.expect("ended");
    assert_eq!(backups.keep_from(), Some(from));
    drop(also_sending);
    assert_eq!(backups.keep_from(), Some(from));
    drop(sending);
    assert_eq!(backups.keep_from(), None);
    node.abandon();
}

#[tokio::test]
async fn an_exclusive_backup_survives_a_crash_of_its_server_and_guards_its_copy() {
    let disk = initialise();
    let (node, _) = Node::start(&disk, 64).expect("starts");
    let backups = backups(&node);
    backups
        .start_exclusive("by hand", true)
        .await
        .expect("begun");
    let twice = backups.start_exclusive("again", true).await;
    assert!(matches!(twice, Err(BackupError::InProgress)));
    let end = node.set(1, 11);
    node.flush(end);
    let crashed = disk.crash();
    // A copy whose pages are newer than its log: pages from now, log from then.
    let last = node.set(2, 22);
    node.flush(last);
    let checkpoint = node
        .checkpointer
        .checkpoint(CheckpointKind::Immediate)
        .await;
    checkpoint.expect("a checkpoint");
    let newer = disk.crash();
    backups.stop_exclusive(false).await.expect("ended");
    assert!(matches!(
        backups.stop_exclusive(false).await,
        Err(BackupError::NotInProgress)
    ));
    assert!(!disk.exists(Path::new("backup_label")).expect("asked"));
    node.abandon();
    let (again, outcome) = Node::start(&crashed, 64).expect("recovers");
    assert_eq!(outcome.kind, OutcomeKind::Crash);
    assert_eq!(again.get(1), 11);
    assert!(!crashed.exists(Path::new("backup_label")).expect("asked"));
    again.abandon();
    let table = Path::new("base/5/16384");
    let bytes = durable::read(&newer, table).expect("read");
    let torn = crashed_copy_with(&disk, &newer, table, &bytes, end);
    let error = Node::start(&torn, 64).err().expect("refused");
    assert!(
        matches!(error, RecoveryError::PageBeyondEnd { .. }),
        "{error}"
    );
}

/// A label that stayed would have the next crash replay from a log that nobody keeps.
#[tokio::test]
async fn a_label_that_fails_is_taken_back_and_one_that_can_not_go_is_kept() {
    let disk = initialise();
    let (node, _) = Node::start(&disk, 64).expect("starts");
    let backups = backups(&node);
    let fault = |operation, path: &str| {
        disk.inject(Fault {
            operation,
            path_contains: path.to_owned(),
            after: 0,
            error: io::ErrorKind::Other,
            stays: false,
        });
    };
    let started = backups.start("by hand", true).await.expect("begun");
    // So that nobody else syncs a directory now.
    let wal = &node.store.wal;
    wal.ensure_space().expect("the next segment is there");
    fault(Operation::SyncDir, "");
    let refused = backups.put_label(started);
    assert!(
        matches!(refused, Err(BackupError::Io { .. })),
        "{refused:?}"
    );
    let label = Path::new("backup_label");
    assert!(!disk.exists(label).expect("asked"));
    assert_eq!(backups.keep_from(), None);
    let start = backups.start_exclusive("again", true).await.expect("begun");
    fault(Operation::Remove, "backup_label");
    let refused = backups.stop_exclusive(false).await;
    assert!(
        matches!(refused, Err(BackupError::Io { .. })),
        "{refused:?}"
    );
    assert!(disk.exists(label).expect("asked"));
    assert_eq!(backups.keep_from(), Some(start));
    backups.stop_exclusive(false).await.expect("ended");
    assert!(!disk.exists(label).expect("asked"));
    node.abandon();
}

/// `newer` with its log cut at `end`, as a careless copy has it.
fn crashed_copy_with(
    _disk: &SimDisk,
    newer: &SimDisk,
    table: &Path,
    bytes: &[u8],
    end: Lsn,
) -> SimDisk {
    durable::replace(newer, table, bytes).expect("written");
    let name = end.segment(SEGMENT).file_name(TimelineId::FIRST, SEGMENT);
    let file = newer
        .open(
            &Path::new("pg_wal").join(name),
            crate::io::Access::ReadWrite,
        )
        .expect("the segment is there");
    let offset = end.segment_offset(SEGMENT);
    let rest = vec![0; (SEGMENT - offset) as usize];
    file.write_all_at(&rest, u64::from(offset)).expect("cut");
    newer.clone()
}

#[test]
fn the_archiver_archives_each_segment_once_and_keeps_what_fails() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let root = dir.path().join("data");
    let target = dir.path().join("archive");
    std::fs::create_dir_all(root.join("pg_wal/archive_status")).expect("made");
    std::fs::create_dir(&target).expect("made");
    let disk: DiskRef = Arc::new(crate::io::real::RealDisk::new(&root));
    let config = WalConfig {
        segment_size: SEGMENT,
        buffers: 256 * 1024,
        archiving: true,
        ..WalConfig::new(SYSTEM)
    };
    let wal = Wal::new(disk, config);
    let start = StartWriting {
        history: History::root(TimelineId::FIRST),
        end_of_log: Lsn::new(u64::from(SEGMENT)),
        last_record: Lsn::INVALID,
        aborted: None,
    };
    wal.begin_writing(start).expect("a new log");
    let state = Arc::new(RecoveryState::default());
    state.set_phase(Phase::Writing);
    let broken = Arc::new(AtomicBool::new(true));
    let (is_broken, to) = (broken.clone(), target.clone());
    let settings = move || ArchiverSettings {
        command: Some(if is_broken.load(Ordering::SeqCst) {
            "false".to_owned()
        } else {
            format!("test ! -f {0}/%f && cp %p {0}/%f", to.display())
        }),
        timeout: Duration::ZERO,
        always: false,
    };
    let archiver = Archiver::start(wal.clone(), state, root, Arc::new(settings)).expect("thread");
    let noop = Record {
        rmgr: RmgrId::XLOG,
        info: xlog_records::NOOP,
        xid: Xid::INVALID,
        main: &[],
        blocks: &[],
    };
    wal.insert(&noop);
    wal.switch_segment();
    wal.flush_blocking(wal.end_lsn());
    wait_for("a failure", || archiver.stats().failed_count > 0);
    let kept = wal
        .recycle_before(SegmentNumber::new(2), SegmentNumber::new(2))
        .expect("asked");
    assert_eq!(
        kept.removed + kept.recycled,
        0,
        "removed before it was archived"
    );
    broken.store(false, Ordering::SeqCst);
    wait_for("archiving", || archiver.stats().archived_count == 1);
    let name = "000000010000000000000001";
    let archived = std::fs::read(target.join(name)).expect("archived");
    assert_eq!(archived.len(), SEGMENT as usize);
    let done = wal
        .recycle_before(SegmentNumber::new(2), SegmentNumber::new(2))
        .expect("asked");
    assert_eq!(done.removed + done.recycled, 1);
    wal.insert(&noop);
    wal.switch_segment();
    wal.flush_blocking(wal.end_lsn());
    archiver.stop();
    assert_eq!(archiver.stats().archived_count, 2);
    wal.stop();
}
