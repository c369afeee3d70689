//! A promotion that a crash cuts short at any sync, and that is asked for again.
//!
//! Without a number given it is another promotion, to another timeline; with one it is the same again, because that
//! number belongs to one promotion for ever.

use super::*;

struct Asked(TimelineId);

impl Trigger for Asked {
    fn poll(&self) -> Option<Promotion> {
        Some(Promotion {
            timeline: Some(self.0),
        })
    }
}

/// Starts as the directory asks for: a standby is promoted at the end of what it has.
pub(super) fn promote(
    disk: &SimDisk,
    wanted: Option<TimelineId>,
) -> Result<(Node, Outcome), RecoveryError> {
    let node = Node::new(disk, 64);
    let signal = "standby.signal";
    let mut wishes = Wishes::default();
    if disk.exists(Path::new(signal)).expect("asked") {
        wishes.mode = Mode::Standby;
        wishes.request_file = Some(signal);
        match wanted {
            Some(wanted) => wishes.trigger = Some(Arc::new(Asked(wanted))),
            None => node.state.request_promotion(),
        }
        // A trigger file is looked for now and then; here at once.
        node.state.nudge();
    }
    let outcome = startup(&node.store, &node.rooms, &node.state, wishes).run();
    match outcome {
        Ok(outcome) => Ok((node, outcome)),
        Err(error) => {
            node.checkpointer.end_thread();
            Err(error)
        }
    }
}

/// A standby's directory with some log, and what its counters must be.
fn standby_with_log() -> (SimDisk, Vec<u64>, Lsn) {
    let disk = initialise();
    let (primary, _) = Node::start(&disk, 64).expect("starts");
    let mut end = Lsn::INVALID;
    for i in 1..=80_u64 {
        end = primary.set((i % u64::from(PAGES)) as u32, i);
        if i == 40 {
            primary.checkpoint();
        }
    }
    primary.flush(end);
    let expected = primary.counters();
    let copy = disk.crash();
    durable::replace(&copy, Path::new("standby.signal"), b"").expect("written");
    primary.abandon();
    (copy, expected, end)
}

/// The image is promoted, to the timeline that was wanted, has everything, and its log goes on.
fn check(image: &SimDisk, wanted: Option<TimelineId>, expected: &[u64], end: Lsn, name: &str) {
    let (node, outcome) = promote(image, wanted).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(node.counters(), expected, "{name}");
    let timeline = outcome.timeline;
    match wanted {
        Some(wanted) => assert_eq!(timeline, wanted, "{name}"),
        None => assert!(timeline > TimelineId::FIRST, "{name}: {timeline}"),
    }
    let history = node.store.wal.history().expect("it writes");
    let fork = history.end_of(TimelineId::FIRST);
    assert_eq!(fork, Some(end), "{name}: {}", history.to_text());
    let signal = Path::new("standby.signal");
    assert!(!image.exists(signal).expect("asked"), "{name}");
    let after = node.set(2, 555);
    node.flush(after);
    let crashed = image.crash();
    node.abandon();
    let again = Node::start(&crashed, 64);
    let (again, outcome) = again.unwrap_or_else(|e| panic!("{name}, restarted: {e}"));
    assert_eq!(outcome.timeline, timeline, "{name}, restarted");
    assert_eq!(again.get(2), 555, "{name}, restarted");
    again.abandon();
}

#[test]
fn a_promotion_cut_short_at_any_sync_is_done_again() {
    let (standby, expected, end) = standby_with_log();
    let mut images = 0;
    for wanted in [None, Some(TimelineId::new(7))] {
        let disk = standby.freeze().image(|_| true);
        let frozen = Arc::new(Mutex::new(Vec::new()));
        let keep = frozen.clone();
        disk.on_sync(move |state| keep.lock().push(state.clone()));
        let (node, outcome) = promote(&disk, wanted).expect("promoted");
        assert_eq!(outcome.kind, OutcomeKind::Promoted);
        node.checkpoint();
        disk.clear_on_sync();
        node.abandon();
        let moments = std::mem::take(&mut *frozen.lock());
        let soak = std::env::var_os("UNDERSTUDY_SOAK").is_some();
        for (number, state) in moments.iter().enumerate() {
            let choices = state.choices(17);
            // The last one is "all" or a random one, the first is "none".
            let step = if soak { 1 } else { choices.len() / 4 + 1 };
            let last = choices.len() - 1;
            for (i, choice) in choices.iter().enumerate() {
                if i % step == 0 || i == last {
                    let image = state.chosen(choice);
                    let name = format!("to {wanted:?}, sync {number} {}", image.name);
                    check(&image.disk, wanted, &expected, end, &name);
                    images += 1;
                }
            }
        }
    }
    eprintln!("{images} images");
    assert!(images > 60, "only {images} images");
}
