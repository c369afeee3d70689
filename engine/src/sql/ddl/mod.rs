//! Statements that define things: tables, indexes, sequences, schemas, roles, databases, comments, grants.
//!
//! Each changes catalog rows and files through the ordinary transactional paths, so DDL is atomic: an abort (or a
//! crash) leaves files that the abort removes and rows that nobody sees. Names are resolved, what they name is
//! locked, and the names are resolved again until both agree. Everything changed is announced to other sessions
//! by invalidations in the commit record. Texts of defaults and checks are stored as they were written, with the
//! names of sequences replaced by their oids, so that a rename does not break them.
//!
//! Must not know a connection or the plan cache. CREATE and DROP DATABASE run in a transaction of their own that
//! the caller commits at once.

mod acl_row;
mod alter;
mod column;
mod comment;
mod constraint;
mod cx;
mod database;
mod depend;
mod drop;
mod foreign_key;
mod grant;
mod index;
mod membership;
mod names;
mod owned;
mod owner;
mod reindex;
mod rename;
mod rights;
mod role;
mod role_uses;
mod schema;
mod sequence;
mod setting;
mod stored;
mod table;
mod truncate;

#[cfg(test)]
mod tests;

pub use cx::{DdlCx, not_owner};
pub use database::{
    DroppedDatabase, Vacate, create as create_database, finish_drop, lock_database,
};
pub use reindex::{check as check_reindex, reindex_table};
pub use stored::shown_expression;

use crate::sql::error::SqlError;
use crate::sql::front::ast::{ObjectKind, Statement};

type Result<T> = std::result::Result<T, SqlError>;

/// Runs a statement; gives its command tag.
pub async fn run(statement: &Statement, cx: &mut DdlCx<'_>) -> Result<String> {
    let done = dispatch(statement, cx).await;
    done.map_err(|e| e.located(cx.source))?;
    cx.txn.next_command()?;
    Ok(statement.tag().to_owned())
}

async fn dispatch(statement: &Statement, cx: &mut DdlCx<'_>) -> Result<()> {
    match statement {
        Statement::CreateTable(s) => table::create(s, cx).await,
        Statement::CreateIndex(s) => index::create(s, cx).await,
        Statement::CreateSequence(s) => sequence::create(s, cx).await,
        Statement::AlterSequence(s) => sequence::alter(s, cx).await,
        Statement::CreateSchema(s) => schema::create(s, cx).await,
        Statement::CreateDatabase(_) => Err(SqlError::internal("CREATE DATABASE runs by itself")),
        Statement::DropDatabase(_) => Err(SqlError::internal(
            "DROP DATABASE runs through ddl::DroppedDatabase",
        )),
        Statement::AlterDatabase(s) => database::alter(s, cx).await,
        Statement::CreateRole(s) => role::create(s, cx).await,
        Statement::AlterRole(s) => role::alter(s, cx).await,
        Statement::DropRole(s) => role::drop(s, cx).await,
        Statement::AlterSetting(s) => setting::alter(s, cx).await,
        Statement::AlterTable(s) => alter::alter(s, cx).await,
        Statement::SetConstraints(s) => foreign_key::set_constraints(cx, s),
        Statement::Rename(s) => rename::rename(s, cx).await,
        Statement::AlterOwner(s) => owner::alter(s, cx).await,
        Statement::Drop(s) => match s.kind {
            ObjectKind::Schema => schema::drop(s, cx).await,
            _ => drop::drop(s, cx).await,
        },
        Statement::Truncate(s) => truncate::truncate(s, cx).await,
        Statement::Grant(s) => grant::grant(s, cx).await,
        Statement::GrantRole(s) => membership::grant(s, cx).await,
        Statement::ReassignOwned(s) => owned::reassign(s, cx).await,
        Statement::DropOwned(s) => owned::drop(s, cx).await,
        Statement::Comment(s) => comment::comment(s, cx).await,
        Statement::CreateView(_) => Err(SqlError::unsupported("CREATE VIEW is not supported")
            .hint("Write its query, as a subquery or WITH, where the view would be read.")),
        Statement::CreateTableAs(_) => Err(SqlError::unsupported(
            "CREATE TABLE AS and SELECT INTO are not supported",
        )
        .hint("Use CREATE TABLE and then INSERT ... SELECT.")),
        Statement::Reindex(s) => reindex::reindex(s, cx).await,
        other => Err(SqlError::unsupported(format!(
            "{} is not supported",
            other.tag()
        ))),
    }
}
