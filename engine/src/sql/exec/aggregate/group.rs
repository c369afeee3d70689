//! One group's running aggregates, and the inputs that they take.

use std::cmp::Ordering;

use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::memory::row_bytes;
use crate::sql::plan::tree::AggregateSpec;
use crate::types::compare::comparator;
use crate::types::datum::Datum;
use crate::types::function::Accumulator;

/// What each group of one call needs.
#[derive(Default)]
struct Collected {
    rows: Vec<Box<[Datum]>>,
    /// Bytes of the rows on the statement's account.
    bytes: usize,
}

/// The state of one call in one group.
pub struct State {
    accumulator: Box<dyn Accumulator>,
    /// For DISTINCT and ORDER BY: arguments wait until the group is whole.
    collected: Option<Collected>,
}

pub fn new_states(calls: &[AggregateSpec]) -> Vec<State> {
    calls
        .iter()
        .map(|call| State {
            accumulator: (call.aggregate.make)(&call.arg_types),
            collected: (call.distinct || !call.order_by.is_empty()).then(Collected::default),
        })
        .collect()
}

/// Values of one call among the inputs: the FILTER's verdict, arguments, sort keys.
fn width(call: &AggregateSpec) -> usize {
    1 + call.args.len() + call.order_by.len()
}

/// Computes the inputs of all calls for the row in the frame.
pub fn compute_inputs(
    calls: &[AggregateSpec],
    into: &mut Vec<Datum>,
    frame: &[Datum],
    cx: &mut EvalCx,
) -> Result<(), SqlError> {
    into.clear();
    for call in calls {
        let wanted = match &call.filter {
            None => true,
            Some(test) => test.passes(frame, cx)?,
        };
        into.push(Datum::Bool(wanted));
        if !wanted {
            into.extend((1..width(call)).map(|_| Datum::Null));
            continue;
        }
        for arg in &call.args {
            into.push(arg.eval(frame, cx)?);
        }
        for order in &call.order_by {
            into.push(order.value.eval(frame, cx)?);
        }
    }
    Ok(())
}

/// Gives one row's inputs to a group.
pub fn update(
    calls: &[AggregateSpec],
    states: &mut [State],
    inputs: &[Datum],
    cx: &mut EvalCx,
) -> Result<(), SqlError> {
    let mut at = 0;
    for (call, state) in calls.iter().zip(states) {
        let own = &inputs[at..at + width(call)];
        at += width(call);
        if !matches!(own[0], Datum::Bool(true)) {
            continue;
        }
        let args = &own[1..=call.args.len()];
        if call.aggregate.strict && args.iter().any(Datum::is_null) {
            continue;
        }
        match &mut state.collected {
            Some(collected) => {
                let bytes = row_bytes(&own[1..]) + 16;
                cx.memory.take(bytes)?;
                collected.bytes += bytes;
                collected.rows.push(own[1..].into());
            }
            None => state.accumulator.update(args, &cx.function)?,
        }
    }
    Ok(())
}

/// The results of a group whose input is complete, one for each call.
pub fn finish(
    calls: &[AggregateSpec],
    states: &mut [State],
    frame: &mut [Datum],
    cx: &mut EvalCx,
) -> Result<(), SqlError> {
    for (call, state) in calls.iter().zip(states) {
        if let Some(collected) = state.collected.take() {
            feed(call, state, collected, cx)?;
        }
        frame[call.slot] = state.accumulator.finish(&cx.function)?;
    }
    Ok(())
}

/// Sorts what was collected (DISTINCT by the arguments), drops duplicates, and gives it to the accumulator.
fn feed(
    call: &AggregateSpec,
    state: &mut State,
    mut collected: Collected,
    cx: &mut EvalCx,
) -> Result<(), SqlError> {
    let count = call.args.len();
    let comparators: Vec<_> = call.arg_types.iter().map(|ty| comparator(*ty)).collect();
    let by_args = |a: &[Datum], b: &[Datum]| {
        for (i, compare) in comparators.iter().enumerate() {
            let order = match (a[i].is_null(), b[i].is_null()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => compare.map_or(Ordering::Equal, |c| c(&a[i], &b[i])),
            };
            if order.is_ne() {
                return order;
            }
        }
        Ordering::Equal
    };
    collected.rows.sort_by(|a, b| {
        for (i, key) in call.order_by.iter().enumerate() {
            let order = ordered(
                key.compare,
                key.descending,
                key.nulls_first,
                &a[count + i],
                &b[count + i],
            );
            if order.is_ne() {
                return order;
            }
        }
        if call.distinct {
            by_args(a, b)
        } else {
            Ordering::Equal
        }
    });
    if call.distinct {
        collected
            .rows
            .dedup_by(|b, a| by_args(a, b) == Ordering::Equal);
    }
    for row in collected.rows {
        state.accumulator.update(&row[..count], &cx.function)?;
    }
    // Duplicates have been on the account as well.
    cx.memory.give_back(collected.bytes);
    Ok(())
}

/// Gives back what was taken for the arguments of groups that are not finished.
pub fn abandon(states: &[State], cx: &mut EvalCx) {
    for collected in states.iter().filter_map(|s| s.collected.as_ref()) {
        cx.memory.give_back(collected.bytes);
    }
}

fn ordered(
    compare: crate::types::compare::Comparator,
    descending: bool,
    nulls_first: bool,
    a: &Datum,
    b: &Datum,
) -> Ordering {
    let nulls = if nulls_first {
        Ordering::Less
    } else {
        Ordering::Greater
    };
    match (a.is_null(), b.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) => nulls,
        (false, true) => nulls.reverse(),
        (false, false) if descending => compare(b, a),
        (false, false) => compare(a, b),
    }
}

/// Bytes that the accumulators hold beyond themselves.
pub fn held(states: &[State]) -> usize {
    states.iter().map(|s| s.accumulator.memory()).sum()
}
