//! How an implementation is written: typed arguments in, a typed result out.
//!
//! `scalar!` makes from `fn name(a: i32, b: &str) -> bool { ... }` a function over datums. The body gives a
//! `Result`. A datum of another kind than the table promised is a bug of the analyzer and panics. NULL reaches
//! only `Option` arguments; functions that take none are declared strict in the table.

use std::sync::Arc;

use crate::ids::{Lsn, Oid, Tid};
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::interval::Interval;
use crate::types::numeric::Numeric;
use crate::types::record::Record;
use crate::types::size;

#[cold]
#[inline(never)]
pub(crate) fn wrong_kind(wanted: &str, found: &Datum) -> ! {
    panic!("the analyzer passed {found:?} where {wanted} is due")
}

/// A value that an implementation takes out of a datum.
pub(crate) trait Arg<'a>: Sized {
    fn get(datum: &'a Datum) -> Self;
}
/// A value that an implementation gives.
pub(crate) trait Give: Sized {
    fn give(self) -> Datum;
    /// Error 54000 or 54001 for what is larger than a value may be.
    #[inline(always)]
    fn check(&self) -> Result<(), TypeError> {
        Ok(())
    }
}

/// The result of an implementation as a datum.
#[inline(always)]
pub(crate) fn given<T: Give>(value: T) -> Result<Datum, TypeError> {
    value.check()?;
    Ok(value.give())
}

macro_rules! copy_kinds {
    ($($ty:ty, $variant:ident;)*) => {$(
        impl Arg<'_> for $ty {
            #[inline(always)]
            fn get(datum: &Datum) -> $ty {
                match datum {
                    Datum::$variant(v) => *v,
                    other => wrong_kind(stringify!($variant), other),
                }
            }
        }
        impl Give for $ty {
            #[inline(always)]
            fn give(self) -> Datum { Datum::$variant(self) }
        }
    )*};
}
copy_kinds! {
    bool, Bool; i16, Int2; i32, Int4; i64, Int8; f32, Float4; f64, Float8; [u8; 16], Uuid; Oid, Oid; Tid, Tid;
    Lsn, Lsn;
}

macro_rules! wrapped_kinds {
    ($($(#[$meta:meta])* $name:ident($inner:ty), $variant:ident;)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub(crate) struct $name(pub $inner);
        impl Arg<'_> for $name {
            #[inline(always)]
            fn get(datum: &Datum) -> $name {
                match datum {
                    Datum::$variant(v) => $name(*v),
                    other => wrong_kind(stringify!($variant), other),
                }
            }
        }
        impl Give for $name {
            #[inline(always)]
            fn give(self) -> Datum { Datum::$variant(self.0) }
        }
    )*};
}
wrapped_kinds! {
    /// `"char"`
    Byte(u8), Char;
    /// Days since 2000-01-01.
    Date(i32), Date;
    /// Microseconds since midnight.
    Time(i64), Time;
    /// Microseconds since 2000-01-01, no zone.
    Stamp(i64), Timestamp;
    /// Microseconds since 2000-01-01 UTC.
    StampTz(i64), TimestampTz;
    Xid32(u32), Xid;
    Xid64(u64), Xid8;
}

/// `timetz`: microseconds since midnight, seconds west.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimeTz(pub i64, pub i32);

impl Arg<'_> for TimeTz {
    fn get(datum: &Datum) -> TimeTz {
        match datum {
            Datum::TimeTz(t, z) => TimeTz(*t, *z),
            other => wrong_kind("TimeTz", other),
        }
    }
}
impl Give for TimeTz {
    fn give(self) -> Datum {
        Datum::TimeTz(self.0, self.1)
    }
}

macro_rules! shared_kinds {
    ($($ty:ty, $variant:ident;)*) => {$(
        impl<'a> Arg<'a> for &'a $ty {
            #[inline(always)]
            fn get(datum: &'a Datum) -> &'a $ty {
                match datum {
                    Datum::$variant(v) => v,
                    other => wrong_kind(stringify!($variant), other),
                }
            }
        }
    )*};
}
shared_kinds! {
    str, Text; [u8], Bytea; Numeric, Numeric; Interval, Interval; Array, Array; serde_json::Value, Jsonb;
    Record, Record;
}
macro_rules! give_shared {
    ($($ty:ty, $variant:ident;)*) => {$(
        impl Give for $ty {
            #[inline(always)]
            fn give(self) -> Datum { Datum::$variant(Arc::from(self)) }
        }
    )*};
}
give_shared! { Numeric, Numeric; Interval, Interval; }

macro_rules! give_bytes {
    ($($ty:ty, $variant:ident;)*) => {$(
        impl Give for $ty {
            #[inline(always)]
            fn give(self) -> Datum { Datum::$variant(Arc::from(self)) }
            #[inline(always)]
            fn check(&self) -> Result<(), TypeError> { size::check(self.len()) }
        }
    )*};
}
give_bytes! { &str, Text; String, Text; Vec<u8>, Bytea; &[u8], Bytea; }

impl Give for Array {
    fn give(self) -> Datum {
        Datum::Array(Arc::from(self))
    }
    fn check(&self) -> Result<(), TypeError> {
        size::check_array(self)
    }
}
impl Give for serde_json::Value {
    fn give(self) -> Datum {
        Datum::Jsonb(Arc::from(self))
    }
    fn check(&self) -> Result<(), TypeError> {
        size::check_json(self)
    }
}

impl<'a> Arg<'a> for &'a Datum {
    #[inline(always)]
    fn get(datum: &'a Datum) -> &'a Datum {
        datum
    }
}
impl Give for Datum {
    #[inline(always)]
    fn give(self) -> Datum {
        self
    }
}
impl Give for () {
    fn give(self) -> Datum {
        Datum::Void
    }
}
impl<'a, T: Arg<'a>> Arg<'a> for Option<T> {
    #[inline(always)]
    fn get(datum: &'a Datum) -> Option<T> {
        if datum.is_null() {
            None
        } else {
            Some(T::get(datum))
        }
    }
}
impl<T: Give> Give for Option<T> {
    #[inline(always)]
    fn give(self) -> Datum {
        self.map_or(Datum::Null, T::give)
    }
    #[inline(always)]
    fn check(&self) -> Result<(), TypeError> {
        self.as_ref().map_or(Ok(()), T::check)
    }
}

/// `fn name(a: T, b: U) -> R { Result<R> }`, or `fn name[cx](...)` where the body asks for settings.
macro_rules! scalar {
    ($($(#[$meta:meta])* fn $name:ident $([$cx:ident])? ($($a:ident : $t:ty),* $(,)?) -> $r:ty $body:block)*) => {$(
        $(#[$meta])*
        pub(crate) fn $name(
            args: &[$crate::types::datum::Datum],
            _cx: &$crate::types::function::FunctionCx,
        ) -> Result<$crate::types::datum::Datum, $crate::types::error::TypeError> {
            $(let $cx = _cx;)?
            let [$($a),*] = args else {
                panic!("{} was called with {} arguments", stringify!($name), args.len())
            };
            $(let $a = <$t as $crate::types::functions::call::Arg<'_>>::get($a);)*
            let run = || -> Result<$r, $crate::types::error::TypeError> { $body };
            run().and_then($crate::types::functions::call::given)
        }
    )*};
}

/// The same for a function that must know its arguments' types: `fn name[args, types, cx] { Result<R> }`.
macro_rules! typed {
    ($($(#[$meta:meta])* fn $name:ident [$args:ident, $types:ident, $cx:ident] -> $r:ty $body:block)*) => {$(
        $(#[$meta])*
        pub(crate) fn $name(
            $args: &[$crate::types::datum::Datum],
            $types: $crate::types::function::CallTypes<'_>,
            $cx: &$crate::types::function::FunctionCx,
        ) -> Result<$crate::types::datum::Datum, $crate::types::error::TypeError> {
            let run = || -> Result<$r, $crate::types::error::TypeError> { $body };
            run().and_then($crate::types::functions::call::given)
        }
    )*};
}

/// A set-returning function: the body gives `Result<Rows>`.
macro_rules! rows {
    ($($(#[$meta:meta])* fn $name:ident $([$cx:ident])? ($($a:ident : $t:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        pub(crate) fn $name(
            args: &[$crate::types::datum::Datum],
            _cx: &$crate::types::function::FunctionCx,
        ) -> Result<$crate::types::function::Rows, $crate::types::error::TypeError> {
            $(let $cx = _cx;)?
            let [$($a),*] = args else {
                panic!("{} was called with {} arguments", stringify!($name), args.len())
            };
            $(let $a = <$t as $crate::types::functions::call::Arg<'_>>::get($a);)*
            $body
        }
    )*};
}

/// Six comparison functions and a three-way one from an order: `names eq ne lt le gt ge [cmp]; T, U; |a, b| Ordering`.
macro_rules! comparisons {
    ($($eq:ident $ne:ident $lt:ident $le:ident $gt:ident $ge:ident $($cmp:ident)? : $t:ty, $u:ty, $order:expr;)*) => {$(
        scalar! {
            fn $eq(a: $t, b: $u) -> bool { Ok($order(a, b).is_eq()) }
            fn $ne(a: $t, b: $u) -> bool { Ok($order(a, b).is_ne()) }
            fn $lt(a: $t, b: $u) -> bool { Ok($order(a, b).is_lt()) }
            fn $le(a: $t, b: $u) -> bool { Ok($order(a, b).is_le()) }
            fn $gt(a: $t, b: $u) -> bool { Ok($order(a, b).is_gt()) }
            fn $ge(a: $t, b: $u) -> bool { Ok($order(a, b).is_ge()) }
            $(fn $cmp(a: $t, b: $u) -> i32 { Ok($order(a, b) as i32) })?
        }
    )*};
}

/// The larger and the smaller of two values of an ordered type; of equal ones (1.0 and 1.00) the second.
macro_rules! extremes {
    ($($larger:ident $smaller:ident : $oid:expr;)*) => {$(
        scalar! {
            fn $larger(a: &$crate::types::datum::Datum, b: &$crate::types::datum::Datum) -> $crate::types::datum::Datum {
                Ok(if $crate::types::compare::compare($oid, a, b).is_gt() { a.clone() } else { b.clone() })
            }
            fn $smaller(a: &$crate::types::datum::Datum, b: &$crate::types::datum::Datum) -> $crate::types::datum::Datum {
                Ok(if $crate::types::compare::compare($oid, a, b).is_lt() { a.clone() } else { b.clone() })
            }
        }
    )*};
}
