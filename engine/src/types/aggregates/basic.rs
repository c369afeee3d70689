//! Counting, extremes, and folds of booleans and bits.

use std::sync::Arc;

use crate::ids::Oid;
use crate::types::array::Array;
use crate::types::compare::{Asked, Comparator, comparator, order_of_arrays};
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{Accumulator, FunctionCx};
use crate::types::{oids, registry};

type Made = Box<dyn Accumulator>;

struct Count(i64);

impl Accumulator for Count {
    fn update(&mut self, _args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        self.0 += 1;
        Ok(())
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        Ok(Datum::Int8(self.0))
    }
    fn remove(&mut self, _args: &[Datum]) -> bool {
        self.0 -= 1;
        true
    }
}

/// `count(*)` sees every row; `count(x)` is strict, so it sees only values.
pub(super) fn count(_args: &[Oid]) -> Box<dyn Accumulator> {
    Box::new(Count(0))
}

/// The value so far that wins against all others.
struct Extreme {
    best: Option<Datum>,
    compare: Comparator,
    largest: bool,
    last_of_equals: bool,
}

impl Accumulator for Extreme {
    fn update(&mut self, args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        let wins = match &self.best {
            None => true,
            Some(best) => {
                // Of equal values the last stays, except of char(n): as PostgreSQL's functions have it.
                let order = (self.compare)(&args[0], best);
                let better = if self.largest {
                    order.is_gt()
                } else {
                    order.is_lt()
                };
                better || (order.is_eq() && self.last_of_equals)
            }
        };
        if wins {
            self.best = Some(args[0].clone());
        }
        Ok(())
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        Ok(self.best.take().unwrap_or(Datum::Null))
    }
    fn so_far(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        Ok(self.best.clone().unwrap_or(Datum::Null))
    }
}

/// The same of arrays, whose elements may turn out to have no order.
struct ExtremeArray {
    best: Option<Arc<Array>>,
    largest: bool,
}

impl Accumulator for ExtremeArray {
    fn update(&mut self, args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        let Datum::Array(array) = &args[0] else {
            panic!("the analyzer passed {:?} as an array", args[0])
        };
        let wins = match &self.best {
            None => true,
            Some(best) => {
                let order = order_of_arrays(array, best, Asked::Order)?;
                order.is_eq() || order.is_gt() == self.largest
            }
        };
        if wins {
            self.best = Some(Arc::clone(array));
        }
        Ok(())
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        Ok(self.best.take().map_or(Datum::Null, Datum::Array))
    }
    fn so_far(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        Ok(self.best.clone().map_or(Datum::Null, Datum::Array))
    }
}

fn extreme(args: &[Oid], largest: bool) -> Made {
    let vector = matches!(args[0], oids::ANYARRAY | oids::INT2VECTOR | oids::OIDVECTOR);
    if vector || registry::element_of(args[0]).is_some() {
        return Box::new(ExtremeArray {
            best: None,
            largest,
        });
    }
    let compare = comparator(args[0]).expect("the table has min and max only of ordered types");
    Box::new(Extreme {
        best: None,
        compare,
        largest,
        last_of_equals: args[0] != oids::BPCHAR,
    })
}
pub(super) fn min(args: &[Oid]) -> Box<dyn Accumulator> {
    extreme(args, false)
}
pub(super) fn max(args: &[Oid]) -> Box<dyn Accumulator> {
    extreme(args, true)
}

/// A fold over values of one kind.
struct Fold {
    state: Option<Datum>,
    step: fn(&Datum, &Datum) -> Datum,
}

impl Accumulator for Fold {
    fn update(&mut self, args: &[Datum], _cx: &FunctionCx) -> Result<(), TypeError> {
        self.state = Some(match &self.state {
            None => args[0].clone(),
            Some(state) => (self.step)(state, &args[0]),
        });
        Ok(())
    }
    fn finish(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        Ok(self.state.take().unwrap_or(Datum::Null))
    }
    fn so_far(&mut self, _cx: &FunctionCx) -> Result<Datum, TypeError> {
        Ok(self.state.clone().unwrap_or(Datum::Null))
    }
}

fn fold(step: fn(&Datum, &Datum) -> Datum) -> Made {
    Box::new(Fold { state: None, step })
}

macro_rules! folds {
    ($($name:ident $op:tt;)*) => {$(
        fn $name(a: &Datum, b: &Datum) -> Datum {
            match (a, b) {
                (Datum::Bool(a), Datum::Bool(b)) => Datum::Bool(*a $op *b),
                (Datum::Int2(a), Datum::Int2(b)) => Datum::Int2(*a $op *b),
                (Datum::Int4(a), Datum::Int4(b)) => Datum::Int4(*a $op *b),
                (Datum::Int8(a), Datum::Int8(b)) => Datum::Int8(*a $op *b),
                other => panic!("the analyzer passed {other:?} to a fold of bits"),
            }
        }
    )*};
}
folds! { and &; or |; xor ^; }

pub(super) fn bool_and(_args: &[Oid]) -> Box<dyn Accumulator> {
    fold(and)
}
pub(super) fn bool_or(_args: &[Oid]) -> Box<dyn Accumulator> {
    fold(or)
}
pub(super) fn every(_args: &[Oid]) -> Box<dyn Accumulator> {
    fold(and)
}
pub(super) fn bit_and(_args: &[Oid]) -> Box<dyn Accumulator> {
    fold(and)
}
pub(super) fn bit_or(_args: &[Oid]) -> Box<dyn Accumulator> {
    fold(or)
}
pub(super) fn bit_xor(_args: &[Oid]) -> Box<dyn Accumulator> {
    fold(xor)
}
