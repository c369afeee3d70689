//! Writers in the way of one another, and the locks that stand in a row.

use super::*;

#[test]
fn writers_are_told_what_is_in_their_way() {
    let mut table = Table::new(64);
    let mut setup = table.world.begin();
    let one = table.insert(&mut setup, &(1, 0, None));
    let two = table.insert(&mut setup, &(2, 0, None));
    table.commit(setup);

    let mut first = table.world.begin();
    let first_xid = table.world.txns.xid(&mut first).expect("xid");
    let Modified::Done { tid: newer, .. } = table.update(&mut first, one, &(1, 1, None)) else {
        panic!("nothing was in the way");
    };
    assert_eq!(
        table.update(&mut first, one, &(1, 2, None)),
        Modified::SelfModified {
            cid: first.command_id()
        }
    );
    let mut second = table.world.begin();
    assert_eq!(
        table.update(&mut second, one, &(1, 5, None)),
        Modified::Wait {
            xid: first_xid,
            mode: RowLockMode::NoKeyExclusive
        }
    );
    assert_eq!(
        table.delete(&mut second, one),
        Modified::Wait {
            xid: first_xid,
            mode: RowLockMode::Exclusive
        }
    );
    // The update did not touch the key: a foreign key check goes on.
    let key_share = table.lock(&mut second, one, RowLockMode::KeyShare);
    assert!(matches!(key_share, Modified::Done { .. }));
    assert_eq!(
        table.lock(&mut second, one, RowLockMode::Share),
        Modified::Wait {
            xid: first_xid,
            mode: RowLockMode::Share
        }
    );
    // And it protects the version that the update made.
    let second_xid = second.top_xid().expect("has one");
    first.next_command().expect("next");
    assert_eq!(
        table.delete(&mut first, newer),
        Modified::Wait {
            xid: second_xid,
            mode: RowLockMode::Exclusive
        }
    );
    table.commit(first);
    assert_eq!(
        table.update(&mut second, one, &(1, 5, None)),
        Modified::Updated { next: newer }
    );
    assert!(matches!(
        table.delete(&mut second, two),
        Modified::Done { .. }
    ));
    table.commit(second);
    let mut third = table.world.begin();
    assert_eq!(table.delete(&mut third, two), Modified::Deleted);
    assert!(matches!(
        table.delete(&mut third, newer),
        Modified::Done { .. }
    ));
}

#[test]
fn exclusive_locks_stand_in_the_row_and_end_with_their_transaction() {
    let mut table = Table::new(64);
    let mut setup = table.world.begin();
    let tid = table.insert(&mut setup, &(1, 0, None));
    table.commit(setup);
    let mut first = table.world.begin();
    let xid = table.world.txns.xid(&mut first).expect("xid");
    assert!(matches!(
        table.lock(&mut first, tid, RowLockMode::NoKeyExclusive),
        Modified::Done { .. }
    ));
    let mut second = table.world.begin();
    assert_eq!(
        table.lock(&mut second, tid, RowLockMode::Exclusive),
        Modified::Wait {
            xid,
            mode: RowLockMode::Exclusive
        }
    );
    assert!(matches!(
        table.lock(&mut second, tid, RowLockMode::KeyShare),
        Modified::Done { .. }
    ));
    table.world.txns.abort(first);
    assert!(matches!(
        table.lock(&mut second, tid, RowLockMode::Exclusive),
        Modified::Done { .. }
    ));
    let reader = table.world.begin();
    let snapshot = table.world.txns.snapshot(&reader);
    assert!(
        table.find(1, &snapshot).is_some(),
        "a lock does not hide the row"
    );
}

#[test]
fn a_lock_survives_the_rollback_of_a_later_one() {
    let mut table = Table::new(64);
    let mut setup = table.world.begin();
    let tid = table.insert(&mut setup, &(1, 0, None));
    table.commit(setup);
    let mut first = table.world.begin();
    let outer = table.world.txns.xid(&mut first).expect("xid");
    assert!(matches!(
        table.lock(&mut first, tid, RowLockMode::Exclusive),
        Modified::Done { .. }
    ));
    table.world.txns.savepoint(&mut first, "s");
    first.next_command().expect("next");
    assert!(matches!(
        table.update(&mut first, tid, &(1, 9, None)),
        Modified::Done { .. }
    ));
    table
        .world
        .txns
        .rollback_to_savepoint(&mut first, "s")
        .expect("rolled back");
    let mut second = table.world.begin();
    assert_eq!(
        table.update(&mut second, tid, &(1, 5, None)),
        Modified::Wait {
            xid: outer,
            mode: RowLockMode::NoKeyExclusive
        }
    );
    table.world.txns.abort(first);
    assert!(matches!(
        table.update(&mut second, tid, &(1, 5, None)),
        Modified::Done { .. }
    ));
}
