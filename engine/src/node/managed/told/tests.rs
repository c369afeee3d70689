//! A standby without a receiver, without a log: what it shows of what is said to be replayed.

use std::path::Path;
use std::sync::Arc;

use super::{AtStart, FILE, Told, ToldKeeper, read};
use crate::ids::{Lsn, TimelineId, Xid};
use crate::io::durable;
use crate::txn::RecoveryStart;
use crate::txn::testing::{START, World};
use crate::wal::timeline::History;

const FIRST: TimelineId = TimelineId::FIRST;
const SECOND: TimelineId = TimelineId::new(2);
const THIRD: TimelineId = TimelineId::new(3);

fn at(bytes: u64) -> Lsn {
    START.advance(bytes)
}

fn root() -> History {
    History::root(FIRST)
}

/// A second timeline begins at 400.
fn forked() -> History {
    root().fork(SECOND, at(400), "promoted")
}

struct Standby {
    world: World,
    keeper: ToldKeeper,
}

impl Standby {
    /// A managed one that has this file; it does not know yet which timelines it follows.
    fn with_file(line: Option<&str>) -> Standby {
        let world = World::recovering(16);
        let disk = Arc::clone(&world.store.disk);
        if let Some(line) = line {
            durable::replace(&*disk, Path::new(FILE), line.as_bytes()).expect("written");
        }
        let start = AtStart::new(read(&disk).expect("readable"), true);
        let begin = RecoveryStart {
            next_xid: Xid::FIRST_NORMAL,
            oldest_active_xid: 0,
            redo: START,
        };
        world.txns.begin_recovery(begin, start.limit);
        let keeper = ToldKeeper::new(disk, Arc::clone(&world.txns), start);
        Standby { world, keeper }
    }

    fn started(line: Option<&str>, history: &History) -> Standby {
        let standby = Standby::with_file(line);
        standby.keeper.follows(history);
        standby
    }

    fn restarted(&self, history: &History) -> Standby {
        self.keeper.keep().expect("kept");
        Standby::started(self.file().as_deref(), history)
    }

    fn file(&self) -> Option<String> {
        let bytes = durable::read(&*self.world.store.disk, Path::new(FILE)).ok()?;
        Some(String::from_utf8(bytes).expect("text"))
    }

    fn shown(&self) -> Lsn {
        self.world.txns.release().released_lsn()
    }

    fn shown_when_replayed(&self, bytes: u64) -> Lsn {
        self.world.txns.replayed(at(bytes));
        self.shown()
    }

    fn passed_on(&self) -> (Lsn, bool) {
        *self.world.txns.release().safe_watch().borrow()
    }
}

#[test]
fn what_was_told_above_the_fork_counts_up_to_it() {
    let standby = Standby::started(None, &root());
    standby.keeper.told(FIRST, at(800), true);
    assert_eq!(standby.file(), Some(format!("{} 1\n", at(800))));
    assert_eq!(standby.shown_when_replayed(320), at(320));
    standby.keeper.follows(&forked());
    assert_eq!(standby.passed_on(), (at(400), true));
    assert_eq!(standby.shown_when_replayed(720), at(400));
    // The old primary's word, and that of the new one on a stream of the old timeline.
    standby.keeper.told(FIRST, at(800), true);
    assert_eq!(standby.shown(), at(400));
    for (told, shown) in [(560, 560), (480, 560), (800, 720)] {
        standby.keeper.told(SECOND, at(told), true);
        assert_eq!(standby.shown(), at(shown), "told {told}");
    }
    assert_eq!(standby.passed_on(), (at(800), true));
    standby.keeper.keep().expect("kept");
    assert_eq!(standby.file(), Some(format!("{} 2\n", at(800))));
}

#[test]
fn what_was_told_up_to_the_fork_counts_on() {
    for told in [320, 400] {
        let standby = Standby::started(None, &root());
        standby.keeper.told(FIRST, at(told), true);
        assert_eq!(standby.shown_when_replayed(320), at(320));
        standby.keeper.follows(&forked());
        assert_eq!(standby.passed_on(), (at(told), true));
        assert_eq!(standby.shown_when_replayed(720), at(told));
        let standby = standby.restarted(&forked());
        assert_eq!(standby.shown_when_replayed(720), at(told), "restarted");
    }
}

#[test]
fn a_restart_measures_what_was_told_by_the_timelines_that_are_followed_then() {
    for (told, shown) in [(320, 320), (400, 400), (800, 400)] {
        let standby = Standby::started(None, &root());
        standby.keeper.told(FIRST, at(told), true);
        let same = standby.restarted(&root());
        assert_eq!(same.shown_when_replayed(880), at(told));
        let switched = standby.restarted(&forked());
        assert_eq!(switched.shown_when_replayed(880), at(shown), "told {told}");
        assert_eq!(switched.passed_on(), (at(shown), true));
        switched.keeper.told(SECOND, at(560), true);
        assert_eq!(switched.shown(), at(560));
        let again = switched.restarted(&forked());
        assert_eq!(again.shown_when_replayed(880), at(560));
        let third = switched.restarted(&forked().fork(THIRD, at(480), "again"));
        assert_eq!(third.shown_when_replayed(880), at(480));
    }
}

/// It may speak of any timeline that was followed once.
#[test]
fn a_file_of_an_older_release_shows_nothing_until_the_primary_speaks() {
    let line = format!("{}\n", at(320));
    for history in [root(), forked()] {
        let standby = Standby::started(Some(&line), &history);
        assert_eq!(standby.shown_when_replayed(720), Lsn::INVALID);
        assert_eq!(standby.passed_on(), (Lsn::INVALID, true));
        standby.keeper.told(history.timeline(), at(560), true);
        assert_eq!(standby.shown(), at(560));
    }
    let any = Standby::started(Some("any\n"), &forked());
    assert_eq!(any.shown_when_replayed(720), at(720));
}

#[test]
fn a_file_that_nobody_wrote_is_refused() {
    assert_eq!(
        Told::parse("0/10 7"),
        Some(Told::At {
            lsn: Lsn::new(0x10),
            timeline: TimelineId::new(7)
        })
    );
    for line in ["", "all", "0/10 x", "0/10  7", "0/10 7 8", "x 7", "0/10 -1"] {
        assert_eq!(Told::parse(line), None, "{line:?}");
    }
    let world = World::recovering(16);
    let disk = Arc::clone(&world.store.disk);
    durable::replace(&*disk, Path::new(FILE), b"all\n").expect("written");
    let error = read(&disk).expect_err("no sense in it").to_string();
    assert!(error.contains("\"all\" in file \"told\""), "{error}");
}

/// What another timeline's primary says is no word on this one's commits.
#[test]
fn a_stranger_is_not_listened_to() {
    let line = format!("{} 3\n", at(560));
    let standby = Standby::started(Some(&line), &forked());
    assert_eq!(standby.shown_when_replayed(320), Lsn::INVALID);
    standby.keeper.told(THIRD, at(800), true);
    standby.keeper.told(THIRD, Lsn::INVALID, false);
    assert_eq!(standby.shown(), Lsn::INVALID);
    standby.keeper.told(SECOND, at(800), true);
    assert_eq!(standby.shown(), at(320));
    // The second one came to nothing, and this standby has nothing of it.
    standby
        .keeper
        .follows(&root().fork(THIRD, at(480), "elsewhere"));
    assert_eq!(standby.shown_when_replayed(720), at(400));
}

/// The first record of a fresh copy is streamed, and an idle primary speaks once.
#[test]
fn a_word_that_comes_before_replay_begins_is_kept_for_it() {
    let standby = Standby::with_file(None);
    standby.keeper.told(FIRST, at(800), true);
    standby.keeper.keep().expect("nothing to keep");
    assert_eq!(standby.file(), None);
    assert_eq!(standby.passed_on(), (Lsn::INVALID, true));
    standby.keeper.follows(&forked());
    assert_eq!(standby.shown_when_replayed(720), at(400));
    assert_eq!(standby.file(), Some(format!("{} 1\n", at(400))));
}

#[test]
fn a_word_that_could_not_be_kept_is_taken_up_when_it_can() {
    let standby = Standby::started(None, &root());
    let in_the_way = standby.world.dir.path().join("told.tmp");
    std::fs::create_dir(&in_the_way).expect("made");
    standby.keeper.told(FIRST, at(800), true);
    assert_eq!(standby.shown_when_replayed(320), Lsn::INVALID);
    standby.keeper.keep().expect_err("it is still in the way");
    std::fs::remove_dir(&in_the_way).expect("removed");
    standby.keeper.keep().expect("kept");
    assert_eq!(standby.shown(), at(320));
    assert_eq!(standby.file(), Some(format!("{} 1\n", at(800))));
}

#[test]
fn a_primary_without_synchronous_standbys_is_believed_on_every_timeline() {
    let standby = Standby::started(None, &root());
    standby.keeper.told(FIRST, at(160), false);
    standby.keeper.follows(&forked());
    assert_eq!(standby.shown_when_replayed(720), at(720));
    assert_eq!(standby.passed_on(), (Lsn::INVALID, false));
    standby.keeper.keep().expect("kept");
    assert_eq!(standby.file().as_deref(), Some("any\n"));
}

#[test]
fn a_promoted_instance_keeps_nothing() {
    let standby = Standby::started(None, &root());
    standby.keeper.told(FIRST, at(800), true);
    standby.keeper.follows(&forked());
    standby.keeper.forget().expect("removed");
    standby.keeper.told(FIRST, at(880), true);
    standby.keeper.keep().expect("nothing to keep");
    assert_eq!(standby.file(), None);
}
