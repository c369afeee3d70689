//! Finding cycles among those who wait.
//!
//! Every waiter looks once, after `deadlock_timeout`: the cycle is closed by the last of its waits to begin, so
//! that waiter (or one that looks after it) finds it. One search runs at a time, and the victim stops waiting
//! inside it, so of two who look at once only one is sent away. Edges are holders of conflicting locks, those who
//! wait ahead for conflicting ones, and the session that runs a transaction.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::ids::ProcessId;
use crate::txn::locks::LockTag;
use crate::txn::manager::Shared;
use crate::txn::participant::{Participant, WaitFor};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Edge {
    waiter: ProcessId,
    wait: WaitFor,
    blocker: ProcessId,
}

/// If `me` waits in a cycle: ends its wait and gives PostgreSQL's DETAIL.
pub(crate) fn find(shared: &Shared, me: &Arc<Participant>) -> Option<String> {
    let _search = ONE_AT_A_TIME.lock();
    let mut path = Vec::new();
    let mut visited = HashSet::new();
    if !search(shared, me, me, &mut visited, &mut path) {
        return None;
    }
    *me.waiting.lock() = None;
    let mut detail = String::new();
    for edge in &path {
        let newline = if detail.is_empty() { "" } else { "\n" };
        let _ = write!(
            detail,
            "{newline}Process {} waits for {} on {}; blocked by process {}.",
            edge.waiter, edge.wait.mode, edge.wait.tag, edge.blocker
        );
    }
    Some(detail)
}

/// Depth first from `at`; true if `target` is reached, and then `path` leads there.
fn search(
    shared: &Shared,
    at: &Arc<Participant>,
    target: &Arc<Participant>,
    visited: &mut HashSet<ProcessId>,
    path: &mut Vec<Edge>,
) -> bool {
    let Some(wait) = *at.waiting.lock() else {
        return false;
    };
    let blockers = match wait.tag {
        LockTag::Transaction(xid) => shared.running.get(xid).into_iter().collect(),
        tag => shared.locks.table.blockers(tag, wait.mode, at),
    };
    for blocker in blockers {
        path.push(Edge {
            waiter: at.pid,
            wait,
            blocker: blocker.pid,
        });
        if Arc::ptr_eq(&blocker, target) {
            return true;
        }
        if visited.insert(blocker.pid) && search(shared, &blocker, target, visited, path) {
            return true;
        }
        path.pop();
    }
    false
}
