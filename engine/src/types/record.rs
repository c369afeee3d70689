//! A row value: its fields, and the type of each.
//!
//! `ROW(1, 'a')` is of no type that has a name, so whoever prints such a value, sends it, compares it or makes JSON of it
//! finds the types of the fields nowhere but here. A datum does not tell its own: a number may be an `oid` or a `regclass`, a
//! text a `name`, a `json` or a padded `char(n)`, and a NULL has a type as well.
//!
//! Layout: the list of types is made once for all rows that an expression or a call gives, and each row holds a reference to
//! it; of its own a row has its fields and one allocation around both. Its datum is one pointer. Modifiers (the n of
//! `char(n)`) are not kept: no form of a value depends on them once it is there.
//!
//! Invariants, from the making of a row to its end, in memory and in temporary files alike:
//! - there are as many types as fields;
//! - a field is NULL or a value of its type, which is the type that the expression at its place has, `unknown` for a literal
//!   that nothing gave a type to; a field that is a row has type `record` and types of its own;
//! - neither types nor fields change, so rows may be shared.
//!
//! Rows of different types may meet in one column: two branches of a CASE, or the items of an array.

use std::sync::Arc;

use crate::ids::Oid;
use crate::types::datum::Datum;

#[derive(Clone, Debug)]
pub struct Record {
    types: Arc<[Oid]>,
    fields: Box<[Datum]>,
}

impl Record {
    /// Panics if there is not a type for each field. Nothing is copied if the vector has no room to spare.
    pub fn new(types: &Arc<[Oid]>, fields: Vec<Datum>) -> Record {
        assert_eq!(types.len(), fields.len(), "each field has a type");
        Record {
            types: Arc::clone(types),
            fields: fields.into(),
        }
    }

    pub fn types(&self) -> &[Oid] {
        &self.types
    }

    pub fn fields(&self) -> &[Datum] {
        &self.fields
    }

    /// The fields in order, each with its type.
    pub fn typed(&self) -> impl ExactSizeIterator<Item = (Oid, &Datum)> {
        self.types.iter().copied().zip(&self.fields)
    }
}

impl From<Record> for Datum {
    fn from(record: Record) -> Datum {
        Datum::Record(Arc::new(record))
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) fn row(fields: Vec<(Oid, Datum)>) -> Datum {
        let (types, fields): (Vec<Oid>, Vec<Datum>) = fields.into_iter().unzip();
        Record::new(&types.into(), fields).into()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::testing::row;
    use super::*;
    use crate::types::acl::AclItem;
    use crate::types::array::Array;
    use crate::types::compare::{Asked, compare, hash, order_of_arrays, order_of_records};
    use crate::types::error::TypeError;
    use crate::types::functions::json_build;
    use crate::types::tests::context;
    use crate::types::{codec, oids, size};

    fn shown(value: &Datum) -> String {
        codec::to_text(oids::RECORD, value, &context())
    }

    fn list(element: Oid, items: Vec<Datum>) -> Datum {
        Datum::Array(Arc::new(Array::of(element, items)))
    }

    fn of(value: &Datum) -> &Record {
        match value {
            Datum::Record(record) => record,
            other => panic!("{other:?} is no row"),
        }
    }

    fn refusal(a: &Datum, b: &Datum, asked: Asked) -> (&'static str, String) {
        let error: TypeError = order_of_records(of(a), of(b), asked).expect_err("refused");
        (error.state, error.message)
    }

    /// The same datums under other types.
    #[test]
    fn text_is_that_of_the_types() {
        let fields = |number: Oid, list_of: Oid| {
            row(vec![
                (number, Datum::Oid(oids::INT4)),
                (
                    list_of,
                    list(oids::INT2, vec![Datum::Int2(1), Datum::Int2(2)]),
                ),
                (oids::BPCHAR, Datum::text("a  ")),
                (oids::NAME, Datum::Null),
            ])
        };
        assert_eq!(
            shown(&fields(oids::OID, oids::INT2_ARRAY)),
            r#"(23,"{1,2}","a  ",)"#
        );
        let named = fields(oids::REGTYPE, oids::INT2VECTOR);
        assert_eq!(shown(&named), r#"(integer,"1 2","a  ",)"#);
        let around = row(vec![
            (oids::RECORD, named.clone()),
            (oids::RECORD_ARRAY, list(oids::RECORD, vec![named])),
        ]);
        assert_eq!(
            shown(&around),
            r#"("(integer,""1 2"",""a  "",)","{""(integer,\\""1 2\\"",\\""a  \\"",)""}")"#
        );
    }

    /// `record_send`: the number of fields; of each its type and, in so many bytes, its value.
    #[test]
    fn binary_form_names_the_types() {
        let inner = row(vec![(oids::NAME, Datum::text("n"))]);
        let value = row(vec![
            (oids::UNKNOWN, Datum::text("a")),
            (oids::UNKNOWN, Datum::Null),
            (oids::VARCHAR, Datum::text("")),
            (oids::JSON, Datum::text("{}")),
            (oids::REGCLASS, Datum::Oid(Oid::new(1259))),
            (oids::INT4, Datum::Null),
            (oids::RECORD, inner),
        ]);
        let mut sent = BytesMut::new();
        codec::encode_binary(oids::RECORD, &value, &mut sent);
        let mut want = 7_i32.to_be_bytes().to_vec();
        let fields: [(u32, Option<&[u8]>); 7] = [
            (705, Some(b"a")),
            (705, None),
            (1043, Some(b"")),
            (114, Some(b"{}")),
            (2205, Some(&[0, 0, 4, 235])),
            (23, None),
            (2249, Some(&[0, 0, 0, 1, 0, 0, 0, 19, 0, 0, 0, 1, b'n'])),
        ];
        for (ty, bytes) in fields {
            want.extend_from_slice(&ty.to_be_bytes());
            let length = bytes.map_or(-1, |b| b.len() as i32);
            want.extend_from_slice(&length.to_be_bytes());
            want.extend_from_slice(bytes.unwrap_or_default());
        }
        assert_eq!(sent.to_vec(), want);
    }

    #[test]
    fn what_has_no_binary_form_is_found_however_deep() {
        let item = Datum::AclItem(AclItem::from_bytes([0; crate::types::acl::WIDTH]));
        let within = |field| row(vec![(oids::INT4, Datum::Int4(1)), field]);
        let deep = within((oids::ACLITEM, item));
        assert!(!codec::has_binary(&deep));
        let deep = list(oids::RECORD, vec![Datum::Null, deep]);
        assert!(!codec::has_binary(&deep));
        assert!(!codec::has_binary(&within((oids::RECORD_ARRAY, deep))));
        assert!(codec::has_binary(&within((oids::ACLITEM, Datum::Null))));
    }

    #[test]
    fn json_is_that_of_the_types() {
        let value = row(vec![
            (oids::REGTYPE, Datum::Oid(oids::INT4)),
            (oids::JSON, Datum::text("[1]")),
            (oids::TEXT, Datum::text("[1]")),
            (oids::RECORD, row(vec![(oids::JSON, Datum::text("{}"))])),
            (oids::JSON, Datum::Null),
        ]);
        let want = r#"{"f1":"integer","f2":[1],"f3":"[1]","f4":{"f1":{}},"f5":null}"#;
        let mut text = String::new();
        json_build::to_json(&value, oids::RECORD, &context(), &mut text).expect("JSON");
        assert_eq!(text, want);
        let tree = json_build::to_jsonb(&value, oids::RECORD, &context()).expect("JSON");
        assert_eq!(tree.to_string(), want);
    }

    #[test]
    fn fields_are_compared_by_their_types() {
        let padded = |text: &str, ty: Oid| row(vec![(ty, Datum::text(text))]);
        let (a, b) = (padded("a ", oids::BPCHAR), padded("a", oids::BPCHAR));
        for asked in [Asked::Equality, Asked::Order] {
            let order = order_of_records(of(&a), of(&b), asked).expect("comparable");
            assert!(order.is_eq());
        }
        assert!(compare(oids::RECORD, &a, &b).is_eq());
        assert_eq!(hash(oids::RECORD, &a), hash(oids::RECORD, &b));
        let (a, b) = (padded("a ", oids::TEXT), padded("a", oids::TEXT));
        assert!(compare(oids::RECORD, &a, &b).is_gt());

        let xid = |n: u32| row(vec![(oids::XID, Datum::Xid(n))]);
        let equal = order_of_records(of(&xid(1)), of(&xid(2)), Asked::Equality);
        assert!(equal.expect("xid has equality").is_ne());
        let message = "could not identify a comparison function for type xid".to_owned();
        assert_eq!(refusal(&xid(1), &xid(2), Asked::Order), ("42883", message));
        let lists = |n: u32| Array::of(oids::XID, vec![Datum::Xid(n)]);
        let equal = order_of_arrays(&lists(1), &lists(2), Asked::Equality);
        assert!(equal.expect("and so have its arrays").is_ne());
    }

    #[test]
    fn rows_of_other_types_are_refused_by_operators_and_in_some_order_for_sorts() {
        let number = |n: i32| (oids::INT4, Datum::Int4(n));
        let text = |t: &str| (oids::TEXT, Datum::text(t));
        let (a, b) = (row(vec![number(1)]), row(vec![text("x")]));
        let message =
            "cannot compare dissimilar column types integer and text at record column 1".to_owned();
        assert_eq!(refusal(&a, &b, Asked::Equality), ("42804", message));
        let longer = row(vec![number(1), number(2)]);
        let message = "cannot compare record types with different numbers of columns".to_owned();
        assert_eq!(refusal(&a, &longer, Asked::Order), ("42804", message));
        let literal = row(vec![(oids::UNKNOWN, Datum::text("x"))]);
        let message = "could not identify an equality operator for type unknown".to_owned();
        assert_eq!(
            refusal(&literal, &literal, Asked::Equality),
            ("42883", message)
        );
        // Nobody comes to the second fields.
        let (c, d) = (
            row(vec![number(1), text("x")]),
            row(vec![number(2), number(2)]),
        );
        let order = order_of_records(of(&c), of(&d), Asked::Order);
        assert!(order.expect("decided before").is_lt());

        let null = row(vec![(oids::INT4, Datum::Null)]);
        let json = |t: &str| row(vec![(oids::JSON, Datum::text(t))]);
        let all = [a, null, b, c, d, longer, literal, json("1"), json("2")];
        for (i, x) in all.iter().enumerate() {
            for (j, y) in all.iter().enumerate() {
                let order = compare(oids::RECORD, x, y);
                assert_eq!(order.is_eq(), i == j, "{x:?} {y:?}");
                assert_eq!(order, compare(oids::RECORD, y, x).reverse());
            }
        }
    }

    #[test]
    fn a_row_is_counted_with_its_types_and_a_datum_stays_small() {
        assert_eq!(size_of::<Datum>(), 24);
        let of = |n: usize| row(vec![(oids::INT4, Datum::Int4(1)); n]);
        let each = size_of::<Datum>() + size_of::<Oid>();
        assert_eq!(size::held(&of(9)) - size::held(&of(1)), 8 * each);
        assert!(size::held(&of(0)) >= size_of::<Record>());
    }
}
