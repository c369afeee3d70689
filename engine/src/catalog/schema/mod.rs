//! What system tables there are: names, columns, indexes, as in PostgreSQL 15's `pg_catalog`.
//!
//! This is code, not data: a server can read its catalog only because it knows these without asking. The
//! catalog version in `pg_control` changes with every change of a heap table here.

mod absent;
mod heap_tables;
mod spec;
mod static_tables;
mod views;

pub use absent::is_absent;
pub use spec::{
    BOOTSTRAP_SUPERUSER, IndexKind, IndexSpec, PG_CATALOG, SystemRelations, TableKind, TableSpec,
    index_relation, initial_acl,
};

/// `pg_description`: comments that people made are in the heap, those of the built-in objects in the code.
pub fn has_rows_in_code(table: crate::ids::Oid) -> bool {
    table == crate::ids::Oid::new(2609)
}

/// Whether PostgreSQL has a table there, and not a view.
pub fn is_system_table(relation: crate::ids::Oid) -> bool {
    heap_tables::HEAP_TABLES
        .iter()
        .chain(static_tables::STATIC_TABLES)
        .any(|table| crate::ids::Oid::new(table.oid) == relation)
}

/// Every system table, heap tables first.
pub fn all_tables() -> impl Iterator<Item = &'static TableSpec> {
    heap_tables::HEAP_TABLES
        .iter()
        .chain(static_tables::STATIC_TABLES)
        .chain(views::VIEWS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Oid;

    #[test]
    fn every_spec_reads_and_no_number_or_name_stands_twice() {
        let relations = SystemRelations::of_database(Oid::new(5));
        let specs: usize = all_tables().map(|t| 1 + t.indexes.len()).sum();
        assert_eq!(relations.iter().count(), specs, "an oid stands twice");
        for table in all_tables() {
            let relation = relations.named(table.name).expect("named as written");
            assert_eq!(relation.oid, Oid::new(table.oid));
            assert!(relation.columns.len() > 1);
            assert!(table.kind == TableKind::Heap || table.indexes.is_empty());
        }
    }
}
