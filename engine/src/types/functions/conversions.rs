//! Conversions that PostgreSQL makes by relabelling bits and that change the kind of a datum here.

use crate::ids::Oid;

scalar! {
    fn int2_oid(v: i16) -> Oid { Ok(Oid::new(i32::from(v) as u32)) }
    fn int4_oid(v: i32) -> Oid { Ok(Oid::new(v as u32)) }
    fn oid_int4(v: Oid) -> i32 { Ok(v.raw() as i32) }
}
