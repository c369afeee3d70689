//! CREATE and ALTER SEQUENCE. Manual, CREATE SEQUENCE.

use crate::catalog::bootstrap::{attribute_row, class_row};
use crate::catalog::relation::{Column, Identity, Relation, RelationKind};
use crate::catalog::rows::{AttributeRow, ClassRow, DependRow, SequenceRow};
use crate::ids::{Oid, RelFile};
use crate::sql::bind;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{
    AlterSequence, CreateSequence, Ident, ObjectName, Persistence, SequenceOption,
    SequenceOptionKind,
};
use crate::table::sequence::{self, SequenceError, State};
use crate::txn::LockMode;
use crate::types::datum::{Datum, SqlType};
use crate::types::oids;

use super::Result;
use super::cx::{DdlCx, May, by, oid_key};
use super::depend::AUTO;
use super::names::{Place, no_relation};

impl From<SequenceError> for SqlError {
    fn from(e: SequenceError) -> SqlError {
        match e {
            SequenceError::Storage(s) => s.into(),
            SequenceError::AtMaximum(_) | SequenceError::AtMinimum(_) => {
                SqlError::new("2200H", e.to_string())
            }
            SequenceError::Damaged(_) => SqlError::new(state::DATA_CORRUPTED, e.to_string()),
        }
    }
}

/// A sequence's properties, and what the options ask for besides.
#[derive(Debug, Clone, PartialEq, Default)]
struct Wanted {
    row: SequenceRow,
    /// RESTART: the next value.
    restart: Option<i64>,
    owned_by: Option<Option<Vec<Ident>>>,
}

pub async fn create(s: &CreateSequence, cx: &mut DdlCx<'_>) -> Result<()> {
    if s.persistence != Persistence::Permanent {
        return Err(SqlError::unsupported(
            "temporary and unlogged sequences are not supported",
        ));
    }
    let place = cx.place(&s.name)?;
    let name = s.name.name.name.clone();
    if cx.taken(place.schema, &name)? {
        return super::table::already_there(cx, &name, s.if_not_exists);
    }
    let wanted = options(cx, &s.options, None, SqlType::plain(oids::INT8))?;
    let oid = write(cx, &name, &place, cx.user.oid, &wanted).await?;
    if let Some(owner) = &wanted.owned_by {
        cx.step()?;
        set_owner(cx, oid, owner.as_deref()).await?;
    }
    Ok(())
}

/// SEQUENCE NAME of an identity column's options, which `pg_dump` writes, and the options without it.
pub fn own_name(given: &[SequenceOption]) -> Result<(Option<&ObjectName>, Vec<SequenceOption>)> {
    let mut own = None;
    let mut others = Vec::with_capacity(given.len());
    for option in given {
        match &option.kind {
            SequenceOptionKind::Name(_) if own.is_some() => return Err(redundant(option)),
            SequenceOptionKind::Name(name) => own = Some(name),
            _ => others.push(option.clone()),
        }
    }
    Ok((own, others))
}

fn redundant(option: &SequenceOption) -> SqlError {
    SqlError::new(state::SYNTAX_ERROR, "conflicting or redundant options").at(option.at)
}

/// The sequence of a `serial` or identity column.
pub async fn make(
    cx: &mut DdlCx<'_>,
    name: &str,
    table: &Relation,
    ty: SqlType,
    given: &[SequenceOption],
    identity: bool,
) -> Result<Oid> {
    if identity && !matches!(ty.oid, oids::INT2 | oids::INT4 | oids::INT8) {
        return Err(SqlError::new(
            state::INVALID_PARAMETER_VALUE,
            "identity column type must be smallint, integer, or bigint",
        ));
    }
    cx.must_create_in(cx.user.oid, table.schema, &table.schema_name)?;
    let place = Place {
        schema: table.schema,
        schema_name: table.schema_name.clone(),
    };
    let wanted = options(cx, given, None, ty)?;
    write(cx, name, &place, table.owner, &wanted).await
}

async fn write(
    cx: &mut DdlCx<'_>,
    name: &str,
    place: &Place,
    owner: Oid,
    wanted: &Wanted,
) -> Result<Oid> {
    cx.keep_role(owner).await?;
    cx.keep_schema(place.schema).await?;
    let oid = cx.new_oid()?;
    let column = |attribute, name: &str, ty| Column {
        name: name.to_owned(),
        attribute,
        ty: SqlType::plain(ty),
        not_null: true,
        dropped: false,
        default: None,
        identity: Identity::No,
        missing: None,
    };
    let relation = Relation {
        oid,
        name: name.to_owned(),
        schema: place.schema,
        schema_name: place.schema_name.clone(),
        kind: RelationKind::Sequence,
        owner,
        acl: None,
        file: RelFile::of_database(cx.database, oid),
        overflow: None,
        columns: vec![
            column(1, "last_value", oids::INT8),
            column(2, "log_cnt", oids::INT8),
            column(3, "is_called", oids::BOOL),
        ],
        indexes: Vec::new(),
        checks: Vec::new(),
        foreign_keys: Vec::new(),
        referenced_by: Vec::new(),
        estimated_rows: 1.0,
        estimated_pages: 1,
    };
    cx.create_file(relation.file)?;
    let xid = cx.xid()?;
    sequence::create(&cx.catalog.store, relation.file, xid, wanted.row.seqstart)?;
    cx.insert(&class_row(&relation)).await?;
    for c in &relation.columns {
        let row: AttributeRow = attribute_row(oid, c);
        cx.insert(&row).await?;
    }
    let row = SequenceRow {
        seqrelid: oid,
        ..wanted.row.clone()
    };
    cx.insert(&row).await?;
    cx.changed(oid);
    Ok(oid)
}

pub async fn alter(s: &AlterSequence, cx: &mut DdlCx<'_>) -> Result<()> {
    let may: May<'_> = &|cx, relation| cx.must_own(relation);
    let found = cx
        .open_if(&s.name, LockMode::ShareRowExclusive, may)
        .await?;
    let Some(relation) = found else {
        if s.if_exists {
            cx.notice(format!("relation \"{}\" does not exist, skipping", s.name));
            return Ok(());
        }
        return Err(no_relation(&s.name, "relation"));
    };
    if relation.kind != RelationKind::Sequence {
        return Err(SqlError::new(
            state::WRONG_OBJECT_TYPE,
            format!("\"{}\" is not a sequence", relation.name),
        ));
    }
    change(cx, &relation, &s.options).await
}

/// Applies options to a sequence that is there.
pub async fn change(
    cx: &mut DdlCx<'_>,
    relation: &Relation,
    given: &[SequenceOption],
) -> Result<()> {
    let (tid, old) =
        cx.find_one::<SequenceRow>(by::SEQUENCE, &oid_key(relation.oid), "sequence")?;
    let ty = SqlType::plain(old.seqtypid);
    let wanted = options(cx, given, Some(&old), ty)?;
    if wanted.row != old {
        cx.update(tid, &wanted.row).await?;
    }
    // The numbers go into a file of their own until commit, so that an abort brings the old ones back.
    let now = cx.sequences.state(&cx.catalog.store, relation.file)?;
    let next = match wanted.restart {
        Some(value) => State {
            last: value,
            called: false,
        },
        None => now,
    };
    if !(wanted.row.seqmin..=wanted.row.seqmax).contains(&next.last) {
        return Err(out_of_bounds("RESTART", next.last, &wanted.row));
    }
    let file = cx.new_file()?;
    cx.create_file(file)?;
    let xid = cx.xid()?;
    sequence::create(&cx.catalog.store, file, xid, next.last)?;
    if next.called {
        cx.sequences.set(&cx.catalog.store, file, next, xid)?;
    }
    crate::table::files::drop_at_commit(cx.txn, relation.file);
    let (tid, mut class) =
        cx.find_one::<ClassRow>(by::CLASS_OID, &oid_key(relation.oid), "relation")?;
    class.relfilenode = file.number;
    cx.update(tid, &class).await?;
    cx.changed(relation.oid);
    if let Some(owner) = &wanted.owned_by {
        cx.step()?;
        set_owner(cx, relation.oid, owner.as_deref()).await?;
    }
    Ok(())
}

/// TRUNCATE ... RESTART IDENTITY.
pub async fn restart(cx: &mut DdlCx<'_>, relation: &Relation) -> Result<()> {
    let option = SequenceOption {
        kind: SequenceOptionKind::Restart(None),
        at: 0,
    };
    change(cx, relation, &[option]).await
}

async fn set_owner(cx: &mut DdlCx<'_>, sequence: Oid, owner: Option<&[Ident]>) -> Result<()> {
    let key = [
        Datum::Oid(<ClassRow as crate::catalog::rows::CatalogRow>::TABLE),
        Datum::Oid(sequence),
    ];
    for (tid, row) in cx.find::<DependRow>(by::DEPEND_DEPENDER, &key)? {
        if row.deptype == super::depend::INTERNAL {
            return Err(
                SqlError::unsupported("cannot change ownership of identity sequence")
                    .detail("The sequence is linked to a table by an identity column."),
            );
        }
        if row.deptype == AUTO {
            cx.delete::<DependRow>(tid).await?;
        }
    }
    let Some(parts) = owner else {
        return Ok(());
    };
    let (table, column) = owner_column(cx, sequence, parts)?;
    cx.own_sequence(sequence, table, column, AUTO).await
}

fn owner_column(cx: &DdlCx<'_>, sequence: Oid, parts: &[Ident]) -> Result<(Oid, i16)> {
    use crate::catalog::view::CatalogView;
    let invalid = || {
        SqlError::new(state::SYNTAX_ERROR, "invalid OWNED BY option")
            .hint("Specify OWNED BY table.column or OWNED BY NONE.")
    };
    let (schema, table, column) = match parts {
        [table, column] => (None, table, column),
        [schema, table, column] => (Some(schema.name.as_str()), table, column),
        _ => return Err(invalid()),
    };
    let relation = cx
        .view()
        .relation_named(schema, &table.name)?
        .ok_or_else(|| {
            SqlError::new(
                state::UNDEFINED_TABLE,
                format!("relation \"{}\" does not exist", table.name),
            )
        })?;
    let owned = cx.relation(sequence)?;
    let mismatch = |what: &str| {
        let message = format!("sequence must {what} table it is linked to");
        Err(SqlError::new(
            state::OBJECT_NOT_IN_PREREQUISITE_STATE,
            message,
        ))
    };
    if relation.owner != owned.owner {
        return mismatch("have same owner as");
    }
    if relation.schema != owned.schema {
        return mismatch("be in same schema as");
    }
    let position = relation.column_named(&column.name).ok_or_else(|| {
        SqlError::new(
            state::UNDEFINED_COLUMN,
            format!(
                "column \"{}\" of relation \"{}\" does not exist",
                column.name, relation.name
            ),
        )
    })?;
    Ok((relation.oid, relation.columns[position].attribute))
}

fn number(text: &str) -> Result<i64> {
    text.parse().map_err(|_| {
        SqlError::new(
            state::NUMERIC_OUT_OF_RANGE,
            format!("value \"{text}\" is out of range for type bigint"),
        )
    })
}

fn type_range(ty: Oid) -> (i64, i64) {
    match ty {
        oids::INT2 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        oids::INT4 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    }
}

/// `init_params`
fn options(
    cx: &DdlCx<'_>,
    given: &[SequenceOption],
    old: Option<&SequenceRow>,
    default_type: SqlType,
) -> Result<Wanted> {
    let mut seen: Vec<std::mem::Discriminant<SequenceOptionKind>> = Vec::new();
    for o in given {
        let kind = std::mem::discriminant(&o.kind);
        if seen.contains(&kind) {
            return Err(redundant(o));
        }
        seen.push(kind);
    }
    let mut row = old.cloned().unwrap_or_else(|| SequenceRow {
        seqtypid: default_type.oid,
        seqincrement: 1,
        seqcache: 1,
        ..SequenceRow::default()
    });
    let mut wanted = Wanted::default();
    let (mut min, mut max, mut start, mut restart) = (None, None, None, None);
    let mut type_changed = false;
    for o in given {
        match &o.kind {
            SequenceOptionKind::As(ty) => {
                let ty = bind::resolve_type(ty, &cx.view())?;
                if !matches!(ty.oid, oids::INT2 | oids::INT4 | oids::INT8) {
                    return Err(SqlError::new(
                        state::INVALID_PARAMETER_VALUE,
                        "sequence type must be smallint, integer, or bigint",
                    ));
                }
                type_changed = old.is_some_and(|o| o.seqtypid != ty.oid);
                row.seqtypid = ty.oid;
            }
            SequenceOptionKind::Increment(n) => {
                row.seqincrement = number(n)?;
                if row.seqincrement == 0 {
                    return Err(SqlError::new(
                        state::INVALID_PARAMETER_VALUE,
                        "INCREMENT must not be zero",
                    ));
                }
            }
            SequenceOptionKind::MinValue(n) => {
                min = Some(n.as_deref().map(number).transpose()?);
            }
            SequenceOptionKind::MaxValue(n) => {
                max = Some(n.as_deref().map(number).transpose()?);
            }
            SequenceOptionKind::Start(n) => start = Some(number(n)?),
            SequenceOptionKind::Restart(n) => {
                restart = Some(n.as_deref().map(number).transpose()?);
            }
            SequenceOptionKind::Cache(n) => {
                row.seqcache = number(n)?;
                if row.seqcache <= 0 {
                    return Err(SqlError::new(
                        state::INVALID_PARAMETER_VALUE,
                        format!("CACHE ({}) must be greater than zero", row.seqcache),
                    ));
                }
            }
            SequenceOptionKind::Cycle(on) => row.seqcycle = *on,
            SequenceOptionKind::OwnedBy(owner) => wanted.owned_by = Some(owner.clone()),
            SequenceOptionKind::Name(_) => {
                // Taken out before where it may stand: the grammar does not know where that is.
                return Err(SqlError::new(
                    state::SYNTAX_ERROR,
                    "invalid sequence option SEQUENCE NAME",
                )
                .at(o.at));
            }
        }
    }
    bounds(&mut row, old, (min, max), type_changed)?;
    if let Some(start) = start {
        row.seqstart = start;
    } else if old.is_none() {
        row.seqstart = if row.seqincrement > 0 {
            row.seqmin
        } else {
            row.seqmax
        };
    }
    if !(row.seqmin..=row.seqmax).contains(&row.seqstart) {
        return Err(out_of_bounds("START", row.seqstart, &row));
    }
    // Without a value it begins anew where START says, wherever in the list that stands.
    wanted.restart = restart.map(|n| n.unwrap_or(row.seqstart));
    wanted.row = row;
    Ok(wanted)
}

type Bound = Option<Option<i64>>;

fn bounds(
    row: &mut SequenceRow,
    old: Option<&SequenceRow>,
    (min, max): (Bound, Bound),
    type_changed: bool,
) -> Result<()> {
    let (least, most) = type_range(row.seqtypid);
    let up = row.seqincrement > 0;
    let before = old.map(|o| type_range(o.seqtypid));
    let at_edge =
        |value: i64, edge: fn((i64, i64)) -> i64| type_changed && before.map(edge) == Some(value);
    row.seqmax = match (max, old) {
        (Some(Some(n)), _) => n,
        (None, Some(o)) if !at_edge(o.seqmax, |r| r.1) => o.seqmax,
        _ if up => most,
        _ => -1,
    };
    row.seqmin = match (min, old) {
        (Some(Some(n)), _) => n,
        (None, Some(o)) if !at_edge(o.seqmin, |r| r.0) => o.seqmin,
        _ if up => 1,
        _ => least,
    };
    let ty = || bind::type_text(SqlType::plain(row.seqtypid));
    for (what, n) in [("MAXVALUE", row.seqmax), ("MINVALUE", row.seqmin)] {
        if !(least..=most).contains(&n) {
            return Err(SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                format!(
                    "{what} ({n}) is out of range for sequence data type {}",
                    ty()
                ),
            ));
        }
    }
    if row.seqmin >= row.seqmax {
        return Err(SqlError::new(
            state::INVALID_PARAMETER_VALUE,
            format!(
                "MINVALUE ({}) must be less than MAXVALUE ({})",
                row.seqmin, row.seqmax
            ),
        ));
    }
    Ok(())
}

fn out_of_bounds(what: &str, value: i64, row: &SequenceRow) -> SqlError {
    let message = if value < row.seqmin {
        format!(
            "{what} value ({value}) cannot be less than MINVALUE ({})",
            row.seqmin
        )
    } else {
        format!(
            "{what} value ({value}) cannot be greater than MAXVALUE ({})",
            row.seqmax
        )
    };
    SqlError::new(state::INVALID_PARAMETER_VALUE, message)
}
