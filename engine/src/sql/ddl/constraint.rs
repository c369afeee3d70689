//! CHECK, UNIQUE and PRIMARY KEY, of columns and of tables; foreign keys are in `foreign_key`.

use crate::catalog::relation::{Check, Relation};
use crate::catalog::rows::{ConstraintRow, Int2Array};
use crate::ids::Oid;
use crate::sql::bind;
use crate::sql::bound::Expr as Bound;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{
    ColumnConstraintKind, ColumnDefinition, ConstraintTiming, Expr, Ident, SourceText,
    TableConstraint, TableConstraintKind,
};

use super::Result;
use super::cx::{DdlCx, by, oid_key};
use super::foreign_key::NewForeignKey;
use super::names::object_name;
use super::stored::stored;

/// A key to be made with its index.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub name: Option<String>,
    pub primary: bool,
    pub columns: Vec<Ident>,
    pub include: Vec<Ident>,
    pub nulls_not_distinct: bool,
    pub timing: ConstraintTiming,
    /// Where the constraint stands, which is where its errors are.
    pub at: u32,
}

/// A CHECK to be made.
pub struct NewCheck<'s> {
    pub name: Option<String>,
    pub expr: &'s Expr,
    pub text: SourceText,
    pub no_inherit: bool,
    /// The rows that are there are not looked at, now.
    pub not_valid: bool,
}

/// Keys and checks of a column definition.
pub fn of_column<'s>(d: &'s ColumnDefinition) -> (Vec<NewKey>, Vec<NewCheck<'s>>) {
    let mut keys = Vec::new();
    let mut checks = Vec::new();
    for c in &d.constraints {
        let name = c.name.as_ref().map(|n| n.name.clone());
        match &c.kind {
            ColumnConstraintKind::Unique {
                nulls_not_distinct, ..
            } => keys.push(NewKey {
                name,
                primary: false,
                columns: vec![d.name.clone()],
                include: Vec::new(),
                nulls_not_distinct: *nulls_not_distinct,
                timing: c.timing,
                at: c.at,
            }),
            ColumnConstraintKind::PrimaryKey { .. } => keys.push(NewKey {
                name,
                primary: true,
                columns: vec![d.name.clone()],
                include: Vec::new(),
                nulls_not_distinct: false,
                timing: c.timing,
                at: c.at,
            }),
            ColumnConstraintKind::Check {
                expr,
                text,
                no_inherit,
            } => checks.push(NewCheck {
                name,
                expr,
                text: *text,
                no_inherit: *no_inherit,
                not_valid: false,
            }),
            _ => {}
        }
    }
    (keys, checks)
}

/// What a table constraint asks for.
pub enum Asked<'s> {
    Key(NewKey),
    Check(NewCheck<'s>),
    References(NewForeignKey<'s>),
    /// A key made of an index that is there.
    UsingIndex {
        primary: bool,
        index: &'s Ident,
    },
}

pub fn of_table(c: &TableConstraint) -> Result<Asked<'_>> {
    let name = c.name.as_ref().map(|n| n.name.clone());
    match &c.kind {
        TableConstraintKind::Check { .. } if c.timing.deferrable => {
            Err(cannot_be_marked("CHECK", "DEFERRABLE"))
        }
        TableConstraintKind::Check {
            expr,
            text,
            no_inherit,
        } => Ok(Asked::Check(NewCheck {
            name,
            expr,
            text: *text,
            no_inherit: *no_inherit,
            not_valid: c.not_valid,
        })),
        TableConstraintKind::Unique { primary, .. }
        | TableConstraintKind::UniqueUsingIndex { primary, .. }
            if c.not_valid =>
        {
            let what = if *primary { "PRIMARY KEY" } else { "UNIQUE" };
            Err(cannot_be_marked(what, "NOT VALID"))
        }
        TableConstraintKind::Unique {
            primary,
            columns,
            include,
            nulls_not_distinct,
            ..
        } => Ok(Asked::Key(NewKey {
            name,
            primary: *primary,
            columns: columns.clone(),
            include: include.clone(),
            nulls_not_distinct: *nulls_not_distinct,
            timing: c.timing,
            at: c.at,
        })),
        TableConstraintKind::UniqueUsingIndex { primary, index } => Ok(Asked::UsingIndex {
            primary: *primary,
            index,
        }),
        TableConstraintKind::ForeignKey { columns, key } => Ok(Asked::References(NewForeignKey {
            name,
            columns: columns.iter().collect(),
            key,
            timing: c.timing,
            not_valid: c.not_valid,
        })),
        TableConstraintKind::Exclude => {
            Err(SqlError::unsupported("exclusion constraints are not supported").at(c.at))
        }
    }
}

fn cannot_be_marked(what: &str, mark: &str) -> SqlError {
    SqlError::unsupported(format!("{what} constraints cannot be marked {mark}"))
}

pub fn refuse_deferrable(timing: ConstraintTiming) -> Result<()> {
    if timing.deferrable {
        return Err(
            SqlError::unsupported("deferrable constraints are not supported")
                .hint("Leave DEFERRABLE out: the constraint is then checked at once."),
        );
    }
    Ok(())
}

impl DdlCx<'_> {
    pub fn constraint_rows(&self, table: Oid) -> Result<Vec<ConstraintRow>> {
        let rows = self.find::<ConstraintRow>(by::CONSTRAINT_RELATION, &oid_key(table))?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    /// Analyzes a CHECK of `table` and stores it; gives it as the relation will have it.
    pub async fn insert_check(
        &mut self,
        table: &Relation,
        new: &NewCheck<'_>,
        taken: &mut Vec<String>,
    ) -> Result<(Check, Bound)> {
        let (text, bound) = {
            let view = self.view();
            let defined = bind::check_condition(new.expr, table, &view, self.functions)?;
            let functions = self.functions;
            let stored = stored(self.source, new.text, new.expr, &defined, &view, functions)?;
            (stored.text, defined.expr)
        };
        let used = used_columns(&bound);
        let name = match &new.name {
            Some(name) => {
                if taken.contains(name) {
                    return Err(SqlError::new(
                        state::DUPLICATE_OBJECT,
                        format!(
                            "constraint \"{name}\" for relation \"{}\" already exists",
                            table.name
                        ),
                    ));
                }
                name.clone()
            }
            None => {
                let column = match used.as_slice() {
                    [one] => Some(table.columns[*one].name.as_str()),
                    _ => None,
                };
                free_constraint_name(&table.name, column, taken)
            }
        };
        taken.push(name.clone());
        let oid = self.new_oid()?;
        let numbers = used.iter().map(|c| table.columns[*c].attribute);
        self.insert(&ConstraintRow {
            oid,
            conname: name.clone(),
            connamespace: table.schema,
            contype: b'c',
            convalidated: !new.not_valid,
            conrelid: table.oid,
            confupdtype: b' ',
            confdeltype: b' ',
            confmatchtype: b' ',
            conislocal: true,
            connoinherit: new.no_inherit,
            conkey: Some(Int2Array::from_items(numbers)),
            conbin: Some(text.clone()),
            ..ConstraintRow::default()
        })
        .await?;
        Ok((
            Check {
                oid,
                name,
                expression: text,
            },
            bound,
        ))
    }

    /// The row of a key's constraint.
    pub async fn insert_key_constraint(
        &mut self,
        table: &Relation,
        index: &crate::catalog::relation::Index,
    ) -> Result<()> {
        let Some((oid, name)) = &index.constraint else {
            return Ok(());
        };
        let numbers = index.keys.iter().map(|k| table.columns[k.column].attribute);
        self.insert(&ConstraintRow {
            oid: *oid,
            conname: name.clone(),
            connamespace: table.schema,
            contype: if index.primary { b'p' } else { b'u' },
            convalidated: true,
            conrelid: table.oid,
            conindid: index.oid,
            confupdtype: b' ',
            confdeltype: b' ',
            confmatchtype: b' ',
            conislocal: true,
            connoinherit: true,
            conkey: Some(Int2Array::from_items(numbers)),
            ..ConstraintRow::default()
        })
        .await
    }
}

fn free_constraint_name(table: &str, column: Option<&str>, taken: &[String]) -> String {
    let mut pass = 0;
    loop {
        let label = if pass == 0 {
            "check".to_owned()
        } else {
            format!("check{pass}")
        };
        let name = object_name(table, column, &label);
        if !taken.contains(&name) {
            return name;
        }
        pass += 1;
    }
}

/// Positions of the columns that an expression over one row uses.
pub fn used_columns(expr: &Bound) -> Vec<usize> {
    fn collect(expr: &Bound, out: &mut Vec<usize>) {
        if let Bound::Column(c) = expr
            && !out.contains(&c.column)
        {
            out.push(c.column);
        }
        bind::parts(expr, &mut |part| collect(part, out));
    }
    let mut out = Vec::new();
    collect(expr, &mut out);
    out
}
