//! Which events a change gives, and the words of the statements.

use std::sync::Arc;

use super::changes::{self, Updated};
use super::statements::{Both, Purpose};
use crate::catalog::relation::{
    Column, ForeignKey, Identity, ReferentialAction, Relation, RelationKind,
};
use crate::ids::{BlockNumber, OffsetNumber, Oid, RelFile, Tid};
use crate::txn::{RowChange, RowEvent};
use crate::types::datum::{Datum, SqlType};
use crate::types::oids;

const TABLE: Oid = Oid::new(20001);
const REFERENCED: Oid = Oid::new(20002);

fn relation(oid: Oid, name: &str, columns: &[(&str, Oid)]) -> Relation {
    let column = |(number, (name, ty)): (usize, &(&str, Oid))| Column {
        name: (*name).to_owned(),
        attribute: i16::try_from(number + 1).expect("few columns"),
        ty: SqlType::plain(*ty),
        not_null: false,
        dropped: false,
        default: None,
        identity: Identity::No,
        missing: None,
    };
    Relation {
        oid,
        name: name.to_owned(),
        schema: Oid::new(2200),
        schema_name: "public".to_owned(),
        kind: RelationKind::Table,
        owner: Oid::new(10),
        acl: None,
        file: RelFile::of_database(Oid::new(5), oid),
        overflow: None,
        columns: columns.iter().enumerate().map(column).collect(),
        indexes: Vec::new(),
        checks: Vec::new(),
        foreign_keys: Vec::new(),
        referenced_by: Vec::new(),
        estimated_rows: -1.0,
        estimated_pages: 0,
    }
}

/// `t (a, b)` refers to `p (id, code)`.
fn key(match_full: bool) -> ForeignKey {
    ForeignKey {
        oid: Oid::new(30000),
        name: "t_a_b_fkey".to_owned(),
        table: TABLE,
        columns: vec![0, 1],
        referenced: REFERENCED,
        key: vec![0, 1],
        index: Oid::new(20003),
        match_full,
        on_update: ReferentialAction::Cascade,
        on_delete: ReferentialAction::NoAction,
        set_columns: vec![1],
        deferrable: true,
        initially_deferred: true,
    }
}

fn tables(key: ForeignKey) -> (Relation, Relation) {
    let mut table = relation(TABLE, "t", &[("a", oids::INT4), ("b", oids::VARCHAR)]);
    let mut referenced = relation(REFERENCED, "p", &[("id", oids::INT8), ("code", oids::TEXT)]);
    let key = Arc::new(key);
    table.foreign_keys.push(Arc::clone(&key));
    referenced.referenced_by.push(key);
    (table, referenced)
}

fn tid(block: u32) -> Tid {
    Tid::new(BlockNumber::new(block), OffsetNumber::FIRST)
}

fn row(a: Option<i32>, b: Option<&str>) -> Vec<Datum> {
    vec![
        a.map_or(Datum::Null, Datum::Int4),
        b.map_or(Datum::Null, Datum::text),
    ]
}

fn of_update(relation: &Relation, old: &[Datum], new: &[Datum], own: bool) -> Vec<RowEvent> {
    let slots: Vec<usize> = (0..old.len()).collect();
    let updated = Updated {
        relation,
        new,
        frame: old,
        slots: &slots,
        old_tid: tid(1),
        new_tid: tid(2),
    };
    let mut events = Vec::new();
    updated
        .events(&mut || Ok(own), &mut events)
        .expect("nothing is read");
    events
}

#[test]
fn an_inserted_row_is_looked_at_unless_it_refers_to_nothing() {
    let count = |match_full, a, b| {
        let (table, _) = tables(key(match_full));
        let mut events = Vec::new();
        changes::inserted(&table, &row(a, b), tid(1), &mut events);
        events.len()
    };
    assert_eq!(count(false, Some(1), Some("x")), 1);
    assert_eq!(count(false, None, Some("x")), 0);
    assert_eq!(count(true, None, Some("x")), 1, "MATCH FULL refuses it");
    assert_eq!(count(true, None, None), 0);
}

#[test]
fn an_update_is_looked_at_where_the_reference_changes_or_its_insert_is_still_to_be() {
    let (table, _) = tables(key(false));
    let (old, same) = (row(Some(1), Some("x")), row(Some(1), Some("x")));
    assert!(of_update(&table, &old, &same, false).is_empty());
    assert_eq!(of_update(&table, &old, &same, true).len(), 1);
    let events = of_update(&table, &old, &row(Some(2), Some("x")), false);
    assert_eq!(events[0].change, RowChange::Written { new: tid(2) });
    assert!(events[0].initially_deferred);
}

#[test]
fn a_key_that_stays_the_same_is_not_looked_at() {
    let (_, referenced) = tables(key(false));
    let at = |id: i64, code: &str| vec![Datum::Int8(id), Datum::text(code)];
    assert!(of_update(&referenced, &at(1, "x"), &at(1, "x"), false).is_empty());
    let events = of_update(&referenced, &at(1, "x"), &at(1, "y"), false);
    let change = RowChange::Rekeyed {
        old: tid(1),
        new: tid(2),
    };
    assert_eq!(events[0].change, change);
    assert!(!events[0].deferrable, "CASCADE is never put off");
    let mut deleted = Vec::new();
    changes::deleted(&referenced, tid(1), &mut deleted);
    assert!(deleted[0].deferrable, "NO ACTION is");
}

#[test]
fn statements_are_in_postgresqls_words() {
    let key = key(false);
    let (table, referenced) = tables(key.clone());
    let both = Both {
        key: &key,
        table: &table,
        referenced: &referenced,
    };
    let check = |purpose, expected: &str| {
        let text = both.text(purpose).expect("the types compare");
        assert_eq!(text.sql, expected);
    };
    check(
        Purpose::KeyOfReference,
        "SELECT 1 FROM ONLY \"public\".\"p\" x WHERE \"id\" OPERATOR(pg_catalog.=) $1 AND \"code\" \
         OPERATOR(pg_catalog.=) $2::pg_catalog.text FOR KEY SHARE OF x",
    );
    check(
        Purpose::References,
        "SELECT 1 FROM ONLY \"public\".\"t\" x WHERE $1 OPERATOR(pg_catalog.=) \"a\" AND $2 \
         OPERATOR(pg_catalog.=) \"b\"::pg_catalog.text FOR KEY SHARE OF x",
    );
    check(
        Purpose::UpdateReferences,
        "UPDATE ONLY \"public\".\"t\" SET \"a\" = $1, \"b\" = $2 WHERE $3 OPERATOR(pg_catalog.=) \"a\" \
         AND $4 OPERATOR(pg_catalog.=) \"b\"::pg_catalog.text",
    );
    check(
        Purpose::SetReferences {
            default: false,
            deleted: true,
        },
        "UPDATE ONLY \"public\".\"t\" SET \"b\" = NULL WHERE $1 OPERATOR(pg_catalog.=) \"a\" AND $2 \
         OPERATOR(pg_catalog.=) \"b\"::pg_catalog.text",
    );
}

#[test]
fn casts_to_types_with_a_keywords_name_are_quoted() {
    let key = ForeignKey {
        columns: vec![0],
        key: vec![0],
        ..key(false)
    };
    let (mut table, mut referenced) = tables(key.clone());
    referenced.columns[0].ty = SqlType::plain(oids::NUMERIC);
    table.columns[0].ty = SqlType::plain(oids::INT4);
    let both = Both {
        key: &key,
        table: &table,
        referenced: &referenced,
    };
    let text = both.text(Purpose::KeyOfReference);
    assert_eq!(
        text.expect("the types compare").sql,
        "SELECT 1 FROM ONLY \"public\".\"p\" x WHERE \"id\" OPERATOR(pg_catalog.=) \
         $1::pg_catalog.\"numeric\" FOR KEY SHARE OF x",
    );
}
