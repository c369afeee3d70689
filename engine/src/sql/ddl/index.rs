//! CREATE INDEX, and the indexes of keys.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Range;
use std::sync::Arc;

use crate::catalog::bootstrap::insert_index;
use crate::catalog::relation::{Index, IndexKey, Relation, RelationKind, default_class};
use crate::catalog::rows::ClassRow;
use crate::ids::{BlockNumber, Oid, RelFile, Tid, Xid};
use crate::index::{btree, key};
use crate::sql::bind;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{CreateIndex, IndexElement, IndexElementKey, ObjectName};
use crate::sql::maintenance::blocking;
use crate::table::heap;
use crate::table::row::RowDecoder;
use crate::txn::{Interrupts, LockMode};
use crate::types::codec;
use crate::types::compare;
use crate::types::datum::{Datum, SqlType};
use crate::types::opclass;

use super::Result;
use super::constraint::{NewKey, refuse_deferrable};
use super::cx::{DdlCx, May, by, oid_key};
use super::names::no_relation;

/// Most columns of an index (`INDEX_MAX_KEYS`).
const MAX_KEYS: usize = 32;
/// Blocks of the table between two looks at the session's interrupts.
const BLOCKS_BETWEEN_CHECKS: u32 = 64;
/// Entries between two looks, where each costs a comparison or a copy.
const ENTRIES_BETWEEN_CHECKS: usize = 4096;
/// Entries that are sorted in one go, which no interrupt ends: tens of milliseconds.
const RUN: usize = 1 << 17;

pub async fn create(s: &CreateIndex, cx: &mut DdlCx<'_>) -> Result<()> {
    // CONCURRENTLY too: writers wait until the index is there, which is all that its absence would spare them.
    let mode = LockMode::Share;
    let may: May<'_> = &|cx, table| cx.must_own(table);
    let Some(table) = cx.open_if(&s.table, mode, may).await? else {
        return Err(no_relation(&s.table, "relation"));
    };
    if table.kind != RelationKind::Table {
        return Err(SqlError::new(
            state::WRONG_OBJECT_TYPE,
            format!("cannot create index on relation \"{}\"", table.name),
        ));
    }
    cx.must_not_be_in_use(table.oid, &table.name, "CREATE INDEX")?;
    cx.must_create_in(cx.user.oid, table.schema, &table.schema_name)?;
    refuse(s)?;
    let mut keys = Vec::with_capacity(s.keys.len());
    for element in &s.keys {
        keys.push(key_of(&table, element)?);
    }
    let mut included = Vec::new();
    for element in &s.include {
        included.push(position(&table, element)?);
    }
    check_keys(&keys, included.len())?;
    let name = match &s.name {
        Some(name) => {
            if cx.taken(table.schema, &name.name)? {
                return super::table::already_there(cx, &name.name, s.if_not_exists);
            }
            name.name.clone()
        }
        None => {
            let columns: Vec<&str> = keys
                .iter()
                .map(|k| table.columns[k.column].name.as_str())
                .collect();
            cx.free_name(
                &table.name,
                Some(&columns.join("_")),
                "idx",
                table.schema,
                &[],
            )?
        }
    };
    let index = Index {
        oid: cx.new_oid()?,
        name,
        table: table.oid,
        file: RelFile::of_database(cx.database, cx.new_oid()?),
        keys,
        included,
        unique: s.unique,
        primary: false,
        nulls_not_distinct: s.nulls_not_distinct,
        valid: true,
        constraint: None,
        deferrable: false,
        only_if_sees: None,
    };
    make(cx, &table, index).await
}

fn refuse(s: &CreateIndex) -> Result<()> {
    if let Some(method) = s.method.as_ref().filter(|m| m.name != "btree") {
        let known = ["hash", "gin", "gist", "brin", "spgist"];
        if known.contains(&method.name.as_str()) {
            return Err(SqlError::unsupported(format!(
                "access method \"{}\" is not supported",
                method.name
            ))
            .hint("Use a btree index."));
        }
        return Err(SqlError::new(
            state::UNDEFINED_OBJECT,
            format!("access method \"{}\" does not exist", method.name),
        ));
    }
    if s.filter.is_some() {
        return Err(
            SqlError::unsupported("partial indexes are not supported").hint("Leave WHERE out.")
        );
    }
    if let Some(space) = s.tablespace.as_ref().filter(|t| t.name != "pg_default") {
        return Err(SqlError::new(
            state::UNDEFINED_OBJECT,
            format!("tablespace \"{}\" does not exist", space.name),
        ));
    }
    super::table::check_options(&s.options)
}

fn position(table: &Relation, element: &IndexElement) -> Result<usize> {
    let IndexElementKey::Column(name) = &element.key else {
        return Err(
            SqlError::unsupported("indexes on expressions are not supported")
                .hint("Index a column that holds the expression's value.")
                .at(element.at),
        );
    };
    table.column_named(&name.name).ok_or_else(|| {
        SqlError::new(
            state::UNDEFINED_COLUMN,
            format!("column \"{}\" does not exist", name.name),
        )
    })
}

fn key_of(table: &Relation, element: &IndexElement) -> Result<IndexKey> {
    let column = position(table, element)?;
    let ty = table.columns[column].ty;
    if let Some(collation) = &element.collation {
        bind::check_collation(collation)?;
    }
    let class = match &element.operator_class {
        Some(named) => class_named(named, ty)?,
        None => default_class(ty),
    };
    check_ordered(ty)?;
    Ok(IndexKey {
        column,
        ty,
        class,
        descending: element.descending,
        nulls_first: element.nulls_first.unwrap_or(element.descending),
    })
}

/// All classes of a type order it in the same way here.
fn class_named(class: &ObjectName, ty: SqlType) -> Result<Oid> {
    let in_catalog = class.schema_name().is_none_or(|s| s == "pg_catalog");
    let found = opclass::named(&class.name.name).filter(|_| in_catalog);
    let Some(found) = found else {
        return Err(SqlError::new(
            state::UNDEFINED_OBJECT,
            format!("operator class \"{class}\" does not exist for access method \"btree\""),
        ));
    };
    if !found.accepts(ty.oid) {
        return Err(SqlError::new(
            state::DATATYPE_MISMATCH,
            format!(
                "operator class \"{class}\" does not accept data type {}",
                bind::type_text(SqlType::plain(ty.oid))
            ),
        ));
    }
    Ok(found.oid)
}

fn check_ordered(ty: SqlType) -> Result<()> {
    if compare::comparator(ty.oid).is_some() {
        return Ok(());
    }
    Err(SqlError::new(
        state::UNDEFINED_OBJECT,
        format!(
            "data type {} has no default operator class for access method \"btree\"",
            bind::type_text(SqlType::plain(ty.oid))
        ),
    )
    .hint("You must specify an operator class for the index or define a default operator class for the data type."))
}

fn check_keys(keys: &[IndexKey], included: usize) -> Result<()> {
    if keys.len() + included > MAX_KEYS {
        return Err(SqlError::new(
            state::TOO_MANY_COLUMNS,
            format!("cannot use more than {MAX_KEYS} columns in an index"),
        ));
    }
    Ok(())
}

/// PRIMARY KEY or UNIQUE of a table whose rows are in the catalog already.
pub async fn create_key(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    new: &NewKey,
    taken: &mut Vec<String>,
) -> Result<()> {
    refuse_deferrable(new.timing)?;
    let find = |name: &crate::sql::front::ast::Ident| {
        table.column_named(&name.name).ok_or_else(|| {
            SqlError::new(
                state::UNDEFINED_COLUMN,
                format!("column \"{}\" named in key does not exist", name.name),
            )
            .at(new.at)
        })
    };
    let mut keys: Vec<IndexKey> = Vec::with_capacity(new.columns.len());
    for name in &new.columns {
        let column = find(name)?;
        if keys.iter().any(|k| k.column == column) {
            let what = if new.primary { "primary key" } else { "unique" };
            return Err(SqlError::new(
                state::DUPLICATE_COLUMN,
                format!(
                    "column \"{}\" appears twice in {what} constraint",
                    name.name
                ),
            )
            .at(new.at));
        }
        let ty = table.columns[column].ty;
        check_ordered(ty)?;
        keys.push(IndexKey {
            column,
            ty,
            class: default_class(ty),
            descending: false,
            nulls_first: false,
        });
    }
    let included = new.include.iter().map(find).collect::<Result<Vec<_>>>()?;
    check_keys(&keys, included.len())?;
    if new.primary && table.primary_key().is_some() {
        return Err(SqlError::new(
            state::INVALID_TABLE_DEFINITION,
            format!(
                "multiple primary keys for table \"{}\" are not allowed",
                table.name
            ),
        ));
    }
    cx.must_create_in(cx.user.oid, table.schema, &table.schema_name)?;
    let name = match &new.name {
        Some(name) => {
            if cx.taken(table.schema, name)? {
                return Err(SqlError::new(
                    state::DUPLICATE_TABLE,
                    format!("relation \"{name}\" already exists"),
                ));
            }
            name.clone()
        }
        None if new.primary => cx.free_name(&table.name, None, "pkey", table.schema, taken)?,
        None => {
            let columns: Vec<&str> = new.columns.iter().map(|c| c.name.as_str()).collect();
            cx.free_name(
                &table.name,
                Some(&columns.join("_")),
                "key",
                table.schema,
                taken,
            )?
        }
    };
    taken.push(name.clone());
    let oid = cx.new_oid()?;
    let index = Index {
        oid,
        name: name.clone(),
        table: table.oid,
        file: RelFile::of_database(cx.database, cx.new_oid()?),
        keys,
        included,
        unique: true,
        primary: new.primary,
        nulls_not_distinct: new.nulls_not_distinct,
        valid: true,
        constraint: Some((cx.new_oid()?, name)),
        deferrable: false,
        only_if_sees: None,
    };
    make(cx, table, index).await
}

/// Builds the index and writes its rows.
async fn make(cx: &mut DdlCx<'_>, table: &Relation, index: Index) -> Result<()> {
    let mut index = index;
    if build(cx, table, &index)? {
        index.only_if_sees = Some(cx.xid()?);
    }
    let system = cx.system();
    let catalog = cx.catalog;
    insert_index(&catalog.cx(&system, cx.database), cx.txn, table, &index).await?;
    cx.insert_key_constraint(table, &index).await?;
    note_index(cx, table).await?;
    cx.changed(table.oid);
    cx.changed(index.oid);
    Ok(())
}

/// `pg_class` says from now on that the table has indexes. Not as a change of this transaction's: several may make an index
/// of one table at a time, and who of them rolls back takes nothing from the others. It stays true until a vacuum finds none.
async fn note_index(cx: &mut DdlCx<'_>, table: &Relation) -> Result<()> {
    let (system, catalog) = (cx.system(), cx.catalog);
    let access = catalog.cx(&system, cx.database);
    loop {
        let (tid, row) = cx.find_one::<ClassRow>(by::CLASS_OID, &oid_key(table.oid), "relation")?;
        if row.relhasindex {
            return Ok(());
        }
        let yes = Datum::Bool(true);
        let noted = access.overwrite::<ClassRow>(cx.txn, tid, "relhasindex", &yes);
        if noted.await? {
            return Ok(());
        }
    }
}

/// Keys beside one another in one buffer: a sort of a million rows makes no million allocations.
#[derive(Default)]
struct Entries {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// A chain has versions with other keys, which older snapshots may see.
    older: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    start: usize,
    length: u32,
    tid: Tid,
    live: bool,
    has_null: bool,
}

impl Entries {
    fn key(&self, e: &Entry) -> &[u8] {
        &self.bytes[e.start..e.start + e.length as usize]
    }

    /// By key and tid: runs of `run` entries each, which are merged then.
    fn sort(&mut self, run: usize, interrupts: &Interrupts) -> Result<()> {
        let bytes = &self.bytes;
        let order = |e: &Entry| (&bytes[e.start..e.start + e.length as usize], e.tid);
        for part in self.entries.chunks_mut(run) {
            interrupts.check()?;
            part.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
        }
        let all = &self.entries;
        if all.len() <= run {
            return Ok(());
        }
        let begins = (0..all.len()).step_by(run);
        let mut rest: Vec<Range<usize>> = begins.map(|at| at..(at + run).min(all.len())).collect();
        let heads = rest.iter().enumerate();
        let mut heads: BinaryHeap<_> = heads
            .map(|(run, rest)| Reverse((order(&all[rest.start]), run)))
            .collect();
        let mut merged = Vec::with_capacity(all.len());
        while let Some(mut head) = heads.peek_mut() {
            if merged.len().is_multiple_of(ENTRIES_BETWEEN_CHECKS) {
                interrupts.check()?;
            }
            let Reverse((_, run)) = *head;
            let rest = &mut rest[run];
            merged.push(all[rest.start]);
            rest.start += 1;
            if rest.start >= rest.end {
                PeekMut::pop(head);
            } else {
                *head = Reverse((order(&all[rest.start]), run));
            }
        }
        self.entries = merged;
        Ok(())
    }
}

/// Makes the index's file and fills it from the table's rows. True: rows that older snapshots see may be missing.
/// An interrupt ends it within some ten thousand rows; the file goes with the transaction.
pub fn build(cx: &mut DdlCx<'_>, table: &Relation, index: &Index) -> Result<bool> {
    cx.create_file(index.file)?;
    let xid = cx.xid()?;
    // The statement's own changes count.
    cx.step()?;
    blocking(|| fill(cx, table, index, xid))
}

fn fill(cx: &DdlCx<'_>, table: &Relation, index: &Index, xid: Xid) -> Result<bool> {
    let interrupts = cx.txn.interrupts();
    let mut entries = collect(cx, table, index)?;
    entries.sort(RUN, interrupts)?;
    check_unique(cx, table, index, &entries)?;
    let sorted = entries.entries.iter().enumerate().map(|(done, e)| {
        if done.is_multiple_of(ENTRIES_BETWEEN_CHECKS) {
            interrupts.check()?;
        }
        Ok::<_, SqlError>((entries.key(e).to_vec(), e.tid))
    });
    btree::build(&cx.catalog.store, index, xid, sorted)?;
    Ok(entries.older)
}

/// Makes an empty index.
pub fn build_empty(cx: &mut DdlCx<'_>, index: &Index) -> Result<()> {
    cx.create_file(index.file)?;
    let xid = cx.xid()?;
    btree::create(&cx.catalog.store, index, xid)?;
    Ok(())
}

/// The table's entries, in no order.
fn collect(cx: &DdlCx<'_>, table: &Relation, index: &Index) -> Result<Entries> {
    let snapshot = cx.snapshot();
    let table_cx = cx.catalog.table_cx();
    let wanted: Vec<usize> = index.keys.iter().map(|k| k.column).collect();
    let decoder = RowDecoder::new(table, &wanted);
    let mut values = vec![Datum::Null; table.columns.len()];
    let mut out = Entries::default();
    let mut encoded = Vec::new();
    for block in 0..heap::blocks(table_cx, table)? {
        if block % BLOCKS_BETWEEN_CHECKS == 0 {
            cx.txn.interrupts().check()?;
        }
        heap::for_index::<SqlError>(
            table_cx,
            table,
            BlockNumber::new(block),
            &snapshot,
            &mut |row| {
                decoder.decode(table_cx, row.version, &mut values)?;
                encoded.clear();
                let mut has_null = false;
                for part in &index.keys {
                    has_null |= values[part.column].is_null();
                    key::encode_part(part, &values[part.column], &mut encoded)?;
                }
                out.older |= row.older;
                out.entries.push(Entry {
                    start: out.bytes.len(),
                    length: u32::try_from(encoded.len()).unwrap_or(u32::MAX),
                    tid: row.root,
                    live: row.live,
                    has_null,
                });
                out.bytes.extend_from_slice(&encoded);
                Ok(())
            },
        )?;
    }
    Ok(out)
}

fn check_unique(cx: &DdlCx<'_>, table: &Relation, index: &Index, entries: &Entries) -> Result<()> {
    if !index.unique {
        return Ok(());
    }
    let interrupts = cx.txn.interrupts();
    let mut last: Option<&Entry> = None;
    for (done, e) in entries.entries.iter().filter(|e| e.live).enumerate() {
        if done.is_multiple_of(ENTRIES_BETWEEN_CHECKS) {
            interrupts.check()?;
        }
        let counts = !e.has_null || index.nulls_not_distinct;
        if let (true, Some(before)) = (counts, last)
            && entries.key(before) == entries.key(e)
        {
            return Err(duplicate(cx, table, index, e.tid));
        }
        last = Some(e);
    }
    Ok(())
}

/// 23505 with the key's values.
fn duplicate(cx: &DdlCx<'_>, table: &Relation, index: &Index, tid: Tid) -> SqlError {
    let error = SqlError::new(
        state::UNIQUE_VIOLATION,
        format!("could not create unique index \"{}\"", index.name),
    )
    .table(&table.schema_name, &table.name)
    .constraint(&index.name);
    match key_text(cx, table, index, tid) {
        Some(text) => error.detail(format!("Key {text} is duplicated.")),
        None => error.detail("Duplicate keys exist."),
    }
}

/// `(a, b)=(1, x)`
fn key_text(cx: &DdlCx<'_>, table: &Relation, index: &Index, tid: Tid) -> Option<String> {
    let mut buf = heap::RowBuf::new();
    let table_cx = cx.catalog.table_cx();
    let found = heap::fetch(table_cx, table, tid, &cx.snapshot(), &mut buf).ok()?;
    let version = buf.version().filter(|_| found)?;
    let mut values = vec![Datum::Null; table.columns.len()];
    RowDecoder::all(table)
        .decode(table_cx, version, &mut values)
        .ok()?;
    let names: Vec<&str> = index
        .keys
        .iter()
        .map(|k| table.columns[k.column].name.as_str())
        .collect();
    let shown: Vec<String> = index
        .keys
        .iter()
        .map(|k| match &values[k.column] {
            Datum::Null => "null".to_owned(),
            value => codec::to_text(k.ty.oid, value, cx.functions),
        })
        .collect();
    Some(format!("({})=({})", names.join(", "), shown.join(", ")))
}

/// The relation of an index, for callers that have its own description.
pub fn on_table(cx: &DdlCx<'_>, index: &Relation) -> Result<(Arc<Relation>, Arc<Index>)> {
    let table = cx
        .index_table(index)?
        .ok_or_else(|| SqlError::internal(format!("\"{}\" is not an index", index.name)))?;
    let table = cx.relation(table)?;
    let found = table
        .indexes
        .iter()
        .find(|i| i.oid == index.oid)
        .cloned()
        .ok_or_else(|| SqlError::internal("an index that its table does not know"))?;
    Ok((table, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{OffsetNumber, ProcessId};
    use crate::txn::Interrupt;

    fn some_entries(count: u32) -> Entries {
        let mut entries = Entries::default();
        for n in 0..count {
            // Keys of several lengths, many of them equal, in no order.
            let value = n.wrapping_mul(2_654_435_761) >> 24;
            let bytes = value.to_be_bytes();
            let key = &bytes[1 + (value % 3) as usize..];
            entries.entries.push(Entry {
                start: entries.bytes.len(),
                length: u32::try_from(key.len()).expect("short"),
                tid: Tid::new(
                    BlockNumber::new(count - n),
                    OffsetNumber::new(1).expect("not zero"),
                ),
                live: true,
                has_null: false,
            });
            entries.bytes.extend_from_slice(key);
        }
        entries
    }

    #[test]
    fn runs_are_merged_into_the_order_of_one_sort() {
        let interrupts = Interrupts::new(ProcessId::new(7).expect("not zero"));
        for count in [0, 1, 7, 8, 500] {
            let mut whole = some_entries(count);
            whole.sort(usize::MAX, &interrupts).expect("sorted");
            for pair in whole.entries.windows(2) {
                let [a, b] = [pair[0], pair[1]];
                assert!((whole.key(&a), a.tid) < (whole.key(&b), b.tid));
            }
            for run in [1, 7, 64] {
                let mut merged = some_entries(count);
                merged.sort(run, &interrupts).expect("sorted");
                assert_eq!(merged.entries, whole.entries, "{count} in runs of {run}");
            }
        }
    }

    #[test]
    fn an_interrupt_ends_the_sort() {
        let interrupts = Interrupts::new(ProcessId::new(7).expect("not zero"));
        interrupts.raise(Interrupt::Cancel);
        let ended = some_entries(10).sort(4, &interrupts);
        assert_eq!(ended.map_err(|e| e.state), Err("57014"));
    }
}
