//! The commands VACUUM and ANALYZE: options, the list of tables, one table after the other. Manual, VACUUM, ANALYZE.

use super::analyze::{self, Analyzed};
use super::vacuum::{self, How, Vacuumed};
use super::work::Work;
use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::error::{Severity, SqlError, state};
use crate::sql::front::ast::{Ident, UtilityOption, Vacuum, VacuumTable};
use crate::table::vacuum::VacuumReport;
use crate::txn::Transaction;

/// What the statement asks for.
pub struct Request<'a> {
    pub statement: &'a Vacuum,
    /// `search_path` as written.
    pub path: &'a [String],
    pub role: Oid,
    pub notices: &'a mut Vec<SqlError>,
}

#[derive(Default)]
struct Options {
    full: bool,
    freeze: bool,
    verbose: bool,
    analyze: bool,
    skip_locked: bool,
    keep_tail: bool,
}

fn flag(o: &UtilityOption) -> Result<bool, SqlError> {
    o.boolean().ok_or_else(|| {
        let message = format!("{} requires a Boolean value", o.name);
        SqlError::new(state::SYNTAX_ERROR, message)
    })
}

fn options(statement: &Vacuum) -> Result<Options, SqlError> {
    let mut found = Options {
        analyze: !statement.is_vacuum,
        ..Options::default()
    };
    for o in &statement.options {
        match (o.name.as_str(), statement.is_vacuum) {
            ("verbose", _) => found.verbose = flag(o)?,
            ("skip_locked", _) => found.skip_locked = flag(o)?,
            ("analyze", true) => found.analyze = flag(o)?,
            ("full", true) => found.full = flag(o)?,
            ("freeze", true) => found.freeze = flag(o)?,
            ("truncate", true) => found.keep_tail = !flag(o)?,
            // Every page is looked at, overflow files always are, indexes always are cleaned.
            ("disable_page_skipping" | "process_toast", true) => {
                flag(o)?;
            }
            ("index_cleanup", true) => index_cleanup(o)?,
            ("parallel", true) => parallel(o)?,
            (other, is_vacuum) => {
                let what = if is_vacuum { "VACUUM" } else { "ANALYZE" };
                let message = format!("unrecognized {what} option \"{other}\"");
                return Err(SqlError::new(state::SYNTAX_ERROR, message).at(o.at));
            }
        }
    }
    if found.full {
        return Err(SqlError::unsupported("VACUUM FULL is not implemented")
            .hint("Use VACUUM: it frees space for new rows, and empty pages at a table's end."));
    }
    if statement.is_vacuum
        && !found.analyze
        && statement.tables.iter().any(|t| !t.columns.is_empty())
    {
        let message = "ANALYZE option must be specified when a column list is provided";
        return Err(SqlError::unsupported(message));
    }
    Ok(found)
}

fn index_cleanup(o: &UtilityOption) -> Result<(), SqlError> {
    if o.text().is_some_and(|t| t.eq_ignore_ascii_case("auto")) {
        return Ok(());
    }
    flag(o).map(|_| ())
}

fn parallel(o: &UtilityOption) -> Result<(), SqlError> {
    let workers = o.text().and_then(|t| t.parse::<i64>().ok());
    match workers {
        Some(0..=1024) => Ok(()),
        Some(_) => Err(SqlError::new(
            state::SYNTAX_ERROR,
            "parallel workers for vacuum must be between 0 and 1024",
        )
        .at(o.at)),
        None => Err(SqlError::new(
            state::SYNTAX_ERROR,
            "parallel option requires a value between 0 and 1024",
        )
        .at(o.at)),
    }
}

/// A table and the columns to be analyzed; none: all.
struct Item {
    table: Oid,
    columns: Vec<i16>,
    /// As the user wrote it; `None` where every table is meant.
    named: Option<String>,
}

/// The whole statement, each table in a transaction of its own. Gives the command tag.
pub async fn run(work: &Work<'_>, mut request: Request<'_>) -> Result<String, SqlError> {
    let options = options(request.statement)?;
    let items = {
        let txn = work.begin();
        list(work, &request, &txn)?
    };
    let how = How {
        freeze: options.freeze,
        truncate: !options.keep_tail,
        skip_locked: options.skip_locked,
    };
    for item in items {
        if request.statement.is_vacuum {
            let done = vacuum::vacuum_table(work, item.table, how).await?;
            if !tell_vacuumed(work, &mut request, &options, &item, done) {
                continue;
            }
        }
        if options.analyze {
            let (columns, skip) = (&item.columns, options.skip_locked);
            let done = analyze::analyze_table(work, item.table, columns, skip).await?;
            tell_analyzed(work, &mut request, &options, &item, done);
        }
    }
    Ok(tag(request.statement))
}

/// ANALYZE in a transaction block.
pub async fn run_in(
    work: &Work<'_>,
    mut request: Request<'_>,
    txn: &mut Transaction,
) -> Result<String, SqlError> {
    let options = options(request.statement)?;
    for item in list(work, &request, txn)? {
        let (columns, skip) = (&item.columns, options.skip_locked);
        let done = analyze::in_transaction(work, txn, item.table, columns, skip).await?;
        tell_analyzed(work, &mut request, &options, &item, done);
    }
    Ok(tag(request.statement))
}

fn tag(statement: &Vacuum) -> String {
    if statement.is_vacuum {
        "VACUUM".to_owned()
    } else {
        "ANALYZE".to_owned()
    }
}

fn list(work: &Work<'_>, request: &Request<'_>, txn: &Transaction) -> Result<Vec<Item>, SqlError> {
    let catalog = &work.instance.catalog;
    let view = catalog.view(work.database, txn, request.path, request.role);
    if request.statement.tables.is_empty() {
        let mut all = Vec::new();
        for relation in view.relations()? {
            if relation.kind == RelationKind::Table {
                all.push(Item {
                    table: relation.oid,
                    columns: Vec::new(),
                    named: None,
                });
            }
        }
        return Ok(all);
    }
    let named = request.statement.tables.iter();
    named.map(|table| item(&view, table)).collect()
}

fn item(view: &dyn CatalogView, table: &VacuumTable) -> Result<Item, SqlError> {
    let name = &table.name;
    let found = view.relation_named(name.schema_name(), &name.name.name)?;
    let relation = found.ok_or_else(|| {
        let message = format!("relation \"{name}\" does not exist");
        SqlError::new(state::UNDEFINED_TABLE, message)
    })?;
    let columns = table.columns.iter().map(|c| column(&relation, c));
    Ok(Item {
        table: relation.oid,
        columns: columns.collect::<Result<_, _>>()?,
        named: Some(relation.name.clone()),
    })
}

fn column(relation: &Relation, name: &Ident) -> Result<i16, SqlError> {
    let number = relation.column_named(&name.name).ok_or_else(|| {
        let message = format!(
            "column \"{}\" of relation \"{}\" does not exist",
            name.name, relation.name
        );
        SqlError::new(state::UNDEFINED_COLUMN, message)
    })?;
    Ok(relation.columns[number].attribute)
}

fn info(message: String) -> SqlError {
    SqlError::with_severity(Severity::Info, state::SUCCESSFUL_COMPLETION, message)
}

/// Why a table that was named is left out.
fn skipped(item: &Item, what: &str, why: &str, code: &'static str) -> Option<SqlError> {
    let name = item.named.as_ref()?;
    let message = format!("skipping {what} of \"{name}\" --- {why}");
    Some(SqlError::warning(code, message))
}

/// False: the table is left out altogether.
fn tell_vacuumed(
    work: &Work<'_>,
    request: &mut Request<'_>,
    options: &Options,
    item: &Item,
    done: Vacuumed,
) -> bool {
    match done {
        Vacuumed::Done {
            table,
            report,
            pages,
        } => {
            if options.verbose {
                request.notices.push(verbose(work, &table, &report, pages));
            }
            return true;
        }
        Vacuumed::Gone => {
            let why = "relation no longer exists";
            request
                .notices
                .extend(skipped(item, "vacuum", why, state::UNDEFINED_TABLE));
        }
        Vacuumed::Locked => {
            let why = "lock not available";
            request
                .notices
                .extend(skipped(item, "vacuum", why, state::LOCK_NOT_AVAILABLE));
        }
        Vacuumed::Objection(warning) => request.notices.push(warning),
    }
    false
}

fn tell_analyzed(
    work: &Work<'_>,
    request: &mut Request<'_>,
    options: &Options,
    item: &Item,
    done: Analyzed,
) {
    match done {
        Analyzed::Done(table) if options.verbose => {
            let message = format!(
                "analyzing \"{}.{}.{}\"",
                work.database_name, table.schema_name, table.name
            );
            request.notices.push(info(message));
        }
        Analyzed::Done(_) => {}
        Analyzed::Gone => {
            let why = "relation no longer exists";
            request
                .notices
                .extend(skipped(item, "analyze", why, state::UNDEFINED_TABLE));
        }
        Analyzed::Locked => {
            let why = "lock not available";
            request
                .notices
                .extend(skipped(item, "analyze", why, state::LOCK_NOT_AVAILABLE));
        }
        Analyzed::Objection(warning) => request.notices.push(warning),
    }
}

fn verbose(work: &Work<'_>, table: &Relation, report: &VacuumReport, pages: u32) -> SqlError {
    let name = format!(
        "{}.{}.{}",
        work.database_name, table.schema_name, table.name
    );
    info(format!(
        "finished vacuuming \"{name}\": index scans: {}\n\
         pages: {} removed, {pages} remain, {} scanned (100.00% of total)\n\
         tuples: {} removed, {} remain, {} are dead but not yet removable\n\
         frozen: {} tuples",
        report.index_passes,
        report.pages.saturating_sub(pages),
        report.pages,
        report.removed_rows,
        report.live_rows + report.recently_dead_rows,
        report.recently_dead_rows,
        report.frozen_rows,
    ))
}
