//! What indexes are ordered by: `pg_am`, `pg_opclass`, `pg_opfamily`, `pg_amop`, `pg_amproc`.

use crate::catalog::bootstrap::{BTREE_ACCESS_METHOD, HEAP_ACCESS_METHOD};
use crate::catalog::relation::Relation;
use crate::catalog::schema::{BOOTSTRAP_SUPERUSER, PG_CATALOG};
use crate::ids::Oid;
use crate::sql::pg_catalog::row::RowBuilder;
use crate::types::datum::Datum;
use crate::types::{conversions, opclass};

/// Oid, family, left type, right type, strategy, operator; a line each. All are for searching by.
const OPERATORS: &str = include_str!("amop.txt");
/// Oid, family, left type, right type, number, function; those of PostgreSQL's that are here.
const FUNCTIONS: &str = include_str!("amproc.txt");

pub fn methods(relation: &Relation) -> Vec<Vec<Datum>> {
    let mut row = RowBuilder::new(relation);
    [
        (HEAP_ACCESS_METHOD, "heap", "heap_tableam_handler", b't'),
        (BTREE_ACCESS_METHOD, "btree", "bthandler", b'i'),
    ]
    .into_iter()
    .map(|(oid, name, handler, kind)| {
        row.set("oid", oid)
            .set("amname", name)
            .set("amhandler", conversions::oid_of(handler));
        row.set("amtype", kind).take()
    })
    .collect()
}

pub fn operator_classes(relation: &Relation) -> Vec<Vec<Datum>> {
    let mut row = RowBuilder::new(relation);
    let make = |class: &opclass::OperatorClass| {
        row.set("oid", class.oid)
            .set("opcmethod", BTREE_ACCESS_METHOD)
            .set("opcname", class.name);
        row.set("opcnamespace", PG_CATALOG)
            .set("opcowner", BOOTSTRAP_SUPERUSER)
            .set("opcfamily", class.family);
        row.set("opcintype", class.input)
            .set("opcdefault", class.default)
            .set("opckeytype", class.key)
            .take()
    };
    opclass::all().iter().map(make).collect()
}

pub fn operator_families(relation: &Relation) -> Vec<Vec<Datum>> {
    let mut row = RowBuilder::new(relation);
    let make = |(oid, name): &(u32, &str)| {
        row.set("oid", Oid::new(*oid))
            .set("opfmethod", BTREE_ACCESS_METHOD)
            .set("opfname", *name);
        row.set("opfnamespace", PG_CATALOG)
            .set("opfowner", BOOTSTRAP_SUPERUSER)
            .take()
    };
    opclass::FAMILIES.iter().map(make).collect()
}

/// The six numbers of each line, the fifth of which is small.
fn lines(text: &'static str) -> impl Iterator<Item = ([Oid; 4], i16, Oid)> {
    text.lines().map(|line| {
        let numbers: Vec<u32> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
        let [oid, family, left, right, number, object] = numbers[..] else {
            panic!("a line has six numbers: {line:?}");
        };
        let number = i16::try_from(number).expect("strategies and functions are few");
        let objects = [oid, family, left, right].map(Oid::new);
        (objects, number, Oid::new(object))
    })
}

pub fn class_operators(relation: &Relation) -> Vec<Vec<Datum>> {
    let mut row = RowBuilder::new(relation);
    lines(OPERATORS)
        .map(|([oid, family, left, right], strategy, operator)| {
            row.set("oid", oid)
                .set("amopfamily", family)
                .set("amoplefttype", left);
            row.set("amoprighttype", right)
                .set("amopstrategy", strategy)
                .set("amoppurpose", b's');
            row.set("amopopr", operator)
                .set("amopmethod", BTREE_ACCESS_METHOD)
                .take()
        })
        .collect()
}

pub fn class_functions(relation: &Relation) -> Vec<Vec<Datum>> {
    let mut row = RowBuilder::new(relation);
    lines(FUNCTIONS)
        .map(|([oid, family, left, right], number, function)| {
            row.set("oid", oid)
                .set("amprocfamily", family)
                .set("amproclefttype", left);
            row.set("amprocrighttype", right)
                .set("amprocnum", number)
                .set("amproc", function)
                .take()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{functions, operators};

    #[test]
    fn every_line_names_a_family_and_something_that_is_here() {
        let known = |family: Oid| {
            let mut all = opclass::FAMILIES.iter();
            all.any(|(oid, _)| Oid::new(*oid) == family)
        };
        for ([_, family, ..], _, operator) in lines(OPERATORS) {
            assert!(known(family) && operators::by_oid(operator).is_some());
        }
        for ([_, family, ..], _, function) in lines(FUNCTIONS) {
            assert!(known(family) && functions::by_oid(function).is_some());
        }
    }
}
