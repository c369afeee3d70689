//! Transactions on a standby: what is replayed, what is shown of it and when, and what a new primary makes of it.

use super::*;

/// Replays the log of `world` on a standby of it, calling `at` after each record.
fn replay_on(world: &World, standby: &World, at: impl FnMut(Lsn)) {
    replay_as(&session(), world, standby, at);
}

fn replay_as(startup: &Arc<Interrupts>, world: &World, standby: &World, mut at: impl FnMut(Lsn)) {
    let mut log = world.log();
    while let Ok(record) = log.next() {
        standby.txns.saw_xid(record.xid_low);
        if matches!(
            record.rmgr,
            RmgrId::TRANSACTION | RmgrId::COMMITLOG | RmgrId::STANDBY
        ) {
            match standby.txns.redo(&record).expect("our own record") {
                Effect::DropFiles(files) => standby.txns.drop_replayed_files(&files),
                Effect::Lock(locks) => {
                    standby.txns.replay_locks(startup, &locks, None, &|| false);
                }
                Effect::None => {}
            }
        }
        let end = record.end;
        standby.txns.replayed(end);
        at(end);
    }
}

#[tokio::test]
async fn a_standby_and_a_recovered_server_agree_with_the_primary() {
    let world = World::new();
    let txns = &world.txns;
    let mut expected = Vec::new();
    for i in 0..40 {
        let (mut txn, xid) = world.write();
        txns.savepoint(&mut txn, "s");
        let sub = txns.xid(&mut txn).expect("an xid");
        match i % 4 {
            0 => {
                txns.abort(txn);
                expected.extend([(xid, false), (sub, false)]);
            }
            1 => {
                txns.rollback_to_savepoint(&mut txn, "s").expect("open");
                txns.commit(txn, CommitLevel::Off).await.expect("committed");
                expected.extend([(xid, true), (sub, false)]);
            }
            _ => {
                txns.commit(txn, CommitLevel::Local)
                    .await
                    .expect("committed");
                expected.extend([(xid, true), (sub, true)]);
            }
        }
    }
    let (unfinished, unfinished_xid) = world.write();
    std::mem::forget(unfinished);
    let next = txns.next_xid();

    let standby = World::recovering(16);
    replay_on(&world, &standby, |_| {});
    assert!(standby.txns.snapshots_open());
    // The unfinished one left no record, so its xid is not known here, and may be given out again.
    assert!(standby.txns.next_xid() >= unfinished_xid && standby.txns.next_xid() <= next);
    for (xid, committed) in &expected {
        let seen = if *committed { Seen::Yes } else { Seen::Aborted };
        assert_eq!(standby.sees(*xid), seen, "{xid}");
    }
    assert_eq!(standby.sees(unfinished_xid), Seen::No);
    let mut reader = standby.begin();
    assert!(matches!(
        standby.txns.xid(&mut reader),
        Err(TxnError::InRecovery)
    ));
    // A second replay over the same records changes nothing.
    replay_on(&world, &standby, |_| {});
    standby.txns.checkpoint().expect("flushed");
    for (xid, committed) in &expected {
        let page = standby.txns.shared().commit_log.status(*xid);
        let committed_there = page.expect("readable") == commit_log::Status::Committed;
        assert_eq!(committed_there, *committed);
    }
}

#[tokio::test]
async fn a_standby_shows_what_is_replayed_and_told() {
    let world = World::new();
    let mut commits = Vec::new();
    for _ in 0..10 {
        let (txn, xid) = world.write();
        let lsn = world
            .txns
            .commit(txn, CommitLevel::Off)
            .await
            .expect("committed");
        commits.push((xid, lsn.expect("it wrote")));
    }
    let standby = World::recovering(16);
    let told = commits[4].1;
    standby.txns.told(Some(told));
    replay_on(&world, &standby, |replayed| {
        for (xid, lsn) in &commits {
            let expected = *lsn <= replayed && *lsn <= told;
            assert_eq!(
                standby.sees(*xid) == Seen::Yes,
                expected,
                "{xid} at {replayed}"
            );
            let reader = standby.begin();
            let catalog = standby.txns.catalog_snapshot(&reader);
            assert_eq!(
                catalog.sees(*xid, &standby.txns) == Seen::Yes,
                *lsn <= replayed
            );
        }
    });
    standby.txns.told(Some(commits[9].1));
    assert_eq!(standby.sees(commits[9].0), Seen::Yes);
}

#[tokio::test]
async fn replayed_locks_hold_until_the_end_is_replayed_and_conflicts_are_cancelled() {
    let world = World::new();
    let relation = Oid::new(40000);
    let (mut txn, xid) = world.write();
    world
        .txns
        .locks()
        .lock_relation(
            &mut txn,
            relation,
            LockMode::AccessExclusive,
            LockWait::Wait,
        )
        .await
        .expect("free");
    world
        .txns
        .commit(txn, CommitLevel::On)
        .await
        .expect("committed");

    let standby = Arc::new(World::recovering(16));
    standby.txns.replayed(START);
    let client = session();
    let mut query = standby.txns.begin(options(), client.clone());
    let share = LockMode::AccessShare;
    let locks = standby.txns.locks();
    locks
        .lock_relation(&mut query, relation, share, LockWait::NoWait)
        .await
        .expect("free");
    let tag = LockTag::Relation {
        database: DATABASE,
        relation,
    };
    let startup = session();
    let replaying = {
        let (standby, startup) = (standby.clone(), startup.clone());
        let deadline = Some(std::time::Instant::now() + Duration::from_millis(30));
        tokio::task::spawn_blocking(move || {
            standby
                .txns
                .replay_locks(&startup, &[(xid, tag)], deadline, &|| false)
        })
    };
    let interrupt = client.wait().await;
    assert!(matches!(interrupt, Interrupt::RecoveryConflict(_)));
    drop(query);
    replaying.await.expect("no panic");
    let mut query = standby.begin();
    let refused = locks
        .lock_relation(&mut query, relation, share, LockWait::NoWait)
        .await;
    assert!(matches!(refused, Err(LockError::NotAvailable(_))));
    // The same lock again, by the same startup process, then the commit.
    replay_as(&startup, &world, &standby, |_| {});
    locks
        .lock_relation(&mut query, relation, share, LockWait::NoWait)
        .await
        .expect("the commit was replayed");
}

/// Between replay and the primary's word the catalog already names the new file, whose rows nobody sees.
#[tokio::test]
async fn what_a_commit_locked_stays_locked_until_queries_see_it() {
    let world = World::new();
    let relation = Oid::new(40000);
    let (txns, exclusive) = (&world.txns, LockMode::AccessExclusive);
    let mut ends = Vec::new();
    for _ in 0..2 {
        let (mut txn, _) = world.write();
        let lock = txns
            .locks()
            .lock_relation(&mut txn, relation, exclusive, LockWait::Wait);
        lock.await.expect("free");
        let end = txns.commit(txn, CommitLevel::On).await.expect("committed");
        ends.push(end.expect("it wrote"));
    }
    let standby = World::recovering(16);
    standby.txns.replayed(START);
    let before = Lsn::new(ends[0].raw() - 1);
    standby.txns.told(Some(before));
    // The second one takes the lock of the first, which is still kept, and nothing waits.
    replay_on(&world, &standby, |_| {});
    let table = &standby.txns.locks().table;
    assert_eq!(table.count(), 0, "what is kept fills no table");
    for (told, is_free) in [(before, false), (ends[0], false), (ends[1], true)] {
        standby.txns.told(Some(told));
        let mut query = standby.begin();
        let share = LockMode::AccessShare;
        let locks = standby.txns.locks();
        let asked = locks.lock_relation(&mut query, relation, share, LockWait::NoWait);
        assert_eq!(asked.await.is_ok(), is_free, "told {told}");
    }
    assert_eq!(table.count(), 0);
}

/// The receiver may hear of a commit while replay tells the sessions that what they remember is old.
#[tokio::test]
async fn nothing_is_shown_before_sessions_know_what_has_become_old() {
    let world = World::new();
    let (mut txn, _) = world.write();
    txn.invalidate(Invalidation::All { database: DATABASE });
    let end = world.txns.commit(txn, CommitLevel::On).await;
    let end = end.expect("committed").expect("it wrote");
    let standby = World::recovering(16);
    let shown = Arc::new(Mutex::new(Vec::new()));
    let (hook, txns) = (shown.clone(), Arc::downgrade(&standby.txns));
    standby.txns.on_invalidation(Box::new(move |_| {
        let txns = txns.upgrade().expect("it lives");
        txns.told(None);
        hook.lock().push(txns.release().released_lsn());
    }));
    replay_on(&world, &standby, |_| {});
    let shown = shown.lock().clone();
    assert_eq!(shown.len(), 1);
    assert!(shown[0] < end, "{shown:?} before {end}");
    assert!(standby.txns.release().released_lsn() >= end);
}

#[test]
fn a_standby_tells_its_own_standbys_what_it_was_told() {
    let standby = World::recovering(16);
    let release = standby.txns.release();
    // Its own settings have no say.
    release.set_policy(ReleasePolicy::Local);
    standby.txns.replayed(START.advance(800));
    let safe = release.safe_watch();
    assert_eq!(*safe.borrow(), (Lsn::INVALID, false));
    let told = START.advance(400);
    standby.txns.told(Some(told));
    assert_eq!(*safe.borrow(), (told, true));
    release.set_policy(wait_for("s"));
    assert_eq!(*safe.borrow(), (told, true));
    standby.txns.told(None);
    assert_eq!(*safe.borrow(), (Lsn::INVALID, false));
    // As a primary it speaks for itself.
    standby.txns.told(Some(told));
    release.become_primary(START.advance(800), START.advance(800));
    assert_eq!(*safe.borrow(), (told, true));
    release.advance_standbys(&standby_at(START.advance(800)));
    assert_eq!(*safe.borrow(), (START.advance(800), true));
}

#[test]
fn what_was_told_counts_no_further_than_the_timeline_it_was_told_of() {
    let standby = World::recovering(16);
    let (txns, fork) = (&standby.txns, START.advance(400));
    txns.told_at_most(fork);
    txns.replayed(START.advance(240));
    assert_eq!(*txns.release().safe_watch().borrow(), (Lsn::INVALID, false));
    txns.told(Some(START.advance(800)));
    txns.told_at_most(fork);
    assert_eq!(*txns.release().safe_watch().borrow(), (fork, true));
    txns.replayed(START.advance(640));
    assert_eq!(txns.release().released_lsn(), fork);
    txns.told(Some(START.advance(480)));
    assert_eq!(txns.release().released_lsn(), START.advance(480));
}

/// A candidate that lagged, and was promoted all the same.
#[test]
fn a_new_primary_does_not_take_lost_commits_for_its_own() {
    let standby = World::recovering(16);
    let (txns, end) = (&standby.txns, START.advance(480));
    txns.release().set_policy(wait_for("s"));
    txns.replayed(START.advance(400));
    txns.told(Some(START.advance(800)));
    txns.release().become_primary(end, end);
    assert_eq!(*txns.release().safe_watch().borrow(), (end, true));
    txns.release()
        .advance_standbys(&standby_at(START.advance(560)));
    let own = txns.release().safe_watch();
    assert!(own.borrow().0 < START.advance(800), "{own:?}");
}
