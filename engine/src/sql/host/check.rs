//! `understudy_check()`: what is damaged in this database's tables and indexes, as rows; none is good news.

use std::sync::Arc;

use crate::catalog::check::{Check, Finding};
use crate::catalog::view::CatalogError;
use crate::ids::Oid;
use crate::sql::error::SqlError;
use crate::sql::host::environment::{Environment, to_type_error};
use crate::sql::host::oid;
use crate::txn::TxnError;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{Function, Rows};
use crate::types::record::Record;

pub(super) fn call_set(
    env: &Environment,
    function: &Function,
    args: &[Datum],
) -> Option<Result<Rows, TypeError>> {
    (function.name == "understudy_check").then(|| check(env, function, args))
}

fn check(env: &Environment, function: &Function, args: &[Datum]) -> Result<Rows, TypeError> {
    env.require_superuser(function.name)?;
    let interrupts = &env.facts.backend.interrupts;
    let interrupted = || {
        let interrupt = interrupts.check();
        interrupt.map_err(|i| CatalogError::Txn(TxnError::Interrupted(i)))
    };
    let check = Check {
        catalog: &env.instance.catalog,
        database: env.facts.database,
        reader: Arc::clone(env.reader()),
        interrupted: &interrupted,
    };
    let findings = if args.is_empty() {
        everything(&check)
    } else {
        check.one(oid(args, 0))
    };
    let findings = findings.map_err(|error| to_type_error(SqlError::from(error)))?;
    let types = function.out_types();
    let rows = findings.into_iter().map(move |f| Ok(row(&types, f)));
    Ok(Box::new(rows))
}

fn everything(check: &Check<'_>) -> Result<Vec<Finding>, CatalogError> {
    let mut findings = Vec::new();
    for relation in check.everything()? {
        findings.extend(check.one(relation.oid)?);
    }
    Ok(findings)
}

fn row(types: &Arc<[Oid]>, finding: Finding) -> Datum {
    let block = finding.block.map(|b| Datum::Int8(i64::from(b.raw())));
    let item = finding.item.map(|i| Datum::Int4(i32::from(i)));
    let fields = vec![
        Datum::text(&finding.relation),
        block.unwrap_or(Datum::Null),
        item.unwrap_or(Datum::Null),
        Datum::text(&finding.what),
    ];
    Record::new(types, fields).into()
}
