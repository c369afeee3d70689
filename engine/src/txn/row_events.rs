//! Changed rows that a constraint still has to look at, before the statement or the transaction may end.
//!
//! Numbers only: of the constraint, the table, and the row versions. What is done about an event is `sql/references`'s.
//! Versions that the transaction itself wrote or removed stay where they are until it ends, so their addresses are
//! enough. An event is *due* at the end of its statement, or where its constraint is deferred (SET CONSTRAINTS) at the end
//! of the transaction. One that was dealt with stays in the queue as long as a savepoint may bring it back:
//!
//! ```text
//!  queue   | deferred, of finished statements   | of the statement that runs |
//!          0            marks of savepoints     settled                    len
//! ```
//!
//! Manual, SET CONSTRAINTS; `commands/trigger.c`. Nothing of it is logged: a crash ends the transaction.

use crate::ids::{Oid, Tid};

/// Events that an empty queue keeps room for.
const ROOM: usize = 1024;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowChange {
    /// A version whose references have to be there.
    Written { new: Tid },
    /// A version that may be referenced went.
    Removed { old: Tid },
    /// Its key changed.
    Rekeyed { old: Tid, new: Tid },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowEvent {
    pub constraint: Oid,
    /// The table of the row.
    pub relation: Oid,
    pub change: RowChange,
    pub deferrable: bool,
    pub initially_deferred: bool,
}

/// Which events are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Those of the statement that ends.
    Statement,
    /// All that the constraints' modes do not put off: SET CONSTRAINTS.
    Immediate,
    /// All: COMMIT.
    Transaction,
}

/// What SET CONSTRAINTS said.
#[derive(Debug, Clone, Default)]
struct Modes {
    /// ALL; true: deferred.
    all: Option<bool>,
    each: Vec<(Oid, bool)>,
}

impl Modes {
    fn defers(&self, event: &RowEvent) -> bool {
        if !event.deferrable {
            return false;
        }
        let named = self.each.iter().find(|(oid, _)| *oid == event.constraint);
        named
            .map(|(_, deferred)| *deferred)
            .or(self.all)
            .unwrap_or(event.initially_deferred)
    }
}

#[derive(Debug, Clone, Copy)]
struct Queued {
    event: RowEvent,
    /// The round in which it was dealt with; 0: not yet.
    done: u32,
}

/// Where a savepoint found the queue.
#[derive(Debug)]
struct Mark {
    len: usize,
    round: u32,
    modes: Modes,
}

/// The queue of a transaction.
#[derive(Debug, Default)]
pub struct RowEvents {
    queue: Vec<Queued>,
    /// Before it are only events of finished statements, which the end of another one does not ask about.
    settled: usize,
    round: u32,
    /// Where the round began.
    begun: usize,
    modes: Modes,
    marks: Vec<Mark>,
}

impl RowEvents {
    pub fn extend(&mut self, events: impl IntoIterator<Item = RowEvent>) {
        let new = events.into_iter().map(|event| Queued { event, done: 0 });
        self.queue.extend(new);
    }

    /// Whether there is anything to be asked about: nearly always not.
    #[inline]
    pub fn any(&self, due: Due) -> bool {
        self.queue.len() > self.start(due)
    }

    fn start(&self, due: Due) -> usize {
        match due {
            Due::Statement => self.settled,
            Due::Immediate | Due::Transaction => 0,
        }
    }

    /// Begins to deal with the events that are due.
    pub fn begin_round(&mut self, due: Due) -> Round {
        self.round += 1;
        self.begun = self.start(due);
        Round {
            due,
            at: self.begun,
        }
    }

    /// The next event of the round, which counts as dealt with from then on. Those that were queued meanwhile come too.
    pub fn next(&mut self, round: &mut Round) -> Option<RowEvent> {
        while let Some(queued) = self.queue.get_mut(round.at) {
            round.at += 1;
            let waits = round.due != Due::Transaction && self.modes.defers(&queued.event);
            if queued.done == 0 && !waits {
                queued.done = self.round;
                return Some(queued.event);
            }
        }
        None
    }

    /// All events of the round are dealt with: no savepoint of before brings back those that came after it.
    pub fn end_round(&mut self) {
        let kept = self.marks.last().map_or(0, |mark| mark.len);
        let begin = kept.max(self.begun).min(self.queue.len());
        let mut to = begin;
        // In place: a load of millions of rows has as many events.
        for from in begin..self.queue.len() {
            if self.queue[from].done == 0 {
                self.queue.swap(from, to);
                to += 1;
            }
        }
        self.queue.truncate(to);
        if self.queue.is_empty() {
            self.queue.shrink_to(ROOM);
        }
        self.settled = self.queue.len();
    }

    /// Whether a row of the table still has to be looked at.
    pub fn pending_on(&self, relation: Oid) -> bool {
        let mut waiting = self.queue.iter().filter(|queued| queued.done == 0);
        waiting.any(|queued| queued.event.relation == relation)
    }

    /// SET CONSTRAINTS ALL.
    pub fn set_all(&mut self, deferred: bool) {
        self.modes.each.clear();
        self.modes.all = Some(deferred);
    }

    /// SET CONSTRAINTS of one.
    pub fn set(&mut self, constraint: Oid, deferred: bool) {
        self.modes.each.retain(|(oid, _)| *oid != constraint);
        self.modes.each.push((constraint, deferred));
    }

    pub(super) fn push_mark(&mut self) {
        self.marks.push(Mark {
            len: self.queue.len(),
            round: self.round,
            modes: self.modes.clone(),
        });
    }

    /// The savepoints from this one on are released.
    pub(super) fn release(&mut self, from: usize) {
        self.marks.truncate(from);
    }

    /// What came since the savepoint goes, and what was dealt with since is to be dealt with again.
    pub(super) fn roll_back(&mut self, to: usize) {
        self.marks.truncate(to + 1);
        let Some(mark) = self.marks.pop() else {
            return;
        };
        self.queue.truncate(mark.len);
        for queued in &mut self.queue {
            if queued.done > mark.round {
                queued.done = 0;
            }
        }
        self.settled = self.queue.len();
        self.modes = mark.modes;
    }
}

/// How far a round is.
#[derive(Debug)]
pub struct Round {
    due: Due,
    at: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BlockNumber, OffsetNumber};

    const TABLE: Oid = Oid::new(20000);

    fn event(constraint: u32, deferred: bool) -> RowEvent {
        RowEvent {
            constraint: Oid::new(constraint),
            relation: TABLE,
            change: RowChange::Written {
                new: Tid::new(BlockNumber::new(0), OffsetNumber::FIRST),
            },
            deferrable: true,
            initially_deferred: deferred,
        }
    }

    fn fired(events: &mut RowEvents, due: Due) -> Vec<u32> {
        let mut round = events.begin_round(due);
        let mut fired = Vec::new();
        while let Some(event) = events.next(&mut round) {
            fired.push(event.constraint.raw());
        }
        events.end_round();
        fired
    }

    #[test]
    fn a_deferred_event_waits_for_the_end_of_the_transaction() {
        let mut events = RowEvents::default();
        events.extend([event(1, false), event(2, true)]);
        assert_eq!(fired(&mut events, Due::Statement), [1]);
        assert!(!events.any(Due::Statement), "the deferred one is settled");
        assert!(events.pending_on(TABLE));
        assert_eq!(fired(&mut events, Due::Transaction), [2]);
        assert!(!events.pending_on(TABLE));
    }

    #[test]
    fn what_waits_keeps_its_order() {
        let mut events = RowEvents::default();
        events.push_mark();
        let queued = [1, 2, 3, 4, 5, 6].map(|n| event(n, n % 2 == 0));
        events.extend(queued);
        assert_eq!(fired(&mut events, Due::Statement), [1, 3, 5]);
        events.extend([event(7, false), event(8, true)]);
        assert_eq!(fired(&mut events, Due::Statement), [7]);
        assert_eq!(fired(&mut events, Due::Transaction), [2, 4, 6, 8]);
        assert!(!events.any(Due::Transaction), "nothing is kept");
    }

    #[test]
    fn constraints_are_set_one_by_one_and_all_together() {
        let mut events = RowEvents::default();
        events.set_all(true);
        events.set(Oid::new(2), false);
        events.extend([event(1, false), event(2, true)]);
        assert_eq!(fired(&mut events, Due::Statement), [2]);
        events.set_all(false);
        assert_eq!(fired(&mut events, Due::Immediate), [1]);
    }

    #[test]
    fn a_rollback_brings_back_what_was_dealt_with_since() {
        let mut events = RowEvents::default();
        events.extend([event(1, true)]);
        assert!(fired(&mut events, Due::Statement).is_empty());
        events.push_mark();
        events.extend([event(2, true)]);
        events.set_all(false);
        assert_eq!(fired(&mut events, Due::Immediate), [1, 2]);
        events.roll_back(0);
        assert!(
            fired(&mut events, Due::Immediate).is_empty(),
            "deferred again"
        );
        assert_eq!(fired(&mut events, Due::Transaction), [1]);
    }

    #[test]
    fn a_released_savepoint_brings_nothing_back() {
        let mut events = RowEvents::default();
        events.push_mark();
        events.extend([event(1, true)]);
        events.release(0);
        assert_eq!(fired(&mut events, Due::Transaction), [1]);
        assert!(!events.any(Due::Transaction), "nothing is kept");
    }
}
