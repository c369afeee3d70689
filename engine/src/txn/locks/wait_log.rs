//! What `log_lock_waits` writes of a wait that outlasts `deadlock_timeout`: PostgreSQL's lines (manual, 20.8.2).
//!
//! Says who holds the lock and who stands in its queue at that moment. Knows no statement: the log adds the one that
//! the session is at.

use std::sync::Arc;

use tokio::time::Instant;

use crate::ids::ProcessId;
use crate::txn::locks::deadlock::Found;
use crate::txn::locks::{LockMode, LockTag};
use crate::txn::manager::Shared;
use crate::txn::participant::{Participant, WaitFor};

/// One wait, as the log is told of it.
pub(crate) struct WaitLog {
    me: ProcessId,
    wait: WaitFor,
    begun: Instant,
    /// Its beginning was told, so its end is, too.
    told: bool,
}

impl WaitLog {
    pub(crate) fn new(me: &Participant, wait: WaitFor) -> WaitLog {
        WaitLog {
            me: me.pid,
            wait,
            begun: Instant::now(),
            told: false,
        }
    }

    /// `deadlock_timeout` is over, and this is what was found. A standby looks again and again, and tells it once.
    pub(crate) fn lasts(&mut self, shared: &Shared, found: &Found, granted: bool) {
        let is_victim = matches!(found, Found::Cycle(_));
        if self.told && !is_victim {
            return;
        }
        self.told = true;
        let detail = self.standing(shared, is_victim);
        let detail = detail.as_str();
        let (me, mode, tag) = (self.me, self.wait.mode, self.wait.tag);
        let after = self.after();
        match found {
            Found::Cycle(_) => {
                tracing::info!(
                    detail,
                    of_statement = true,
                    "process {me} detected deadlock while waiting for {mode} on {tag} after {after} ms"
                );
                return;
            }
            Found::Rearranged => tracing::info!(
                detail,
                of_statement = true,
                "process {me} avoided deadlock for {mode} on {tag} by rearranging queue order after {after} ms"
            ),
            Found::Nothing => {}
        }
        if !granted {
            tracing::info!(
                detail,
                of_statement = true,
                "process {me} still waiting for {mode} on {tag} after {after} ms"
            );
        }
    }

    pub(crate) fn ends_well(&self) {
        if self.told {
            let (me, mode, tag) = (self.me, self.wait.mode, self.wait.tag);
            let after = self.after();
            tracing::info!(
                of_statement = true,
                "process {me} acquired {mode} on {tag} after {after} ms"
            );
        }
    }

    /// Milliseconds with three decimals.
    fn after(&self) -> String {
        let micros = self.begun.elapsed().as_micros();
        format!("{}.{:03}", micros / 1000, micros % 1000)
    }

    /// PostgreSQL's DETAIL. A victim stands in the queue no more.
    fn standing(&self, shared: &Shared, is_victim: bool) -> String {
        let (holders, mut queue) = who_stands(shared, self.wait.tag);
        if is_victim {
            queue.retain(|pid| *pid != self.me);
        }
        described(&holders, &queue)
    }
}

/// Who waits for a lock is no holder, whatever he has of it already; who has it in several modes is named once.
fn described(holders: &[ProcessId], queue: &[ProcessId]) -> String {
    let mut named: Vec<ProcessId> = Vec::new();
    for pid in holders {
        if !queue.contains(pid) && !named.contains(pid) {
            named.push(*pid);
        }
    }
    let noun = if named.len() == 1 {
        "Process"
    } else {
        "Processes"
    };
    format!(
        "{noun} holding the lock: {}. Wait queue: {}.",
        listed(&named),
        listed(queue)
    )
}

fn listed(pids: &[ProcessId]) -> String {
    let shown: Vec<String> = pids.iter().map(ProcessId::to_string).collect();
    shown.join(", ")
}

/// Who holds what `tag` names, and who waits for it, the first one first.
fn who_stands(shared: &Shared, tag: LockTag) -> (Vec<ProcessId>, Vec<ProcessId>) {
    let LockTag::Transaction(xid) = tag else {
        let (holders, waiters) = shared.locks.table.standing(tag);
        let pid = |(who, _): &(Arc<Participant>, LockMode)| who.pid;
        return (
            holders.iter().map(pid).collect(),
            waiters.iter().map(pid).collect(),
        );
    };
    let holder = shared.running.get(xid).map(|who| who.pid);
    let mut waiting = Vec::new();
    shared.participants.each(|who| {
        let wait = *who.waiting.lock();
        if let Some(wait) = wait
            && wait.tag == tag
        {
            waiting.push((wait.since, who.pid));
        }
    });
    waiting.sort_unstable();
    let queue = waiting.into_iter().map(|(_, pid)| pid).collect();
    (holder.into_iter().collect(), queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_named_once_and_waiters_apart() {
        let pids = |numbers: &[u32]| -> Vec<ProcessId> {
            let pid = |n: &u32| ProcessId::new(*n).expect("not zero");
            numbers.iter().map(pid).collect()
        };
        let cases: [(&[u32], &[u32], &str); 5] = [
            // In several modes.
            (
                &[3, 12, 3],
                &[7],
                "Processes holding the lock: 3, 12. Wait queue: 7.",
            ),
            (
                &[3, 3],
                &[7, 5],
                "Process holding the lock: 3. Wait queue: 7, 5.",
            ),
            // Who has it and waits for a higher mode.
            (&[3, 7], &[7], "Process holding the lock: 3. Wait queue: 7."),
            // A victim still has it, and waits no more.
            (&[7], &[3], "Process holding the lock: 7. Wait queue: 3."),
            (&[], &[], "Processes holding the lock: . Wait queue: ."),
        ];
        for (holders, queue, said) in cases {
            assert_eq!(described(&pids(holders), &pids(queue)), said);
        }
    }
}
