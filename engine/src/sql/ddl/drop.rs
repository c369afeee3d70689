//! DROP TABLE, INDEX, SEQUENCE, and what goes with them.

use std::sync::Arc;

use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::rows::{
    AttrdefRow, AttributeRow, CatalogRow, ClassRow, ConstraintRow, DescriptionRow, IndexRow,
    SequenceRow, StatisticRow,
};
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{Drop, ObjectKind, ObjectName};
use crate::table::files;
use crate::txn::LockMode;
use crate::types::datum::Datum;

use super::Result;
use super::cx::{DdlCx, May, by, oid_key};
use super::depend::INTERNAL;
use super::foreign_key;

const CASCADE_HINT: &str = "Use DROP ... CASCADE to drop the dependent objects too.";

pub async fn drop(s: &Drop, cx: &mut DdlCx<'_>) -> Result<()> {
    if s.concurrently {
        return Err(
            SqlError::unsupported("DROP INDEX CONCURRENTLY is not supported")
                .hint("Leave CONCURRENTLY out."),
        );
    }
    let mut relations: Vec<Arc<Relation>> = Vec::with_capacity(s.names.len());
    for name in &s.names {
        if let Some(relation) = find(cx, s, name).await?
            && relations.iter().all(|r| r.oid != relation.oid)
        {
            relations.push(relation);
        }
    }
    foreign_key::release_relations(cx, &relations, s.cascade).await?;
    for relation in &relations {
        drop_relation(cx, relation, s.cascade, &relations).await?;
        cx.step()?;
    }
    Ok(())
}

async fn find(cx: &mut DdlCx<'_>, s: &Drop, name: &ObjectName) -> Result<Option<Arc<Relation>>> {
    use crate::catalog::view::CatalogView;
    let word = s.kind.word();
    if let Some(schema) = name.schema_name()
        && cx.view().schema_named(schema)?.is_none()
    {
        if s.if_exists {
            cx.notice(format!("schema \"{schema}\" does not exist, skipping"));
            return Ok(None);
        }
        return Err(super::names::no_schema(schema));
    }
    let may: May<'_> = &|cx, relation| may_drop(s.kind, cx, relation);
    let found = cx.open_if(name, LockMode::AccessExclusive, may).await?;
    let Some(relation) = found else {
        if s.if_exists {
            cx.notice(format!(
                "{word} \"{}\" does not exist, skipping",
                name.name.name
            ));
            return Ok(None);
        }
        let code = if s.kind == ObjectKind::Index {
            state::UNDEFINED_OBJECT
        } else {
            state::UNDEFINED_TABLE
        };
        return Err(SqlError::new(
            code,
            format!("{word} \"{}\" does not exist", name.name.name),
        ));
    };
    Ok(Some(relation))
}

fn may_drop(kind: ObjectKind, cx: &DdlCx<'_>, relation: &Relation) -> Result<()> {
    let word = kind.word();
    let (fits, hint) = match relation.kind {
        RelationKind::Table => (
            kind == ObjectKind::Table,
            "Use DROP TABLE to remove a table.",
        ),
        RelationKind::Index => (
            kind == ObjectKind::Index,
            "Use DROP INDEX to remove an index.",
        ),
        RelationKind::Sequence => (
            kind == ObjectKind::Sequence,
            "Use DROP SEQUENCE to remove a sequence.",
        ),
        RelationKind::View | RelationKind::Virtual => {
            (kind == ObjectKind::View, "Use DROP VIEW to remove a view.")
        }
    };
    if !fits {
        return Err(SqlError::new(
            state::WRONG_OBJECT_TYPE,
            format!("\"{}\" is not {} {word}", relation.name, article(word)),
        )
        .hint(hint));
    }
    cx.must_own_or_its_schema(relation)
}

pub fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

/// `together`: what the same statement drops anyway. Foreign keys of other tables that refer to the relation are gone
/// already ([`foreign_key::release_relations`]).
pub async fn drop_relation(
    cx: &mut DdlCx<'_>,
    relation: &Relation,
    cascade: bool,
    together: &[Arc<Relation>],
) -> Result<()> {
    match relation.kind {
        RelationKind::Table => drop_table(cx, relation, cascade, together).await,
        RelationKind::Index => drop_index_named(cx, relation).await,
        RelationKind::Sequence => drop_sequence(cx, relation, cascade, together).await,
        RelationKind::View | RelationKind::Virtual => Err(SqlError::new(
            state::INSUFFICIENT_PRIVILEGE,
            format!(
                "permission denied: \"{}\" is a system catalog",
                relation.name
            ),
        )),
    }
}

async fn drop_table(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    cascade: bool,
    together: &[Arc<Relation>],
) -> Result<()> {
    for owned in cx.owned_sequences(table.oid)? {
        let sequence = cx.relation(owned.sequence)?;
        cx.lock(sequence.oid, LockMode::AccessExclusive).await?;
        // Defaults of other tables that use it keep it, or go with it.
        release_defaults(cx, &sequence, Some(table.oid), cascade, together).await?;
        remove(cx, &sequence).await?;
        cx.step()?;
    }
    for key in &table.foreign_keys {
        if key.referenced != table.oid {
            cx.lock(key.referenced, LockMode::AccessExclusive).await?;
        }
        foreign_key::remove(cx, key).await?;
    }
    for index in &table.indexes {
        let relation = crate::catalog::schema::index_relation(table, index);
        remove(cx, &relation).await?;
        cx.delete_all::<IndexRow>(by::INDEX_OID, &oid_key(index.oid))
            .await?;
    }
    cx.delete_all::<ConstraintRow>(by::CONSTRAINT_RELATION, &oid_key(table.oid))
        .await?;
    cx.delete_all::<StatisticRow>(by::STATISTIC, &oid_key(table.oid))
        .await?;
    for (tid, row) in cx.find::<AttrdefRow>(by::ATTRDEF_COLUMN, &oid_key(table.oid))? {
        cx.forget_dependencies(AttrdefRow::TABLE, row.oid).await?;
        cx.delete::<AttrdefRow>(tid).await?;
    }
    remove(cx, table).await
}

/// Rows of `pg_class`, `pg_attribute`, comments and dependencies; files at commit.
async fn remove(cx: &mut DdlCx<'_>, relation: &Relation) -> Result<()> {
    let what = match relation.kind {
        RelationKind::Index => "DROP INDEX",
        _ => "DROP TABLE",
    };
    cx.must_not_be_in_use(relation.oid, &relation.name, what)?;
    cx.delete_all::<ClassRow>(by::CLASS_OID, &oid_key(relation.oid))
        .await?;
    cx.delete_all::<AttributeRow>(by::ATTRIBUTE_NUMBER, &oid_key(relation.oid))
        .await?;
    let comments = [Datum::Oid(relation.oid), Datum::Oid(ClassRow::TABLE)];
    cx.delete_all::<DescriptionRow>(by::DESCRIPTION, &comments)
        .await?;
    if relation.kind == RelationKind::Sequence {
        cx.delete_all::<SequenceRow>(by::SEQUENCE, &oid_key(relation.oid))
            .await?;
    }
    cx.forget_dependencies(ClassRow::TABLE, relation.oid)
        .await?;
    files::drop_at_commit(cx.txn, relation.file);
    if let Some(overflow) = relation.overflow {
        files::drop_at_commit(cx.txn, overflow);
    }
    cx.changed(relation.oid);
    Ok(())
}

async fn drop_index_named(cx: &mut DdlCx<'_>, index: &Relation) -> Result<()> {
    let (table, found) = super::index::on_table(cx, index)?;
    if let Some((_, name)) = &found.constraint {
        return Err(SqlError::new(
            state::DEPENDENT_OBJECTS_STILL_EXIST,
            format!(
                "cannot drop index {} because constraint {name} on table {} requires it",
                index.name, table.name
            ),
        )
        .hint(format!(
            "You can drop constraint {name} on table {} instead.",
            table.name
        )));
    }
    drop_index(cx, &table, index).await
}

/// The index without asking for its constraint.
pub async fn drop_index(cx: &mut DdlCx<'_>, table: &Relation, index: &Relation) -> Result<()> {
    cx.delete_all::<IndexRow>(by::INDEX_OID, &oid_key(index.oid))
        .await?;
    remove(cx, index).await?;
    cx.changed(table.oid);
    Ok(())
}

async fn drop_sequence(
    cx: &mut DdlCx<'_>,
    sequence: &Relation,
    cascade: bool,
    together: &[Arc<Relation>],
) -> Result<()> {
    if let Some((table, attribute, INTERNAL)) = cx.owner_of(sequence.oid)? {
        if together.iter().any(|r| r.oid == table) {
            return Ok(());
        }
        let table = cx.relation(table)?;
        let column = column_name(&table, attribute);
        return Err(SqlError::new(
            state::DEPENDENT_OBJECTS_STILL_EXIST,
            format!(
                "cannot drop sequence {} because column {column} of table {} requires it",
                sequence.name, table.name
            ),
        )
        .hint(format!(
            "You can drop column {column} of table {} instead.",
            table.name
        )));
    }
    release_defaults(cx, sequence, None, cascade, together).await?;
    remove(cx, sequence).await
}

fn column_name(table: &Relation, attribute: i16) -> String {
    table
        .columns
        .iter()
        .find(|c| c.attribute == attribute)
        .map_or_else(String::new, |c| c.name.clone())
}

/// Defaults that use the sequence, those of `own` apart: an error, or with CASCADE they go.
async fn release_defaults(
    cx: &mut DdlCx<'_>,
    sequence: &Relation,
    own: Option<Oid>,
    cascade: bool,
    together: &[Arc<Relation>],
) -> Result<()> {
    for default in cx.defaults_using(sequence.oid)? {
        let row = find_default(cx, default)?;
        let Some((table, number)) = row else { continue };
        if Some(table) == own || together.iter().any(|r| r.oid == table) {
            continue;
        }
        cx.lock(table, LockMode::AccessExclusive).await?;
        let table = cx.relation(table)?;
        let column = column_name(&table, number);
        if !cascade {
            return Err(SqlError::new(
                state::DEPENDENT_OBJECTS_STILL_EXIST,
                format!(
                    "cannot drop sequence {} because other objects depend on it",
                    sequence.name
                ),
            )
            .detail(format!(
                "default value for column {column} of table {} depends on sequence {}",
                table.name, sequence.name
            ))
            .hint(CASCADE_HINT));
        }
        cx.notice(format!(
            "drop cascades to default value for column {column} of table {}",
            table.name
        ));
        super::alter::remove_default(cx, &table, number).await?;
    }
    Ok(())
}

/// Table and attribute of a default row.
fn find_default(cx: &DdlCx<'_>, default: Oid) -> Result<Option<(Oid, i16)>> {
    /// `pg_attrdef_oid_index`
    const BY_OID: u32 = 2657;
    let rows = cx.find::<AttrdefRow>(BY_OID, &oid_key(default))?;
    Ok(rows.first().map(|(_, row)| (row.adrelid, row.adnum)))
}
