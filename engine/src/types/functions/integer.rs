//! `smallint`, `integer`, `bigint`: comparison, arithmetic, bits; and `boolean`, `"char"`, `oid` comparison.

use super::call::{Byte, Xid32, Xid64};
use crate::ids::{Lsn, Oid, Tid};
use crate::types::error::TypeError;
use crate::types::numeric::Numeric;
use crate::types::oids;

#[cold]
pub(crate) fn out_of_range(type_name: &str) -> TypeError {
    TypeError::new("22003", format!("{type_name} out of range"))
}
#[cold]
pub(crate) fn division_by_zero() -> TypeError {
    TypeError::new("22012", "division by zero")
}

comparisons! {
    int2eq int2ne int2lt int2le int2gt int2ge btint2cmp: i16, i16, |a: i16, b: i16| a.cmp(&b);
    int4eq int4ne int4lt int4le int4gt int4ge btint4cmp: i32, i32, |a: i32, b: i32| a.cmp(&b);
    int8eq int8ne int8lt int8le int8gt int8ge btint8cmp: i64, i64, |a: i64, b: i64| a.cmp(&b);
    int24eq int24ne int24lt int24le int24gt int24ge btint24cmp: i16, i32, |a: i16, b: i32| i32::from(a).cmp(&b);
    int28eq int28ne int28lt int28le int28gt int28ge btint28cmp: i16, i64, |a: i16, b: i64| i64::from(a).cmp(&b);
    int42eq int42ne int42lt int42le int42gt int42ge btint42cmp: i32, i16, |a: i32, b: i16| a.cmp(&i32::from(b));
    int48eq int48ne int48lt int48le int48gt int48ge btint48cmp: i32, i64, |a: i32, b: i64| i64::from(a).cmp(&b);
    int82eq int82ne int82lt int82le int82gt int82ge btint82cmp: i64, i16, |a: i64, b: i16| a.cmp(&i64::from(b));
    int84eq int84ne int84lt int84le int84gt int84ge btint84cmp: i64, i32, |a: i64, b: i32| a.cmp(&i64::from(b));
    booleq boolne boollt boolle boolgt boolge btboolcmp: bool, bool, |a: bool, b: bool| a.cmp(&b);
    chareq charne charlt charle chargt charge btcharcmp: Byte, Byte, |a: Byte, b: Byte| a.cmp(&b);
    oideq oidne oidlt oidle oidgt oidge btoidcmp: Oid, Oid, |a: Oid, b: Oid| a.cmp(&b);
    xid8eq xid8ne xid8lt xid8le xid8gt xid8ge xid8cmp: Xid64, Xid64, |a: Xid64, b: Xid64| a.cmp(&b);
    tideq tidne tidlt tidle tidgt tidge bttidcmp: Tid, Tid, |a: Tid, b: Tid| a.cmp(&b);
    pg_lsn_eq pg_lsn_ne pg_lsn_lt pg_lsn_le pg_lsn_gt pg_lsn_ge pg_lsn_cmp: Lsn, Lsn, |a: Lsn, b: Lsn| a.cmp(&b);
    uuid_eq uuid_ne uuid_lt uuid_le uuid_gt uuid_ge uuid_cmp: [u8; 16], [u8; 16], |a: [u8; 16], b: [u8; 16]| a.cmp(&b);
}
extremes! {
    int2larger int2smaller: oids::INT2;
    int4larger int4smaller: oids::INT4;
    int8larger int8smaller: oids::INT8;
    oidlarger oidsmaller: oids::OID;
    tidlarger tidsmaller: oids::TID;
    pg_lsn_larger pg_lsn_smaller: oids::PG_LSN;
    xid8_larger xid8_smaller: oids::XID8;
}

scalar! {
    fn xideq(a: Xid32, b: Xid32) -> bool { Ok(a == b) }
    fn xidneq(a: Xid32, b: Xid32) -> bool { Ok(a != b) }
    fn xideqint4(a: Xid32, b: i32) -> bool { Ok(a.0 == b as u32) }
    fn xidneqint4(a: Xid32, b: i32) -> bool { Ok(a.0 != b as u32) }
    fn cideq(a: Xid32, b: Xid32) -> bool { Ok(a == b) }
    fn xid8toxid(a: Xid64) -> Xid32 { Ok(Xid32(a.0 as u32)) }
}

/// Arithmetic on one type: sums and products that are checked, quotients cut towards zero.
macro_rules! arithmetic {
    ($($t:ty, $name:literal: $pl:ident $mi:ident $mul:ident $div:ident $rem:ident $um:ident $up:ident $abs:ident
       $and:ident $or:ident $xor:ident $not:ident $shl:ident $shr:ident;)*) => {$(
        scalar! {
            fn $pl(a: $t, b: $t) -> $t { a.checked_add(b).ok_or_else(|| out_of_range($name)) }
            fn $mi(a: $t, b: $t) -> $t { a.checked_sub(b).ok_or_else(|| out_of_range($name)) }
            fn $mul(a: $t, b: $t) -> $t { a.checked_mul(b).ok_or_else(|| out_of_range($name)) }
            fn $div(a: $t, b: $t) -> $t {
                if b == 0 { return Err(division_by_zero()); }
                a.checked_div(b).ok_or_else(|| out_of_range($name))
            }
            fn $rem(a: $t, b: $t) -> $t {
                if b == 0 { return Err(division_by_zero()); }
                Ok(a.wrapping_rem(b))
            }
            fn $um(a: $t) -> $t { a.checked_neg().ok_or_else(|| out_of_range($name)) }
            fn $up(a: $t) -> $t { Ok(a) }
            fn $abs(a: $t) -> $t { a.checked_abs().ok_or_else(|| out_of_range($name)) }
            fn $and(a: $t, b: $t) -> $t { Ok(a & b) }
            fn $or(a: $t, b: $t) -> $t { Ok(a | b) }
            fn $xor(a: $t, b: $t) -> $t { Ok(a ^ b) }
            fn $not(a: $t) -> $t { Ok(!a) }
        }
    )*};
}
arithmetic! {
    i16, "smallint": int2pl int2mi int2mul int2div int2mod int2um int2up int2abs int2and int2or int2xor int2not int2shl int2shr;
    i32, "integer": int4pl int4mi int4mul int4div int4mod int4um int4up int4abs int4and int4or int4xor int4not int4shl int4shr;
    i64, "bigint": int8pl int8mi int8mul int8div int8mod int8um int8up int8abs int8and int8or int8xor int8not int8shl int8shr;
}
scalar! {
    // smallint is shifted as an int and cut; the shift count works modulo 32, as on PostgreSQL's usual machines.
    fn int2shl(a: i16, n: i32) -> i16 { Ok(i32::from(a).wrapping_shl(n as u32) as i16) }
    fn int2shr(a: i16, n: i32) -> i16 { Ok(i32::from(a).wrapping_shr(n as u32) as i16) }
    fn int4shl(a: i32, n: i32) -> i32 { Ok(a.wrapping_shl(n as u32)) }
    fn int4shr(a: i32, n: i32) -> i32 { Ok(a.wrapping_shr(n as u32)) }
    fn int8shl(a: i64, n: i32) -> i64 { Ok(a.wrapping_shl(n as u32)) }
    fn int8shr(a: i64, n: i32) -> i64 { Ok(a.wrapping_shr(n as u32)) }
}

/// Arithmetic between two types, done in the wider one.
macro_rules! mixed {
    ($($a:ty, $b:ty => $t:ty, $name:literal: $pl:ident $mi:ident $mul:ident $div:ident;)*) => {$(
        scalar! {
            fn $pl(a: $a, b: $b) -> $t { <$t>::from(a).checked_add(<$t>::from(b)).ok_or_else(|| out_of_range($name)) }
            fn $mi(a: $a, b: $b) -> $t { <$t>::from(a).checked_sub(<$t>::from(b)).ok_or_else(|| out_of_range($name)) }
            fn $mul(a: $a, b: $b) -> $t { <$t>::from(a).checked_mul(<$t>::from(b)).ok_or_else(|| out_of_range($name)) }
            fn $div(a: $a, b: $b) -> $t {
                if b == 0 { return Err(division_by_zero()); }
                <$t>::from(a).checked_div(<$t>::from(b)).ok_or_else(|| out_of_range($name))
            }
        }
    )*};
}
mixed! {
    i16, i32 => i32, "integer": int24pl int24mi int24mul int24div;
    i32, i16 => i32, "integer": int42pl int42mi int42mul int42div;
    i16, i64 => i64, "bigint": int28pl int28mi int28mul int28div;
    i64, i16 => i64, "bigint": int82pl int82mi int82mul int82div;
    i32, i64 => i64, "bigint": int48pl int48mi int48mul int48div;
    i64, i32 => i64, "bigint": int84pl int84mi int84mul int84div;
}

fn gcd(a: u64, b: u64) -> u64 {
    num_integer::gcd(a, b)
}

scalar! {
    fn int4gcd(a: i32, b: i32) -> i32 {
        i32::try_from(gcd(u64::from(a.unsigned_abs()), u64::from(b.unsigned_abs()))).map_err(|_| out_of_range("integer"))
    }
    fn int8gcd(a: i64, b: i64) -> i64 {
        i64::try_from(gcd(a.unsigned_abs(), b.unsigned_abs())).map_err(|_| out_of_range("bigint"))
    }
    fn int4lcm(a: i32, b: i32) -> i32 {
        if a == 0 || b == 0 { return Ok(0); }
        let (x, y) = (u64::from(a.unsigned_abs()), u64::from(b.unsigned_abs()));
        i32::try_from(x / gcd(x, y) * y).map_err(|_| out_of_range("integer"))
    }
    fn int8lcm(a: i64, b: i64) -> i64 {
        if a == 0 || b == 0 { return Ok(0); }
        let (x, y) = (a.unsigned_abs(), b.unsigned_abs());
        (x / gcd(x, y)).checked_mul(y).and_then(|v| i64::try_from(v).ok()).ok_or_else(|| out_of_range("bigint"))
    }

    fn to_hex32(a: i32) -> String { Ok(format!("{:x}", a as u32)) }
    fn to_hex64(a: i64) -> String { Ok(format!("{:x}", a as u64)) }

    fn i2toi4(a: i16) -> i32 { Ok(i32::from(a)) }
    fn i4toi2(a: i32) -> i16 { i16::try_from(a).map_err(|_| out_of_range("smallint")) }
    fn int28(a: i16) -> i64 { Ok(i64::from(a)) }
    fn int48(a: i32) -> i64 { Ok(i64::from(a)) }
    fn int82(a: i64) -> i16 { i16::try_from(a).map_err(|_| out_of_range("smallint")) }
    fn int84(a: i64) -> i32 { i32::try_from(a).map_err(|_| out_of_range("integer")) }
    fn i8tooid(a: i64) -> Oid { u32::try_from(a).map(Oid::new).map_err(|_| out_of_range("OID")) }
    fn oidtoi8(a: Oid) -> i64 { Ok(i64::from(a.raw())) }
    fn int4_bool(a: i32) -> bool { Ok(a != 0) }
    fn bool_int4(a: bool) -> i32 { Ok(i32::from(a)) }
    fn chartoi4(a: Byte) -> i32 { Ok(i32::from(a.0 as i8)) }
    fn i4tochar(a: i32) -> Byte {
        i8::try_from(a).map(|v| Byte(v as u8)).map_err(|_| out_of_range("\"char\""))
    }

    fn booland_statefunc(a: bool, b: bool) -> bool { Ok(a && b) }
    fn boolor_statefunc(a: bool, b: bool) -> bool { Ok(a || b) }

    fn pg_lsn_mi(a: Lsn, b: Lsn) -> Numeric { Ok(lsn_difference(a, b)) }
    fn pg_wal_lsn_diff(a: Lsn, b: Lsn) -> Numeric { Ok(lsn_difference(a, b)) }
    fn pg_lsn_pli(a: Lsn, n: &Numeric) -> Lsn { lsn_plus(a, n, "add") }
    fn pg_lsn_mii(a: Lsn, n: &Numeric) -> Lsn { lsn_plus(a, &n.neg(), "subtract") }
    fn numeric_pl_pg_lsn(n: &Numeric, a: Lsn) -> Lsn { lsn_plus(a, n, "add") }
    fn numeric_pg_lsn(n: &Numeric) -> Lsn {
        if n.is_nan() {
            return Err(TypeError::new("0A000", "cannot convert NaN to pg_lsn"));
        }
        lsn_of(n)
    }
}

fn lsn_difference(a: Lsn, b: Lsn) -> Numeric {
    Numeric::from(i128::from(a.raw()) - i128::from(b.raw()))
}

/// The position that a number of bytes means, rounded.
fn lsn_of(n: &Numeric) -> Result<Lsn, TypeError> {
    let Numeric::Finite { unscaled, scale: 0 } = n.clone().round_to(0) else {
        return Err(TypeError::new("0A000", "cannot convert infinity to pg_lsn"));
    };
    u64::try_from(unscaled)
        .map(Lsn::new)
        .map_err(|_| TypeError::new("22023", "pg_lsn out of range"))
}

fn lsn_plus(a: Lsn, n: &Numeric, verb: &str) -> Result<Lsn, TypeError> {
    if n.is_nan() {
        let side = if verb == "add" { "to" } else { "from" };
        return Err(TypeError::new(
            "0A000",
            format!("cannot {verb} NaN {side} pg_lsn"),
        ));
    }
    let sum = Numeric::from(i128::from(a.raw())).add(n)?;
    lsn_of(&sum)
}
