//! AND, OR, NOT and the tests for NULL and truth, in three values.

use super::{EvalFn, TestFn, compile, compile_test, slot_of};
use crate::sql::bound::Expr;
use crate::types::datum::Datum;

/// False as soon as one part is false: later parts are not looked at.
pub fn and(parts: &[Expr]) -> TestFn {
    let mut tests: Vec<TestFn> = parts.iter().map(compile_test).collect();
    if tests.len() == 2 {
        let second = tests.pop().expect("two parts");
        let first = tests.pop().expect("two parts");
        return Box::new(move |frame, cx| match first(frame, cx)? {
            Some(false) => Ok(Some(false)),
            Some(true) => second(frame, cx),
            None => Ok(match second(frame, cx)? {
                Some(false) => Some(false),
                _ => None,
            }),
        });
    }
    Box::new(move |frame, cx| {
        let mut result = Some(true);
        for test in &tests {
            match test(frame, cx)? {
                Some(false) => return Ok(Some(false)),
                Some(true) => {}
                None => result = None,
            }
        }
        Ok(result)
    })
}

/// True as soon as one part is true.
pub fn or(parts: &[Expr]) -> TestFn {
    let tests: Vec<TestFn> = parts.iter().map(compile_test).collect();
    Box::new(move |frame, cx| {
        let mut result = Some(false);
        for test in &tests {
            match test(frame, cx)? {
                Some(true) => return Ok(Some(true)),
                Some(false) => {}
                None => result = None,
            }
        }
        Ok(result)
    })
}

pub fn not(arg: &Expr) -> TestFn {
    let test = compile_test(arg);
    Box::new(move |frame, cx| Ok(test(frame, cx)?.map(|b| !b)))
}

/// A row is NULL if all its fields are, and not NULL if none is: the two are not each other's opposite.
fn null_in(value: &Datum, negated: bool) -> bool {
    match value {
        Datum::Record(record) => record.fields().iter().all(|f| f.is_null() != negated),
        other => other.is_null() != negated,
    }
}

pub fn is_null(arg: &Expr, negated: bool) -> TestFn {
    if let Some(slot) = slot_of(arg) {
        return Box::new(move |frame, _| Ok(Some(null_in(&frame[slot], negated))));
    }
    let eval: EvalFn = compile(arg);
    Box::new(move |frame, cx| Ok(Some(null_in(&eval(frame, cx)?, negated))))
}

pub fn bool_test(arg: &Expr, is: Option<bool>, negated: bool) -> TestFn {
    let test = compile_test(arg);
    Box::new(move |frame, cx| Ok(Some((test(frame, cx)? == is) != negated)))
}
