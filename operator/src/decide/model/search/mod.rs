//! Every state of a small cluster, looked at one by one: three instances, any number of operators around the real
//! [`crate::decide`], as a model of `stateright`, searched by [`explore`].
//!
//! What may happen at any moment: an operator makes a swap of the record; a call that was made arrives at any later
//! time, any number of times, or never; so does a report of a standby, in order, or never. There are any number of
//! operators, each of which is frozen between any two of its steps for as long as it likes ([`operators`]). So messages
//! are late, doubled and lost, and anybody is cut off from anybody, in every search and without a bound. What is bounded
//! is how often terms are raised, entries are written, instances crash (and come back when they like), copies are seeded
//! anew or emptied, and sets are changed.

mod cover;
mod explore;
mod interner;
mod moves;
mod operators;
mod outlook;
mod random;
mod state;
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use stateright::{Model, Property};

use self::cover::{Bare, Parts};
use self::explore::{Context, Sketch};
use self::interner::{Interner, Memo};
use self::moves::{Local, Moved};
use self::operators::{Moment, Promise, Wishes};
use self::outlook::{Breadth, Facts, Outlook, outlook, outlook_with};
use self::state::{Budget, History, MOST, Number, Site, State, View, Wrong};
use super::mutant::Mutant;
use super::node::Node;
use super::show::show;
use crate::api::EngineSet;
use crate::crd::{Durability, InSyncSet, Member, Phase, Record};
use crate::decide::Step;
use crate::ids::{InstanceId, Term};
use crate::validate::ValidatedCluster;

/// How far a search goes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    instances: usize,
    /// How often the term may be raised.
    failovers: u32,
    budget: Budget,
}

/// Something that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    /// Some operator replaces the record.
    Swap {
        to: Number,
    },
    Deliver {
        at: usize,
        call: Number,
    },
    Stream {
        from: usize,
        to: usize,
    },
    Report {
        at: usize,
        which: usize,
        flushed: usize,
    },
    Commit {
        at: usize,
    },
    /// In a whole search an instance that crashes starts at once ([`Search::after`] says why that is enough).
    Crash {
        at: usize,
    },
    Start {
        at: usize,
    },
    /// A volume is emptied: data, id and promise are gone.
    Empty {
        at: usize,
    },
}

/// What one decision can do, in numbers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Outcome {
    calls: Vec<(usize, Number)>,
    swap: Option<Number>,
    licensed: bool,
}

/// The cluster within bounds, with one safeguard taken away or none.
struct Search {
    bounds: Bounds,
    mutant: Mutant,
    cluster: ValidatedCluster,
    records: Interner<Record>,
    sites: Interner<Site>,
    views: Interner<View>,
    calls: Interner<Step>,
    histories: Interner<History>,
    /// Of records, of views, and of calls.
    sets: Interner<BTreeSet<Number>>,
    views_of_sites: Memo<Number, Number>,
    all_outcomes: Interner<Vec<Outcome>>,
    outcomes: Memo<(Number, [Number; MOST]), Number>,
    outdated: Memo<(Number, Term), Number>,
    all_wishes: Interner<Wishes>,
    wishes: Memo<(Number, [Number; MOST]), Number>,
    merged_wishes: Memo<(Number, [Number; MOST]), Number>,
    all_outdated: Memo<(Number, Term), Number>,
    past: Memo<(Number, Term), Number>,
    seen: Memo<(Number, Number, Moment), Number>,
    without_streams: Memo<Number, Number>,
    all_without_streams: Memo<Number, Number>,
    promises: Memo<Number, Promise>,
    moved: Memo<(Number, Local), Option<Moved>>,
    streamed: Memo<(Number, Number), Option<(Moved, Moved)>>,
    forgetful: Memo<Number, Number>,
    checked: Memo<(Number, Number, usize), (Number, Option<Wrong>)>,
    bare: Interner<Bare>,
    parts: Memo<Number, Parts>,
    contexts: Interner<Context>,
    sketches: Memo<Number, Sketch>,
    coverings: Memo<(Number, Number), bool>,
    ranks: Memo<Number, u32>,
}

impl Search {
    fn new(bounds: Bounds, mutant: Mutant) -> Search {
        let search = Search {
            bounds,
            mutant,
            cluster: outlook::cluster(bounds.instances),
            records: Interner::new(),
            sites: Interner::new(),
            views: Interner::new(),
            calls: Interner::new(),
            histories: Interner::new(),
            sets: Interner::new(),
            views_of_sites: Memo::new(),
            all_outcomes: Interner::new(),
            outcomes: Memo::new(),
            outdated: Memo::new(),
            all_wishes: Interner::new(),
            wishes: Memo::new(),
            merged_wishes: Memo::new(),
            all_outdated: Memo::new(),
            past: Memo::new(),
            seen: Memo::new(),
            without_streams: Memo::new(),
            all_without_streams: Memo::new(),
            promises: Memo::new(),
            moved: Memo::new(),
            streamed: Memo::new(),
            forgetful: Memo::new(),
            checked: Memo::new(),
            bare: Interner::new(),
            parts: Memo::new(),
            contexts: Interner::new(),
            sketches: Memo::new(),
            coverings: Memo::new(),
            ranks: Memo::new(),
        };
        assert_eq!(search.views.number(View::NOTHING), 0);
        assert_eq!(search.sets.number(BTreeSet::new()), 0);
        search
    }

    fn breadth(&self) -> Breadth {
        Breadth {
            instances: self.bounds.instances,
            streams_matter: self.streams_matter(self.bounds.budget),
            switchovers: self.bounds.budget.switchovers > 0,
        }
    }

    /// A whole cluster in its first term: the first instance is primary, the others stream and are in sync.
    fn whole_cluster(&self) -> State {
        let set = self.first_set();
        let entry = (Term::FIRST, 1);
        let mut sites = [0; MOST];
        for (at, site) in sites.iter_mut().enumerate().take(self.bounds.instances) {
            *site = self.sites.number(Site {
                node: first_node(at, &set, entry),
                calls: BTreeSet::new(),
                reports: BTreeSet::new(),
            });
        }
        let record = self.records.number(Record {
            record_version: 0,
            term: Term::FIRST,
            phase: Phase::Running,
            primary: set.owner.clone(),
            candidate: None,
            in_sync: vec![set],
            system_id: Some("1".to_owned()),
            forks: Vec::new(),
            change: None,
        });
        let nothing_read = self.sets.number(BTreeSet::from([0]));
        State {
            record,
            past: 0,
            sites,
            seen: [nothing_read; MOST],
            history: self.histories.number(History {
                acknowledged: vec![entry],
                ..History::default()
            }),
            left: self.bounds.budget,
            ids: u8::try_from(self.bounds.instances).expect("few instances"),
            wrong: None,
        }
    }

    /// That cluster with operators around it. Where instances crash, an operator may take any of them for ended at any
    /// time, with reason or without: so there is no difference in what it may have read between an instance that has
    /// crashed and one that has not.
    fn first_state(&self) -> State {
        let mut state = self.whole_cluster();
        if self.bounds.budget.crashes > 0 {
            let ended = self.views.number(View::ENDED);
            state.seen = [self.sets.number(BTreeSet::from([0, ended])); MOST];
        }
        let mut watched = state.clone();
        self.watch(&state, &mut watched);
        watched
    }

    fn first_set(&self) -> InSyncSet {
        let member = |at: usize| Member {
            name: outlook::name(at),
            id: id(at + 1),
        };
        let members = self.bounds.instances - 1;
        InSyncSet {
            term: Term::FIRST,
            counter: 1,
            owner: Some(member(0)),
            members: (1..=members).map(member).collect(),
            required: u32::try_from(members.div_ceil(2)).expect("few members"),
            durability: Durability::Quorum,
        }
    }

    fn view_of(&self, site: Number) -> Number {
        self.views_of_sites.get(site, || {
            self.views.number(self.cut_down(self.whole_view(site)))
        })
    }

    fn whole_view(&self, site: Number) -> View {
        moves::view(&self.sites.value(site).node, self.mutant)
    }

    fn cut_down(&self, view: View) -> View {
        outlook::cut_down(view, self.breadth())
    }

    /// All that can come of deciding on this record and these views.
    fn outcomes(&self, record: Number, views: [Number; MOST]) -> Arc<Vec<Outcome>> {
        let number = self.outcomes.get((record, views), || {
            let record = self.records.value(record);
            let views = self.values_of(views);
            let views: Vec<&View> = views.iter().map(AsRef::as_ref).collect();
            let mut observed = outlook::observe(self.mutant, &record, &views);
            let mut outcomes = Vec::new();
            for facts in outlook::facts(self.breadth(), &record) {
                let (cluster, mutant) = (&self.cluster, self.mutant);
                let outlook = outlook_with(cluster, mutant, &mut observed, &record, &views, &facts);
                let outcome = self.in_numbers(outlook);
                if !outcomes.contains(&outcome) {
                    outcomes.push(outcome);
                }
            }
            self.all_outcomes.number(outcomes)
        });
        self.all_outcomes.value(number)
    }

    fn values_of(&self, views: [Number; MOST]) -> Vec<Arc<View>> {
        views[..self.bounds.instances]
            .iter()
            .map(|view| self.views.value(*view))
            .collect()
    }

    fn outcome(&self, record: &Record, views: &[&View], facts: &Facts) -> Outcome {
        self.in_numbers(outlook(&self.cluster, self.mutant, record, views, facts))
    }

    fn in_numbers(&self, outlook: Outlook) -> Outcome {
        let Outlook {
            calls,
            swap,
            licensed,
        } = outlook;
        Outcome {
            calls: calls
                .into_iter()
                .map(|(at, call)| (at, self.calls.number(call)))
                .collect(),
            swap: swap.map(|next| self.records.number(next)),
            licensed,
        }
    }
}

impl Model for Search {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first_state()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.wrong.is_some() {
            return;
        }
        let swaps = self.swaps(state);
        actions.extend(swaps.into_iter().map(|to| Action::Swap { to }));
        for at in 0..self.bounds.instances {
            let site = self.sites.value(state.sites[at]);
            actions.extend(
                site.calls
                    .iter()
                    .map(|call| Action::Deliver { at, call: *call }),
            );
            for (which, report) in site.reports.iter().enumerate() {
                let heard = site.node.streams.get(&report.id);
                let heard = heard.filter(|h| h.0 == report.term).map_or(0, |h| h.1);
                let news = heard + 1..=report.flushed;
                actions.extend(news.map(|flushed| Action::Report { at, which, flushed }));
            }
            for from in (0..self.bounds.instances).filter(|from| *from != at) {
                actions.push(Action::Stream { from, to: at });
            }
            let Budget {
                commits,
                crashes,
                seeds,
                ..
            } = state.left;
            actions.extend((commits > 0).then_some(Action::Commit { at }));
            actions.extend((crashes > 0).then_some(Action::Crash { at }));
            actions.extend((seeds > 0).then_some(Action::Empty { at }));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.after(state, action)
    }

    fn properties(&self) -> Vec<Property<Search>> {
        fn holds(state: &State, wrong: Wrong) -> bool {
            state.wrong != Some(wrong)
        }
        vec![
            Property::always("no acknowledged commit is lost", |_, state| {
                holds(state, Wrong::Lost)
            }),
            Property::always(
                "nobody acknowledges in an older term what a newer primary lacks",
                |_, state| holds(state, Wrong::Late),
            ),
            Property::always("a term has one candidate", |_, state| {
                holds(state, Wrong::TwoCandidates)
            }),
            Property::always("only answers that were read promote", |_, state| {
                holds(state, Wrong::Unlicensed)
            }),
            Property::sometimes(REACHED, Search::is_through),
        ]
    }
}

/// The search is about something: its last failover can end with a primary that acknowledges.
const REACHED: &str = "the primary of the last term acknowledges";

impl Search {
    /// A step in words: what happened, and what is changed by it.
    fn tell(&self, before: &State, action: Action, after: &State) -> String {
        let mut text = format!("{action:?}");
        if let Action::Deliver { call, .. } = action {
            text = format!("{text}: {:?}", self.calls.value(call));
        }
        let nodes: Vec<Node> = (0..self.bounds.instances)
            .filter(|at| before.sites[*at] != after.sites[*at])
            .map(|at| self.sites.value(after.sites[at]).node.clone())
            .collect();
        let record = (before.record != after.record).then(|| self.records.value(after.record));
        format!("{text} {}", show(record.as_deref(), &nodes))
    }

    /// How many different values there have been.
    fn sizes(&self) -> String {
        format!(
            "{} records, {} instances, {} views, {} sets, {} calls, {} histories, {} contexts, {} decisions, {} wishes",
            self.records.len(),
            self.sites.len(),
            self.views.len(),
            self.sets.len(),
            self.calls.len(),
            self.histories.len(),
            self.contexts.len(),
            self.all_outcomes.len(),
            self.all_wishes.len(),
        )
    }

    fn is_through(&self, state: &State) -> bool {
        let last = self
            .histories
            .value(state.history)
            .acknowledged
            .last()
            .map(|e| e.0);
        last == Some(Term::new(1 + self.bounds.failovers))
    }
}

fn id(number: usize) -> InstanceId {
    InstanceId::new(format!("id{number}"))
}

fn first_node(at: usize, set: &InSyncSet, entry: (Term, u32)) -> Node {
    let primary = at == 0;
    let streams = set.members.iter().map(|m| (m.id.clone(), (Term::FIRST, 1)));
    Node {
        name: outlook::name(at),
        id: id(at + 1),
        promised: Term::FIRST,
        sealed: false,
        set: primary.then(|| EngineSet::from(set)),
        log: vec![entry],
        standby: !primary,
        up: true,
        waiting: false,
        owed: usize::from(primary),
        acknowledged: usize::from(primary),
        streams: streams.filter(|_| primary).collect(),
        life: 0,
    }
}
