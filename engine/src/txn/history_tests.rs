//! Random histories of transactions with savepoints and commits at every level, against a list of what each snapshot
//! must see.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ids::{Lsn, Term, Xid};
use crate::txn::release::{StandbyPosition, SyncNames};
use crate::txn::testing::World;

const SESSIONS: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    /// The current level gets an xid.
    Write(usize),
    Savepoint(usize),
    Release(usize),
    RollbackTo(usize),
    Commit(usize, CommitLevel),
    Abort(usize),
    Look(usize),
    /// The standby has flushed (or also replayed) the log as it is now.
    Standby {
        applied: bool,
    },
    /// What nobody needs may be forgotten.
    Horizon,
}

fn step() -> impl Strategy<Value = Step> {
    let level = prop_oneof![
        1 => Just(CommitLevel::Off),
        1 => Just(CommitLevel::Local),
        2 => Just(CommitLevel::On),
        1 => Just(CommitLevel::RemoteApply),
    ];
    let who = 0..SESSIONS;
    prop_oneof![
        4 => who.clone().prop_map(Step::Write),
        2 => who.clone().prop_map(Step::Savepoint),
        1 => who.clone().prop_map(Step::Release),
        2 => who.clone().prop_map(Step::RollbackTo),
        3 => (who.clone(), level).prop_map(|(who, level)| Step::Commit(who, level)),
        1 => who.clone().prop_map(Step::Abort),
        4 => who.prop_map(Step::Look),
        2 => any::<bool>().prop_map(|applied| Step::Standby { applied }),
        1 => Just(Step::Horizon),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Running,
    /// Committed, but whoever it waits for has not said so.
    Waiting,
    Released,
    RolledBack,
}

/// A savepoint, or the transaction itself at the bottom.
#[derive(Default)]
struct Level {
    own: Option<Xid>,
    /// Its own and those of released savepoints.
    xids: Vec<Xid>,
}

struct Running {
    txn: Transaction,
    levels: Vec<Level>,
    looks: Vec<Look>,
}

impl Running {
    fn xids(&self) -> Vec<Xid> {
        let xids = self.levels.iter().flat_map(|l| l.xids.iter().copied());
        xids.collect()
    }
}

/// A snapshot and whom it has to see, other than its own transaction.
struct Look {
    snapshot: Snapshot,
    seen: BTreeSet<Xid>,
}

struct Pending {
    level: CommitLevel,
    end: Lsn,
    xids: Vec<Xid>,
    task: tokio::task::JoinHandle<Result<Option<Lsn>, CommitError>>,
}

struct History {
    sessions: Vec<Option<Running>>,
    pending: Vec<Pending>,
    fates: BTreeMap<Xid, Fate>,
    flushed: Lsn,
    applied: Lsn,
    /// Last: transactions that are still open write when they are dropped.
    world: World,
}

impl History {
    fn new() -> History {
        let world = World::new();
        let names = SyncNames::parse("s").expect("valid").expect("not empty");
        let policy = ReleasePolicy::Names(names);
        world.txns.release().set_policy(policy);
        History {
            world,
            sessions: (0..SESSIONS).map(|_| None).collect(),
            pending: Vec::new(),
            fates: BTreeMap::new(),
            flushed: Lsn::INVALID,
            applied: Lsn::INVALID,
        }
    }

    fn session(&mut self, who: usize) -> &mut Running {
        let world = &self.world;
        self.sessions[who].get_or_insert_with(|| Running {
            txn: world.begin(),
            levels: vec![Level::default()],
            looks: Vec::new(),
        })
    }

    fn end(&mut self, xids: &[Xid], fate: Fate) {
        for xid in xids {
            self.fates.insert(*xid, fate);
        }
    }

    async fn step(&mut self, step: &Step) {
        let txns = self.world.txns.clone();
        match step {
            Step::Write(who) => self.write(*who),
            Step::Savepoint(who) => {
                let running = self.session(*who);
                txns.savepoint(&mut running.txn, "s");
                running.levels.push(Level::default());
            }
            Step::Release(who) => {
                let running = self.session(*who);
                if running.levels.len() > 1 {
                    txns.release_savepoint(&mut running.txn, "s").expect("open");
                    let released = running.levels.pop().expect("one more").xids;
                    let below = running.levels.last_mut().expect("the transaction");
                    below.xids.extend(released);
                }
            }
            Step::RollbackTo(who) => {
                let running = self.session(*who);
                if running.levels.len() > 1 {
                    let undone = txns.rollback_to_savepoint(&mut running.txn, "s");
                    undone.expect("open");
                    let gone = std::mem::take(running.levels.last_mut().expect("the level"));
                    self.end(&gone.xids, Fate::RolledBack);
                }
            }
            Step::Commit(who, level) => self.commit(*who, *level).await,
            Step::Abort(who) => {
                if let Some(running) = self.sessions[*who].take() {
                    let xids = running.xids();
                    txns.abort(running.txn);
                    self.end(&xids, Fate::RolledBack);
                }
            }
            Step::Look(who) => {
                let seen = self.fates.iter().filter(|(_, f)| **f == Fate::Released);
                let seen = seen.map(|(xid, _)| *xid).collect();
                let running = self.session(*who);
                let snapshot = txns.snapshot(&running.txn);
                running.looks.push(Look { snapshot, seen });
            }
            Step::Standby { applied } => self.standby(*applied).await,
            Step::Horizon => {
                txns.oldest_needed();
            }
        }
    }

    /// Levels without an xid get one, outermost first.
    fn write(&mut self, who: usize) {
        let txns = self.world.txns.clone();
        let running = self.session(who);
        let known: BTreeSet<Xid> = running.xids().into_iter().collect();
        txns.xid(&mut running.txn).expect("an xid");
        let own = running.txn.own();
        let mut new: Vec<Xid> = own.top().into_iter().chain(own.subs()).collect();
        new.retain(|xid| !known.contains(xid));
        let without = running.levels.iter_mut().filter(|l| l.own.is_none());
        for (level, xid) in without.zip(&new) {
            level.own = Some(*xid);
            level.xids.push(*xid);
        }
        self.end(&new, Fate::Running);
    }

    async fn commit(&mut self, who: usize, level: CommitLevel) {
        let Some(running) = self.sessions[who].take() else {
            return;
        };
        let xids = running.xids();
        let (txns, waiting) = (
            self.world.txns.clone(),
            self.world.txns.release().waiting().0,
        );
        drop(running.looks);
        let txn = running.txn;
        let task = tokio::spawn({
            let txns = txns.clone();
            async move { txns.commit(txn, level).await }
        });
        let for_standby = level > CommitLevel::Local && !xids.is_empty();
        while !task.is_finished() && (!for_standby || txns.release().waiting().0 <= waiting) {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        if for_standby {
            self.end(&xids, Fate::Waiting);
            let end = self.world.store.wal.end_lsn();
            self.pending.push(Pending {
                level,
                end,
                xids,
                task,
            });
        } else {
            task.await.expect("no panic").expect("committed");
            self.end(&xids, Fate::Released);
        }
    }

    async fn standby(&mut self, applied: bool) {
        let wal = &self.world.store.wal;
        self.flushed = wal.end_lsn();
        wal.flush_blocking(self.flushed);
        if applied {
            self.applied = self.flushed;
        }
        let report = StandbyPosition {
            application_name: "s".to_owned(),
            instance: None,
            term: Term::new(0),
            write: self.flushed,
            flush: self.flushed,
            apply: self.applied,
        };
        self.world.txns.release().advance_standbys(&vec![report]);
        for pending in std::mem::take(&mut self.pending) {
            if pending.level == CommitLevel::RemoteApply && pending.end > self.applied {
                self.pending.push(pending);
                continue;
            }
            pending.task.await.expect("no panic").expect("committed");
            self.end(&pending.xids, Fate::Released);
        }
    }

    fn check(&self) {
        let txns = &self.world.txns;
        for (xid, fate) in &self.fates {
            let expected = match fate {
                Fate::Running | Fate::Waiting => Outcome::InProgress,
                Fate::RolledBack => Outcome::Aborted,
                Fate::Released => Outcome::Committed { lsn: None },
            };
            let found = match txns.outcome(*xid) {
                Outcome::Committed { .. } => Outcome::Committed { lsn: None },
                other => other,
            };
            assert_eq!(found, expected, "transaction {xid}");
        }
        for running in self.sessions.iter().flatten() {
            let own: BTreeSet<Xid> = running.xids().into_iter().collect();
            for (number, look) in running.looks.iter().enumerate() {
                for (xid, fate) in &self.fates {
                    let mine = look.snapshot.own().contains(*xid);
                    assert_eq!(mine, own.contains(xid), "{xid} belongs to the session");
                    if mine {
                        continue;
                    }
                    let seen = look.snapshot.sees(*xid, txns);
                    let expected = look.seen.contains(xid);
                    assert_eq!(
                        seen == Seen::Yes,
                        expected,
                        "look {number} at {xid}, which is {fate:?}"
                    );
                    if seen == Seen::Aborted {
                        assert_eq!(*fate, Fate::RolledBack);
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn every_snapshot_sees_what_was_released_when_it_was_taken(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut history = History::new();
            for step in &steps {
                history.step(step).await;
                history.check();
            }
            // Nobody is left behind.
            history.standby(true).await;
            history.check();
            assert!(history.pending.is_empty());
        });
    }
}
