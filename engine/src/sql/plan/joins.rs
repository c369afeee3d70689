//! The order of joins, and how each is done.
//!
//! Up to [`EXHAUSTIVE`] units every way to split them in two is tried (dynamic programming); beyond, the two that
//! join most cheaply are joined first, again and again; beyond [`GREEDY`], which would take minutes, they are joined
//! as they are written. Units without a condition between them are joined only where nothing else is left.
//!
//! A unit that reads others (`lateral.rs`) is joined only with units that have all of those, as the inner side of a nested
//! loop: reading links them as a condition does. What it reads of relations outside of the list stays what the whole
//! list needs, and is passed by a loop further out.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::sql::bound::Expr;
use crate::sql::exec::eval::{Comparison, comparison_of};
use crate::sql::plan::cost;
use crate::sql::plan::exprs::{SlotSet, is_volatile, same, slots_of};
use crate::sql::plan::from::{FromPlanner, filter_path};
use crate::sql::plan::path::{HashKey, Path, PathKind};
use crate::sql::plan::tree::JoinType;
use crate::types::compare::{comparator, hasher};

/// What one set of units can be read by.
#[derive(Clone)]
pub struct Candidate {
    pub slots: SlotSet,
    /// Slots of relations outside of it that every way to read it is given.
    pub needs: SlotSet,
    pub rows: f64,
    pub paths: Vec<Rc<Path>>,
}

const EXHAUSTIVE: usize = 8;
const GREEDY: usize = 24;

impl Candidate {
    /// The way takes nothing from outside but what all of them take.
    fn stands(&self, path: &Path) -> bool {
        path.outer.is_subset(&self.needs)
    }

    /// The other one is given values of it.
    fn is_read_by(&self, other: &Candidate) -> bool {
        other.needs.intersects(&self.slots)
    }

    /// The cheapest that takes nothing from outside but what it has to.
    pub fn cheapest(&self) -> &Rc<Path> {
        self.paths
            .iter()
            .filter(|p| self.stands(p))
            .min_by(|a, b| a.total.total_cmp(&b.total))
            .expect("reading all of it is always a way")
    }

    fn add(&mut self, path: Path) {
        let better = |a: &Path, b: &Path| {
            a.total <= b.total
                && a.startup <= b.startup
                && a.outer.is_subset(&b.outer)
                && (b.order.is_empty() || a.provides(&b.order))
        };
        if self.paths.iter().any(|p| better(p, &path)) {
            return;
        }
        self.paths.retain(|p| !better(&path, p));
        self.paths.push(Rc::new(path));
    }
}

/// Joins all units by inner joins.
pub fn search(from: &FromPlanner<'_>, mut units: Vec<Candidate>, conditions: &[Expr]) -> Candidate {
    if units.len() == 1 {
        let mut only = units.pop().expect("one unit");
        let rest: Vec<Expr> = conditions.to_vec();
        if !rest.is_empty() {
            only.paths = only
                .paths
                .iter()
                .map(|p| filter_path(from, p, rest.clone()))
                .collect();
        }
        return only;
    }
    let count = units.len();
    if count <= EXHAUSTIVE {
        exhaustive(from, &units, conditions)
    } else if count <= GREEDY {
        greedy(from, units, conditions)
    } else {
        in_order(from, units, conditions)
    }
}

/// The conditions that can be tested when both sides are there, and not before.
fn between<'c>(a: &SlotSet, b: &SlotSet, conditions: &'c [Expr], last: bool) -> Vec<&'c Expr> {
    let both = a.union(b);
    conditions
        .iter()
        .filter(|c| {
            let used = slots_of(c);
            if used.is_empty() {
                return last;
            }
            used.is_subset(&both) && !used.is_subset(a) && !used.is_subset(b)
        })
        .collect()
}

/// Units linked by conditions, or by what one reads of the other.
fn linked(a: &Candidate, b: &Candidate, conditions: &[&Expr]) -> bool {
    a.is_read_by(b) || b.is_read_by(a) || conditions.iter().any(|c| !slots_of(c).is_empty())
}

/// Joined, the two need nothing of the other units, whose slots are among `all`.
fn closed(a: &Candidate, b: &Candidate, all: &SlotSet) -> bool {
    if a.needs.is_empty() && b.needs.is_empty() {
        return true;
    }
    let both = a.slots.union(&b.slots);
    !a.needs.union(&b.needs).without(&both).intersects(all)
}

fn slots_of_all(units: &[Candidate]) -> SlotSet {
    let mut all = SlotSet::default();
    units.iter().for_each(|u| all.add(&u.slots));
    all
}

fn exhaustive(from: &FromPlanner<'_>, units: &[Candidate], conditions: &[Expr]) -> Candidate {
    let crossing = needs_crossing(units, conditions);
    let found = every_split(from, units, conditions, crossing);
    // What links three of them may join no two.
    let found = found.or_else(|| every_split(from, units, conditions, true));
    found.expect("crossing joins everything")
}

/// `may_cross`: sets that nothing links may be of use; else the whole alone may be such a one.
fn every_split(
    from: &FromPlanner<'_>,
    units: &[Candidate],
    conditions: &[Expr],
    may_cross: bool,
) -> Option<Candidate> {
    let all = slots_of_all(units);
    let full = (1_usize << units.len()) - 1;
    let mut table: Vec<Option<Candidate>> = vec![None; full + 1];
    for (i, unit) in units.iter().enumerate() {
        table[1 << i] = Some(unit.clone());
    }
    for set in 1..=full {
        if set.count_ones() < 2 {
            continue;
        }
        for crossing in [false, true] {
            let mut made: Option<Candidate> = None;
            let lowest = set & set.wrapping_neg();
            let mut part = (set - 1) & set;
            while part > 0 {
                if part & lowest != 0
                    && let (Some(a), Some(b)) = (&table[part], &table[set ^ part])
                    && closed(a, b, &all)
                {
                    let conds = between(&a.slots, &b.slots, conditions, set == full);
                    if crossing || linked(a, b, &conds) {
                        inner(from, a, b, &conds, &mut made);
                    }
                }
                part = (part - 1) & set;
            }
            table[set] = made;
            // A set that nothing links is left out.
            if table[set].is_some() || (set != full && !may_cross) {
                break;
            }
        }
    }
    table[full].take()
}

/// The conditions leave the units in more than one piece.
fn needs_crossing(units: &[Candidate], conditions: &[Expr]) -> bool {
    let mut reached: SlotSet = units[0].slots.clone();
    let mut wanted: SlotSet = units[0].needs.clone();
    loop {
        let mut grew = false;
        for unit in units {
            if unit.slots.is_subset(&reached) && !unit.slots.is_empty() {
                continue;
            }
            let reads = unit.needs.intersects(&reached) || wanted.intersects(&unit.slots);
            let linked = reads
                || conditions.iter().any(|c| {
                    let used = slots_of(c);
                    used.intersects(&reached) && used.intersects(&unit.slots)
                });
            if linked && !unit.slots.is_empty() {
                reached.add(&unit.slots);
                wanted.add(&unit.needs);
                grew = true;
            }
        }
        if !grew {
            break;
        }
    }
    units
        .iter()
        .any(|u| u.slots.is_empty() || !u.slots.is_subset(&reached))
}

fn greedy(from: &FromPlanner<'_>, mut units: Vec<Candidate>, conditions: &[Expr]) -> Candidate {
    let all = slots_of_all(&units);
    while units.len() > 1 {
        let mut best: Option<(bool, f64, usize, usize, Candidate)> = None;
        for i in 0..units.len() {
            for j in i + 1..units.len() {
                if !closed(&units[i], &units[j], &all) {
                    continue;
                }
                let last = units.len() == 2;
                let conds = between(&units[i].slots, &units[j].slots, conditions, last);
                let crossing = !linked(&units[i], &units[j], &conds);
                let mut made = None;
                if best.as_ref().is_some_and(|(c, ..)| crossing && !c) {
                    continue;
                }
                inner(from, &units[i], &units[j], &conds, &mut made);
                let made = made.expect("two units that are whole can be joined");
                let total = made.cheapest().total;
                let wins = best
                    .as_ref()
                    .is_none_or(|(c, t, ..)| (crossing, total) < (*c, *t));
                if wins {
                    best = Some((crossing, total, i, j, made));
                }
            }
        }
        // No unit reads one that reads it, so there always are two that need none of the others.
        let (_, _, i, j, made) = best.expect("there are two units");
        units.swap_remove(j);
        units.swap_remove(i);
        units.push(made);
    }
    units.pop().expect("one unit is left")
}

/// Nothing that it reads is still to come.
fn is_ready(unit: &Candidate, rest: &VecDeque<Candidate>) -> bool {
    unit.needs.is_empty() || !rest.iter().any(|other| other.is_read_by(unit))
}

/// One after the other, the next one that something links with what is there.
fn in_order(from: &FromPlanner<'_>, units: Vec<Candidate>, conditions: &[Expr]) -> Candidate {
    let mut rest = VecDeque::from(units);
    let first = rest.iter().position(|u| is_ready(u, &rest)).unwrap_or(0);
    let mut done = rest.remove(first).expect("there are units");
    // What conditions read, for those that wait for a unit.
    let mut open: Vec<(&Expr, SlotSet)> = conditions.iter().map(|c| (c, slots_of(c))).collect();
    while !rest.is_empty() {
        let linked = |unit: &Candidate| {
            let reads = done.is_read_by(unit);
            reads
                || open.iter().any(|(_, used)| {
                    used.intersects(&unit.slots)
                        && used.intersects(&done.slots)
                        && used.is_subset(&done.slots.union(&unit.slots))
                })
        };
        let ready = |unit: &Candidate| is_ready(unit, &rest);
        let at = rest.iter().position(|u| ready(u) && linked(u));
        let at = at.or_else(|| rest.iter().position(ready)).unwrap_or(0);
        let next = rest.remove(at).expect("it is there");
        let both = done.slots.union(&next.slots);
        let last = rest.is_empty();
        let now = |used: &SlotSet| {
            if used.is_empty() {
                return last;
            }
            used.is_subset(&both) && !used.is_subset(&done.slots) && !used.is_subset(&next.slots)
        };
        let testable = open.iter().filter(|(_, used)| now(used));
        let conds: Vec<&Expr> = testable.map(|(c, _)| *c).collect();
        let mut made = None;
        inner(from, &done, &next, &conds, &mut made);
        done = made.expect("two units can always be joined");
        open.retain(|(_, used)| used.is_empty() || !used.is_subset(&both));
    }
    done
}

/// Both orders of an inner join.
fn inner(
    from: &FromPlanner<'_>,
    a: &Candidate,
    b: &Candidate,
    conditions: &[&Expr],
    into: &mut Option<Candidate>,
) {
    let conditions: Vec<Expr> = conditions.iter().map(|c| (*c).clone()).collect();
    let selectivity = from.estimates.selectivity(&conditions, from.function);
    let made = into.get_or_insert_with(|| Candidate {
        slots: a.slots.union(&b.slots),
        needs: needs_of(a, b),
        rows: (a.rows * b.rows * selectivity).max(1.0).round(),
        paths: Vec::new(),
    });
    for (outer, inner) in [(a, b), (b, a)] {
        nest_loops(from, JoinType::Inner, outer, inner, &conditions, &[], made);
        hash(from, JoinType::Inner, outer, inner, &conditions, &[], made);
    }
}

/// What two need of relations outside of both.
fn needs_of(a: &Candidate, b: &Candidate) -> SlotSet {
    let both = a.slots.union(&b.slots);
    a.needs.union(&b.needs).without(&both)
}

/// A left or full join.
pub fn outer(
    from: &FromPlanner<'_>,
    join: JoinType,
    left: &Candidate,
    right: &Candidate,
    conditions: &[Expr],
    filter: Vec<Expr>,
) -> Candidate {
    let selectivity = from.estimates.selectivity(conditions, from.function);
    let matched = left.rows * right.rows * selectivity;
    let rows = match join {
        JoinType::Full => matched.max(left.rows).max(right.rows),
        _ => matched.max(left.rows),
    };
    let kept = from.estimates.selectivity(&filter, from.function);
    let mut made = Candidate {
        slots: left.slots.union(&right.slots),
        needs: needs_of(left, right),
        rows: (rows * kept).max(1.0).round(),
        paths: Vec::new(),
    };
    if join == JoinType::Left {
        nest_loops(from, join, left, right, conditions, &filter, &mut made);
        hash(
            from,
            JoinType::Right,
            right,
            left,
            conditions,
            &filter,
            &mut made,
        );
    }
    hash(from, join, left, right, conditions, &filter, &mut made);
    made
}

fn nest_loops(
    from: &FromPlanner<'_>,
    join: JoinType,
    outer: &Candidate,
    inner: &Candidate,
    conditions: &[Expr],
    filter: &[Expr],
    into: &mut Candidate,
) {
    // The outer side is there first.
    if inner.is_read_by(outer) {
        return;
    }
    let s = from.settings;
    let given = outer.slots.union(&inner.needs);
    for first in outer.paths.iter().filter(|p| outer.stands(p)) {
        for second in &inner.paths {
            if !second.outer.is_subset(&given) {
                continue;
            }
            // Its rows are others for each outer row.
            let keyed = second.outer.intersects(&outer.slots);
            let rest: Vec<Expr> = if keyed {
                let answered = answered(second);
                conditions
                    .iter()
                    .filter(|c| !answered.iter().any(|a| same(a, c)))
                    .cloned()
                    .collect()
            } else {
                conditions.to_vec()
            };
            let materialize = !keyed && s.enable_material && !is_cheap_again(second);
            let rescan = if materialize {
                cost::rescan_materialized(s, second.rows, second.width)
            } else {
                second.total
            };
            let costs = cost::nest_loop(
                s,
                (first.startup, first.total, first.rows),
                (second.startup, second.total),
                rescan,
                second.rows,
                rest.len() + filter.len(),
            );
            into.add(Path {
                startup: costs.startup,
                total: costs.total,
                rows: into.rows,
                width: first.width + second.width,
                outer: first.outer.union(&second.outer).without(&outer.slots),
                order: first.order.clone(),
                fixed: first.fixed.clone(),
                kind: PathKind::NestLoop {
                    join,
                    outer: Rc::clone(first),
                    inner: Rc::clone(second),
                    condition: rest,
                    filter: filter.to_vec(),
                    materialize,
                },
            });
        }
    }
}

/// Reading it again costs no more than reading a copy.
fn is_cheap_again(path: &Path) -> bool {
    matches!(&path.kind, PathKind::Whole { filter, .. } if filter.is_empty() && path.rows <= 1.0)
}

/// The conditions that an index scan answers by itself.
fn answered(path: &Path) -> &[Expr] {
    match &path.kind {
        PathKind::Index(index) => &index.conditions,
        PathKind::Filter { child, .. } => answered(child),
        _ => &[],
    }
}

fn hash(
    from: &FromPlanner<'_>,
    join: JoinType,
    outer: &Candidate,
    inner: &Candidate,
    conditions: &[Expr],
    filter: &[Expr],
    into: &mut Candidate,
) {
    // Each side is read by itself.
    if inner.is_read_by(outer) || outer.is_read_by(inner) {
        return;
    }
    let mut keys = Vec::new();
    let mut residual = Vec::new();
    for condition in conditions {
        match hash_key(condition, &outer.slots, &inner.slots) {
            Some(key) => keys.push(key),
            None => residual.push(condition.clone()),
        }
    }
    // Without a key the table is one chain: only a full join has no other way.
    if keys.is_empty() && join != JoinType::Full {
        return;
    }
    let (first, second) = (outer.cheapest(), inner.cheapest());
    let costs = cost::hash_join(
        from.settings,
        (first.startup, first.total, first.rows, first.width),
        (second.startup, second.total, second.rows, second.width),
        keys.len().max(1),
        into.rows,
    );
    into.add(Path {
        startup: costs.startup,
        total: costs.total,
        rows: into.rows,
        width: first.width + second.width,
        outer: first.outer.union(&second.outer),
        order: Vec::new(),
        fixed: SlotSet::default(),
        kind: PathKind::Hash {
            join,
            outer: Rc::clone(first),
            inner: Rc::clone(second),
            keys,
            residual,
            filter: filter.to_vec(),
        },
    });
}

/// `a = b` with one side from each input, of types that hash alike.
fn hash_key(condition: &Expr, outer: &SlotSet, inner: &SlotSet) -> Option<HashKey> {
    let Expr::Call { function, args, .. } = condition else {
        return None;
    };
    if comparison_of(function) != Some(Comparison::Equal) || is_volatile(condition) {
        return None;
    }
    let [left, right] = args.as_slice() else {
        return None;
    };
    hasher(function.args[0])?;
    hasher(function.args[1])?;
    comparator(function.args[0])?;
    crate::sql::exec::eval::shared_order(function.args[0], function.args[1])?;
    let (l, r) = (slots_of(left), slots_of(right));
    let (a, b) = if l.is_subset(outer) && r.is_subset(inner) {
        (left, right)
    } else if r.is_subset(outer) && l.is_subset(inner) {
        (right, left)
    } else {
        return None;
    };
    if slots_of(a).is_empty() || slots_of(b).is_empty() {
        return None;
    }
    Some(HashKey {
        outer: a.clone(),
        inner: b.clone(),
        condition: condition.clone(),
    })
}
