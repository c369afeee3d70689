//! Bytes compare as values do, for every type.

use std::cmp::Ordering;
use std::sync::Arc;

use num_bigint::BigInt;
use proptest::prelude::*;

use super::*;
use crate::types::compare;
use crate::types::datum::SqlType;
use crate::types::interval::Interval;
use crate::types::numeric::Numeric;

fn part(ty: Oid, descending: bool, nulls_first: bool) -> IndexKey {
    IndexKey {
        column: 0,
        ty: SqlType::plain(ty),
        class: Oid::INVALID,
        descending,
        nulls_first,
    }
}

fn encoded(key: &IndexKey, value: &Datum) -> Vec<u8> {
    let mut out = Vec::new();
    encode_part(key, value, &mut out).expect("a supported type");
    out
}

/// What ORDER BY says.
fn expected(key: &IndexKey, a: &Datum, b: &Datum) -> Ordering {
    let null = |is_first: bool| {
        if is_first {
            Ordering::Less
        } else {
            Ordering::Greater
        }
    };
    match (a.is_null(), b.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) => null(key.nulls_first),
        (false, true) => null(!key.nulls_first),
        _ if key.descending => compare::compare(key.ty.oid, b, a),
        _ => compare::compare(key.ty.oid, a, b),
    }
}

fn check(ty: Oid, a: &Datum, b: &Datum) {
    for descending in [false, true] {
        for nulls_first in [false, true] {
            let key = part(ty, descending, nulls_first);
            let (x, y) = (encoded(&key, a), encoded(&key, b));
            assert_eq!(
                x.cmp(&y),
                expected(&key, a, b),
                "{a:?} and {b:?}, descending {descending}, nulls first {nulls_first}"
            );
            if x != y {
                assert!(!y.starts_with(&x), "{a:?} begins {b:?}");
            }
        }
    }
}

fn text(alphabet: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(alphabet.chars().collect::<Vec<_>>()),
        0..6,
    )
    .prop_map(|chars| chars.into_iter().collect())
}

fn numeric() -> impl Strategy<Value = Numeric> {
    prop_oneof![
        8 => (-2000_i64..2000, 0_u32..5).prop_map(|(n, scale)| Numeric::Finite { unscaled: n.into(), scale }),
        4 => (any::<i128>(), 0_u32..60).prop_map(|(n, scale)| Numeric::Finite { unscaled: n.into(), scale }),
        2 => (-12_i64..12, 0_u32..40, 0_u32..30).prop_map(|(n, zeroes, scale)| Numeric::Finite {
            unscaled: BigInt::from(n) * BigInt::from(10).pow(zeroes),
            scale,
        }),
        1 => Just(Numeric::NaN),
        1 => Just(Numeric::Infinity),
        1 => Just(Numeric::NegInfinity),
    ]
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        prop::sample::select(vec![
            0.0,
            -0.0,
            1.0,
            -1.0,
            f64::NAN,
            -f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE / 2.0,
        ]),
    ]
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        (-20_i32..20).prop_map(|n| n.to_string()),
        (-20_i32..20).prop_map(|n| format!("{n}.50")),
        text("abÄ").prop_map(|s| format!("\"{s}\"")),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|v| format!("[{}]", v.join(","))),
            prop::collection::vec((text("abc"), inner), 0..3).prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(k, v)| format!("\"{k}\":{v}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
    .prop_map(|text| crate::types::json::parse_jsonb(&text).expect("valid JSON"))
}

/// A type and a way to make its values.
fn typed() -> impl Strategy<Value = (Oid, Datum)> {
    use oids as o;
    prop_oneof![
        any::<bool>().prop_map(|v| (o::BOOL, Datum::Bool(v))),
        any::<i16>().prop_map(|v| (o::INT2, Datum::Int2(v))),
        any::<i32>().prop_map(|v| (o::INT4, Datum::Int4(v))),
        any::<i64>().prop_map(|v| (o::INT8, Datum::Int8(v))),
        float().prop_map(|v| (o::FLOAT8, Datum::Float8(v))),
        float().prop_map(|v| (o::FLOAT4, Datum::Float4(v as f32))),
        numeric().prop_map(|v| (o::NUMERIC, Datum::Numeric(Arc::new(v)))),
        text("ab \u{1}\u{7F}é").prop_map(|v| (o::TEXT, Datum::text(&v))),
        text("ab ").prop_map(|v| (o::BPCHAR, Datum::text(&v))),
        text("ab").prop_map(|v| (o::VARCHAR, Datum::text(&v))),
        any::<u8>().prop_map(|v| (o::CHAR, Datum::Char(v))),
        prop::collection::vec(prop::sample::select(vec![0_u8, 1, 254, 255]), 0..5)
            .prop_map(|v| (o::BYTEA, Datum::Bytea(Arc::from(v)))),
        any::<i32>().prop_map(|v| (o::DATE, Datum::Date(v))),
        any::<i64>().prop_map(|v| (o::TIME, Datum::Time(v))),
        any::<i64>().prop_map(|v| (o::TIMESTAMP, Datum::Timestamp(v))),
        any::<i64>().prop_map(|v| (o::TIMESTAMPTZ, Datum::TimestampTz(v))),
        (0_i64..3, -3_i32..3).prop_map(|(t, z)| (o::TIMETZ, Datum::TimeTz(t * 1_000_000, z))),
        (-3_i32..3, -60_i32..60, -90_000_000_000_i64..90_000_000_000).prop_map(
            |(months, days, micros)| {
                let value = Interval {
                    months,
                    days,
                    micros,
                };
                (o::INTERVAL, Datum::Interval(Arc::new(value)))
            }
        ),
        any::<[u8; 16]>().prop_map(|v| (o::UUID, Datum::Uuid(v))),
        any::<u32>().prop_map(|v| (o::OID, Datum::Oid(Oid::new(v)))),
        json().prop_map(|v| (o::JSONB, Datum::Jsonb(Arc::new(v)))),
        prop::collection::vec(prop::option::of(-2_i32..2), 0..4).prop_map(|items| {
            let item = |i: Option<i32>| i.map_or(Datum::Null, Datum::Int4);
            let array = Array {
                element: o::INT4,
                dimensions: vec![(items.len(), 1)],
                items: items.into_iter().map(item).collect(),
            };
            (o::INT4_ARRAY, Datum::Array(Arc::new(array)))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn bytes_compare_as_values(values in prop::collection::vec(typed(), 12)) {
        for (ty, a) in &values {
            check(*ty, a, &Datum::Null);
            check(*ty, a, a);
            for (other, b) in &values {
                if ty == other {
                    check(*ty, a, b);
                }
            }
        }
    }

    #[test]
    fn numerics_compare_whatever_their_scale(a in numeric(), b in numeric()) {
        let datum = |n| Datum::Numeric(Arc::new(n));
        check(oids::NUMERIC, &datum(a), &datum(b));
    }

    #[test]
    fn jsons_compare(a in json(), b in json()) {
        check(oids::JSONB, &Datum::Jsonb(Arc::new(a)), &Datum::Jsonb(Arc::new(b)));
    }

    #[test]
    fn texts_of_several_columns_do_not_mix(
        a in (text("ab"), text("ab")),
        b in (text("ab"), text("ab")),
    ) {
        let keys = [part(oids::TEXT, false, false), part(oids::TEXT, true, true)];
        let encode = |(x, y): &(String, String)| {
            let mut out = encoded(&keys[0], &Datum::text(x));
            out.extend(encoded(&keys[1], &Datum::text(y)));
            out
        };
        prop_assert_eq!(encode(&a).cmp(&encode(&b)), a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    }

    #[test]
    fn the_successor_is_above_all_that_begins_so(
        prefix in prop::collection::vec(prop::sample::select(vec![0_u8, 7, 255]), 0..5),
        tail in prop::collection::vec(any::<u8>(), 0..5),
    ) {
        let mut above = prefix.clone();
        let longer = [prefix.clone(), tail].concat();
        if successor(&mut above) {
            prop_assert!(above > longer && above > prefix);
        } else {
            prop_assert!(prefix.iter().all(|b| *b == 255));
        }
    }
}

#[test]
fn equal_values_are_one_key() {
    let numeric = |n: i64, scale| {
        Datum::Numeric(Arc::new(Numeric::Finite {
            unscaled: n.into(),
            scale,
        }))
    };
    let key = part(oids::NUMERIC, false, false);
    assert_eq!(
        encoded(&key, &numeric(10, 1)),
        encoded(&key, &numeric(100, 2))
    );
    let key = part(oids::BPCHAR, false, false);
    assert_eq!(
        encoded(&key, &Datum::text("a  ")),
        encoded(&key, &Datum::text("a"))
    );
    let key = part(oids::FLOAT8, false, false);
    assert_eq!(
        encoded(&key, &Datum::Float8(0.0)),
        encoded(&key, &Datum::Float8(-0.0))
    );
}

#[test]
fn a_type_without_an_order_is_refused() {
    let mut out = Vec::new();
    let key = part(oids::JSON, false, false);
    assert!(matches!(
        encode_part(&key, &Datum::text("{}"), &mut out),
        Err(IndexError::UnsupportedType(oids::JSON))
    ));
    assert!(!is_supported(oids::JSON) && is_supported(oids::INT4_ARRAY));
}
