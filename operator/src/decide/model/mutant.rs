//! Safeguards that are taken away on purpose, to see that the models notice. `decide` itself stays as it is: what goes
//! into it or comes out of it is changed, or what an instance does.

use crate::crd::{Phase, Record};
use crate::decide::Swap;

/// What is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mutant {
    None,
    /// One answer is taken for enough.
    OneAnswer,
    /// The second swap does not compare the record's version.
    NoSecondCompare,
    /// A new set replaces the list instead of being appended.
    ForgetOlderSets,
    /// Older sets are dropped without waiting for the new members.
    DropAtOnce,
    /// A candidate that is lost is replaced in the same term.
    TwoCandidates,
    /// A trigger is obeyed whatever was promised.
    PromoteUnpromised,
    /// A standby streams from a primary of a lower term, and is counted there.
    StreamUnchecked,
    /// The longest log wins, whatever its timeline.
    LengthBeforeTimeline,
    /// A new seed keeps the id, and promises only what its source did.
    KeepId,
}

impl Mutant {
    /// The safeguards that DESIGN names.
    pub(super) const ALL: [Mutant; 9] = [
        Mutant::OneAnswer,
        Mutant::NoSecondCompare,
        Mutant::ForgetOlderSets,
        Mutant::DropAtOnce,
        Mutant::TwoCandidates,
        Mutant::PromoteUnpromised,
        Mutant::StreamUnchecked,
        Mutant::LengthBeforeTimeline,
        Mutant::KeepId,
    ];

    /// With all members required, one answer satisfies a set.
    pub(super) fn record_to_decide_on(self, mut record: Record) -> Record {
        if self == Mutant::OneAnswer && record.phase == Phase::FailingOver {
            for set in &mut record.in_sync {
                set.required = u32::try_from(set.members.len()).unwrap_or(0);
            }
        }
        record
    }

    pub(super) fn swap_to_make(self, old: Option<&Record>, mut swap: Swap) -> Swap {
        let Some(old) = old else { return swap };
        let next = &mut swap.record;
        match self {
            Mutant::OneAnswer => {
                for set in &mut next.in_sync {
                    if let Some(real) = old.in_sync.iter().find(|s| s.version() == set.version()) {
                        set.required = real.required;
                    }
                }
            }
            Mutant::ForgetOlderSets if next.in_sync.len() > old.in_sync.len() => {
                next.in_sync.drain(..next.in_sync.len() - 1);
            }
            Mutant::TwoCandidates
                if old.phase == Phase::Promoting && next.phase == Phase::FailingOver =>
            {
                next.term = old.term;
            }
            _ => {}
        }
        swap
    }

    /// Whether the choice of a candidate overwrites a record of the same term, whatever its version.
    pub(super) fn swaps_blindly(self, now: &Record, next: &Record) -> bool {
        self == Mutant::NoSecondCompare && next.phase == Phase::Promoting && now.term == next.term
    }
}
