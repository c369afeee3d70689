//! Aggregation by hash. Rows of groups for which there is no room any more go to disk, divided by hash, and are
//! aggregated when the groups in memory have gone out.

use std::sync::Arc;

use hashbrown::HashTable;

use super::group::{self, State};
use super::spec_of;
use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::distinct::keys_equal;
use crate::sql::exec::hash_join::partition::{COUNT, Partitions};
use crate::sql::exec::hashed::hash_keys;
use crate::sql::exec::memory::datum_bytes;
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::plan::tree::PlanNode;
use crate::types::datum::Datum;

struct Group {
    hash: u64,
    keys: Box<[Datum]>,
    states: Vec<State>,
    /// Bytes of the accumulators on the statement's account.
    held: usize,
}

enum Phase {
    Reading,
    /// The next group to give.
    Giving(usize),
    Done,
}

pub struct HashAggregateNode {
    spec: Arc<PlanNode>,
    child: BoxNode,
    table: HashTable<u32>,
    groups: Vec<Group>,
    inputs: Vec<Datum>,
    bytes: usize,
    spilled: Option<Partitions>,
    /// The next partition to aggregate.
    partition: usize,
    phase: Phase,
}

/// What a group costs beside its keys, for each call.
const STATE_BYTES: usize = 96;

impl HashAggregateNode {
    pub fn new(spec: Arc<PlanNode>, child: BoxNode) -> HashAggregateNode {
        HashAggregateNode {
            spec,
            child,
            table: HashTable::new(),
            groups: Vec::new(),
            inputs: Vec::new(),
            bytes: 0,
            spilled: None,
            partition: 0,
            phase: Phase::Reading,
        }
    }

    /// The group of the row whose keys are in the frame and whose inputs are in `inputs`.
    fn take(&mut self, frame: &[Datum], cx: &mut EvalCx, may_spill: bool) -> Result<(), SqlError> {
        let spec = spec_of(&self.spec);
        let hash = hash_keys(&spec.keys, frame);
        let groups = &mut self.groups;
        let found = self.table.find(hash, |n| {
            let group = &groups[*n as usize];
            group.hash == hash && keys_equal(&spec.keys, &group.keys, frame)
        });
        if let Some(number) = found {
            let group = &mut groups[*number as usize];
            group::update(&spec.calls, &mut group.states, &self.inputs, cx)?;
            let grown = group::held(&group.states).saturating_sub(group.held);
            if grown > 0 {
                cx.memory.take(grown)?;
                group.held += grown;
                self.bytes += grown;
            }
            return Ok(());
        }
        let keys: Box<[Datum]> = spec.keys.iter().map(|k| frame[k.slot].clone()).collect();
        let bytes =
            keys.iter().map(datum_bytes).sum::<usize>() + 64 + spec.calls.len() * STATE_BYTES;
        // Once a group is on disk no other begins here: one of equal keys may have been too long, another is not.
        let full = self.spilled.is_some() || self.bytes + bytes > cx.memory.hash();
        if may_spill && full && !groups.is_empty() {
            let width = keys.len() + self.inputs.len();
            let partitions = self.spilled.get_or_insert_with(|| Partitions::new(width));
            return partitions.push(hash, keys.iter().chain(&self.inputs), cx);
        }
        cx.memory.take(bytes)?;
        self.bytes += bytes;
        let number = u32::try_from(groups.len())
            .map_err(|_| SqlError::internal("too many groups in memory"))?;
        let mut states = group::new_states(&spec.calls);
        group::update(&spec.calls, &mut states, &self.inputs, cx)?;
        let held = group::held(&states);
        cx.memory.take(held)?;
        self.bytes += held;
        groups.push(Group {
            hash,
            keys,
            states,
            held,
        });
        self.table
            .insert_unique(hash, number, |n| groups[*n as usize].hash);
        Ok(())
    }

    fn give(&mut self, at: usize, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let spec = spec_of(&self.spec);
        if cx.spend() {
            return Ok(Step::Yield);
        }
        let group = &mut self.groups[at];
        group::finish(&spec.calls, &mut group.states, frame, cx)?;
        for (key, value) in spec.keys.iter().zip(group.keys.iter()) {
            frame[key.slot] = value.clone();
        }
        self.phase = Phase::Giving(at + 1);
        Ok(Step::Row)
    }

    fn forget(&mut self, cx: &mut EvalCx) {
        self.table.clear();
        for group in self.groups.drain(..) {
            group::abandon(&group.states, cx);
        }
        cx.memory.give_back(self.bytes);
        self.bytes = 0;
    }

    /// The groups in memory are through: aggregates the next partition, if there is one.
    fn next_partition(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<(), SqlError> {
        self.forget(cx);
        self.phase = Phase::Done;
        let Some(mut partitions) = self.spilled.take() else {
            return Ok(());
        };
        if self.partition == COUNT {
            return Ok(());
        }
        let number = self.partition;
        self.partition += 1;
        let keys = spec_of(&self.spec).keys.clone();
        let mut count = 0_u32;
        partitions.each(number, &mut |row| {
            for (key, value) in keys.iter().zip(row.iter()) {
                frame[key.slot] = value.clone();
            }
            self.inputs.clear();
            self.inputs.extend(row.drain(keys.len()..));
            count = count.wrapping_add(1);
            if count.is_multiple_of(1024) {
                cx.check_interrupts()?;
            }
            self.take(frame, cx, false)
        })?;
        self.spilled = Some(partitions);
        self.phase = Phase::Giving(0);
        Ok(())
    }
}

impl Node for HashAggregateNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        loop {
            match self.phase {
                Phase::Reading => match self.child.next(frame, cx)? {
                    Step::Yield => return Ok(Step::Yield),
                    Step::Done => self.phase = Phase::Giving(0),
                    Step::Row => {
                        let calls = &spec_of(&self.spec).calls;
                        group::compute_inputs(calls, &mut self.inputs, frame, cx)?;
                        self.take(frame, cx, true)?;
                    }
                },
                Phase::Giving(at) if at < self.groups.len() => return self.give(at, frame, cx),
                Phase::Giving(_) => self.next_partition(frame, cx)?,
                Phase::Done => return Ok(Step::Done),
            }
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.forget(cx);
        self.spilled = None;
        self.partition = 0;
        self.phase = Phase::Reading;
        self.child.rewind(cx)
    }
}
