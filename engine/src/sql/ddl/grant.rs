//! GRANT and REVOKE of privileges on tables, sequences, databases and schemas. Manual, GRANT, REVOKE.
//!
//! Lists of grants are columns of the object's catalog row, so that they are as transactional as everything else
//! there. All names are resolved before the first object is changed. A session that works with a changed object sees
//! the new list at its next statement: the invalidation makes its plans anew.

use crate::catalog::acl::{AclEditor, ActsAs, Modification};
use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::rights::{Guarded, Holder, Kind, held, may_look_into};
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::error::{SqlError, no_right_to, state};
use crate::sql::front::ast::{Grant, GrantTarget, Ident, ObjectName, RoleSpec};
use crate::txn::LockMode;
use crate::types::acl::Privileges;

use super::Result;
use super::acl_row::AclRow;
use super::cx::{DdlCx, May};
use super::names::{no_relation, no_schema};
use super::rights::denied;

const COLUMN_HINT: &str = "Put the columns into a table of their own and grant on that.";

/// An object whose list is to be changed.
struct Object {
    oid: Oid,
    name: String,
    kind: Kind,
    /// Of a relation, as warnings name them: the system's first.
    columns: Vec<String>,
    /// For somebody who has no rights on it.
    no_right: SqlError,
}

/// What the statement says, for every object alike.
struct Said {
    is_grant: bool,
    option: bool,
    cascade: bool,
    all: bool,
    privileges: Privileges,
    grantees: Vec<Oid>,
}

pub async fn grant(s: &Grant, cx: &mut DdlCx<'_>) -> Result<()> {
    if let Some(spec) = &s.grantor
        && cx.role(spec)?.oid != cx.user.oid
    {
        return Err(SqlError::unsupported("grantor must be current user"));
    }
    must_exist(&s.target, cx)?;
    if let Some(at) = s.columns_at {
        return Err(refuse_columns(&s.target, at));
    }
    let mut grantees = Vec::with_capacity(s.grantees.len());
    for spec in &s.grantees {
        grantees.push(match spec {
            RoleSpec::Public(_) => Oid::INVALID,
            other => cx.role(other)?.oid,
        });
    }
    let said = Said {
        is_grant: s.is_grant,
        option: s.option,
        cascade: s.cascade,
        all: s.privileges.is_none(),
        privileges: privileges(s.privileges.as_deref(), &s.target)?,
        grantees,
    };
    let objects = objects(&s.target, cx).await?;
    for grantee in &said.grantees {
        if said.is_grant && grantee.is_valid() {
            cx.keep_role(*grantee).await?;
        }
    }
    for object in objects {
        change(cx, object, &said).await?;
        cx.step()?;
    }
    Ok(())
}

fn refuse_columns(target: &GrantTarget, at: u32) -> SqlError {
    match target {
        GrantTarget::Tables(_) | GrantTarget::AllTablesIn(_) => {
            SqlError::unsupported("privileges on columns are not supported")
                .hint(COLUMN_HINT)
                .at(at)
        }
        _ => SqlError::new(
            state::INVALID_GRANT_OPERATION,
            "column privileges are only valid for relations",
        ),
    }
}

/// The privileges that the words mean; none: ALL.
fn privileges(words: Option<&[Ident]>, target: &GrantTarget) -> Result<Privileges> {
    let (possible, what) = match target {
        // Sequences too by the words for tables.
        GrantTarget::Tables(_) | GrantTarget::AllTablesIn(_) => (
            Privileges::OF_TABLE.and(Privileges::OF_SEQUENCE),
            "relation",
        ),
        GrantTarget::Sequences(_) | GrantTarget::AllSequencesIn(_) => {
            (Privileges::OF_SEQUENCE, "sequence")
        }
        GrantTarget::Databases(_) => (Privileges::OF_DATABASE, "database"),
        GrantTarget::Schemas(_) => (Privileges::OF_SCHEMA, "schema"),
    };
    let mut all = Privileges::NONE;
    for word in words.unwrap_or_default() {
        // RULE was a privilege once: it is accepted and means nothing.
        if word.name == "rule" {
            continue;
        }
        let one = Privileges::named(&word.name).ok_or_else(|| {
            let message = format!("unrecognized privilege type \"{}\"", word.name);
            SqlError::new(state::SYNTAX_ERROR, message)
        })?;
        if !possible.contains(one) {
            return Err(invalid_for(one, what));
        }
        all = all.and(one);
    }
    Ok(all)
}

fn invalid_for(privileges: Privileges, what: &str) -> SqlError {
    let word = privileges.each().next().map_or("", |(_, word)| word);
    SqlError::new(
        state::INVALID_GRANT_OPERATION,
        format!("invalid privilege type {word} for {what}"),
    )
}

async fn objects(target: &GrantTarget, cx: &mut DdlCx<'_>) -> Result<Vec<Object>> {
    match target {
        GrantTarget::Tables(names) => relations(names, cx, false).await,
        GrantTarget::Sequences(names) => relations(names, cx, true).await,
        GrantTarget::Databases(names) => names.iter().map(|n| database(&n.name, cx)).collect(),
        GrantTarget::Schemas(names) => names.iter().map(|n| schema(&n.name, cx)).collect(),
        GrantTarget::AllTablesIn(schemas) => all_in(schemas, cx, RelationKind::Table).await,
        GrantTarget::AllSequencesIn(schemas) => all_in(schemas, cx, RelationKind::Sequence).await,
    }
}

/// As PostgreSQL does, names are looked at before anything else of the statement.
fn must_exist(target: &GrantTarget, cx: &DdlCx<'_>) -> Result<()> {
    match target {
        GrantTarget::Tables(names) | GrantTarget::Sequences(names) => {
            for name in names {
                let found = cx
                    .view()
                    .relation_named(name.schema_name(), &name.name.name)?;
                if found.is_none() {
                    return Err(no_relation(name, "relation"));
                }
            }
        }
        GrantTarget::Databases(names) => {
            for name in names {
                database(&name.name, cx)?;
            }
        }
        GrantTarget::Schemas(names) => {
            for name in names {
                schema(&name.name, cx)?;
            }
        }
        GrantTarget::AllTablesIn(names) | GrantTarget::AllSequencesIn(names) => {
            for name in names {
                let view = cx.view();
                let found = view.schema(schema(&name.name, cx)?.oid)?;
                if !found.map_or(Ok(false), |s| may_look_into(&view, &s))? {
                    let message = format!("permission denied for schema {}", name.name);
                    return Err(denied(message));
                }
            }
        }
    }
    Ok(())
}

/// Locked against VACUUM and definitions, which write the same rows; readers and writers are not in the way.
const LOCK: LockMode = LockMode::ShareUpdateExclusive;

async fn relations(
    names: &[ObjectName],
    cx: &mut DdlCx<'_>,
    sequences: bool,
) -> Result<Vec<Object>> {
    let mut out = Vec::with_capacity(names.len());
    for name in names {
        let may: May<'_> = &|cx, relation| may_grant_on(cx, relation, sequences);
        let relation = cx.open_if(name, LOCK, may).await?;
        let relation = relation.ok_or_else(|| no_relation(name, "relation"))?;
        out.push(of_relation(&relation)?);
    }
    Ok(out)
}

fn may_grant_on(cx: &DdlCx<'_>, relation: &Relation, sequences: bool) -> Result<()> {
    let wrong = |what: &str| {
        let message = format!("\"{}\" is {what}", relation.name);
        Err(SqlError::new(state::WRONG_OBJECT_TYPE, message))
    };
    if relation.kind == RelationKind::Index {
        return wrong("an index");
    }
    if sequences && relation.kind != RelationKind::Sequence {
        return wrong("not a sequence");
    }
    // Whoever has nothing on it could only wait for the refusal.
    let has = cx.ask(|user| user.held(relation))?;
    if has.privileges.is_none() && has.grantable.is_none() {
        return Err(no_right_to(relation));
    }
    Ok(())
}

/// In the order of their numbers.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "cmax", "xmax", "cmin", "xmin", "ctid"];

fn of_relation(relation: &Relation) -> Result<Object> {
    if relation.oid < Oid::FIRST_NORMAL {
        return Err(SqlError::unsupported(format!(
            "privileges on \"{}\" cannot be changed: it is a system catalog",
            relation.name
        ))
        .hint("Grant membership in pg_read_all_data, or use a superuser."));
    }
    Ok(Object {
        oid: relation.oid,
        name: relation.name.clone(),
        kind: Guarded::from(relation).kind,
        columns: SYSTEM_COLUMNS
            .iter()
            .map(|name| (*name).to_owned())
            .chain(relation.live_columns().map(|(_, c)| c.name.clone()))
            .collect(),
        no_right: no_right_to(relation),
    })
}

fn database(name: &str, cx: &DdlCx<'_>) -> Result<Object> {
    let found = cx.view().database_named(name)?;
    let found = found.ok_or_else(|| super::database::no_database(name))?;
    Ok(Object {
        oid: found.oid,
        kind: Kind::Database,
        columns: Vec::new(),
        no_right: denied(format!("permission denied for database {name}")),
        name: found.name,
    })
}

fn schema(name: &str, cx: &DdlCx<'_>) -> Result<Object> {
    let found = cx.view().schema_named(name)?;
    Ok(Object {
        oid: found.ok_or_else(|| no_schema(name))?,
        name: name.to_owned(),
        kind: Kind::Schema,
        columns: Vec::new(),
        no_right: denied(format!("permission denied for schema {name}")),
    })
}

/// Those that are there now; what is made later gets nothing.
async fn all_in(schemas: &[Ident], cx: &mut DdlCx<'_>, kind: RelationKind) -> Result<Vec<Object>> {
    let mut out = Vec::new();
    for name in schemas {
        let schema = cx.view().schema_named(&name.name)?;
        let schema = schema.ok_or_else(|| no_schema(&name.name))?;
        let mut inside = cx.view().relations()?;
        inside.retain(|r| r.schema == schema && r.kind == kind);
        for relation in inside {
            cx.lock(relation.oid, LOCK).await?;
            // It may have gone before the lock was there.
            let there = cx.view().relation(relation.oid)?;
            if let Some(relation) = there {
                out.push(of_relation(&relation)?);
            }
        }
    }
    Ok(out)
}

async fn change(cx: &mut DdlCx<'_>, object: Object, said: &Said) -> Result<()> {
    let mut wanted = said.privileges;
    if said.all {
        wanted = object.kind.all();
    }
    wanted = fitting(cx, &object, wanted)?;
    if wanted.is_none() {
        return Ok(());
    }
    let row = AclRow::read(cx, object.kind, object.oid)?;
    let (items, warnings) = {
        let view = cx.view();
        let (grantor, grantable) = best_grantor(&Holder::asker(&view)?, row.guarded(), wanted)?;
        if grantable.is_none() && !has_anything(&view, grantor, row.guarded())? {
            return Err(object.no_right);
        }
        let privileges = wanted.common(grantable);
        let acts_as: ActsAs<'_> = &|role, other| Holder::new(&view, role)?.acts_as(other);
        let mut editor = AclEditor::new(row.guarded(), acts_as);
        editor.apply(Modification {
            is_grant: said.is_grant,
            option: said.option,
            cascade: said.cascade,
            grantees: &said.grantees,
            privileges,
            grantor,
        })?;
        let mut warnings = Vec::new();
        warnings.extend(incomplete(
            said.is_grant,
            said.all,
            wanted,
            privileges,
            &format!("\"{}\"", object.name),
        ));
        if !said.is_grant {
            warnings.extend(of_columns(&Holder::asker(&view)?, &object, &row, wanted)?);
        }
        (editor.into_items(), warnings)
    };
    cx.notices.extend(warnings);
    row.write(cx, items).await
}

/// Words for tables that a sequence does not know are left out with a warning, and the other way round refused.
fn fitting(cx: &mut DdlCx<'_>, object: &Object, wanted: Privileges) -> Result<Privileges> {
    let all = object.kind.all();
    if all.contains(wanted) {
        return Ok(wanted);
    }
    if object.kind == Kind::Sequence {
        cx.notices.push(SqlError::warning(
            state::INVALID_GRANT_OPERATION,
            format!(
                "sequence \"{}\" only supports USAGE, SELECT, and UPDATE privileges",
                object.name
            ),
        ));
        return Ok(wanted.common(all));
    }
    Err(invalid_for(wanted.without(all), "table"))
}

/// As whom the privileges are granted: as the owner, or as the role among one's own that may grant most of them
/// (`select_best_grantor`).
pub fn best_grantor(
    user: &Holder<'_>,
    object: Guarded<'_>,
    wanted: Privileges,
) -> Result<(Oid, Privileges)> {
    if user.acts_as(object.owner)? {
        return Ok((object.owner, wanted));
    }
    let mut best = (user.role, Privileges::NONE);
    for &role in user.inherits_from()? {
        let owns = role == object.owner;
        let direct = held(object, owns, &mut |grantee| Ok(grantee == role))?;
        let grantable = direct.grantable.common(wanted);
        if grantable == wanted {
            return Ok((role, grantable));
        }
        if grantable.count() > best.1.count() {
            best = (role, grantable);
        }
    }
    Ok(best)
}

fn has_anything(view: &dyn CatalogView, role: Oid, object: Guarded<'_>) -> Result<bool> {
    let has = Holder::new(view, role)?.held(object)?;
    Ok(!has.privileges.is_none() || !has.grantable.is_none())
}

/// The warning for privileges that the grantor may not grant or revoke.
fn incomplete(
    is_grant: bool,
    all: bool,
    wanted: Privileges,
    privileges: Privileges,
    of: &str,
) -> Option<SqlError> {
    let how_many = if privileges.is_none() {
        "no"
    } else if !all && privileges != wanted {
        "not all"
    } else {
        return None;
    };
    let (code, done) = match is_grant {
        true => (state::WARNING_PRIVILEGE_NOT_GRANTED, "were granted"),
        false => (state::WARNING_PRIVILEGE_NOT_REVOKED, "could be revoked"),
    };
    let message = format!("{how_many} privileges {done} for {of}");
    Some(SqlError::warning(code, message))
}

/// What is revoked from a relation is revoked from its columns too: there is nothing on them, but PostgreSQL warns of
/// each for which the grantor could revoke nothing.
fn of_columns(
    user: &Holder<'_>,
    object: &Object,
    row: &AclRow,
    wanted: Privileges,
) -> Result<Vec<SqlError>> {
    let wanted = wanted.common(Privileges::OF_COLUMN);
    if wanted.is_none() {
        return Ok(Vec::new());
    }
    let (_, grantable) = best_grantor(user, row.guarded(), wanted)?;
    let all = wanted == Privileges::OF_COLUMN;
    let warnings = object.columns.iter().filter_map(|column| {
        let of = format!("column \"{column}\" of relation \"{}\"", object.name);
        incomplete(false, all, wanted, wanted.common(grantable), &of)
    });
    Ok(warnings.collect())
}
