//! The operators of a whole search: any number of them, each frozen between any two of its steps for as long as it likes.
//!
//! An operator that decides has read the record at some moment and each instance at some moment, in any order, or has
//! not heard it at all. Since there may always be one more of them, which has done nothing else before, decisions are
//! made on every record that there has been, together with every status of each instance that there has been, and
//! nothing else about operators needs to be in a state. Of these are kept those that still make a difference:
//!
//! - a record, as long as its calls may be obeyed: until every instance has promised a higher term. No swap that was
//!   decided on it can succeed. One that another record [`replaces`] has no calls of its own left;
//! - a status from before the term of the oldest such record only as far as [`outlook::outdated`] leaves it;
//! - how far a primary has come with its set, and who streams from it, as long as its term is the present record's: what is
//!   told to anybody does not depend on that, and swaps of older records can't succeed ([`outlook::past`]);
//! - who streams, as long as the set may still change: where no change is left, only a swap that is out of bounds anyway
//!   could come of that ([`outlook::without_streams`]).
//!
//! The calls that some operator can make are on their way at once. That makes fewer states and takes no behaviour away,
//! as a call that is on its way may arrive late or never. Swaps are actions of their own.
//!
//! An emptied volume has forgotten its promise, so that its new copy may obey operators again whose records are not kept
//! any more. What these can tell a copy that was never part of their sets is to seal, to follow, and to be seeded anew:
//! the first two are on their way to it, for every older term, whether some operator would send them or not. The last is
//! not in these searches: a volume may be emptied at any time at the same price, and the copy told to follow, which
//! comes to the same (the walks have both).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::outlook;
use super::state::{Budget, MOST, Number, State, View, Wrong};
use super::{Search, moves};
use crate::crd::{InSyncSet, Phase, Record};
use crate::decide::Step;
use crate::decide::model::mutant::Mutant;
use crate::ids::Term;

/// Everything that can come of deciding on a record, with whatever was read of the instances.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Wishes {
    calls: BTreeSet<(usize, Number)>,
    swaps: BTreeSet<Number>,
    licensed: bool,
}

/// What an instance has promised, and whether its copy was not there in the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Promise {
    term: Term,
    is_new: bool,
}

/// What makes a difference to which statuses still do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Moment {
    /// The terms of the oldest record that some operator may still act on, and of the present one.
    oldest: Term,
    now: Term,
    streams_matter: bool,
}

impl Search {
    /// Operators read what has changed since `before`, and make their calls.
    pub(super) fn watch(&self, before: &State, next: &mut State) {
        let mut past = BTreeSet::clone(&self.sets.value(next.past));
        if next.record != before.record {
            past.insert(before.record);
        }
        past.retain(|old| !self.is_done(next, *old));
        let terms = past.iter().chain([&next.record]);
        let oldest = terms.map(|number| self.records.value(*number).term).min();
        let oldest = oldest.unwrap_or_default();
        next.past = self.sets.number(past.clone());
        let moment = Moment {
            oldest,
            now: self.records.value(next.record).term,
            streams_matter: self.streams_matter(next.left),
        };
        for at in 0..self.bounds.instances {
            let view = self.view_of(next.sites[at]);
            next.seen[at] = self.seen_with(next.seen[at], view, moment);
        }
        if (next.record, next.past, next.seen) == (before.record, before.past, before.seen) {
            return;
        }
        self.send_new_copies_old_calls(next);
        past.insert(next.record);
        for record in past {
            let wishes = self.wishes(record, next.seen);
            for (at, call) in &wishes.calls {
                self.send(next, *at, *call);
            }
            if !wishes.licensed {
                next.wrong = Some(Wrong::Unlicensed);
            }
        }
    }

    /// The records that could replace the present one.
    pub(super) fn swaps(&self, state: &State) -> Vec<Number> {
        let mut swaps = self.wishes(state.record, state.seen).swaps.clone();
        if self.mutant == Mutant::NoSecondCompare {
            let now = self.records.value(state.record);
            for old in self.sets.value(state.past).iter() {
                let late = self.wishes(*old, state.seen);
                let blind =
                    |to: &&Number| self.mutant.swaps_blindly(&now, &self.records.value(**to));
                swaps.extend(late.swaps.iter().filter(blind));
            }
        }
        swaps.retain(|to| *to != state.record && self.may_swap(state, *to));
        swaps.into_iter().collect()
    }

    /// Whether nothing can come of deciding on this old record any more.
    fn is_done(&self, state: &State, old: Number) -> bool {
        let (record, now) = (self.records.value(old), self.records.value(state.record));
        if replaces(&now, &record, self.mutant) {
            return true;
        }
        let promises_stand = !matches!(
            self.mutant,
            Mutant::NoSecondCompare | Mutant::PromoteUnpromised | Mutant::KeepId
        );
        let has_promised_more = |site: &Number| {
            let promise = self.promise(*site);
            promise.is_new || promise.term > record.term
        };
        promises_stand
            && state.sites[..self.bounds.instances]
                .iter()
                .all(has_promised_more)
    }

    fn promise(&self, site: Number) -> Promise {
        self.promises.get(site, || {
            let node = &self.sites.value(site).node;
            Promise {
                term: node.promised,
                is_new: moves::writer(&node.id) as usize > self.bounds.instances,
            }
        })
    }

    fn send_new_copies_old_calls(&self, next: &mut State) {
        let now = self.records.value(next.record).term.number();
        for at in 0..self.bounds.instances {
            if !self.promise(next.sites[at]).is_new {
                continue;
            }
            let instance = outlook::name(at);
            let id = self.sites.value(next.sites[at]).node.id.clone();
            for term in 1..=now {
                let term = Term::new(term);
                let seal = Step::Seal {
                    instance: instance.clone(),
                    term,
                };
                self.send(next, at, self.calls.number(seal));
                if term.number() < now {
                    let follow = Step::Follow {
                        instance: instance.clone(),
                        term,
                        id: id.clone(),
                        giver: None,
                    };
                    self.send(next, at, self.calls.number(follow));
                }
            }
        }
    }

    fn seen_with(&self, seen: Number, view: Number, moment: Moment) -> Number {
        self.seen.get((seen, view, moment), || {
            let all = self.sets.value(seen);
            let all = all.iter().chain([&view]);
            let as_looked_at = |view: &Number| {
                let view = self.outdated(*view, moment.oldest);
                let view = self.past(view, moment.now);
                if moment.streams_matter {
                    view
                } else {
                    self.without_streams(view)
                }
            };
            self.sets.number(all.map(as_looked_at).collect())
        })
    }

    /// The view as it looks to whoever decides on a record, if this is the term of the newest one.
    fn past(&self, view: Number, term: Term) -> Number {
        self.past.get((view, term), || {
            let whole = View::clone(&self.views.value(view));
            self.views.number(outlook::past(whole, term))
        })
    }

    /// Whether the set may still change, or a switchover look for its target: nothing else looks at who streams.
    pub(super) fn streams_matter(&self, left: Budget) -> bool {
        (left.faults > 0 && left.changes > 0) || self.bounds.budget.switchovers > 0
    }

    /// The view as it looks to whoever decides where the set can't change any more.
    pub(super) fn without_streams(&self, view: Number) -> Number {
        self.without_streams.get(view, || {
            let whole = View::clone(&self.views.value(view));
            self.views.number(outlook::without_streams(whole))
        })
    }

    pub(super) fn all_without_streams(&self, seen: Number) -> Number {
        self.all_without_streams.get(seen, || {
            let seen = self.sets.value(seen);
            let views = seen.iter().map(|view| self.without_streams(*view));
            self.sets.number(views.collect())
        })
    }

    /// The view as it looks to whoever decides on a record of this term.
    fn outdated(&self, view: Number, term: Term) -> Number {
        self.outdated.get((view, term), || {
            let whole = View::clone(&self.views.value(view));
            self.views.number(outlook::outdated(whole, term))
        })
    }

    fn wishes(&self, record: Number, seen: [Number; MOST]) -> Arc<Wishes> {
        let number = self.wishes.get((record, seen), || {
            let term = self.records.value(record).term;
            let mut looks = [0; MOST];
            for (look, seen) in looks.iter_mut().zip(seen).take(self.bounds.instances) {
                *look = self.all_outdated(seen, term);
            }
            self.merged_wishes(record, looks)
        });
        self.all_wishes.value(number)
    }

    fn all_outdated(&self, seen: Number, term: Term) -> Number {
        self.all_outdated.get((seen, term), || {
            let seen = self.sets.value(seen);
            let views = seen.iter().map(|view| self.outdated(*view, term));
            self.sets.number(views.collect())
        })
    }

    /// What can come of any combination of these views. The combinations with one view of an instance and those without
    /// it are asked for by themselves: many of them were before.
    fn merged_wishes(&self, record: Number, seen: [Number; MOST]) -> Number {
        self.merged_wishes.get((record, seen), || {
            let mut views = [0; MOST];
            for (at, of_one) in seen.iter().enumerate().take(self.bounds.instances) {
                let all = self.sets.value(*of_one);
                let last = *all.last().expect("something was read, if only nothing");
                views[at] = last;
                if all.len() > 1 {
                    let mut rest = BTreeSet::clone(&all);
                    rest.remove(&last);
                    let with = |views: BTreeSet<Number>| {
                        let mut seen = seen;
                        seen[at] = self.sets.number(views);
                        self.all_wishes.value(self.merged_wishes(record, seen))
                    };
                    let (one, others) = (with(BTreeSet::from([last])), with(rest));
                    return self.all_wishes.number(one.merged(&others));
                }
            }
            self.all_wishes.number(self.wishes_of_one(record, views))
        })
    }

    fn wishes_of_one(&self, record: Number, views: [Number; MOST]) -> Wishes {
        let mut wishes = Wishes {
            calls: BTreeSet::new(),
            swaps: BTreeSet::new(),
            licensed: true,
        };
        for outcome in self.outcomes(record, views).iter() {
            let calls = outcome.calls.iter().copied();
            wishes
                .calls
                .extend(calls.filter(|(_, call)| !self.is_reseed(*call)));
            wishes.swaps.extend(&outcome.swap);
            wishes.licensed &= outcome.licensed;
        }
        wishes
    }
}

impl Wishes {
    fn merged(&self, other: &Wishes) -> Wishes {
        Wishes {
            calls: &self.calls | &other.calls,
            swaps: &self.swaps | &other.swaps,
            licensed: self.licensed && other.licensed,
        }
    }
}

impl Search {
    fn is_reseed(&self, call: Number) -> bool {
        matches!(*self.calls.value(call), Step::Reseed { .. })
    }
}

/// Whether `now`, which came after `old`, leaves nothing that could still come of deciding on `old`.
///
/// - Where a failover gathers answers only seals are sent, and to everybody as soon as the record is there.
/// - A promotion tells the candidate, and when that has obeyed, which is what ends it, all members of its set. Each of
///   these calls is on its way by then.
/// - A primary that serves under the same newest set: older sets that are done with and a change that is finished only
///   kept copies from being seeded anew.
/// - A primary that serves under another set: what the others are told does not depend on sets. The primary was told the
///   old one when it was promoted, or the call is on its way as soon as the record is there and until it has obeyed; once
///   it has, the same set again changes nothing unless that waits for nobody (a restarted primary is let go by it).
pub(super) fn replaces(now: &Record, old: &Record, mutant: Mutant) -> bool {
    let newest = |record: &Record| record.newest_set().map(InSyncSet::version);
    match old.phase {
        Phase::FailingOver => mutant != Mutant::NoSecondCompare,
        Phase::Promoting => {
            now.phase == Phase::Running && now.term == old.term && mutant != Mutant::KeepId
        }
        Phase::Running => {
            let waits = old.newest_set().is_some_and(|set| set.required > 0);
            let was_told = waits && mutant != Mutant::KeepId;
            now.phase == Phase::Running
                && now.term == old.term
                && (newest(now) == newest(old) || was_told)
                && now.forks == old.forks
        }
        _ => false,
    }
}
