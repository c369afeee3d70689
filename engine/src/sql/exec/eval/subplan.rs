//! Runs of subqueries that read the row beside them.

use super::list::Verdict;
use super::{EvalFn, TestFn, call, compile, compile_test, truth};
use crate::sql::bound::{Expr, RowTest, SubPlanCall};
use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::subplan::Running;
use crate::types::datum::Datum;
use crate::types::function::Function;

/// What a subquery is given of the row.
struct Passed(Vec<(usize, EvalFn)>);

impl Passed {
    fn new(run: &SubPlanCall) -> Passed {
        let args = run.args.iter();
        Passed(args.map(|(number, e)| (*number, compile(e))).collect())
    }
    #[inline]
    fn pass(&self, frame: &[Datum], cx: &mut EvalCx) -> Result<(), SqlError> {
        for (number, value) in &self.0 {
            let value = value(frame, cx)?;
            cx.pass(*number, value);
        }
        Ok(())
    }
}

/// What it gives as a whole: its value, whether it has a row, its values as an array.
pub fn value(run: &SubPlanCall) -> EvalFn {
    let (number, passed) = (run.number, Passed::new(run));
    Box::new(move |frame, cx| {
        passed.pass(frame, cx)?;
        cx.run_subplan(number)
    })
}

/// `left op ANY (query)` and ALL.
pub fn any(function: &'static Function, left: EvalFn, run: &SubPlanCall, all: bool) -> TestFn {
    let (number, passed) = (run.number, Passed::new(run));
    let strict = function.strict;
    let apply = call::binary(function);
    Box::new(move |frame, cx| {
        let value = left(frame, cx)?;
        passed.pass(frame, cx)?;
        let mut rows = Running::begin(cx, number)?;
        let mut verdict = Verdict::new(all);
        let mut decided = None;
        // With NULL nothing is told apart: it only matters whether there is a row.
        let hopeless = strict && value.is_null();
        while decided.is_none() && rows.next_row(cx)? {
            let item = rows.column()?;
            let result = if hopeless || (strict && item.is_null()) {
                None
            } else {
                truth(&apply(&value, item, cx)?)
            };
            decided = verdict.add(result);
            if hopeless {
                break;
            }
        }
        rows.end(cx);
        Ok(decided.or(verdict.end()))
    })
}

/// The same of rows.
pub fn any_row(left: &[Expr], run: &SubPlanCall, test: &RowTest) -> TestFn {
    let (number, passed) = (run.number, Passed::new(run));
    let left: Vec<EvalFn> = left.iter().map(compile).collect();
    let comparison = compile_test(&test.comparison);
    let all = test.all;
    Box::new(move |frame, cx| {
        let mut row = Vec::with_capacity(2 * left.len());
        for value in &left {
            row.push(value(frame, cx)?);
        }
        passed.pass(frame, cx)?;
        let mut rows = Running::begin(cx, number)?;
        let mut verdict = Verdict::new(all);
        let mut decided = None;
        while decided.is_none() && rows.next_row(cx)? {
            row.truncate(left.len());
            row.extend(rows.row().cloned());
            decided = verdict.add(comparison(&row, cx)?);
        }
        rows.end(cx);
        Ok(decided.or(verdict.end()))
    })
}
