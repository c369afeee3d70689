//! INTERSECT and EXCEPT, with and without ALL, by counting the rows of both sides in one hash table. Rows for which there is
//! no room go to disk, divided by hash, and are counted part by part when the groups in memory have gone out.

use std::sync::Arc;

use hashbrown::HashTable;

use crate::sql::bound::SetOp;
use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::distinct::keys_equal;
use crate::sql::exec::hash_join::partition::{COUNT, Partitions};
use crate::sql::exec::hashed::hash_keys;
use crate::sql::exec::memory::datum_bytes;
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::plan::tree::{NodeKind, PlanNode, SetOpNode as Spec};
use crate::types::datum::Datum;

struct Group {
    row: Box<[Datum]>,
    left: u64,
    right: u64,
}

enum State {
    Left,
    Right,
    /// (group, copies of it still to give)
    Giving(usize, u64),
    Done,
}

/// What did not fit, and the next part of it to count.
struct Spilled {
    left: Partitions,
    right: Partitions,
    part: usize,
}

pub struct SetOpNode {
    spec: Arc<PlanNode>,
    left: BoxNode,
    right: BoxNode,
    table: HashTable<(u64, usize)>,
    groups: Vec<Group>,
    bytes: usize,
    spilled: Option<Spilled>,
    state: State,
}

impl SetOpNode {
    pub fn new(spec: Arc<PlanNode>, left: BoxNode, right: BoxNode) -> SetOpNode {
        SetOpNode {
            spec,
            left,
            right,
            table: HashTable::new(),
            groups: Vec::new(),
            bytes: 0,
            spilled: None,
            state: State::Left,
        }
    }
}

fn copies(spec: &Spec, group: &Group) -> u64 {
    match (spec.op, spec.all) {
        (SetOp::Union, _) => group.left + group.right,
        (SetOp::Intersect, true) => group.left.min(group.right),
        (SetOp::Intersect, false) => u64::from(group.left > 0 && group.right > 0),
        (SetOp::Except, true) => group.left.saturating_sub(group.right),
        (SetOp::Except, false) => u64::from(group.left > 0 && group.right == 0),
    }
}

impl SetOpNode {
    /// Rows that only the right side has never come out, so they are not kept.
    fn count(
        &mut self,
        frame: &[Datum],
        cx: &mut EvalCx,
        from_left: bool,
        may_spill: bool,
    ) -> Result<(), SqlError> {
        let NodeKind::SetOp(spec) = &self.spec.kind else {
            unreachable!("built from a set operation")
        };
        let hash = hash_keys(&spec.keys, frame);
        let groups = &mut self.groups;
        let found = self.table.find(hash, |(h, n)| {
            *h == hash && keys_equal(&spec.keys, &groups[*n].row, frame)
        });
        if let Some((_, number)) = found {
            let group = &mut groups[*number];
            if from_left {
                group.left += 1;
            } else {
                group.right += 1;
            }
            return Ok(());
        }
        if !from_left {
            // Rows like it may be on disk.
            return match &mut self.spilled {
                Some(spilled) if may_spill => {
                    let row = spec.keys.iter().map(|k| &frame[k.slot]);
                    spilled.right.push(hash, row, cx)
                }
                _ => Ok(()),
            };
        }
        let row: Box<[Datum]> = spec.keys.iter().map(|k| frame[k.slot].clone()).collect();
        let bytes = row.iter().map(datum_bytes).sum::<usize>() + 64;
        let full = self.spilled.is_some() || self.bytes + bytes > cx.memory.hash();
        if may_spill && full && !groups.is_empty() {
            let spilled = self.spilled.get_or_insert_with(|| Spilled {
                left: Partitions::new(row.len()),
                right: Partitions::new(row.len()),
                part: 0,
            });
            return spilled.left.push(hash, row.iter(), cx);
        }
        cx.memory.take(bytes)?;
        self.bytes += bytes;
        self.table
            .insert_unique(hash, (hash, groups.len()), |(h, _)| *h);
        groups.push(Group {
            row,
            left: 1,
            right: 0,
        });
        Ok(())
    }

    fn forget(&mut self, cx: &mut EvalCx) {
        cx.memory.give_back(self.bytes);
        self.bytes = 0;
        self.table.clear();
        self.groups.clear();
    }

    /// The groups in memory are through: counts the next part from disk, if there is one.
    fn next_part(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<(), SqlError> {
        self.forget(cx);
        self.state = State::Done;
        let Some(mut spilled) = self.spilled.take() else {
            return Ok(());
        };
        if spilled.part == COUNT {
            return Ok(());
        }
        let number = spilled.part;
        spilled.part += 1;
        let NodeKind::SetOp(spec) = &self.spec.kind else {
            unreachable!("built from a set operation")
        };
        let keys = spec.keys.clone();
        for (side, from_left) in [(&mut spilled.left, true), (&mut spilled.right, false)] {
            let mut count = 0_u32;
            side.each(number, &mut |row| {
                for (key, value) in keys.iter().zip(row.iter()) {
                    frame[key.slot] = value.clone();
                }
                count = count.wrapping_add(1);
                if count.is_multiple_of(1024) {
                    cx.check_interrupts()?;
                }
                self.count(frame, cx, from_left, false)
            })?;
        }
        self.spilled = Some(spilled);
        self.state = State::Giving(0, u64::MAX);
        Ok(())
    }
}

impl Node for SetOpNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        loop {
            match self.state {
                State::Left => match self.left.next(frame, cx)? {
                    Step::Row => self.count(frame, cx, true, true)?,
                    Step::Yield => return Ok(Step::Yield),
                    Step::Done => self.state = State::Right,
                },
                State::Right => match self.right.next(frame, cx)? {
                    Step::Row => self.count(frame, cx, false, true)?,
                    Step::Yield => return Ok(Step::Yield),
                    Step::Done => self.state = State::Giving(0, u64::MAX),
                },
                State::Giving(number, left) => {
                    let NodeKind::SetOp(spec) = &self.spec.kind else {
                        unreachable!("built from a set operation")
                    };
                    let Some(group) = self.groups.get(number) else {
                        self.next_part(frame, cx)?;
                        continue;
                    };
                    let left = left.min(copies(spec, group));
                    if left == 0 {
                        self.state = State::Giving(number + 1, u64::MAX);
                        continue;
                    }
                    for (key, value) in spec.keys.iter().zip(&group.row) {
                        frame[key.slot] = value.clone();
                    }
                    // The last copy leaves by going on to the next group: 0 would be read as "not begun".
                    self.state = if left == 1 {
                        State::Giving(number + 1, u64::MAX)
                    } else {
                        State::Giving(number, left - 1)
                    };
                    return Ok(Step::Row);
                }
                State::Done => return Ok(Step::Done),
            }
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.forget(cx);
        self.spilled = None;
        self.state = State::Left;
        self.left.rewind(cx)?;
        self.right.rewind(cx)
    }
}
