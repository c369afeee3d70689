//! The release queue against a naive model: a commit is visible exactly when it is released.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::isolation::{ISOLATED, NoSuchHold};
use super::*;
use crate::ids::{Lsn, Term};
use crate::txn::interrupt::Interrupts;
use crate::txn::participant::Participant;
use crate::txn::testing::{World, session};

#[derive(Debug, Clone)]
enum Step {
    Commit(CommitLevel),
    /// Flush this many of the records not yet flushed.
    Flush(usize),
    /// Standby `i` reports write, flush and apply, as counts of records.
    Report(usize, [usize; 3]),
    Disconnect(usize),
    Policy(u8),
}

fn level() -> impl Strategy<Value = CommitLevel> {
    prop_oneof![
        Just(CommitLevel::Off),
        Just(CommitLevel::Local),
        Just(CommitLevel::RemoteWrite),
        Just(CommitLevel::On),
        Just(CommitLevel::RemoteApply),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => level().prop_map(Step::Commit),
        3 => (1_usize..5).prop_map(Step::Flush),
        3 => (0_usize..3, prop::array::uniform3(0_usize..6)).prop_map(|(i, n)| Step::Report(i, n)),
        1 => (0_usize..3).prop_map(Step::Disconnect),
        1 => (0_u8..7).prop_map(Step::Policy),
    ]
}

fn policy(which: u8, counter: u64) -> ReleasePolicy {
    let names = |text| {
        let names = SyncNames::parse(text).expect("valid");
        ReleasePolicy::Names(names.expect("not empty"))
    };
    let set = |required| ReleasePolicy::InSyncSet {
        term: Term::new(1),
        counter,
        members: ["s0", "s1", "s2"].map(InstanceId::new).to_vec(),
        required,
    };
    match which {
        0 => ReleasePolicy::Local,
        1 => names("s0, s1"),
        2 => names("FIRST 2 (*)"),
        3 => names("ANY 2 (s0, s1, s2)"),
        4 => set(1),
        5 => set(2),
        _ => ReleasePolicy::Closed,
    }
}

struct Commit {
    lsn: Lsn,
    level: CommitLevel,
    who: Arc<Participant>,
    released: bool,
}

struct Model {
    world: World,
    sessions: Vec<Arc<Interrupts>>,
    release: Release,
    commits: Vec<Commit>,
    flushed: usize,
    standbys: Vec<Option<[usize; 3]>>,
    /// What members have confirmed in the one term that there is, by their number.
    confirmed: [[usize; 2]; 3],
    policy: ReleasePolicy,
    counter: u64,
    safe: Lsn,
}

impl Model {
    fn new() -> Model {
        let release = Release::new();
        // However slow the machine is, nobody is cut off.
        release.stop_clock();
        release.set_policy(ReleasePolicy::Local);
        Model {
            world: World::recovering(16),
            sessions: Vec::new(),
            release,
            commits: Vec::new(),
            flushed: 0,
            standbys: vec![None; 3],
            confirmed: [[0; 2]; 3],
            policy: ReleasePolicy::Local,
            counter: 0,
            safe: Lsn::INVALID,
        }
    }

    fn lsn(count: usize) -> Lsn {
        Lsn::new(count as u64 * 64)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(level) => {
                let session = session();
                let who = self.world.txns.participant_of(&session);
                self.sessions.push(session);
                let lsn = Self::lsn(self.commits.len() + 1);
                self.release.enqueue(lsn, *level, &who);
                self.commits.push(Commit {
                    lsn,
                    level: *level,
                    who,
                    released: false,
                });
            }
            Step::Flush(n) => {
                self.flushed = (self.flushed + n).min(self.commits.len());
                self.release.advance_flush(Self::lsn(self.flushed));
            }
            Step::Report(i, counts) => {
                let mut counts = counts.map(|c| c.min(self.flushed));
                if let Some(old) = self.standbys[*i] {
                    for (count, old) in counts.iter_mut().zip(old) {
                        *count = (old + *count).min(self.flushed);
                    }
                }
                counts[1] = counts[1].min(counts[0]);
                counts[2] = counts[2].min(counts[1]);
                self.standbys[*i] = Some(counts);
                for (known, new) in self.confirmed[*i].iter_mut().zip(counts) {
                    *known = (*known).max(new);
                }
                self.report();
            }
            Step::Disconnect(i) => {
                self.standbys[*i] = None;
                self.report();
            }
            Step::Policy(which) => {
                self.counter += 1;
                let new = policy(*which, self.counter);
                assert!(self.release.set_policy(new.clone()));
                self.policy = new;
                self.report();
            }
        }
    }

    fn report(&mut self) {
        let mut reports = Vec::new();
        for (i, counts) in self.standbys.iter().enumerate() {
            if let Some([write, flush, apply]) = counts {
                self.confirmed[i][0] = self.confirmed[i][0].max(*write);
                self.confirmed[i][1] = self.confirmed[i][1].max(*flush);
                reports.push(StandbyPosition {
                    application_name: format!("s{i}"),
                    instance: Some(InstanceId::new(&format!("s{i}"))),
                    term: Term::new(1),
                    write: Self::lsn(*write),
                    flush: Self::lsn(*flush),
                    apply: Self::lsn(*apply),
                });
            }
        }
        self.release.advance_standbys(&reports);
    }

    /// Whether the rules let the `n`-th commit go at this moment, written down another way than in the queue.
    fn may_go(&self, n: usize, level: CommitLevel) -> bool {
        if self.policy == ReleasePolicy::Closed {
            return false;
        }
        if level == CommitLevel::Off {
            return true;
        }
        if self.flushed < n {
            return false;
        }
        if level == CommitLevel::Local || !self.policy.is_synchronous() {
            return true;
        }
        let connected: Vec<usize> = (0..3).filter(|i| self.standbys[*i].is_some()).collect();
        let has = |i: &usize, what: usize| self.standbys[*i].is_some_and(|c| c[what] >= n);
        let confirmed = |i: &usize, what: usize| self.confirmed[*i][what] >= n;
        let flushed_and_applied = level == CommitLevel::RemoteApply;
        let what = usize::from(level != CommitLevel::RemoteWrite);
        let by_names = |candidates: &[usize], required: usize| {
            let enough = |what| candidates.iter().filter(|i| has(i, what)).count() >= required;
            enough(what) && (!flushed_and_applied || enough(2))
        };
        match &self.policy {
            ReleasePolicy::Names(names) => {
                let listed =
                    |text: &str| SyncNames::parse(text).is_ok_and(|n| n.as_ref() == Some(names));
                if listed("s0, s1") {
                    let first = connected.iter().copied().find(|i| *i < 2);
                    first.is_some_and(|i| by_names(&[i], 1))
                } else if listed("FIRST 2 (*)") {
                    connected.len() >= 2 && by_names(&connected[..2], 2)
                } else {
                    by_names(&connected, 2)
                }
            }
            ReleasePolicy::InSyncSet { required, .. } => {
                let all = [0, 1, 2];
                let flushed = all.iter().filter(|i| confirmed(i, what)).count() >= *required;
                let applied = all.iter().filter(|i| has(i, 2)).count() >= *required;
                flushed && (!flushed_and_applied || applied)
            }
            ReleasePolicy::Local | ReleasePolicy::Closed => unreachable!("handled above"),
        }
    }

    fn check(&mut self) {
        for n in 0..self.commits.len() {
            if !self.commits[n].released {
                self.commits[n].released = self.may_go(n + 1, self.commits[n].level);
            }
        }
        let (lsn, excluded) = self.release.snapshot();
        let excluded = excluded.unwrap_or_default();
        assert!(excluded.is_sorted());
        let low = self.release.low();
        let safe = self.release.safe_watch().borrow().0;
        assert!(safe >= self.safe, "what standbys are told goes back");
        self.safe = safe;
        for (i, commit) in self.commits.iter().enumerate() {
            let visible = commit.lsn <= lsn && !excluded.contains(&commit.lsn);
            assert_eq!(visible, commit.released, "commit {i} {:?}", commit.level);
            assert_eq!(self.release.is_released(commit.lsn), commit.released);
            assert_eq!(commit.who.is_released(commit.lsn), commit.released);
            if commit.lsn <= low {
                assert!(commit.released, "commit {i} is below the low mark");
            }
            if commit.lsn <= safe {
                let durable = commit.level == CommitLevel::RemoteApply;
                assert!(
                    commit.released || durable,
                    "standbys are told of commit {i}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_commit_is_visible_exactly_when_it_is_released(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
            model.check();
        }
    }
}

fn in_sync(counter: u64, members: &[&str], required: usize) -> ReleasePolicy {
    ReleasePolicy::InSyncSet {
        term: Term::new(4),
        counter,
        members: members.iter().map(|m| InstanceId::new(m)).collect(),
        required,
    }
}

fn report(name: &str, at: u64) -> StandbyPosition {
    StandbyPosition {
        application_name: "walreceiver".to_owned(),
        instance: Some(InstanceId::new(name)),
        term: Term::new(4),
        write: Lsn::new(at),
        flush: Lsn::new(at),
        apply: Lsn::new(at),
    }
}

#[test]
fn an_older_set_is_refused_and_a_new_one_has_to_catch_up() {
    let release = Release::new();
    release.stop_clock();
    let set = |counter, members: &[&str]| in_sync(counter, members, 1);
    let world = World::recovering(16);
    let session = session();
    let who = world.txns.participant_of(&session);
    assert!(release.set_policy(set(1, &["a", "b"])));
    release.enqueue(Lsn::new(800), CommitLevel::On, &who);
    release.advance_flush(Lsn::new(800));
    assert!(!who.is_released(Lsn::new(800)));
    release.advance_standbys(&vec![report("a", 800), report("c", 100)]);
    assert!(who.is_released(Lsn::new(800)));
    assert!(release.set_policy(set(2, &["b", "c"])));
    assert!(!release.caught_up());
    assert!(!release.set_policy(set(1, &["a", "b"])));
    release.advance_standbys(&vec![report("c", 800)]);
    assert!(release.caught_up());
    // Not by way of having none either.
    assert!(release.set_policy(ReleasePolicy::Closed));
    assert!(!release.set_policy(set(1, &["a", "b"])));
    assert_eq!(release.policy(), ReleasePolicy::Closed);
    assert!(release.set_policy(set(2, &["b", "c"])));
}

/// A managed primary on a clock that stands, with one session that commits.
struct Primary {
    release: Release,
    who: Arc<Participant>,
    /// They go after the session's commits.
    _session: Arc<Interrupts>,
    world: World,
}

impl Primary {
    fn under(policy: ReleasePolicy) -> Primary {
        let world = World::recovering(16);
        let session = session();
        let release = Release::new();
        release.stop_clock();
        assert!(release.set_policy(policy));
        Primary {
            release,
            who: world.txns.participant_of(&session),
            _session: session,
            world,
        }
    }

    /// Flushed here, and waiting for the standbys.
    fn commits(&self, at: u64) {
        self.release
            .enqueue(Lsn::new(at), CommitLevel::On, &self.who);
        self.release.advance_flush(Lsn::new(at));
        assert!(!self.acknowledged(at));
    }

    /// A report of this member comes.
    fn hears(&self, name: &str, at: u64) {
        let from = (InstanceId::new(name), Term::new(4));
        self.release.hear(from, &vec![report(name, at)]);
    }

    fn acknowledged(&self, at: u64) -> bool {
        self.who.is_released(Lsn::new(at))
    }

    /// Nothing of it is acknowledged, seen, or passed on to standbys.
    fn keeps(&self, at: u64) {
        let at = Lsn::new(at);
        assert!(!self.who.is_released(at) && !self.release.is_released(at));
        assert!(self.release.snapshot().0 < at);
        assert!(!self.release.is_safe(at) && self.release.safe_watch().borrow().0 < at);
    }
}

const A_MOMENT: Duration = Duration::from_millis(1);

#[test]
fn who_was_cut_off_releases_nothing_before_the_word_for_it() {
    let primary = Primary::under(in_sync(1, &["a", "b"], 1));
    let release = &primary.release;
    primary.commits(800);
    primary.hears("a", 800);
    assert!(primary.acknowledged(800));
    // A silence that is shorter costs nothing, whoever ends it.
    release.advance_clock(ISOLATED - A_MOMENT);
    primary.commits(808);
    primary.hears("b", 808);
    assert!(primary.acknowledged(808));
    assert_eq!(release.held(), None);

    primary.commits(816);
    release.advance_clock(ISOLATED);
    // Frozen or cut off: what was said meanwhile comes all at once, before anybody has looked.
    for (name, at) in [("a", 808), ("a", 816), ("b", 816)] {
        primary.hears(name, at);
    }
    primary.keeps(816);
    primary.commits(824);
    primary.hears("a", 824);
    primary.keeps(816);
    // Who asks for no standby is no concern of theirs.
    let hasty = session();
    let hasty = primary.world.txns.participant_of(&hasty);
    release.enqueue(Lsn::new(832), CommitLevel::Local, &hasty);
    release.advance_flush(Lsn::new(832));
    assert!(hasty.is_released(Lsn::new(832)) && !primary.acknowledged(816));

    let hold = release.held().expect("it waits for the word");
    let another = release.confirm(hold + 1);
    assert_eq!(another, Err(NoSuchHold(hold + 1)));
    assert!(!primary.acknowledged(816));
    assert_eq!(release.confirm(hold), Ok(()));
    assert!(primary.acknowledged(824) && release.is_released(Lsn::new(816)));
    assert_eq!(release.held(), None);
    assert_eq!(
        release.confirm(hold),
        Err(NoSuchHold(hold)),
        "that one is over"
    );
    primary.commits(840);
    primary.hears("b", 840);
    assert!(primary.acknowledged(840));
}

#[test]
fn a_word_for_an_earlier_hold_says_nothing_of_a_later_one() {
    let primary = Primary::under(in_sync(1, &["a"], 1));
    let release = &primary.release;
    primary.commits(800);
    release.advance_clock(ISOLATED);
    assert_eq!(release.held(), None, "there is nobody it could go on with");
    primary.hears("a", 800);
    let first = release.held().expect("it waits");
    release.advance_clock(ISOLATED - A_MOMENT);
    assert_eq!(release.held(), Some(first));
    release.advance_clock(A_MOMENT);
    // The process slept with the word in its socket.
    assert_eq!(release.confirm(first), Err(NoSuchHold(first)));
    assert_eq!(release.held(), None);
    primary.hears("a", 800);
    assert_eq!(release.confirm(first), Err(NoSuchHold(first)));
    primary.keeps(800);
    let second = release.held().expect("it waits again");
    assert_ne!(second, first);
    assert_eq!(release.confirm(second), Ok(()));
    assert!(primary.acknowledged(800));
}

/// The set is one that asks nobody once its members are lost; by then somebody may have taken over all the same.
#[test]
fn no_other_set_ends_a_hold() {
    let primary = Primary::under(in_sync(1, &["a"], 1));
    let release = &primary.release;
    primary.commits(800);
    release.advance_clock(ISOLATED);
    assert!(release.set_policy(in_sync(2, &["a", "b"], 1)));
    primary.hears("b", 800);
    primary.keeps(800);
    assert!(release.held().is_some());
    assert!(release.set_policy(in_sync(3, &[], 0)));
    primary.keeps(800);
    // Such a wait may be long, and is given up as one for standbys is.
    assert!(release.waits_for_others(CommitLevel::On));
    let hold = release.held().expect("it waits");
    assert_eq!(release.confirm(hold), Ok(()));
    assert!(primary.acknowledged(800));
    assert!(!release.waits_for_others(CommitLevel::On));
    release.advance_clock(ISOLATED * 10);
    release.enqueue(Lsn::new(808), CommitLevel::On, &primary.who);
    release.advance_flush(Lsn::new(808));
    assert!(primary.acknowledged(808), "who asks nobody misses nobody");
    // Those who come into a new set get their time to be heard.
    assert!(release.set_policy(in_sync(4, &["c"], 1)));
    release.advance_clock(ISOLATED - A_MOMENT);
    primary.commits(816);
    primary.hears("c", 816);
    assert!(primary.acknowledged(816));
}

/// No stream tells it that it was away.
#[test]
fn who_acknowledges_alone_and_stood_still_waits_for_the_word_too() {
    let primary = Primary::under(in_sync(1, &[], 0));
    let release = &primary.release;
    let commits = |at| {
        release.enqueue(Lsn::new(at), CommitLevel::On, &primary.who);
        release.advance_flush(Lsn::new(at));
        primary.acknowledged(at)
    };
    // Where nobody looks but those who commit, that nothing is committed is no standstill.
    release.advance_clock(ISOLATED * 10);
    assert!(commits(800));
    release.watch();
    release.advance_clock(ISOLATED - A_MOMENT);
    assert!(commits(808));
    release.advance_clock(ISOLATED - A_MOMENT);
    release.watch();
    release.advance_clock(ISOLATED - A_MOMENT);
    assert_eq!(release.held(), None);
    // It is told without a wait, and yet not what was decided before a standstill.
    assert!(!release.waits_for_others(CommitLevel::On));
    assert!(release.may_be_doubted(CommitLevel::On));
    assert!(!release.may_be_doubted(CommitLevel::Local));

    // One was under way, and is flushed before anybody has looked.
    release.enqueue(Lsn::new(816), CommitLevel::On, &primary.who);
    release.advance_clock(ISOLATED);
    release.advance_flush(Lsn::new(816));
    primary.keeps(816);
    // Such a wait may be long, and standbys are told that somebody waits.
    assert!(release.waits_for_others(CommitLevel::On));
    assert!(release.safe_watch().borrow().1);
    assert!(!commits(824));
    let first = release.held().expect("it waits");
    release.advance_clock(ISOLATED);
    // It stood still with the word in its socket.
    assert_eq!(release.confirm(first), Err(NoSuchHold(first)));
    primary.keeps(816);
    let second = release.held().expect("it waits again");
    assert_ne!(second, first);
    assert_eq!(release.confirm(second), Ok(()));
    assert!(primary.acknowledged(824) && release.is_released(Lsn::new(816)));
    assert!(!release.waits_for_others(CommitLevel::On) && !release.safe_watch().borrow().1);
    assert!(commits(832));

    // `durability: async`: it does not wait for those that it has, and a failover may lose what it acknowledged.
    assert!(release.set_policy(in_sync(2, &["a"], 0)));
    release.advance_clock(ISOLATED * 10);
    assert!(commits(840));
    assert_eq!(release.held(), None);
    assert!(!release.may_be_doubted(CommitLevel::On));
}

/// `durability: async` begins no hold, and ends none.
#[test]
fn who_holds_and_asks_nobody_any_more_knows_a_standstill_by_the_clock() {
    let primary = Primary::under(in_sync(1, &["a"], 1));
    let release = &primary.release;
    release.watch();
    primary.commits(800);
    release.advance_clock(ISOLATED);
    assert!(release.set_policy(in_sync(2, &["a"], 0)));
    let first = release.held().expect("it waits");
    primary.keeps(800);
    release.advance_clock(ISOLATED);
    assert_eq!(release.confirm(first), Err(NoSuchHold(first)));
    primary.keeps(800);
    let second = release.held().expect("it waits again");
    assert_eq!(release.confirm(second), Ok(()));
    assert!(primary.acknowledged(800));
    release.advance_clock(ISOLATED * 10);
    assert_eq!(release.held(), None, "it loses by a failover what it may");
}

/// As many as the set requires have to be heard, each in this term.
#[test]
fn one_of_two_is_no_cover_and_another_terms_stream_is_none() {
    let primary = Primary::under(in_sync(1, &["a", "b", "c"], 2));
    let release = &primary.release;
    for _ in 0..3 {
        release.advance_clock(ISOLATED / 3);
        primary.hears("a", 0);
        let old = (InstanceId::new("b"), Term::new(3));
        release.hear(old, &vec![report("a", 0)]);
    }
    primary.commits(800);
    primary.hears("a", 800);
    primary.hears("c", 800);
    primary.keeps(800);
    assert!(release.held().is_some());
}

#[test]
fn a_primary_that_starts_waits_for_the_word_before_it_shows_anything() {
    let primary = Primary::under(in_sync(1, &["a"], 1));
    let release = &primary.release;
    release.begin_held();
    let end = Lsn::new(4096);
    release.become_primary(end, end);
    primary.hears("a", 4096);
    assert!(!release.is_open());
    let hold = release.held().expect("it waits");
    assert_eq!(release.confirm(hold), Ok(()));
    assert!(release.is_open());
    // One that acknowledges alone was started by the record's word.
    let alone = Primary::under(in_sync(1, &[], 0));
    alone.release.begin_held();
    assert_eq!(alone.release.held(), None);
    alone.release.become_primary(end, end);
    assert!(alone.release.is_open());
}

#[tokio::test]
async fn after_recovery_snapshots_wait_for_the_required_standbys() {
    let release = Release::new();
    let end = Lsn::new(4096);
    let names = SyncNames::parse("s").expect("valid").expect("not empty");
    release.set_policy(ReleasePolicy::Names(names));
    release.become_primary(end, end);
    assert!(!release.is_open());
    let standby = |flush| StandbyPosition {
        application_name: "s".to_owned(),
        instance: None,
        term: Term::new(1),
        write: flush,
        flush,
        apply: Lsn::INVALID,
    };
    release.advance_standbys(&vec![standby(Lsn::new(4088))]);
    assert!(!release.is_open());
    assert!(release.safe_watch().borrow().0 < end);
    release.advance_standbys(&vec![standby(end)]);
    release.wait_open().await;
    assert_eq!(release.snapshot().0, end);
    release.advance_standbys(&Vec::new());
    assert!(release.is_open(), "once open, open");
}

/// A session that found the gate open may take its snapshot when a promotion has shut it.
#[test]
fn behind_a_shut_gate_a_snapshot_shows_what_was_shown_before() {
    let release = Release::new();
    let (begun, told, end) = (Lsn::new(800), Lsn::new(1600), Lsn::new(4096));
    release.gate_until_visible(begun);
    assert!(!release.is_open());
    // A word that ends right before a commit is the word of the one before it.
    release.show(Lsn::new(told.raw() + 7));
    assert!(release.is_open());
    assert_eq!(release.snapshot(), (told, None));
    let names = SyncNames::parse("s").expect("valid").expect("not empty");
    release.set_policy(ReleasePolicy::Names(names));
    release.become_primary(end, end);
    assert!(!release.is_open());
    let shown = release.snapshot().0;
    assert!((told..=told.advance(7)).contains(&shown), "{shown}");
    // The catalog is as new as the files that it names; whoever changes rows knows how they were changed.
    assert_eq!(release.newest(), (end, None));
    assert!(release.is_released(end));
    assert_eq!(
        release.low(),
        shown,
        "somebody may still take such a snapshot"
    );
    release.advance_standbys(&vec![StandbyPosition {
        application_name: "s".to_owned(),
        instance: None,
        term: Term::new(1),
        write: end,
        flush: end,
        apply: Lsn::INVALID,
    }]);
    assert!(release.is_open());
    assert_eq!(release.snapshot(), (end, None));
    assert_eq!(release.low(), end);
}

/// Flushes look at the gate all the time; one that found it open must not open it after it was shut.
#[test]
fn a_gate_that_was_shut_stays_shut_whoever_looks() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let release = Release::new();
    release.set_policy(ReleasePolicy::Local);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            while !done.load(Ordering::Relaxed) {
                at += 8;
                release.advance_flush(Lsn::new(at));
            }
        });
        for round in 1..=3000 {
            let visible = Lsn::new(round * 8);
            release.gate_until_visible(visible);
            for _ in 0..20 {
                assert!(!release.is_open(), "round {round}");
            }
            release.show(visible);
            assert!(release.is_open(), "round {round}");
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Many sessions commit at once at all levels while standbys report and the policy changes: each is woken when its
/// commit is released, none is forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_who_waits_for_a_release_is_forgotten() {
    use crate::txn::testing::options;
    let world = Arc::new(World::new());
    let names = || {
        let names = SyncNames::parse("s").expect("valid");
        ReleasePolicy::Names(names.expect("not empty"))
    };
    world.txns.release().set_policy(names());
    let levels = [
        CommitLevel::Off,
        CommitLevel::Local,
        CommitLevel::On,
        CommitLevel::RemoteApply,
    ];
    let mut sessions = tokio::task::JoinSet::new();
    for number in 0..32 {
        let world = Arc::clone(&world);
        sessions.spawn(async move {
            let session = session();
            for round in 0..60 {
                let mut txn = world.txns.begin(options(), Arc::clone(&session));
                let xid = world.txns.xid(&mut txn).expect("an xid");
                let level = levels[(number + round) % levels.len()];
                let lsn = world.txns.commit(txn, level).await.expect("committed");
                assert!(world.txns.release().is_released(lsn.expect("it wrote")));
                let reader = world.txns.begin(options(), Arc::clone(&session));
                let snapshot = world.txns.snapshot(&reader);
                assert_eq!(snapshot.sees(xid, &world.txns), crate::txn::Seen::Yes);
            }
        });
    }
    let standby = {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let mut rounds = 0_u64;
            loop {
                tokio::time::sleep(Duration::from_micros(300)).await;
                let at = world.store.wal.flush_lsn();
                let report = StandbyPosition {
                    application_name: "s".to_owned(),
                    instance: None,
                    term: Term::new(0),
                    write: at,
                    flush: at,
                    apply: at,
                };
                world.txns.release().advance_standbys(&vec![report]);
                rounds += 1;
                if rounds.is_multiple_of(50) {
                    world.txns.release().set_policy(ReleasePolicy::Local);
                    world.txns.release().set_policy(names());
                }
            }
        })
    };
    let all = async {
        while let Some(ended) = sessions.join_next().await {
            ended.expect("no panic")
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), all).await;
    standby.abort();
    assert!(in_time.is_ok(), "some wait for ever");
}
