//! Streaming standbys, promotion, restartpoints.

use super::*;

/// A stream from a primary in the same process.
struct Pipe {
    primary: Mutex<Option<Arc<Store>>>,
    standby: Arc<Store>,
    state: Arc<RecoveryState>,
    worker: Mutex<Option<(Arc<AtomicBool>, std::thread::JoinHandle<()>)>>,
    now: Arc<Mutex<UpstreamState>>,
}

impl Pipe {
    fn new(primary: &Arc<Store>, standby: &Node) -> Arc<Pipe> {
        Arc::new(Pipe {
            primary: Mutex::new(Some(primary.clone())),
            standby: standby.store.clone(),
            state: standby.state.clone(),
            worker: Mutex::new(None),
            now: Arc::new(Mutex::new(UpstreamState::Stopped)),
        })
    }
    fn connect(&self, primary: &Arc<Store>) {
        *self.primary.lock() = Some(primary.clone());
    }
}

impl Upstream for Pipe {
    fn is_configured(&self) -> bool {
        true
    }
    fn stream(&self, from: Lsn, timeline: TimelineId) {
        self.stop();
        *self.now.lock() = UpstreamState::Connecting;
        let Some(primary) = self.primary.lock().clone() else {
            *self.now.lock() = UpstreamState::Failed;
            return;
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, now) = (stop.clone(), self.now.clone());
        let (standby, state) = (self.standby.clone(), self.state.clone());
        let thread = std::thread::spawn(move || {
            let outcome = feed(&primary, &standby, &state, from, timeline, &stopped);
            *now.lock() = outcome;
            state.wake();
        });
        *self.worker.lock() = Some((stop, thread));
    }
    fn stop(&self) {
        if let Some((stop, thread)) = self.worker.lock().take() {
            stop.store(true, Ordering::SeqCst);
            thread.join().expect("the stream ended");
        }
        *self.now.lock() = UpstreamState::Stopped;
    }
    fn state(&self) -> UpstreamState {
        *self.now.lock()
    }
}

fn feed(
    primary: &Arc<Store>,
    standby: &Arc<Store>,
    state: &Arc<RecoveryState>,
    from: Lsn,
    timeline: TimelineId,
    stop: &AtomicBool,
) -> UpstreamState {
    let (for_wal, for_state) = (standby.wal.clone(), state.clone());
    let mut out = ReceivedSegments::new(
        standby.wal.segments().clone(),
        false,
        Box::new(move |timeline, from, upto| {
            for_wal.recovery_advance(timeline, upto);
            for_state.received(timeline, from, upto);
        }),
    );
    let history = primary.wal.history().expect("a primary");
    for ancestor in history.ancestors() {
        let timeline = ancestor.timeline;
        assert!(timeline < history.timeline());
    }
    if history.timeline() > TimelineId::FIRST {
        out.put_history(history.timeline(), history.to_text().as_bytes())
            .expect("stored");
    }
    if !history.contains(timeline) {
        return UpstreamState::Failed;
    }
    let end = history.end_of(timeline).unwrap_or(Lsn::MAX);
    let mut at = from;
    let mut buf = vec![0; 10_000];
    while !stop.load(Ordering::SeqCst) {
        if at >= end {
            return UpstreamState::EndOfTimeline;
        }
        let upto = primary.wal.flush_lsn().min(end);
        let n = (upto.saturating_sub(at) as usize).min(buf.len());
        if n == 0 {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let n = primary
            .wal
            .read_flushed(at, &mut buf[..n])
            .expect("readable");
        out.write(timeline, at, &buf[..n]).expect("written");
        out.sync().expect("synced");
        at = at.advance(n as u64);
    }
    UpstreamState::Failed
}

/// A standby's replay in a thread of its own.
struct Standby {
    node: Node,
    pipe: Arc<Pipe>,
    thread: std::thread::JoinHandle<Result<Outcome, RecoveryError>>,
}

fn start_standby(disk: &SimDisk, primary: &Arc<Store>) -> Standby {
    let node = Node::new(disk, 64);
    let pipe = Pipe::new(primary, &node);
    let wishes = Wishes {
        mode: Mode::Standby,
        request_file: Some("standby.signal"),
        upstream: Some(pipe.clone()),
        ..Wishes::default()
    };
    let startup = startup(&node.store, &node.rooms, &node.state, wishes);
    let thread = std::thread::spawn(move || startup.run());
    Standby { node, pipe, thread }
}

impl Standby {
    fn wait_replayed(&self, lsn: Lsn) {
        wait_for(&format!("replay of {lsn}"), || {
            self.node.state.replay_lsn() >= lsn
        });
    }
    fn stop(self) -> Node {
        self.node.state.request_stop();
        let ended = self.thread.join().expect("no panic");
        assert!(
            matches!(ended, Err(RecoveryError::Interrupted)),
            "{ended:?}"
        );
        self.pipe.stop();
        self.node
    }
    fn promote(self) -> (Node, Outcome) {
        self.node.state.request_promotion();
        let outcome = self.thread.join().expect("no panic").expect("promoted");
        (self.node, outcome)
    }
}

fn copy_for_standby(disk: &SimDisk) -> SimDisk {
    let copy = disk.crash();
    durable::replace(&copy, Path::new("standby.signal"), b"").expect("written");
    copy
}

#[test]
fn a_standby_follows_is_promoted_and_is_followed_over_the_switch() {
    let disk = initialise();
    let (primary, _) = Node::start(&disk, 64).expect("starts");
    let (one, two) = (copy_for_standby(&disk), copy_for_standby(&disk));
    let first = start_standby(&one, &primary.store);
    let second = start_standby(&two, &primary.store);
    let mut end = Lsn::INVALID;
    for i in 1..=300_u64 {
        end = primary.set((i % u64::from(PAGES)) as u32, i);
        if i % 50 == 0 {
            primary.store.wal.set_redo_point(|_| {});
        }
    }
    primary.flush(end);
    first.wait_replayed(end);
    second.wait_replayed(end);
    assert_eq!(first.node.counters(), primary.counters());
    assert_eq!(first.node.state.phase(), Phase::Consistent);
    assert!(
        first.node.store.wal.flush_lsn() >= end,
        "what is received can be sent on"
    );
    let expected = primary.counters();
    primary.abandon();
    let (promoted, outcome) = first.promote();
    assert_eq!(
        (outcome.kind, outcome.timeline),
        (OutcomeKind::Promoted, TimelineId::new(2))
    );
    assert!(
        !promoted
            .disk
            .exists(Path::new("standby.signal"))
            .expect("asked")
    );
    assert_eq!(promoted.counters(), expected);
    let history = durable::read(&promoted.disk, Path::new("pg_wal/00000002.history"));
    let history = String::from_utf8(history.expect("written")).expect("text");
    assert_eq!(history, format!("1\t{end}\tno recovery target specified\n"));
    second.pipe.stop();
    second.pipe.connect(&promoted.store);
    *second.pipe.now.lock() = UpstreamState::Failed;
    let after = promoted.set(3, 4242);
    promoted.flush(after);
    second.wait_replayed(after);
    assert_eq!(second.node.counters(), promoted.counters());
    assert_eq!(second.node.state.replay_timeline(), TimelineId::new(2));
    let control = promoted.store.control.get();
    assert_eq!(control.state, ClusterState::InProduction);
    // Restarts of both at once, the promoted one by a crash before its first checkpoint.
    let crashed = promoted.disk.crash();
    let counters = promoted.counters();
    promoted.abandon();
    let (again, outcome) = Node::start(&crashed, 64).expect("recovers");
    assert_eq!(
        (outcome.kind, outcome.timeline),
        (OutcomeKind::Crash, TimelineId::new(2))
    );
    assert_eq!(again.counters(), counters);
    let node = second.stop();
    node.checkpointer.end_thread();
    let restarted = start_standby(&two, &again.store);
    let after = again.set(5, 77);
    again.flush(after);
    restarted.wait_replayed(after);
    assert_eq!(restarted.node.counters(), again.counters());
    restarted.stop().checkpointer.end_thread();
    again.abandon();
}

/// It was about to become timeline 2 and crashed before it had logged anything there; another became timeline 3.
#[test]
fn a_standby_whose_own_promotion_came_to_nothing_follows_another() {
    let disk = initialise();
    let (primary, _) = Node::start(&disk, 64).expect("starts");
    let mut end = Lsn::INVALID;
    for i in 1..=30_u64 {
        end = primary.set((i % u64::from(PAGES)) as u32, i);
    }
    primary.flush(end);
    let (crashed, other) = (copy_for_standby(&disk), copy_for_standby(&disk));
    let own = History::root(TimelineId::FIRST).fork(TimelineId::new(2), end, "a test");
    let path = Path::new("pg_wal").join(TimelineId::new(2).history_file_name());
    durable::replace(&crashed, &path, own.to_text().as_bytes()).expect("written");
    let standby = start_standby(&crashed, &primary.store);
    standby.wait_replayed(end);
    primary.abandon();
    standby.pipe.stop();
    *standby.pipe.now.lock() = UpstreamState::Failed;

    let (promoted, outcome) =
        promotion::promote(&other, Some(TimelineId::new(3))).expect("promoted");
    assert_eq!(outcome.timeline, TimelineId::new(3));
    standby.pipe.connect(&promoted.store);
    let after = promoted.set(3, 4242);
    promoted.flush(after);
    standby.wait_replayed(after);
    assert_eq!(standby.node.counters(), promoted.counters());
    assert_eq!(
        standby.node.state.replay_timeline(),
        TimelineId::new(3),
        "its own timeline is forgotten"
    );
    for (node, first) in [(&standby.node, 2), (&promoted, 1)] {
        let told = [TimelineId::new(first), TimelineId::new(3)];
        assert_eq!(*node.rooms.followed.lock(), told);
    }
    standby.stop().abandon();
    promoted.abandon();
}

#[test]
fn restartpoints_move_the_place_where_a_standby_begins_again() {
    let disk = initialise();
    let (primary, _) = Node::start(&disk, 64).expect("starts");
    let copy = copy_for_standby(&disk);
    let standby = start_standby(&copy, &primary.store);
    for i in 1..=100_u64 {
        primary.set((i % u64::from(PAGES)) as u32, i);
    }
    let done = primary.checkpoint().expect("made");
    standby.wait_replayed(done.end);
    let before = standby.node.store.control.get();
    let made = standby.node.checkpoint().expect("a restartpoint");
    assert_eq!(made.lsn, done.lsn);
    let after = standby.node.store.control.get();
    assert!(after.checkpoint > before.checkpoint);
    assert!(after.min_recovery_point >= done.end);
    assert_eq!(after.state, ClusterState::InArchiveRecovery);
    assert!(
        standby.node.checkpoint().is_none(),
        "there is no newer checkpoint"
    );
    let redo = standby.node.store.wal.redo_point();
    assert_eq!(
        redo, after.checkpoint_copy.redo,
        "a promotion would leave pages without images"
    );
    let crashed = copy.crash();
    standby.stop().checkpointer.end_thread();
    let again = start_standby(&crashed, &primary.store);
    let end = primary.set(1, 999);
    primary.flush(end);
    again.wait_replayed(end);
    assert_eq!(again.node.counters(), primary.counters());
    again.stop().checkpointer.end_thread();
    primary.abandon();
}

/// Pages that a copy of a standby has by halves are healed by the primary's images alone.
#[tokio::test]
async fn a_standby_takes_no_backup_of_what_was_logged_without_images() {
    let disk = initialise();
    let (primary, _) = Node::start(&disk, 64).expect("starts");
    let copy = copy_for_standby(&disk);
    let standby = start_standby(&copy, &primary.store);
    let backups = Backups::new(
        standby.node.store.clone(),
        standby.node.state.clone(),
        standby.node.checkpointer.clone(),
    );
    let follow = |value| {
        let end = primary.set(1, value);
        primary.flush(end);
        standby.wait_replayed(end);
        end
    };
    follow(1);
    let started = backups.start("with images", true).await.expect("begun");
    primary.store.wal.set_full_page_writes(false);
    follow(2);
    let ended = backups.stop(&started, false).await;
    assert!(matches!(ended, Err(BackupError::NoImagesDuring)));
    let refused = backups.start("without", true).await;
    assert!(matches!(refused, Err(BackupError::NoImagesSince)));
    // On again, but what the standby begins from was logged without.
    primary.store.wal.set_full_page_writes(true);
    follow(3);
    let refused = backups.start("too early", true).await;
    assert!(matches!(refused, Err(BackupError::NoImagesSince)));
    let done = primary.checkpointer.checkpoint(CheckpointKind::Immediate);
    let done = done.await.expect("a checkpoint").expect("made");
    standby.wait_replayed(done.end);
    let started = backups.start("again", true).await.expect("begun");
    let end = follow(4);
    let stopped = backups.stop(&started, false).await.expect("ended");
    // Whatever its files ask for, it comes with all the log that there is.
    assert!(stopped.end >= end, "{} is before {end}", stopped.end);
    standby.stop().checkpointer.end_thread();
    primary.abandon();
}

/// What a copy of a standby is replayed from is the redo point: what was switched on behind it heals nothing before.
#[test]
fn a_checkpoint_says_of_images_what_was_so_at_its_redo_point() {
    let disk = initialise();
    let (node, _) = Node::start(&disk, 64).expect("starts");
    for (at_redo, later) in [(false, true), (true, false)] {
        node.store.wal.set_full_page_writes(at_redo);
        let wal = Arc::clone(&node.store.wal);
        *node.rooms.at_flush.lock() = Some(Box::new(move || wal.set_full_page_writes(later)));
        let done = node.checkpoint().expect("made");
        assert_eq!(done.checkpoint.full_page_writes, at_redo);
        assert_eq!(node.store.wal.full_page_writes(), later);
    }
    node.abandon();
}

/// Without images from the first record on: a start says so as well.
#[test]
fn a_start_without_images_says_so_in_the_log() {
    let disk = initialise();
    let node = Node::new(&disk, 64);
    node.store.wal.set_full_page_writes(false);
    let outcome = startup(&node.store, &node.rooms, &node.state, Wishes::default()).run();
    outcome.expect("starts");
    let copy = copy_for_standby(&disk);
    let standby = start_standby(&copy, &node.store);
    let end = node.set(1, 1);
    node.flush(end);
    standby.wait_replayed(end);
    assert!(standby.node.state.images_off().is_valid());
    standby.stop().checkpointer.end_thread();
    node.abandon();
}

/// A restart that stopped before what a page in its file has seen would show something that never was.
#[test]
fn a_standby_writes_no_page_that_its_minimum_recovery_point_does_not_cover() {
    let disk = initialise();
    let (primary, _) = Node::start(&disk, 64).expect("starts");
    let copy = copy_for_standby(&disk);
    let standby = start_standby(&copy, &primary.store);
    let mut end = Lsn::INVALID;
    for i in 1..=50_u64 {
        end = primary.set((i % u64::from(PAGES)) as u32, i);
    }
    primary.flush(end);
    standby.wait_replayed(end);
    let store = &standby.node.store;
    assert!(store.control.get().min_recovery_point < end);
    let mut on = |_| crate::storage::Flow::Continue;
    store.pool.write_dirty(Lsn::MAX, &mut on).expect("written");
    let control = ControlFile::open(Arc::new(copy.crash())).expect("pg_control");
    let minimum = control.get().min_recovery_point;
    assert!(minimum >= end, "{minimum} is before {end}");
    standby.stop().checkpointer.end_thread();
    primary.abandon();
}
