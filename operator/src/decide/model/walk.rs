//! Random walks through a cluster that drive the real [`decide`]: three instances, two operators that freeze between any
//! two steps, stale reads, late and lost messages, crashes, wiped volumes, changes of the set, switchovers; and after
//! each walk everything works again, and the cluster has to come back by itself.
//!
//! What is checked at every acknowledgement: the primary that acknowledges holds everything that was acknowledged
//! before, and nobody acknowledges in an older term what a newer primary that has acknowledged lacks.
//!
//! A walk is made from a seed; a failing seed is printed and can be replayed alone with [`walk`].

use std::collections::{BTreeMap, BTreeSet};

use super::mutant::Mutant;
use super::node::{Entry, Node, follow, may_reseed, promote, renew, seal, set_set, take_entry};
use super::show::show;
use crate::api::SupervisorStatus;
use crate::crd::{Durability, Phase, Record};
use crate::decide::{Instance, Life, Observed, Past, Step, Swap, decide};
use crate::ids::{InstanceId, Millis, Term};
use crate::validate::{Requests, ValidatedCluster};

/// A standby's report on its way to the primary.
#[derive(Clone, Debug)]
struct Feedback {
    to: usize,
    life: u32,
    id: InstanceId,
    term: Term,
    flushed: usize,
}

#[derive(Clone, Debug, Default)]
struct Operator {
    /// What it has last read of each instance.
    cache: BTreeMap<String, (Life, Option<SupervisorStatus>)>,
    swap: Option<Swap>,
}

#[derive(Clone, Debug)]
struct Model {
    mutant: Mutant,
    cluster: ValidatedCluster,
    record: Option<Record>,
    nodes: Vec<Node>,
    operators: Vec<Operator>,
    calls: Vec<Step>,
    feedback: Vec<Feedback>,
    /// Every acknowledged entry, by its position.
    acknowledged: BTreeMap<usize, Entry>,
    newest_acknowledging: Term,
    /// The log of the primary that acknowledged in it.
    newest_log: Vec<Entry>,
    candidates: BTreeMap<Term, InstanceId>,
    values: u32,
    ids: u32,
    faults: u32,
    wipes: u32,
    wrong: Option<String>,
}

/// A small generator of our own: a walk depends on its seed alone.
struct Dice(u64);
impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides.max(1) as u64).unwrap_or(0)
    }
    fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }
}

impl Model {
    fn new(mutant: Mutant, replicas: u32, durability: Durability) -> Model {
        let nodes = (1..=replicas + 1).map(|n| Node {
            name: format!("m-{n}"),
            id: InstanceId::new(format!("id{n}")),
            promised: Term::FIRST,
            sealed: false,
            set: None,
            log: if n == 1 {
                vec![(Term::FIRST, 0)]
            } else {
                Vec::new()
            },
            standby: n != 1,
            up: true,
            waiting: false,
            owed: 0,
            acknowledged: 0,
            streams: BTreeMap::new(),
            life: n,
        });
        Model {
            mutant,
            cluster: ValidatedCluster {
                name: "m".to_owned(),
                replicas,
                durability,
                storage_bytes: 1 << 30,
                parameters: BTreeMap::new(),
                generation: 1,
                requests: Requests::default(),
                ..ValidatedCluster::default()
            },
            record: None,
            nodes: nodes.collect(),
            operators: vec![Operator::default(), Operator::default()],
            calls: Vec::new(),
            feedback: Vec::new(),
            acknowledged: BTreeMap::new(),
            newest_acknowledging: Term::default(),
            newest_log: Vec::new(),
            candidates: BTreeMap::new(),
            values: 0,
            ids: replicas + 1,
            faults: 0,
            wipes: 0,
            wrong: None,
        }
    }

    /// With `MODEL_TRACE` set a walk tells what it does.
    fn trace(&self, what: impl FnOnce() -> String) {
        if std::env::var_os("MODEL_TRACE").is_some() {
            println!("{}\n    {}", what(), self.show());
        }
    }

    fn fail(&mut self, why: String) {
        self.wrong.get_or_insert(why);
    }

    // ---- operators ----

    fn read(&mut self, operator: usize, node: usize) {
        let node = &self.nodes[node];
        let life = if node.up { Life::Alive } else { Life::Ended };
        let status = node.up.then(|| node.status(self.mutant));
        self.operators[operator]
            .cache
            .insert(node.name.clone(), (life, status));
    }

    /// Decides on a fresh record and whatever was read of the instances. `patient`: no time-out has passed.
    fn look(&mut self, operator: usize, patient: bool, silent: Option<usize>) {
        let age = if patient { 0 } else { 20_000 };
        let silent = silent.map(|n| self.nodes[n].name.clone());
        let cache = &self.operators[operator].cache;
        let instances: BTreeMap<String, Instance> = cache
            .iter()
            .map(|(name, (life, status))| {
                let silent_ms = if silent.as_ref() == Some(name) {
                    age
                } else {
                    0
                };
                let instance = Instance {
                    lost_after_ms: crate::decide::SILENT_MS,
                    upkeep: crate::decide::Upkeep::default(),
                    life: *life,
                    pid: Some(1),
                    silent_ms,
                    status: status.clone(),
                };
                (name.clone(), instance)
            })
            .collect();
        let record = self
            .record
            .clone()
            .map(|record| self.mutant.record_to_decide_on(record));
        let unstreamed_ms = self.unstreamed(&instances, age);
        let observed = Observed {
            record,
            past: Past::default(),
            instances,
            unstreamed_ms,
            stuck_ms: BTreeMap::new(),
            routes: None,
            retired: Vec::new(),
            fencing: false,
        };
        let detected = self
            .record
            .as_ref()
            .and_then(|r| r.change.as_ref())
            .map(|c| c.lost_candidate_at.unwrap_or(c.detected_at));
        let now = detected
            .unwrap_or(Millis::new(1))
            .plus(if patient { 1 } else { 30_000 });
        let plan = decide(&self.cluster, &observed, now);
        if !plan.outcomes.is_empty() {
            self.cluster.requests = Requests::default();
        }
        for step in plan.steps {
            if !self.calls.contains(&step) {
                self.calls.push(step);
            }
        }
        let old = self.record.as_ref();
        let swap = plan.swap.map(|swap| self.mutant.swap_to_make(old, swap));
        self.operators[operator].swap = swap;
    }

    fn unstreamed(
        &self,
        instances: &BTreeMap<String, Instance>,
        age: u64,
    ) -> BTreeMap<InstanceId, u64> {
        let record = self.record.as_ref();
        let primary = record.and_then(|r| r.primary.as_ref());
        let engine = primary
            .and_then(|p| instances.get(&p.name))
            .and_then(Instance::engine);
        let members = record
            .iter()
            .flat_map(|r| &r.in_sync)
            .flat_map(|s| &s.members)
            .map(|m| &m.id);
        let all: BTreeSet<&InstanceId> = members
            .chain(instances.values().filter_map(Instance::id))
            .collect();
        all.into_iter()
            .map(|id| {
                let streams = engine
                    .zip(record)
                    .is_some_and(|(e, r)| e.stream_of(id, r.term).is_some());
                (id.clone(), if streams { 0 } else { age })
            })
            .collect()
    }

    fn swap(&mut self, operator: usize) {
        let Some(swap) = self.operators[operator].swap.take() else {
            return;
        };
        let now = self.record.as_ref().map(|r| r.record_version);
        let blind = self
            .record
            .as_ref()
            .is_some_and(|now| self.mutant.swaps_blindly(now, &swap.record));
        if now != swap.expect && !blind {
            return;
        }
        if let Some(candidate) = &swap.record.candidate {
            let first = self
                .candidates
                .entry(swap.record.term)
                .or_insert_with(|| candidate.id.clone());
            if *first != candidate.id && self.mutant == Mutant::None {
                let why = format!("two candidates in term {}", swap.record.term);
                self.fail(why);
            }
        }
        self.record = Some(swap.record);
        self.trace(|| format!("operator {operator} swaps"));
    }

    // ---- instances ----

    fn deliver(&mut self, call: &Step) {
        let mutant = self.mutant;
        let Some(node) = call
            .instance()
            .and_then(|name| self.nodes.iter_mut().find(|n| n.name == name))
        else {
            return;
        };
        if let Step::Start { .. } = call {
            if !node.up {
                node.restart();
            }
            return;
        }
        if !node.up {
            return;
        }
        match call {
            Step::Seal { term, .. } | Step::Demote { term, .. } => seal(node, *term),
            Step::Promote {
                term,
                candidate,
                set,
                ..
            } => {
                self.values += 1;
                promote(node, *term, candidate, set, mutant, self.values);
            }
            Step::Set { term, id, set, .. } => set_set(node, *term, id, set, mutant),
            Step::Follow { term, id, .. } => follow(node, *term, id),
            Step::Reseed { term, id, .. } if may_reseed(node, *term, id) => {
                self.ids += 1;
                renew(node, *term, self.ids, mutant);
            }
            _ => {}
        }
    }

    /// A standby takes one more entry, or a new one all of them.
    fn stream(&mut self, from: usize, to: usize) {
        let upstream = self.nodes[from].clone();
        let standby = &mut self.nodes[to];
        if from == to || !take_entry(&upstream, standby, self.mutant) {
            return;
        }
        let feedback = Feedback {
            to: from,
            life: upstream.life,
            id: standby.id.clone(),
            term: standby.promised,
            flushed: standby.log.len(),
        };
        self.feedback.push(feedback);
    }

    fn take_feedback(&mut self, which: usize) {
        let feedback = self.feedback.swap_remove(which);
        let node = &mut self.nodes[feedback.to];
        if node.life == feedback.life {
            node.take_report(feedback.id, feedback.term, feedback.flushed);
        }
        self.acknowledge(feedback.to);
    }

    fn commit(&mut self, node: usize) {
        let primary = &mut self.nodes[node];
        if let Some(term) = primary.accepts_writes() {
            self.values += 1;
            primary.log.push((term, self.values));
            self.acknowledge(node);
        }
    }

    /// Whatever the primary may acknowledge now, it does; and it is checked.
    fn acknowledge(&mut self, node: usize) {
        let primary = &self.nodes[node];
        let (Some(term), Some(released)) = (primary.primary_term(), primary.released(self.mutant))
        else {
            return;
        };
        if released < primary.owed || released <= primary.acknowledged {
            return;
        }
        let log = primary.log.clone();
        let name = primary.name.clone();
        let begin = primary.acknowledged;
        self.nodes[node].acknowledged = released;
        if term >= self.newest_acknowledging {
            let lost = self
                .acknowledged
                .iter()
                .find(|(at, entry)| log.get(**at) != Some(*entry));
            if let Some((at, entry)) = lost.map(|(at, e)| (*at, *e)) {
                self.fail(format!(
                    "{name} acknowledges in term {term} without {entry:?} at {at}: {log:?}"
                ));
            }
            self.newest_log.clone_from(&log);
        } else if self.newest_log.get(begin..released) != log.get(begin..released) {
            // A report that was on its way may still be taken for what the newer primary holds as well.
            let newest = self.newest_acknowledging;
            self.fail(format!(
                "{name} acknowledges in term {term}, after one did in term {newest}, what that one lacks: {log:?}"
            ));
        }
        self.newest_acknowledging = self.newest_acknowledging.max(term);
        for (at, entry) in log.iter().enumerate().take(released).skip(begin) {
            self.acknowledged.insert(at, *entry);
        }
    }

    fn crash(&mut self, node: usize) {
        self.nodes[node].up = false;
        self.nodes[node].streams.clear();
    }

    // ---- walking ----

    fn step(&mut self, dice: &mut Dice) {
        let node = dice.roll(self.nodes.len());
        let operator = dice.roll(2);
        match dice.roll(100) {
            0..=19 => self.read(operator, node),
            20..=33 => {
                let silent = dice.chance(10).then_some(node);
                self.look(operator, dice.chance(60), silent);
            }
            34..=45 => self.swap(operator),
            46..=65 if !self.calls.is_empty() => {
                let which = dice.roll(self.calls.len());
                let call = self.calls[which].clone();
                // Most calls arrive once; some again, later.
                if dice.chance(85) {
                    self.calls.swap_remove(which);
                }
                self.deliver(&call);
                self.trace(|| format!("delivered {call:?}"));
                for at in 0..self.nodes.len() {
                    self.acknowledge(at);
                }
            }
            66..=79 => self.stream(dice.roll(self.nodes.len()), node),
            80..=89 if !self.feedback.is_empty() => {
                let which = dice.roll(self.feedback.len());
                self.take_feedback(which);
            }
            90..=94 => self.commit(node),
            95..=96 if self.faults > 0 => {
                self.faults -= 1;
                self.crash(node);
                self.trace(|| format!("crash of {node}"));
            }
            97 if !self.nodes[node].up => self.nodes[node].restart(),
            97 => self.cluster.requests.switchover_to = Some("any".to_owned()),
            98 if self.wipes > 0 && self.record.is_some() => {
                self.wipes -= 1;
                self.ids += 1;
                let (ids, mutant) = (self.ids, self.mutant);
                // An emptied volume has forgotten its promise as well.
                renew(&mut self.nodes[node], Term::default(), ids, mutant);
                self.nodes[node].promised = Term::default();
            }
            99 if !self.calls.is_empty() => {
                let which = dice.roll(self.calls.len());
                self.calls.swap_remove(which);
            }
            _ => {}
        }
    }

    /// A walsender ends with the copy that it served.
    fn close_dead_streams(&mut self) {
        let alive: Vec<InstanceId> = self
            .nodes
            .iter()
            .filter(|n| n.up)
            .map(|n| n.id.clone())
            .collect();
        for node in &mut self.nodes {
            node.streams.retain(|id, _| alive.contains(id));
        }
    }

    /// Everything works again: the cluster has to come back by itself.
    fn heal(&mut self, dice: &mut Dice) {
        self.operators[1].swap = None;
        for _ in 0..80 {
            if self.is_whole() && self.calls.is_empty() {
                return;
            }
            for node in 0..self.nodes.len() {
                self.read(0, node);
            }
            self.look(0, dice.chance(50), None);
            for call in std::mem::take(&mut self.calls) {
                self.deliver(&call);
            }
            self.swap(0);
            for to in 0..self.nodes.len() {
                for from in 0..self.nodes.len() {
                    for _ in 0..4 {
                        self.stream(from, to);
                    }
                }
            }
            while !self.feedback.is_empty() {
                self.take_feedback(0);
            }
            self.close_dead_streams();
            for node in 0..self.nodes.len() {
                self.acknowledge(node);
            }
        }
    }

    fn show(&self) -> String {
        show(self.record.as_ref(), &self.nodes)
    }

    fn is_whole(&self) -> bool {
        let Some(record) = &self.record else {
            return false;
        };
        let Some(primary) = record.primary.as_ref() else {
            return false;
        };
        let following = self.nodes.iter().filter(|n| {
            n.id == primary.id || (n.standby && n.promised == record.term && !n.sealed)
        });
        record.phase == Phase::Running
            && record.in_sync.len() == 1
            && following.count() == self.nodes.len()
            && record
                .newest_set()
                .is_some_and(|s| s.members.len() == self.nodes.len() - 1)
    }
}

/// One walk; what went wrong, if anything did. With `wipes` nobody promises that it heals.
fn walk(
    seed: u64,
    mutant: Mutant,
    replicas: u32,
    durability: Durability,
    wipes: u32,
) -> Option<String> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut model = Model::new(mutant, replicas, durability);
    // Begin with a whole cluster, so that the walk is about what happens to it.
    model.heal(&mut dice);
    assert!(
        mutant != Mutant::None || model.is_whole(),
        "seed {seed}: never came up: {model:#?}"
    );
    model.faults = 4;
    model.wipes = wipes;
    for _ in 0..600 {
        model.step(&mut dice);
        if model.wrong.is_some() {
            return model.wrong;
        }
    }
    if mutant != Mutant::None {
        return None;
    }
    model.heal(&mut dice);
    if model.wrong.is_none() && wipes == 0 && !model.is_whole() {
        model.fail(format!("it does not heal: {}", model.show()));
    }
    model.wrong
}

fn walks(count: u64) -> u64 {
    std::env::var("MODEL_WALKS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(count)
}

#[test]
fn nothing_acknowledged_is_lost() {
    for seed in 1..=walks(150) {
        for (replicas, wipes) in [(2, 0), (2, 1), (1, 0), (3, 1)] {
            let wrong = walk(seed, Mutant::None, replicas, Durability::Quorum, wipes);
            assert!(
                wrong.is_none(),
                "seed {seed}, {replicas} standbys, {wipes} wipes: {}",
                wrong.unwrap_or_default()
            );
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_with_strict_durability() {
    for seed in 1..=walks(80) {
        let wrong = walk(seed, Mutant::None, 2, Durability::Strict, 0);
        assert!(
            wrong.is_none(),
            "seed {seed}: {}",
            wrong.unwrap_or_default()
        );
    }
}

/// One walk again: `MODEL_SEED=7 MODEL_REPLICAS=1 MODEL_WIPES=0 MODEL_TRACE=1`.
#[test]
fn replay_of_a_seed() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    if let Some(seed) = number("MODEL_SEED") {
        let small = |name: &str| u32::try_from(number(name).unwrap_or(0)).unwrap_or(0);
        let wrong = walk(
            seed,
            Mutant::None,
            small("MODEL_REPLICAS"),
            Durability::Quorum,
            small("MODEL_WIPES"),
        );
        assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
    }
}

/// Every rule matters: without it the model finds a loss.
#[test]
fn each_rule_that_is_taken_away_is_missed() {
    for mutant in [
        Mutant::OneAnswer,
        Mutant::NoSecondCompare,
        Mutant::ForgetOlderSets,
        Mutant::DropAtOnce,
        Mutant::PromoteUnpromised,
        Mutant::StreamUnchecked,
        Mutant::LengthBeforeTimeline,
        Mutant::KeepId,
    ] {
        // A late trigger hurts where its set is empty, so with one standby.
        let replicas = if mutant == Mutant::PromoteUnpromised {
            1
        } else {
            2
        };
        let wipes = u32::from(mutant == Mutant::KeepId);
        // Where the Services lead is nothing to the model, but such steps stand in the queue with the others, and so
        // each change of when they are asked for makes every walk another one: the seeds that find something move.
        let found = (1..=100_000).find(|seed| {
            walk(*seed, mutant, replicas, Durability::Quorum, wipes)
                .is_some_and(|why| why.contains("acknowledges"))
        });
        println!("{mutant:?} is found by the walk of seed {found:?}");
        assert!(found.is_some(), "{mutant:?} is not noticed");
    }
}
