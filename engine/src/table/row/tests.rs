//! Every kind of value survives being stored, in line and in the overflow file.

use std::sync::Arc;

use num_bigint::BigInt;
use proptest::prelude::*;

use super::*;
use crate::ids::{BlockNumber, Lsn, OffsetNumber, Oid, Tid};
use crate::table::heap::{RowBuf, fetch, insert};
use crate::table::testing::{create, relation};
use crate::txn::testing::World;
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::interval::Interval;
use crate::types::numeric::Numeric;
use crate::types::oids;
use crate::types::record::Record;

fn numeric() -> impl Strategy<Value = Datum> {
    prop_oneof![
        (any::<i64>(), 0..40_u32).prop_map(|(n, scale)| (BigInt::from(n), scale)),
        (any::<i128>(), 0..40_u32).prop_map(|(n, scale)| (BigInt::from(n), scale)),
        (-300..300_i64, 0..5_u32).prop_map(|(n, scale)| (BigInt::from(n), scale)),
        prop::collection::vec(any::<u8>(), 1..60)
            .prop_map(|bytes| (BigInt::from_signed_bytes_le(&bytes), 7)),
    ]
    .prop_map(|(unscaled, scale)| Datum::Numeric(Arc::new(Numeric::Finite { unscaled, scale })))
}

fn json() -> Datum {
    let text =
        r#"{"b": [1, 2.50, {"a": null}], "a": "\u00e9", "n": 123456789012345678901234567890.1}"#;
    Datum::Jsonb(Arc::new(serde_json::from_str(text).expect("json")))
}

/// A value for each of the column types in [`TYPES`].
fn values() -> impl Strategy<Value = Vec<Datum>> {
    let fixed = (
        any::<bool>(),
        any::<i16>(),
        any::<i32>(),
        any::<i64>(),
        any::<f32>(),
        any::<f64>(),
        any::<[u8; 16]>(),
        (1..2000_u16, any::<u32>()),
    );
    let variable = (
        ".{0,300}",
        prop::collection::vec(any::<u8>(), 0..40_000),
        numeric(),
        prop::collection::vec(prop::option::of(any::<i32>()), 0..50),
        ".{0,40}",
    );
    (fixed, variable).prop_map(
        |((b, s, i, l, f, d, u, (offset, block)), (text, bytes, n, items, name))| {
            let offset = OffsetNumber::new(offset).expect("from 1");
            let items: Vec<Datum> = items
                .into_iter()
                .map(|v| v.map_or(Datum::Null, Datum::Int4))
                .collect();
            vec![
                Datum::Bool(b),
                Datum::Int2(s),
                Datum::Int4(i),
                Datum::Int8(l),
                Datum::Float4(f),
                Datum::Float8(d),
                Datum::Char(s as u8),
                Datum::Date(i),
                Datum::Time(l),
                Datum::TimeTz(l, i),
                Datum::Timestamp(l),
                Datum::TimestampTz(l),
                Datum::Interval(Arc::new(Interval {
                    months: i,
                    days: -i.max(-9),
                    micros: l,
                })),
                Datum::Uuid(u),
                Datum::Oid(Oid::new(block)),
                Datum::Xid(block),
                Datum::Xid8(l as u64),
                Datum::Tid(Tid::new(BlockNumber::new(block), offset)),
                Datum::Lsn(Lsn::new(l as u64)),
                Datum::text(&text),
                Datum::Bytea(Arc::from(bytes)),
                n,
                json(),
                Datum::Array(Arc::new(Array {
                    element: oids::INT4,
                    dimensions: vec![(items.len(), 1)],
                    items,
                })),
                Datum::text(&name),
            ]
        },
    )
}

const TYPES: [Oid; 25] = [
    oids::BOOL,
    oids::INT2,
    oids::INT4,
    oids::INT8,
    oids::FLOAT4,
    oids::FLOAT8,
    oids::CHAR,
    oids::DATE,
    oids::TIME,
    oids::TIMETZ,
    oids::TIMESTAMP,
    oids::TIMESTAMPTZ,
    oids::INTERVAL,
    oids::UUID,
    oids::REGCLASS,
    oids::XID,
    oids::XID8,
    oids::TID,
    oids::PG_LSN,
    oids::TEXT,
    oids::BYTEA,
    oids::NUMERIC,
    oids::JSONB,
    oids::INT4_ARRAY,
    oids::NAME,
];

fn same(a: &Datum, b: &Datum) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn rows_round_trip(
        rows in prop::collection::vec((values(), prop::collection::vec(prop::bool::weighted(0.2), 25)), 1..6),
        wanted in prop::sample::subsequence((0..25_usize).collect::<Vec<_>>(), 1..8),
    ) {
        let world = World::new();
        let rel = relation(20_000, &TYPES, &[]);
        create(&world, &rel);
        let mut txn = world.begin();
        let (all, some) = (RowDecoder::all(&rel), RowDecoder::new(&rel, &wanted));
        let mut buf = RowBuf::new();
        for (mut row, nulls) in rows {
            for (value, null) in row.iter_mut().zip(&nulls) {
                if *null {
                    *value = Datum::Null;
                }
            }
            let xid = world.txns.xid(&mut txn).expect("xid");
            let tid = insert(world.cx(), &rel, &row, xid, txn.command_id()).expect("insert");
            txn.next_command().expect("next");
            let snapshot = world.txns.snapshot(&txn);
            prop_assert!(fetch(world.cx(), &rel, tid, &snapshot, &mut buf).expect("fetch"));
            let version = buf.version().expect("filled");
            prop_assert!(version.size() <= 2100, "{} bytes", version.size());
            let mut out = vec![Datum::Void; TYPES.len()];
            all.decode(world.cx(), version, &mut out).expect("decode");
            for (i, (a, b)) in row.iter().zip(&out).enumerate() {
                prop_assert!(same(a, b), "column {}: {:?} became {:?}", i, a, b);
            }
            let mut packed = vec![Datum::Void; wanted.len()];
            some.decode_packed(world.cx(), version, &mut packed).expect("decode");
            for (k, i) in wanted.iter().enumerate() {
                prop_assert!(same(&row[*i], &packed[k]));
            }
        }
    }

    #[test]
    fn tagged_values_round_trip_and_damage_is_an_error(row in values(), cut in any::<usize>(), flip in any::<u8>()) {
        let record = Datum::from(Record::new(&Arc::from(TYPES), row));
        let mut bytes = Vec::new();
        encode_tagged(&record, &mut bytes);
        encode_tagged(&Datum::Void, &mut bytes);
        let mut rest = bytes.as_slice();
        let back = decode_tagged(&mut rest).expect("decodes");
        prop_assert!(same(&record, &back));
        prop_assert!(matches!(decode_tagged(&mut rest), Ok(Datum::Void)));
        prop_assert!(rest.is_empty());
        let cut = cut % (bytes.len() - 2);
        prop_assert!(decode_tagged(&mut &bytes[..cut]).is_err());
        // Any damage gives some answer, never a panic.
        bytes[cut] ^= flip;
        let _ = decode_tagged(&mut bytes.as_slice());
    }
}

#[test]
fn columns_added_later_have_their_missing_value() {
    let world = World::new();
    let narrow = relation(20_000, &[oids::INT4, oids::TEXT], &[]);
    let mut wide = relation(
        20_000,
        &[oids::INT4, oids::TEXT, oids::INT8, oids::TEXT],
        &[],
    );
    wide.columns[2].missing = Some(Datum::Int8(7));
    wide.columns[1].dropped = true;
    create(&world, &narrow);
    let mut txn = world.begin();
    let xid = world.txns.xid(&mut txn).expect("xid");
    let old = [Datum::Int4(1), Datum::text("gone")];
    let new = [
        Datum::Int4(2),
        Datum::text("not stored"),
        Datum::Null,
        Datum::text("x"),
    ];
    let cid = txn.command_id();
    let old = insert(world.cx(), &narrow, &old, xid, cid).expect("insert");
    let new = insert(world.cx(), &wide, &new, xid, cid).expect("insert");
    txn.next_command().expect("next");
    let snapshot = world.txns.snapshot(&txn);
    let decoder = RowDecoder::new(&wide, &[0, 2, 3]);
    let mut buf = RowBuf::new();
    for (tid, expect) in [
        (old, [Datum::Int4(1), Datum::Int8(7), Datum::Null]),
        (new, [Datum::Int4(2), Datum::Null, Datum::text("x")]),
    ] {
        assert!(fetch(world.cx(), &wide, tid, &snapshot, &mut buf).expect("fetch"));
        let mut out = vec![Datum::Void; 3];
        decoder
            .decode_packed(world.cx(), buf.version().expect("filled"), &mut out)
            .expect("decode");
        assert!(out.iter().zip(&expect).all(|(a, b)| same(a, b)), "{out:?}");
    }
}

#[test]
fn a_row_that_cannot_fit_says_so() {
    let world = World::new();
    let mut rel = relation(20_000, &[oids::TEXT], &[]);
    rel.overflow = None;
    create(&world, &rel);
    let mut txn = world.begin();
    let xid = world.txns.xid(&mut txn).expect("xid");
    let cid = txn.command_id();
    let error = insert(
        world.cx(),
        &rel,
        &[Datum::text(&"x".repeat(9000))],
        xid,
        cid,
    )
    .expect_err("too big");
    assert_eq!(
        error.to_string(),
        "row is too big: size 9036, maximum size 8164"
    );
    let error = insert(world.cx(), &rel, &[Datum::Int4(1)], xid, cid).expect_err("wrong type");
    assert_eq!(
        error.to_string(),
        "cannot store a integer value in column 1 of type 25"
    );
}

#[test]
fn a_deep_document_is_read_back() {
    let work = || {
        let text = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
        let value = crate::types::json::parse_jsonb(&text).expect("not too deep");
        let mut bytes = Vec::new();
        encode_tagged(&Datum::Jsonb(Arc::new(value)), &mut bytes);
        let back = decode_tagged(&mut bytes.as_slice()).expect("what was taken in is read");
        let Datum::Jsonb(back) = back else {
            panic!("of another kind")
        };
        assert_eq!(back.to_string(), text);
    };
    // The server's threads have as much; unoptimised calls need a good part of it.
    let thread = std::thread::Builder::new().stack_size(64 << 20);
    let thread = thread.spawn(work).expect("a thread");
    thread.join().expect("no panic");
}
