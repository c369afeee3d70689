//! The operator classes by which btree indexes are ordered, and the families that they belong to: `pg_opclass` and
//! `pg_opfamily`. Oids are PostgreSQL 15's.
//!
//! Every class of a type orders it in the same way here: text is ordered by its bytes, so the pattern classes say what the
//! others do. Which one an index was made with is kept, because people read it in the index's definition.

use crate::ids::Oid;
use crate::types::function::{CastContext, CastMethod};
use crate::types::{casts, oids, registry};

/// A row of `pg_opclass`.
#[derive(Debug)]
pub struct OperatorClass {
    pub oid: Oid,
    pub name: &'static str,
    pub family: Oid,
    pub input: Oid,
    pub default: bool,
    /// The type of the index's entries, where it is another one.
    pub key: Oid,
}

macro_rules! classes {
    ($($oid:literal $name:literal $family:literal $input:ident $default:literal $key:literal;)*) => {
        &[$(OperatorClass {
            oid: Oid::new($oid),
            name: $name,
            family: Oid::new($family),
            input: oids::$input,
            default: $default,
            key: Oid::new($key),
        }),*]
    };
}

/// Oid, name, family, input type, whether it is the type's default, type of the entries.
static CLASSES: &[OperatorClass] = classes! {
    10000 "array_ops" 397 ANYARRAY true 0;
    10003 "bool_ops" 424 BOOL true 0;
    10004 "bpchar_ops" 426 BPCHAR true 0;
    10006 "bytea_ops" 428 BYTEA true 0;
    10007 "char_ops" 429 CHAR true 0;
    3122 "date_ops" 434 DATE true 0;
    10012 "float4_ops" 1970 FLOAT4 true 0;
    3123 "float8_ops" 1970 FLOAT8 true 0;
    1979 "int2_ops" 1976 INT2 true 0;
    1978 "int4_ops" 1976 INT4 true 0;
    3124 "int8_ops" 1976 INT8 true 0;
    10022 "interval_ops" 1982 INTERVAL true 0;
    10028 "name_ops" 1994 NAME true 2275;
    3125 "numeric_ops" 1988 NUMERIC true 0;
    1981 "oid_ops" 1989 OID true 0;
    10032 "oidvector_ops" 1991 OIDVECTOR true 0;
    10034 "record_ops" 2994 RECORD true 0;
    3126 "text_ops" 1994 TEXT true 0;
    10038 "time_ops" 1996 TIME true 0;
    3127 "timestamptz_ops" 434 TIMESTAMPTZ true 0;
    10041 "timetz_ops" 2000 TIMETZ true 0;
    10044 "varchar_ops" 1994 TEXT false 0;
    3128 "timestamp_ops" 434 TIMESTAMP true 0;
    4217 "text_pattern_ops" 2095 TEXT false 0;
    4218 "varchar_pattern_ops" 2095 TEXT false 0;
    4219 "bpchar_pattern_ops" 2097 BPCHAR false 0;
    10050 "tid_ops" 2789 TID true 0;
    10053 "xid8_ops" 5067 XID8 true 0;
    10065 "uuid_ops" 2968 UUID true 0;
    10067 "pg_lsn_ops" 3253 PG_LSN true 0;
    10088 "jsonb_ops" 4033 JSONB true 0;
};

/// Rows of `pg_opfamily`: oid and name.
pub static FAMILIES: &[(u32, &str)] = &[
    (397, "array_ops"),
    (424, "bool_ops"),
    (426, "bpchar_ops"),
    (428, "bytea_ops"),
    (429, "char_ops"),
    (434, "datetime_ops"),
    (1970, "float_ops"),
    (1976, "integer_ops"),
    (1982, "interval_ops"),
    (1988, "numeric_ops"),
    (1989, "oid_ops"),
    (1991, "oidvector_ops"),
    (2994, "record_ops"),
    (1994, "text_ops"),
    (1996, "time_ops"),
    (2000, "timetz_ops"),
    (2095, "text_pattern_ops"),
    (2097, "bpchar_pattern_ops"),
    (2789, "tid_ops"),
    (5067, "xid8_ops"),
    (2968, "uuid_ops"),
    (3253, "pg_lsn_ops"),
    (4033, "jsonb_ops"),
];

pub fn all() -> &'static [OperatorClass] {
    CLASSES
}

pub fn by_oid(oid: Oid) -> Option<&'static OperatorClass> {
    CLASSES.iter().find(|c| c.oid == oid)
}

pub fn named(name: &str) -> Option<&'static OperatorClass> {
    CLASSES.iter().find(|c| c.name == name)
}

impl OperatorClass {
    /// Whether values of the type are ordered by it as they are (`IsBinaryCoercible`).
    pub fn accepts(&self, ty: Oid) -> bool {
        let is_array =
            || registry::by_oid(ty).is_some_and(|t| t.subscript == "array_subscript_handler");
        let same_bits = || {
            casts::find(ty, self.input).is_some_and(|c| {
                c.method == CastMethod::Binary && c.context == CastContext::Implicit
            })
        };
        ty == self.input || (self.input == oids::ANYARRAY && is_array()) || same_bits()
    }
}

/// The class by which a type is ordered where none is named (`GetDefaultOpClass`).
pub fn default_of(ty: Oid) -> Option<&'static OperatorClass> {
    let mut fitting = CLASSES.iter().filter(|c| c.default && c.accepts(ty));
    let preferred = |c: &&OperatorClass| registry::by_oid(c.input).is_some_and(|t| t.preferred);
    CLASSES
        .iter()
        .find(|c| c.default && c.input == ty)
        .or_else(|| fitting.clone().find(preferred))
        .or_else(|| fitting.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_types_own_or_that_of_the_type_it_reads_as() {
        let name = |ty| default_of(ty).map(|c| c.name);
        assert_eq!(name(oids::INT4), Some("int4_ops"));
        assert_eq!(name(oids::VARCHAR), Some("text_ops"));
        assert_eq!(name(oids::BPCHAR), Some("bpchar_ops"));
        assert_eq!(name(oids::TEXT_ARRAY), Some("array_ops"));
        assert_eq!(name(oids::REGCLASS), Some("oid_ops"));
        assert_eq!(name(oids::JSON), None);
    }

    #[test]
    fn every_class_has_its_family() {
        for class in CLASSES {
            assert!(
                FAMILIES
                    .iter()
                    .any(|(oid, _)| Oid::new(*oid) == class.family)
            );
        }
    }
}
