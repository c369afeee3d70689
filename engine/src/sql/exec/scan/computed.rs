//! Rows that no table holds: VALUES, functions in FROM, tables that the code fills.

use std::sync::Arc;

use crate::ids::Oid;
use crate::sql::error::SqlError;
use crate::sql::exec::access::VirtualRows;
use crate::sql::exec::cx::{EvalCx, Step};
use crate::sql::exec::eval::{Scalar, Test};
use crate::sql::exec::node::Node;
use crate::sql::plan::tree::{NodeKind, PlanNode, TableCall};
use crate::types::datum::Datum;
use crate::types::function::{CallTypes, Function, Implementation, Rows};

pub struct ValuesScanNode {
    spec: Arc<PlanNode>,
    next: usize,
}

impl ValuesScanNode {
    pub fn new(spec: Arc<PlanNode>) -> ValuesScanNode {
        ValuesScanNode { spec, next: 0 }
    }
}

fn passes(filter: &Option<Test>, frame: &[Datum], cx: &mut EvalCx) -> Result<bool, SqlError> {
    match filter {
        None => Ok(true),
        Some(test) => test.passes(frame, cx),
    }
}

impl Node for ValuesScanNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let NodeKind::ValuesScan {
            rows,
            slots,
            filter,
            ..
        } = &self.spec.kind
        else {
            unreachable!("built from VALUES")
        };
        while let Some(row) = rows.get(self.next) {
            if cx.spend() {
                return Ok(Step::Yield);
            }
            self.next += 1;
            for (slot, value) in slots.iter().zip(row) {
                frame[*slot] = value.eval(frame, cx)?;
            }
            if passes(filter, frame, cx)? {
                return Ok(Step::Row);
            }
            cx.refused(self.spec.id);
        }
        Ok(Step::Done)
    }
    fn rewind(&mut self, _cx: &mut EvalCx) -> Result<(), SqlError> {
        self.next = 0;
        Ok(())
    }
}

pub struct VirtualScanNode {
    spec: Arc<PlanNode>,
    rows: Option<VirtualRows>,
}

impl VirtualScanNode {
    pub fn new(spec: Arc<PlanNode>) -> VirtualScanNode {
        VirtualScanNode { spec, rows: None }
    }
}

impl Node for VirtualScanNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let NodeKind::VirtualScan {
            relation,
            fetch,
            filter,
            ..
        } = &self.spec.kind
        else {
            unreachable!("built from a virtual scan")
        };
        let rows = match &mut self.rows {
            Some(rows) => rows,
            none => none.insert(cx.access.virtuals.rows(relation)?),
        };
        loop {
            if cx.spend() {
                return Ok(Step::Yield);
            }
            let Some(row) = rows.next() else {
                return Ok(Step::Done);
            };
            let mut row = row?;
            for (column, slot) in &fetch.columns {
                frame[*slot] = std::mem::replace(&mut row[*column], Datum::Null);
            }
            if let Some(slot) = fetch.tableoid {
                frame[slot] = Datum::Oid(relation.oid);
            }
            if passes(filter, frame, cx)? {
                return Ok(Step::Row);
            }
            cx.refused(self.spec.id);
        }
    }
    fn rewind(&mut self, _cx: &mut EvalCx) -> Result<(), SqlError> {
        self.rows = None;
        Ok(())
    }
}

pub struct FunctionScanNode {
    spec: Arc<PlanNode>,
    /// What is left of each call's rows, `None` of one that has ended.
    rows: Option<Vec<Option<Rows>>>,
    ordinal: i64,
}

impl FunctionScanNode {
    pub fn new(spec: Arc<PlanNode>) -> FunctionScanNode {
        FunctionScanNode {
            spec,
            rows: None,
            ordinal: 0,
        }
    }
}

/// A set-returning function gives its rows, any other one its single value.
pub(in crate::sql::exec) fn call(
    function: &'static Function,
    args: &[Scalar],
    (arg_types, result): (&[Oid], Oid),
    frame: &[Datum],
    cx: &mut EvalCx,
) -> Result<Rows, SqlError> {
    let mut values = Vec::with_capacity(args.len());
    for arg in args {
        values.push(arg.eval(frame, cx)?);
    }
    let args = values;
    if function.strict && args.iter().any(Datum::is_null) {
        return Ok(if function.returns_set() {
            Box::new(std::iter::empty())
        } else {
            Box::new(std::iter::once(Ok(Datum::Null)))
        });
    }
    let types = CallTypes {
        args: arg_types,
        result,
    };
    let one = |value: Datum| -> Rows { Box::new(std::iter::once(Ok(value))) };
    Ok(match function.implementation {
        Implementation::Set(code) => code(&args, &cx.function)?,
        Implementation::TypedSet(code) => code(&args, types, &cx.function)?,
        Implementation::HostSet => cx.function.host.call_set(function, &args)?,
        Implementation::Scalar(code) => one(code(&args, &cx.function)?),
        Implementation::Typed(code) => one(code(&args, types, &cx.function)?),
        Implementation::Host => one(cx.function.host.call(function, &args)?),
    })
}

/// The rows of a call in FROM.
fn begin(table: &TableCall, frame: &[Datum], cx: &mut EvalCx) -> Result<Rows, SqlError> {
    if let Some(function) = table.function {
        let types = (table.arg_types.as_slice(), table.result);
        return call(function, &table.args, types, frame, cx);
    }
    let Some(value) = table.args.first() else {
        return Err(SqlError::internal("a value in FROM is not there"));
    };
    let value = value.eval(frame, cx)?;
    Ok(Box::new(std::iter::once(Ok(value))))
}

impl Node for FunctionScanNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        let NodeKind::FunctionScan(spec) = &self.spec.kind else {
            unreachable!("built from a function scan")
        };
        let sets = match &mut self.rows {
            Some(sets) => sets,
            none => {
                let mut sets = Vec::with_capacity(spec.calls.len());
                for table in &spec.calls {
                    sets.push(Some(begin(table, frame, cx)?));
                }
                none.insert(sets)
            }
        };
        loop {
            if cx.spend() {
                return Ok(Step::Yield);
            }
            let mut some = false;
            for (set, table) in sets.iter_mut().zip(&spec.calls) {
                let value = set.as_mut().and_then(|rows| rows.next()).transpose()?;
                if value.is_none() {
                    *set = None;
                }
                some |= value.is_some();
                spread(table, value.unwrap_or(Datum::Null), frame);
            }
            if !some {
                return Ok(Step::Done);
            }
            self.ordinal += 1;
            if let Some(slot) = spec.ordinality {
                frame[slot] = Datum::Int8(self.ordinal);
            }
            if passes(&spec.filter, frame, cx)? {
                return Ok(Step::Row);
            }
            cx.refused(self.spec.id);
        }
    }
    fn rewind(&mut self, _cx: &mut EvalCx) -> Result<(), SqlError> {
        self.rows = None;
        self.ordinal = 0;
        Ok(())
    }
}

/// A record's fields, or the one value, into the slots.
fn spread(table: &TableCall, value: Datum, frame: &mut [Datum]) {
    match (&value, table.fields) {
        (Datum::Record(record), true) => {
            for (slot, field) in table.slots.iter().zip(record.fields()) {
                if let Some(slot) = slot {
                    frame[*slot] = field.clone();
                }
            }
        }
        (Datum::Null, true) => {
            for slot in table.slots.iter().flatten() {
                frame[*slot] = Datum::Null;
            }
        }
        _ => {
            if let Some(Some(slot)) = table.slots.first() {
                frame[*slot] = value;
            }
        }
    }
}
