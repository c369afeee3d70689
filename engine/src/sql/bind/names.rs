//! Column references, whole rows, system columns: what a name means here (`transformColumnRef`).

use super::binder::{Binder, Item, Reach};
use crate::catalog::schema::is_system_table;
use crate::ids::Oid;
use crate::sql::bound::{Expr, OuterRef, RangeSource, SystemColumn};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::Ident;
use crate::types::oids;

type Result<T> = std::result::Result<T, SqlError>;

impl Binder<'_> {
    pub(super) fn column_reference(&mut self, parts: &[Ident], at: u32) -> Result<Expr> {
        if let Some(message) = self.refuses_columns() {
            return Err(SqlError::new(state::FEATURE_NOT_SUPPORTED, message).at(at));
        }
        match parts {
            [column] => self.unqualified(column, at),
            [table, column] => self.qualified(None, table, column, at),
            [schema, table, column] => self.qualified(Some(&schema.name), table, column, at),
            [database, schema, table, column] => {
                self.check_database(&database.name, parts, at)?;
                self.qualified(Some(&schema.name), table, column, at)
            }
            _ => Err(too_many_names(parts, at)),
        }
    }

    fn refuses_columns(&self) -> Option<&'static str> {
        use super::binder::Context;
        // Columns of a subquery inside are its own.
        if self.scopes.len() > 1 && !self.scope_ref().ranges.is_empty() {
            return None;
        }
        match self.context {
            Context::Default => Some("cannot use column reference in DEFAULT expression"),
            _ => None,
        }
    }

    /// A name of three dots must begin with this database's name.
    pub(super) fn check_database(&self, name: &str, parts: &[Ident], at: u32) -> Result<()> {
        let known = self.catalog.database_named(name)?.is_some();
        let dotted: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
        if known {
            return Ok(());
        }
        Err(SqlError::unsupported(format!(
            "cross-database references are not implemented: {}",
            dotted.join(".")
        ))
        .at(at))
    }

    /// The nearest level that knows the name decides, as in SQL's other blocks.
    fn unqualified(&mut self, name: &Ident, at: u32) -> Result<Expr> {
        for level in (0..self.scopes.len()).rev() {
            if let Some(expr) = self.column_at(level, &name.name, at)? {
                return Ok(self.of_level(level, expr, at));
            }
        }
        if let Some((level, item)) = self.table_item(None, &name.name, at)? {
            return self.whole_row(level, &item, at);
        }
        Err(self.missing_column(None, &name.name, at))
    }

    fn qualified(
        &mut self,
        schema: Option<&str>,
        table: &Ident,
        column: &Ident,
        at: u32,
    ) -> Result<Expr> {
        let Some((level, item)) = self.table_item(schema, &table.name, at)? else {
            return Err(self.missing_table(schema, &table.name, at));
        };
        match self.column_of(level, &item, &column.name, at)? {
            Some(expr) => Ok(self.of_level(level, expr, at)),
            None => Err(self.missing_column(Some(&table.name), &column.name, at)),
        }
    }

    /// The column of that name in one level (`colNameToVar`).
    fn column_at(&self, level: usize, name: &str, at: u32) -> Result<Option<Expr>> {
        let mut found = None;
        let items = self.scopes[level].nameable();
        for item in items.filter(|i| i.columns_visible) {
            let Some(expr) = self.column_of(level, item, name, at)? else {
                continue;
            };
            if found.replace(expr).is_some() {
                return Err(ambiguous(name, at));
            }
            check_reach(item, at)?;
        }
        Ok(found)
    }

    /// One of the item's columns, or a system column of the table behind it.
    fn column_of(&self, level: usize, item: &Item, name: &str, at: u32) -> Result<Option<Expr>> {
        if let Some(expr) = find_in_columns(item, name, at)? {
            return Ok(Some(expr));
        }
        let (Some(column), Some(range)) = (system_column(name), item.range) else {
            return Ok(None);
        };
        match &self.scopes[level].ranges[range].source {
            RangeSource::Table(_) => Ok(Some(Expr::SystemColumn { range, column })),
            RangeSource::Virtual(table) if is_system_table(table.oid) => match column {
                SystemColumn::TableOid => Ok(Some(Expr::SystemColumn { range, column })),
                _ => Err(SqlError::unsupported(format!(
                    "system column \"{name}\" of table \"{}\" is not supported",
                    table.name
                ))
                .hint("Its rows are made when it is read.")
                .at(at)),
            },
            _ => Ok(None),
        }
    }

    /// A value of `level` as it is read in the level that is being analyzed.
    pub(super) fn of_level(&mut self, level: usize, expr: Expr, at: u32) -> Expr {
        let own = level == self.level_number();
        let scope = &mut self.scopes[level];
        if let (Expr::Column(c), false) = (&expr, scope.in_aggregate) {
            let seen = match own {
                true => &mut scope.seen,
                false => &mut scope.seen_below,
            };
            seen.push((c.clone(), at));
        }
        match own {
            true => expr,
            false => Expr::Outer(Box::new(OuterRef { level, expr })),
        }
    }

    /// The table of that name in the nearest level that has one.
    pub(super) fn table_item(
        &self,
        schema: Option<&str>,
        name: &str,
        at: u32,
    ) -> Result<Option<(usize, Item)>> {
        let fits = |item: &Item| {
            item.table_visible
                && item.name.as_deref() == Some(name)
                && schema.is_none_or(|s| item.schema.as_deref() == Some(s))
        };
        for level in (0..self.scopes.len()).rev() {
            let mut found = None;
            for item in self.scopes[level].nameable().filter(|i| fits(i)) {
                if found.is_some() {
                    return Err(SqlError::new(
                        state::AMBIGUOUS_ALIAS,
                        format!("table reference \"{name}\" is ambiguous"),
                    )
                    .at(at));
                }
                check_reach(item, at)?;
                found = Some(item.clone());
            }
            if let Some(item) = found {
                return Ok(Some((level, item)));
            }
        }
        Ok(None)
    }

    /// `t` and `t.*` as one value.
    fn whole_row(&mut self, level: usize, item: &Item, at: u32) -> Result<Expr> {
        let scope = &self.scopes[level];
        if scope.has_outer_join {
            return Err(SqlError::unsupported(
                "whole-row references in a query with outer joins are not supported",
            )
            .hint("Name the columns.")
            .at(at));
        }
        // A function of plain values stands for its value.
        let scalar = item.range.is_some_and(|r| match &scope.ranges[r].source {
            RangeSource::Function {
                calls,
                with_ordinality: false,
            } => matches!(calls.as_slice(), [only] if only.call.ty().oid != oids::RECORD),
            _ => false,
        });
        if let (true, [column]) = (scalar, item.columns.as_slice()) {
            return Ok(self.of_level(level, column.expr.clone(), at));
        }
        let columns = item.columns.iter();
        let columns = columns.map(|c| self.of_level(level, c.expr.clone(), at));
        Ok(Expr::Row(columns.collect()))
    }

    pub(super) fn missing_table(&self, schema: Option<&str>, name: &str, at: u32) -> SqlError {
        let mut levels = self.scopes.iter().enumerate().rev();
        let hidden = levels.find_map(|(level, scope)| {
            let number = scope.ranges.iter().position(|r| {
                r.alias == name
                    || matches!(
                        &r.source,
                        RangeSource::Table(rel) | RangeSource::Virtual(rel)
                            if rel.name == name
                                && schema.is_none_or(|s| rel.schema_name == s)
                    )
            })?;
            Some((level, number, &scope.ranges[number]))
        });
        let Some((level, number, range)) = hidden else {
            return SqlError::new(
                state::UNDEFINED_TABLE,
                format!("missing FROM-clause entry for table \"{name}\""),
            )
            .at(at);
        };
        let error = SqlError::new(
            state::UNDEFINED_TABLE,
            format!("invalid reference to FROM-clause entry for table \"{name}\""),
        )
        .at(at);
        let alias = range.alias.as_str();
        let by_alias = match self.table_item(None, alias, at) {
            Ok(Some((l, item))) => l == level && item.range == Some(number),
            _ => false,
        };
        error.hint(match alias != name && by_alias {
            true => format!("Perhaps you meant to reference the table alias \"{alias}\"."),
            false => out_of_reach(alias),
        })
    }

    fn missing_column(&self, table: Option<&str>, name: &str, at: u32) -> SqlError {
        let shown = match table {
            Some(t) => format!("column {t}.{name} does not exist"),
            None => format!("column \"{name}\" does not exist"),
        };
        let error = SqlError::new(state::UNDEFINED_COLUMN, shown).at(at);
        match self.column_hint(table, name) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// The nearest spelling (`errorMissingColumn`).
    fn column_hint(&self, table: Option<&str>, name: &str) -> Option<String> {
        // Distance of the best, and the ranges and columns that have it.
        let mut best: Vec<(String, String)> = Vec::new();
        let mut distance = MAX_DISTANCE + 1;
        let mut exact: Option<(String, String)> = None;
        for scope in self.scopes.iter().rev() {
            for range in &scope.ranges {
                let penalty = match table {
                    Some(t) => levenshtein(t, &range.alias),
                    None => 0,
                };
                for (i, column) in range.columns.iter().enumerate() {
                    if let RangeSource::Table(rel) | RangeSource::Virtual(rel) = &range.source
                        && rel.columns[i].dropped
                    {
                        continue;
                    }
                    if column.name == name && table.is_none_or(|t| t == range.alias) {
                        exact.get_or_insert_with(|| (range.alias.clone(), column.name.clone()));
                    }
                    let d = levenshtein(name, &column.name) + penalty;
                    // More than half of the word wrong is no spelling of it.
                    let half = name.chars().count() / 2;
                    if d > MAX_DISTANCE || levenshtein(name, &column.name) > half {
                        continue;
                    }
                    if d < distance {
                        distance = d;
                        best.clear();
                    }
                    if d == distance {
                        best.push((range.alias.clone(), column.name.clone()));
                    }
                }
            }
        }
        if let Some((table, column)) = exact {
            return Some(format!(
                "There is a column named \"{column}\" in table \"{table}\", but it cannot be referenced from this part of the query."
            ));
        }
        match best.as_slice() {
            [(t, c)] => Some(format!(
                "Perhaps you meant to reference the column \"{t}.{c}\"."
            )),
            [(t, c), (t2, c2)] => Some(format!(
                "Perhaps you meant to reference the column \"{t}.{c}\" or the column \"{t2}.{c2}\"."
            )),
            _ => None,
        }
    }
}

/// `MAX_FUZZY_DISTANCE`
const MAX_DISTANCE: usize = 3;

fn levenshtein(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn too_many_names(parts: &[Ident], at: u32) -> SqlError {
    let dotted: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
    SqlError::new(
        state::SYNTAX_ERROR,
        format!(
            "improper qualified name (too many dotted names): {}",
            dotted.join(".")
        ),
    )
    .at(at)
}

/// 42P10 for an item to the left that may not be named all the same (`check_lateral_ref_ok`).
fn check_reach(item: &Item, at: u32) -> Result<()> {
    let name = item.name.as_deref().unwrap_or("unnamed_join");
    let error = || {
        SqlError::new(
            state::INVALID_COLUMN_REFERENCE,
            format!("invalid reference to FROM-clause entry for table \"{name}\""),
        )
        .at(at)
    };
    match item.reach {
        Reach::Yes => Ok(()),
        Reach::OtherSide => Err(error()
            .detail("The combining JOIN type must be INNER or LEFT for a LATERAL reference.")),
        Reach::Changed => Err(error().hint(out_of_reach(name))),
    }
}

fn out_of_reach(table: &str) -> String {
    format!(
        "There is an entry for table \"{table}\", but it cannot be referenced from this part of the query."
    )
}

fn ambiguous(name: &str, at: u32) -> SqlError {
    SqlError::new(
        state::AMBIGUOUS_COLUMN,
        format!("column reference \"{name}\" is ambiguous"),
    )
    .at(at)
}

fn find_in_columns(item: &Item, name: &str, at: u32) -> Result<Option<Expr>> {
    let mut matching = item.columns.iter().filter(|c| c.name == name);
    match (matching.next(), matching.next()) {
        (Some(_), Some(_)) => Err(ambiguous(name, at)),
        (first, _) => Ok(first.map(|c| c.expr.clone())),
    }
}

pub fn system_column(name: &str) -> Option<SystemColumn> {
    Some(match name {
        "tableoid" => SystemColumn::TableOid,
        "ctid" => SystemColumn::Ctid,
        "xmin" => SystemColumn::Xmin,
        "xmax" => SystemColumn::Xmax,
        "cmin" => SystemColumn::Cmin,
        "cmax" => SystemColumn::Cmax,
        _ => return None,
    })
}

/// Names in a text as SQL writes them: `a.b`, `"A".b` (`stringToQualifiedNameList`).
pub fn qualified_names(text: &str) -> Result<Vec<String>> {
    let invalid = || SqlError::new(state::INVALID_NAME, "invalid name syntax");
    let mut out = Vec::new();
    let mut rest = text.trim();
    loop {
        let (name, behind) = if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut at = quoted;
            loop {
                let end = at.find('"').ok_or_else(invalid)?;
                name.push_str(&at[..end]);
                at = &at[end + 1..];
                match at.strip_prefix('"') {
                    Some(more) => {
                        name.push('"');
                        at = more;
                    }
                    None => break,
                }
            }
            (name, at)
        } else {
            let end = rest
                .find(|c: char| c == '.' || c.is_ascii_whitespace())
                .unwrap_or(rest.len());
            (rest[..end].to_ascii_lowercase(), &rest[end..])
        };
        if name.is_empty() {
            return Err(invalid());
        }
        out.push(name);
        let behind = behind.trim_start();
        if behind.is_empty() {
            return Ok(out);
        }
        rest = behind.strip_prefix('.').ok_or_else(invalid)?.trim_start();
    }
}

/// An oid written as a number, or `-` for none.
pub fn numeric_oid(text: &str) -> Option<Oid> {
    if text == "-" {
        return Some(Oid::INVALID);
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse::<u32>().ok().map(Oid::new)
}
