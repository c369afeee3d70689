//! WITH (`parse_cte.c`). Manual, 7.8.
//!
//! Each query is bound once, where it is defined, and every place that names it reads its rows: see [`Cte`]. It is analyzed
//! before anything else of its level, so there is none of the level's ranges that it could see.

use super::binder::{Binder, CteEntry};
use super::recursion;
use super::resolve;
use super::targets::require_equality;
use super::types::type_text;
use crate::sql::bound::{
    BoundStatement, Cte, CteId, CteSource, OutputColumn, Query, Range, RangeColumn, RangeSource,
    Recursive,
};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{self, Ident, QueryBody, Statement};
use crate::types::datum::SqlType;
use crate::types::oids;
use crate::types::registry::format_type;

type Result<T> = std::result::Result<T, SqlError>;

impl Binder<'_> {
    pub(super) fn with_clause(&mut self, with: &ast::With) -> Result<()> {
        for (i, cte) in with.ctes.iter().enumerate() {
            let same = |later: &&ast::Cte| later.name.name == cte.name.name;
            if let Some(later) = with.ctes[i + 1..].iter().find(same) {
                let name = &later.name.name;
                let message = format!("WITH query name \"{name}\" specified more than once");
                return Err(SqlError::new(state::DUPLICATE_ALIAS, message).at(later.name.at));
            }
        }
        if with.recursive {
            for item in recursion::order(&with.ctes)? {
                self.with_query(&with.ctes[item.number], item.reads_itself)?;
            }
            return Ok(());
        }
        let future = with.ctes.iter().rev().map(|c| c.name.name.clone());
        self.scope().future_ctes = future.collect();
        for cte in &with.ctes {
            self.with_query(cte, false)?;
            self.scope().future_ctes.pop();
        }
        Ok(())
    }

    /// Analyzes one of them; from then on its name is known, or while it is analyzed if it reads itself.
    fn with_query(&mut self, cte: &ast::Cte, recursive: bool) -> Result<()> {
        let id = CteId::new(self.ctes);
        self.ctes += 1;
        let mut entry = CteEntry {
            id,
            name: cte.name.name.clone(),
            references: 0,
            columns: Vec::new(),
            materialized: cte.materialized,
            source: None,
            recursive,
        };
        if recursive {
            return self.recursive_query(cte, entry);
        }
        let (source, output) = match &cte.statement {
            Statement::Query(query) => {
                let query = self.bind_query(query, true)?;
                let output = query.output.clone();
                (CteSource::Query(Box::new(query)), output)
            }
            changing => self.with_change(changing, &cte.name)?,
        };
        entry.columns = named_columns(cte, output)?;
        entry.source = Some(source);
        self.scope().ctes.push(entry);
        Ok(())
    }

    /// A statement that changes rows: it is run once, so there must be one place to run it.
    fn with_change(
        &mut self,
        statement: &Statement,
        name: &Ident,
    ) -> Result<(CteSource, Vec<OutputColumn>)> {
        let at_top = self.level_number() == self.top_level;
        let (bound, _) = self.level(|b| match statement {
            Statement::Insert(insert) => b.bind_insert(insert),
            Statement::Update(update) => b.bind_update(update),
            Statement::Delete(delete) => b.bind_delete(delete),
            Statement::CreateTableAs(made) => {
                let message = "SELECT ... INTO is not allowed here";
                Err(SqlError::new(state::SYNTAX_ERROR, message).at(made.name.at()))
            }
            other => Err(SqlError::unsupported(format!(
                "{} in WITH is not supported",
                other.tag()
            ))
            .at(name.at)),
        })?;
        if !at_top {
            return Err(SqlError::unsupported(
                "WITH clause containing a data-modifying statement must be at the top level",
            )
            .at(name.at));
        }
        let returning = match &bound {
            BoundStatement::Insert(i) => i.returning.as_ref(),
            BoundStatement::Update(u) => u.returning.as_ref(),
            BoundStatement::Delete(d) => d.returning.as_ref(),
            BoundStatement::Query(_) => None,
        };
        let output = returning.map(|r| r.output.clone()).unwrap_or_default();
        Ok((CteSource::Change(bound), output))
    }

    /// `first UNION [ALL] step`: the first one's columns are those that the step reads.
    fn recursive_query(&mut self, cte: &ast::Cte, mut entry: CteEntry) -> Result<()> {
        let Statement::Query(query) = &cte.statement else {
            return Err(SqlError::internal("a recursive query that is no query"));
        };
        let QueryBody::SetOperation {
            all, left, right, ..
        } = &query.body
        else {
            return Err(SqlError::internal("a recursive query without its terms"));
        };
        let number = self.scope_ref().ctes.len();
        let (source, _) = self.level(|b| {
            if let Some(with) = &query.with {
                b.with_clause(with)?;
            }
            let level = b.level_number() - 1;
            let first = b.bind_query(left, false)?;
            entry.columns = named_columns(cte, settled(&first.output))?;
            b.scopes[level].ctes.push(entry);
            let step = b.bind_query(right, false)?;
            let bound = b.recursive_terms(cte, *all, (left, first), (right, step))?;
            Ok(Recursive {
                ctes: b.close_ctes(),
                ..bound
            })
        })?;
        self.scope().ctes[number].source = Some(CteSource::Recursive(Box::new(source)));
        Ok(())
    }

    /// Both terms with the columns' types, which have to be those of the first one.
    fn recursive_terms(
        &mut self,
        cte: &ast::Cte,
        all: bool,
        (left, first): (&ast::Query, Query),
        (right, step): (&ast::Query, Query),
    ) -> Result<Recursive> {
        let (left_places, right_places) = (super::query::places(left), super::query::places(right));
        let at = |places: &[u32], i: usize| places.get(i).copied().unwrap_or(0);
        if first.output.len() != step.output.len() {
            return Err(SqlError::new(
                state::SYNTAX_ERROR,
                "each UNION query must have the same number of columns",
            )
            .at(at(&right_places, 0)));
        }
        let exposed: Vec<SqlType> = settled(&first.output).iter().map(|c| c.ty).collect();
        let mut types = Vec::with_capacity(exposed.len());
        for (i, (l, r)) in first.output.iter().zip(&step.output).enumerate() {
            let common = resolve::common_type(&[l.ty.oid, r.ty.oid]).map_err(|(a, b)| {
                let (a, b) = (type_text(SqlType::plain(a)), type_text(SqlType::plain(b)));
                let message = format!("UNION types {a} and {b} cannot be matched");
                SqlError::new(state::DATATYPE_MISMATCH, message).at(at(&right_places, i))
            })?;
            let modifier = match l.ty == r.ty && l.ty.oid == common {
                true => l.ty.modifier,
                false => -1,
            };
            let ty = SqlType {
                oid: common,
                modifier,
            };
            if !all {
                require_equality(ty, at(&left_places, i))?;
            }
            types.push(ty);
        }
        for (i, (overall, own)) in types.iter().zip(&exposed).enumerate() {
            if overall != own {
                let name = &cte.name.name;
                let (own, overall) = (format_type(*own), format_type(*overall));
                let message = format!(
                    "recursive query \"{name}\" column {} has type {own} in non-recursive term but type {overall} overall",
                    i + 1
                );
                return Err(SqlError::new(state::DATATYPE_MISMATCH, message)
                    .hint("Cast the output of the non-recursive term to the correct type.")
                    .at(at(&left_places, i)));
            }
        }
        Ok(Recursive {
            all,
            first: self.cast_columns(first, &types, at(&left_places, 0))?,
            step: self.cast_columns(step, &types, at(&right_places, 0))?,
            ctes: Vec::new(),
        })
    }

    /// The level's WITH queries, when everything that may name them has been analyzed.
    pub(super) fn close_ctes(&mut self) -> Vec<Cte> {
        let entries = std::mem::take(&mut self.scope().ctes);
        let made = entries.into_iter().filter_map(|entry| {
            Some(Cte {
                id: entry.id,
                name: entry.name,
                columns: entry.columns,
                references: entry.references,
                materialized: entry.materialized,
                source: entry.source?,
            })
        });
        made.collect()
    }

    /// The range that a name without a schema stands for, if it is a WITH query's.
    pub(super) fn cte_range(&mut self, name: &Ident, shown: &str) -> Result<Option<usize>> {
        let mut levels = self.scopes.iter_mut().rev();
        let found = levels.find_map(|scope| {
            let mut known = scope.ctes.iter_mut();
            known.find(|c| c.name == name.name)
        });
        let Some(entry) = found else {
            return self.refuse_future_cte(name);
        };
        let returns = match &entry.source {
            Some(CteSource::Change(BoundStatement::Insert(i))) => i.returning.is_some(),
            Some(CteSource::Change(BoundStatement::Update(u))) => u.returning.is_some(),
            Some(CteSource::Change(BoundStatement::Delete(d))) => d.returning.is_some(),
            _ => true,
        };
        if !returns {
            return Err(SqlError::unsupported(format!(
                "WITH query \"{}\" does not have a RETURNING clause",
                name.name
            ))
            .at(name.at));
        }
        let reads_itself = entry.recursive && entry.source.is_none();
        entry.references += usize::from(!reads_itself);
        let columns = entry.columns.iter().map(|c| RangeColumn {
            name: c.name.clone(),
            ty: c.ty,
        });
        let range = Range {
            alias: shown.to_owned(),
            columns: columns.collect(),
            source: RangeSource::Cte {
                id: entry.id,
                name: entry.name.clone(),
                output: match reads_itself {
                    true => Vec::new(),
                    false => entry.columns.clone(),
                },
                reads_itself,
            },
        };
        Ok(Some(self.add_range(range)))
    }

    /// 42P01 for a query of WITH that comes behind the place that names it.
    fn refuse_future_cte(&self, name: &Ident) -> Result<Option<usize>> {
        if !self
            .scopes
            .iter()
            .any(|s| s.future_ctes.contains(&name.name))
        {
            return Ok(None);
        }
        let shown = &name.name;
        if self.catalog.relation_named(None, shown)?.is_some() {
            return Ok(None);
        }
        Err(SqlError::new(
            state::UNDEFINED_TABLE,
            format!("relation \"{shown}\" does not exist"),
        )
        .detail(format!(
            "There is a WITH item named \"{shown}\", but it cannot be referenced from this part of the query."
        ))
        .hint("Use WITH RECURSIVE, or re-order the WITH items to remove forward references.")
        .at(name.at))
    }
}

/// Literals without a type are text to whoever reads them.
fn settled(output: &[OutputColumn]) -> Vec<OutputColumn> {
    let mut output = output.to_vec();
    for column in &mut output {
        if column.ty.oid == oids::UNKNOWN {
            column.ty = SqlType::plain(oids::TEXT);
        }
    }
    output
}

/// The columns with the names that are written behind the query's.
fn named_columns(cte: &ast::Cte, mut output: Vec<OutputColumn>) -> Result<Vec<OutputColumn>> {
    if cte.columns.len() > output.len() {
        let message = format!(
            "WITH query \"{}\" has {} columns available but {} columns specified",
            cte.name.name,
            output.len(),
            cte.columns.len()
        );
        return Err(SqlError::new(state::INVALID_COLUMN_REFERENCE, message).at(cte.name.at));
    }
    for (column, name) in output.iter_mut().zip(&cte.columns) {
        column.name.clone_from(&name.name);
    }
    Ok(output)
}
