//! Every value written and read again is the same value, in text and in binary.

use std::sync::Arc;

use bytes::BytesMut;
use num_bigint::BigInt;
use proptest::prelude::*;

use crate::ids::{BlockNumber, Lsn, OffsetNumber, Oid, Tid};
use crate::types::array::Array;
use crate::types::datetime::calendar::{END_TIMESTAMP, MIN_TIMESTAMP};
use crate::types::datum::{Datum, SqlType};
use crate::types::interval::Interval;
use crate::types::numeric::Numeric;
use crate::types::tests::context;
use crate::types::{codec, compare, json, oids, registry};

fn numeric() -> impl Strategy<Value = Numeric> {
    let finite = (any::<i128>(), 0_u32..40).prop_map(|(n, s)| Numeric::new(BigInt::from(n), s));
    let wide = (
        proptest::collection::vec(any::<u32>(), 0..20),
        any::<bool>(),
        0_u32..200,
    )
        .prop_map(|(words, negative, scale)| {
            let sign = if negative {
                num_bigint::Sign::Minus
            } else {
                num_bigint::Sign::Plus
            };
            Numeric::new(BigInt::from_slice(sign, &words), scale)
        });
    prop_oneof![
        4 => finite,
        4 => wide,
        1 => Just(Numeric::NaN),
        1 => Just(Numeric::Infinity),
        1 => Just(Numeric::NegInfinity),
    ]
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::Bool),
        any::<i64>().prop_map(|n| json::number(&Numeric::from(n))),
        "[^\u{0}]{0,8}".prop_map(serde_json::Value::String),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            proptest::collection::vec(("[^\u{0}]{0,6}", inner), 0..4).prop_map(json::object),
        ]
    })
}

fn scalar() -> impl Strategy<Value = (Oid, Datum)> {
    prop_oneof![
        any::<bool>().prop_map(|v| (oids::BOOL, Datum::Bool(v))),
        any::<i16>().prop_map(|v| (oids::INT2, Datum::Int2(v))),
        any::<i32>().prop_map(|v| (oids::INT4, Datum::Int4(v))),
        any::<i64>().prop_map(|v| (oids::INT8, Datum::Int8(v))),
        any::<f32>().prop_map(|v| (oids::FLOAT4, Datum::Float4(v))),
        any::<f64>().prop_map(|v| (oids::FLOAT8, Datum::Float8(v))),
        numeric().prop_map(|v| (oids::NUMERIC, Datum::Numeric(Arc::new(v)))),
        "[^\u{0}]{0,20}".prop_map(|v| (oids::TEXT, Datum::text(&v))),
        (1_u8..).prop_map(|v| (oids::CHAR, Datum::Char(v))),
        proptest::collection::vec(any::<u8>(), 0..40)
            .prop_map(|v| (oids::BYTEA, Datum::Bytea(Arc::from(v)))),
        (-2_400_000_i32..2_000_000_000).prop_map(|v| (oids::DATE, Datum::Date(v))),
        (0_i64..=86_400_000_000).prop_map(|v| (oids::TIME, Datum::Time(v))),
        (0_i64..=86_400_000_000, -57_599_i32..57_600)
            .prop_map(|(v, z)| (oids::TIMETZ, Datum::TimeTz(v, z))),
        (MIN_TIMESTAMP..END_TIMESTAMP).prop_map(|v| (oids::TIMESTAMP, Datum::Timestamp(v))),
        (MIN_TIMESTAMP..END_TIMESTAMP).prop_map(|v| (oids::TIMESTAMPTZ, Datum::TimestampTz(v))),
        (any::<i32>(), any::<i32>(), any::<i64>()).prop_map(|(months, days, micros)| {
            (
                oids::INTERVAL,
                Datum::Interval(Arc::new(Interval {
                    months,
                    days,
                    micros,
                })),
            )
        }),
        any::<[u8; 16]>().prop_map(|v| (oids::UUID, Datum::Uuid(v))),
        json_value().prop_map(|v| (oids::JSONB, Datum::Jsonb(Arc::new(v)))),
        any::<u32>().prop_map(|v| (oids::OID, Datum::Oid(Oid::new(v)))),
        any::<u32>().prop_map(|v| (oids::XID, Datum::Xid(v))),
        any::<u64>().prop_map(|v| (oids::XID8, Datum::Xid8(v))),
        any::<u64>().prop_map(|v| (oids::PG_LSN, Datum::Lsn(Lsn::new(v)))),
        (any::<u32>(), 1_u16..).prop_map(|(b, o)| {
            let offset = OffsetNumber::new(o).expect("from 1");
            (oids::TID, Datum::Tid(Tid::new(BlockNumber::new(b), offset)))
        }),
    ]
}

/// A scalar, or an array of some of its type with NULLs among them.
fn value() -> impl Strategy<Value = (Oid, Datum)> {
    let array = (
        proptest::collection::vec(scalar(), 1..5),
        any::<bool>(),
        -3_i32..3,
    )
        .prop_map(|(items, null, low)| {
            let element = items[0].0;
            let mut items: Vec<Datum> = items
                .into_iter()
                .filter(|(ty, _)| *ty == element)
                .map(|(_, d)| d)
                .collect();
            if null {
                items.push(Datum::Null);
            }
            let array = Array {
                element,
                dimensions: vec![(items.len(), low)],
                items,
            };
            (
                registry::array_of(element).expect("every type here has arrays"),
                Datum::Array(Arc::new(array)),
            )
        });
    prop_oneof![3 => scalar(), 1 => array]
}

/// Bit for bit, where text and binary carry bits: compared by their binary forms.
fn bytes_of(ty: Oid, value: &Datum) -> BytesMut {
    let mut out = BytesMut::new();
    codec::encode_binary(ty, value, &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn binary_form_reads_back((ty, value) in value()) {
        let cx = context();
        let bytes = bytes_of(ty, &value);
        let read = codec::decode_binary(SqlType::plain(ty), &bytes, &cx).expect("its own form");
        prop_assert_eq!(bytes_of(ty, &read), bytes);
    }

    #[test]
    fn text_form_reads_back((ty, value) in value()) {
        let cx = context();
        let text = codec::to_text(ty, &value, &cx);
        let read = codec::parse_text(SqlType::plain(ty), &text, &cx);
        let read = read.map_err(|e| TestCaseError::fail(format!("{text:?} of type {ty}: {e}")))?;
        let again = codec::to_text(ty, &read, &cx);
        prop_assert_eq!(&again, &text);
        if !text.contains("NaN") {
            prop_assert_eq!(bytes_of(ty, &read), bytes_of(ty, &value), "{}", text);
        }
    }

    #[test]
    fn equal_values_hash_alike(n in numeric(), zeros in 0_u32..20) {
        if let Numeric::Finite { unscaled, scale } = &n {
            let longer = Numeric::new(unscaled * BigInt::from(10).pow(zeros), scale + zeros);
            let (a, b) = (Datum::Numeric(Arc::new(n.clone())), Datum::Numeric(Arc::new(longer)));
            prop_assert!(compare::compare(oids::NUMERIC, &a, &b).is_eq());
            prop_assert_eq!(compare::hash(oids::NUMERIC, &a), compare::hash(oids::NUMERIC, &b));
        }
    }

    #[test]
    fn junk_never_panics(text in "\\PC{0,24}", bytes in proptest::collection::vec(any::<u8>(), 0..48)) {
        let cx = context();
        for ty in registry::all().iter().filter(|t| !t.is_pseudo()) {
            let _ = codec::parse_text(SqlType::plain(ty.oid), &text, &cx);
            let _ = codec::decode_binary(SqlType::plain(ty.oid), &bytes, &cx);
        }
    }
}
