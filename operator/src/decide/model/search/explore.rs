//! Every state within the bounds of a [`Search`], looked at once, unless another one covers it.
//!
//! `stateright`'s own searches keep with every state that waits the whole way to it, and copy that for every step.
//! Here a state that waits is the state alone; of one that is known there is a fingerprint, 64 bits as `stateright`'s,
//! and where the state before it stands; a way is found again by taking its steps anew.
//!
//! **Covering.** Two states may differ only in their [`Context`]: in the older records that some operator may still act
//! on, in what operators may have read of each instance, in the calls that are on their way, and in how much may still
//! happen. Where each of these of one state holds the other's, the first covers the other, which need not be looked at:
//!
//! - Whatever can happen in the covered state can happen in the one that covers it. Only swaps, the arrival of calls and
//!   what the budget pays look at the context, and what operators may wish is collected over everything that they may
//!   have read, so that it grows with that. (Where older records are kept, older statuses are kept as they were, and not
//!   only as far as [`super::outlook::outdated`] leaves them; who decides on a record sees them so in any case.)
//! - Where no change of the set is left to the covered state, who streams is not in what may have been read
//!   ([`super::operators`]), and left out of the other's for the comparison. Whatever else an operator may wish is the same
//!   with it and without.
//! - Of the two states after it the one again covers the other: what an action does reads no context; a record or call
//!   that is dropped is dropped for what instances have promised; the calls that operators could make are on their way
//!   at once, in both. And something that is wrong in the covered state is wrong in the other.
//! - So, along any way, there is for each state on it one that was looked at and covers it. One that was dropped for
//!   a wider one has that in its place, which waits as well.
//!
//! Nothing is added by it: all states that are looked at can be come to. A test compares with `stateright`.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::Mutex;
use stateright::{Expectation, Model};

use super::cover::MOST_PERILOUS;
use super::state::{Budget, MOST, Number, State};
use super::{Action, Search};

/// States that are handed on together.
const BLOCK: usize = 1 << 10;

/// A way: each state with the action that was taken there.
pub(super) type Way = Vec<(State, Option<Action>)>;

/// In which order, and whether each state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    /// Each state, and what is nearest to the first state first.
    Each,
    /// What is nearest first, so that the first way to something wrong is a shortest one.
    NearestFirst,
    /// What can be come to again by a longer way last: by then all is there that could cover it.
    WidestFirst,
    /// Where a loss looks nearest first, and of these what is nearest to the first state: for a loss that comes late, in
    /// bounds within which there is too much that leads to none.
    PerilousFirst,
}

/// More than the steps to any state.
const FAR: u32 = 1 << 20;

/// What of a state only makes more possible, the more it holds: numbers of sets, and what may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Context {
    pub(super) past: Number,
    pub(super) seen: [Number; MOST],
    pub(super) calls: [Number; MOST],
    pub(super) left: Budget,
}

/// What a search has come to, or how far it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Explored {
    /// States that were looked at.
    pub(super) looked_at: usize,
    /// States that differ in more than their context.
    pub(super) cores: usize,
    /// Known states that wait to be looked at.
    pub(super) waiting: usize,
    /// Ways from a state that was looked at to another one.
    pub(super) steps: usize,
    /// Whether each property that sometimes holds did.
    pub(super) reached: bool,
    /// A property that must always hold, and a way to where it doesn't.
    pub(super) broken: Option<(&'static str, Way)>,
}

/// Looks at every state, or at those up to the first that breaks a property; `tell` hears of it from time to time.
pub(super) fn explore(
    search: &Search,
    how: How,
    threads: usize,
    mut tell: impl FnMut(&Explored),
) -> Explored {
    let known = Known::new(search, how);
    let mut explored = Explored::default();
    let mut queue: BTreeMap<u32, Vec<Vec<Waiting>>> = BTreeMap::new();
    let first = search.init_states().into_iter();
    let first: Vec<Waiting> = first
        .filter_map(|state| known.wait(state, 0, Place::NONE))
        .collect();
    queue.insert(0, vec![first]);
    while let Some((_, level)) = queue.pop_first() {
        let level = Level {
            known: &known,
            blocks: Mutex::new(level),
        };
        let found = level.work_together(threads);
        for (rank, block) in found.next {
            queue.entry(rank).or_default().push(block);
        }
        explored.looked_at += found.looked_at;
        explored.steps += found.steps;
        explored.reached |= found.reached;
        explored.waiting = queue.values().flatten().map(Vec::len).sum();
        if let Some((name, place)) = found.broken {
            explored.broken = Some((name, known.way(place)));
            break;
        }
        tell(&explored);
    }
    explored.cores = known.shards.iter().map(|s| s.lock().cores.len()).sum();
    explored
}

struct Waiting {
    state: State,
    /// Steps from the first state.
    distance: u32,
    place: Place,
}

/// Where a known state stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    shard: u32,
    index: u32,
}

impl Place {
    const NONE: Place = Place {
        shard: 0,
        index: END,
    };
}

/// States of one rank.
struct Level<'a> {
    known: &'a Known<'a>,
    blocks: Mutex<Vec<Vec<Waiting>>>,
}

#[derive(Default)]
struct Found {
    looked_at: usize,
    steps: usize,
    reached: bool,
    broken: Option<(&'static str, Place)>,
    next: Vec<(u32, Vec<Waiting>)>,
}

impl Level<'_> {
    fn work_together(&self, threads: usize) -> Found {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.work())).collect();
            let mut all = Found::default();
            for worker in workers {
                let found = worker.join().expect("the search goes on");
                all.looked_at += found.looked_at;
                all.steps += found.steps;
                all.reached |= found.reached;
                all.broken = all.broken.or(found.broken);
                all.next.extend(found.next);
            }
            all
        })
    }

    fn work(&self) -> Found {
        let mut found = Found::default();
        let mut next: BTreeMap<u32, Vec<Waiting>> = BTreeMap::new();
        let mut actions = Vec::new();
        while let Some(block) = self.take() {
            for waiting in block {
                if !self.known.is_kept(waiting.place) {
                    continue;
                }
                found.looked_at += 1;
                self.check(&waiting, &mut found);
                self.known.search.actions(&waiting.state, &mut actions);
                for action in actions.drain(..) {
                    let Some(after) = self.known.search.next_state(&waiting.state, action) else {
                        continue;
                    };
                    found.steps += 1;
                    let after = self.known.wait(after, waiting.distance + 1, waiting.place);
                    let Some(after) = after else { continue };
                    let rank = self.known.rank(&after);
                    let block = next.entry(rank).or_default();
                    block.push(after);
                    if block.len() >= BLOCK {
                        found.next.push((rank, std::mem::take(block)));
                    }
                }
            }
        }
        found.next.extend(next);
        found
    }

    fn take(&self) -> Option<Vec<Waiting>> {
        self.blocks.lock().pop()
    }

    fn check(&self, waiting: &Waiting, found: &mut Found) {
        let search = self.known.search;
        for property in search.properties() {
            let holds = (property.condition)(search, &waiting.state);
            match property.expectation {
                Expectation::Always if !holds => {
                    found.broken = Some((property.name, waiting.place))
                }
                Expectation::Sometimes => found.reached |= holds,
                Expectation::Always | Expectation::Eventually => {}
            }
        }
    }
}

const SHARDS: u32 = 256;

/// The end of a list of [`Kept`].
const END: u32 = u32::MAX;

/// All states that were come to and are not covered.
struct Known<'a> {
    search: &'a Search,
    how: How,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Default)]
struct Shard {
    /// For each core the last of the states that have it.
    cores: HashTable<u32>,
    kept: Vec<Kept>,
}

/// Some bits for what a context holds: most of those that don't cover another one are told by these.
pub(super) type Sketch = [u64; 2];

/// A context with these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sketched {
    pub(super) context: Number,
    pub(super) sketch: Sketch,
}

#[derive(Clone, Copy)]
struct Kept {
    /// A fingerprint of all but the context.
    core: u64,
    context: Sketched,
    before: Place,
    /// Another state with this core.
    next: u32,
}

/// In place of the next state, where a wider one has made this one superfluous.
const COVERED: u32 = u32::MAX - 1;

impl<'a> Known<'a> {
    fn new(search: &'a Search, how: How) -> Known<'a> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Known {
            search,
            how,
            shards,
        }
    }

    fn rank(&self, waiting: &Waiting) -> u32 {
        match self.how {
            How::Each | How::NearestFirst => waiting.distance,
            How::WidestFirst => self.search.rank(&waiting.state),
            How::PerilousFirst => {
                let calm = MOST_PERILOUS - self.search.peril(&waiting.state);
                calm * FAR + waiting.distance
            }
        }
    }

    /// The state, if it is new and not covered.
    fn wait(&self, state: State, distance: u32, before: Place) -> Option<Waiting> {
        let (core, context) = self.split(&state);
        // Not by the bits that place an entry in its table.
        let shard = (core >> 40) as u32 % SHARDS;
        let index =
            self.shards[shard as usize]
                .lock()
                .keep(core, context, before, |wide, narrow| {
                    self.covers(wide, narrow)
                })?;
        Some(Waiting {
            state,
            distance,
            place: Place { shard, index },
        })
    }

    fn covers(&self, wide: Sketched, narrow: Sketched) -> bool {
        if wide.context == narrow.context {
            return true;
        }
        let mut bits = narrow.sketch.iter().zip(wide.sketch);
        self.how != How::Each
            && bits.all(|(narrow, wide)| narrow & !wide == 0)
            && self.search.covers(wide.context, narrow.context)
    }

    /// The fingerprint of all but the context, and that.
    fn split(&self, state: &State) -> (u64, Sketched) {
        let (core, context) = self.search.split(state);
        // The keys of this one are always the same.
        let mut hasher = DefaultHasher::new();
        core.hash(&mut hasher);
        (hasher.finish(), context)
    }

    fn is_kept(&self, place: Place) -> bool {
        let shard = self.shards[place.shard as usize].lock();
        shard.kept[place.index as usize].next != COVERED
    }

    /// The way to a known state.
    fn way(&self, to: Place) -> Way {
        let mut trail = Vec::new();
        let mut place = to;
        while place != Place::NONE {
            let shard = self.shards[place.shard as usize].lock();
            let kept = &shard.kept[place.index as usize];
            trail.push((kept.core, kept.context));
            place = kept.before;
        }
        let first = trail.pop();
        let mut state = (self.search.init_states().into_iter())
            .find(|state| Some(self.split(state)) == first)
            .expect("a way begins at a first state");
        let mut way = Vec::new();
        while let Some(at) = trail.pop() {
            let mut actions = Vec::new();
            self.search.actions(&state, &mut actions);
            let (action, after) = actions
                .into_iter()
                .find_map(|action| {
                    let after = self.search.next_state(&state, action)?;
                    (self.split(&after) == at).then_some((action, after))
                })
                .expect("a step that was taken before");
            way.push((std::mem::replace(&mut state, after), Some(action)));
        }
        way.push((state, None));
        way
    }
}

impl Shard {
    /// Where the state stands from now on, unless one that is known covers it; those that it covers make way.
    fn keep(
        &mut self,
        core: u64,
        context: Sketched,
        before: Place,
        covers: impl Fn(Sketched, Sketched) -> bool,
    ) -> Option<u32> {
        let Shard { cores, kept } = self;
        let of = |index: &u32| kept[*index as usize].core;
        let entry = cores.entry(core, |index| of(index) == core, of);
        let mut first = match &entry {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(_) => END,
        };
        let mut last = END;
        let mut index = first;
        while index != END {
            let Kept {
                context: known,
                next,
                ..
            } = kept[index as usize];
            if covers(known, context) {
                return None;
            }
            if covers(context, known) {
                kept[index as usize].next = COVERED;
                match last {
                    END => first = next,
                    last => kept[last as usize].next = next,
                }
            } else {
                last = index;
            }
            index = next;
        }
        let index = u32::try_from(kept.len()).expect("few states in each shard");
        if kept.len() == kept.capacity() {
            // Twice the memory, each time, would be too much.
            kept.reserve_exact(kept.len() / 8 + 64);
        }
        kept.push(Kept {
            core,
            context,
            before,
            next: first,
        });
        entry.insert(index);
        Some(index)
    }
}
