//! Finding cycles among those who wait.
//!
//! Every waiter looks once, after `deadlock_timeout`: the cycle is closed by the last of its waits to begin, so
//! that waiter (or one that looks after it) finds it. One search runs at a time, and the victim stops waiting
//! inside it, so of two who look at once only one is sent away. Edges are holders of conflicting locks, those who
//! wait ahead for conflicting ones, and the session that runs a transaction.
//!
//! On a standby replay waits and holds like a session, but it does not look, and is nobody's victim: so the others look
//! again and again. What it holds only until the primary's word comes is no edge, unless that word is long in coming: where
//! the primary is gone, a promotion waits for replay.
//!
//! Who only waits ahead holds nothing yet: if letting somebody pass in a queue leaves no cycle, the queue is changed
//! and nobody fails, as in PostgreSQL (`src/backend/storage/lmgr/README`, "soft edges").

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::ids::ProcessId;
use crate::txn::locks::table::Standing;
use crate::txn::locks::{LockMode, LockTag};
use crate::txn::manager::Shared;
use crate::txn::participant::{Participant, WaitFor};
use crate::wal::xlog_records::now_us;

/// For how many microseconds of a wait the primary's word is expected.
const WORD_LIMIT_US: i64 = 30_000_000;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Edge {
    waiter: Arc<Participant>,
    wait: WaitFor,
    blocker: Arc<Participant>,
    /// The blocker only stands ahead in the queue.
    soft: bool,
}

/// In the queue of `tag`, `first` shall stand before `second`, who is ahead of it now.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) tag: LockTag,
    pub(crate) first: Arc<Participant>,
    pub(crate) second: Arc<Participant>,
}

/// Changes of queues that are tried together.
const MAX_PASSES: usize = 8;

/// Those who wait for each other.
pub(crate) struct Ring {
    /// PostgreSQL's DETAIL.
    pub(crate) detail: String,
    pub(crate) processes: Vec<ProcessId>,
}

/// What a look at a wait has found.
pub(crate) enum Found {
    Nothing,
    /// There was a cycle, and letting somebody pass in a queue has broken it.
    Rearranged,
    /// No change of a queue breaks it.
    Cycle(Ring),
}

/// If `me` waits in a cycle that no change of a queue breaks, this ends its wait.
pub(crate) fn find(shared: &Shared, me: &Arc<Participant>) -> Found {
    let _search = ONE_AT_A_TIME.lock();
    let mut passes = Vec::new();
    match resolve(shared, me, &mut passes) {
        Ok(()) => {
            for pass in &passes {
                shared.locks.table.let_pass(pass);
            }
            if passes.is_empty() {
                Found::Nothing
            } else {
                Found::Rearranged
            }
        }
        Err(path) => {
            *me.waiting.lock() = None;
            Found::Cycle(Ring {
                detail: detail(&path),
                processes: path.iter().map(|edge| edge.waiter.pid).collect(),
            })
        }
    }
}

fn detail(path: &[Edge]) -> String {
    let mut detail = String::new();
    for edge in path {
        let newline = if detail.is_empty() { "" } else { "\n" };
        let _ = write!(
            detail,
            "{newline}Process {} waits for {} on {}; blocked by process {}.",
            edge.waiter.pid, edge.wait.mode, edge.wait.tag, edge.blocker.pid
        );
    }
    detail
}

/// Looks for changes of queues with which nobody concerned waits in a cycle; the cycle where there are none.
fn resolve(
    shared: &Shared,
    me: &Arc<Participant>,
    passes: &mut Vec<Pass>,
) -> Result<(), Vec<Edge>> {
    // A change may close another cycle, through those whom it concerns.
    let concerned: Vec<Arc<Participant>> = passes
        .iter()
        .flat_map(|p| [p.first.clone(), p.second.clone()])
        .chain([me.clone()])
        .collect();
    let cycle = concerned.iter().find_map(|start| {
        let mut path = Vec::new();
        search(shared, start, start, passes, &mut HashSet::new(), &mut path).then_some(path)
    });
    let Some(cycle) = cycle else {
        return Ok(());
    };
    let known = passes.len();
    for edge in cycle.iter().filter(|e| e.soft) {
        if known >= MAX_PASSES {
            break;
        }
        passes.push(Pass {
            tag: edge.wait.tag,
            first: edge.waiter.clone(),
            second: edge.blocker.clone(),
        });
        if are_possible(shared, passes) && resolve(shared, me, passes).is_ok() {
            return Ok(());
        }
        passes.truncate(known);
    }
    Err(cycle)
}

/// Whether the passes of one queue do not contradict each other.
fn are_possible(shared: &Shared, passes: &[Pass]) -> bool {
    passes.iter().all(|pass| {
        let (_, queue) = shared.locks.table.standing(pass.tag);
        let order = reordered(queue, pass.tag, passes);
        let place = |who: &Arc<Participant>| order.iter().position(|(w, _)| Arc::ptr_eq(w, who));
        place(&pass.first) < place(&pass.second)
    })
}

fn reordered(mut queue: Standing, tag: LockTag, passes: &[Pass]) -> Standing {
    for pass in passes.iter().filter(|p| p.tag == tag) {
        let place = |q: &Standing, who| q.iter().position(|(w, _)| Arc::ptr_eq(w, who));
        if let (Some(from), Some(to)) = (place(&queue, &pass.first), place(&queue, &pass.second))
            && from > to
        {
            let moved = queue.remove(from);
            queue.insert(to, moved);
        }
    }
    queue
}

/// Whether `who` waits, perhaps through others, for something that `whom` has.
pub(crate) fn waits_for(shared: &Shared, who: &Arc<Participant>, whom: &Arc<Participant>) -> bool {
    let (mut visited, mut path) = (HashSet::new(), Vec::new());
    search(shared, who, whom, &[], &mut visited, &mut path)
}

/// Who has to give something back before `waiter` can go on.
pub(crate) fn blockers(
    shared: &Shared,
    waiter: &Arc<Participant>,
    wait: WaitFor,
) -> Vec<Arc<Participant>> {
    let edges = edges(shared, waiter, wait, &[]);
    edges.into_iter().map(|e| e.blocker).collect()
}

fn edges(shared: &Shared, waiter: &Arc<Participant>, wait: WaitFor, passes: &[Pass]) -> Vec<Edge> {
    let edge = |blocker, soft| Edge {
        waiter: waiter.clone(),
        wait,
        blocker,
        soft,
    };
    if let LockTag::Transaction(xid) = wait.tag {
        let runner = shared.running.get(xid);
        return runner.into_iter().map(|b| edge(b, false)).collect();
    }
    let (holders, queue) = shared.locks.table.standing(wait.tag);
    // Granted meanwhile.
    if !queue.iter().any(|(w, _)| Arc::ptr_eq(w, waiter)) {
        return Vec::new();
    }
    let conflicts = |(who, mode): &(Arc<Participant>, LockMode)| {
        !Arc::ptr_eq(who, waiter) && wait.mode.conflicts_with(*mode)
    };
    let hard = holders.into_iter().filter(conflicts);
    let mut found: Vec<Edge> = hard.map(|(who, _)| edge(who, false)).collect();
    let ahead = reordered(queue, wait.tag, passes)
        .into_iter()
        .take_while(|(who, _)| !Arc::ptr_eq(who, waiter));
    found.extend(ahead.filter(conflicts).map(|(who, _)| edge(who, true)));
    found
}

/// Depth first from `at`; true if `target` is reached, and then `path` leads there.
fn search(
    shared: &Shared,
    at: &Arc<Participant>,
    target: &Arc<Participant>,
    passes: &[Pass],
    visited: &mut HashSet<*const Participant>,
    path: &mut Vec<Edge>,
) -> bool {
    let Some(wait) = *at.waiting.lock() else {
        return false;
    };
    for edge in edges(shared, at, wait, passes) {
        let blocker = edge.blocker.clone();
        if shared.replay.only_keeps(&blocker, wait.tag) && now_us() - wait.since < WORD_LIMIT_US {
            continue;
        }
        path.push(edge);
        if Arc::ptr_eq(&blocker, target) {
            return true;
        }
        if visited.insert(Arc::as_ptr(&blocker))
            && search(shared, &blocker, target, passes, visited, path)
        {
            return true;
        }
        path.pop();
    }
    false
}
