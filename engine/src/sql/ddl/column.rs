//! Column definitions: types, defaults, `serial`, identity.

use crate::catalog::relation::{Column, Identity, Relation};
use crate::catalog::rows::AttrdefRow;
use crate::ids::Oid;
use crate::sql::bind;
use crate::sql::bound::Expr as Bound;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{
    ColumnConstraintKind, ColumnDefinition, Expr, ObjectName, SequenceOption, SourceText,
};
use crate::types::datum::SqlType;
use crate::types::function::FunctionCx;
use crate::types::functions::quote_literal_text;
use crate::types::{codec, oids, registry};

use super::Result;
use super::cx::DdlCx;
use super::stored::{stored, unambiguous};

/// Most columns of a table (`MaxHeapAttributeNumber`).
pub const MAX_COLUMNS: usize = 1600;

/// A column in the making: what it needs besides its row in `pg_attribute`.
pub struct NewColumn {
    pub column: Column,
    /// Sequences that its default uses, without the one that it owns.
    pub uses: Vec<Oid>,
    pub sequence: Option<OwnSequence>,
}

/// `serial` and identity.
pub struct OwnSequence {
    pub ty: SqlType,
    pub identity: bool,
    pub options: Vec<SequenceOption>,
}

impl DdlCx<'_> {
    pub fn new_column(
        &self,
        d: &ColumnDefinition,
        attribute: i16,
        table: &str,
    ) -> Result<NewColumn> {
        let name = &d.name.name;
        if matches!(
            name.as_str(),
            "tableoid" | "cmax" | "xmax" | "cmin" | "xmin" | "ctid"
        ) {
            return Err(SqlError::new(
                state::DUPLICATE_COLUMN,
                format!("column name \"{name}\" conflicts with a system column name"),
            ));
        }
        if let Some((message, at)) = &d.wrong_mark {
            return Err(SqlError::new(state::SYNTAX_ERROR, message.clone()).at(*at));
        }
        if let Some(collation) = &d.collation {
            bind::check_collation(collation)?;
        }
        let serial = (!d.ty.system && d.ty.name.schema.is_none())
            .then(|| bind::is_serial(&d.ty.name.name.name))
            .flatten();
        let ty = match serial {
            Some(base) => {
                if d.ty.array_dimensions > 0 {
                    return Err(
                        SqlError::unsupported("array of serial is not implemented").at(d.ty.at)
                    );
                }
                let found = registry::by_name(base)
                    .ok_or_else(|| SqlError::internal("serial without its type"))?;
                SqlType::plain(found.oid)
            }
            None => bind::resolve_type(&d.ty, &self.view())?,
        };
        check_storable(ty, name)?;
        let mut new = NewColumn {
            column: Column {
                name: name.clone(),
                attribute,
                ty,
                not_null: serial.is_some(),
                dropped: false,
                default: None,
                identity: Identity::No,
                missing: None,
            },
            uses: Vec::new(),
            sequence: serial.map(|_| OwnSequence {
                ty,
                identity: false,
                options: Vec::new(),
            }),
        };
        self.column_constraints(d, table, &mut new)?;
        Ok(new)
    }

    fn column_constraints(
        &self,
        d: &ColumnDefinition,
        table: &str,
        new: &mut NewColumn,
    ) -> Result<()> {
        let name = &d.name.name;
        let twice = |what: &str, at| {
            SqlError::new(
                state::SYNTAX_ERROR,
                format!("multiple {what} specified for column \"{name}\" of table \"{table}\""),
            )
            .at(at)
        };
        let mut nullable = false;
        let mut explicit_not_null = new.column.not_null;
        for c in &d.constraints {
            match &c.kind {
                ColumnConstraintKind::NotNull | ColumnConstraintKind::Null => {
                    let not_null = matches!(c.kind, ColumnConstraintKind::NotNull);
                    if (not_null && nullable) || (!not_null && explicit_not_null) {
                        return Err(SqlError::new(
                            state::SYNTAX_ERROR,
                            format!(
                                "conflicting NULL/NOT NULL declarations for column \"{name}\" of table \"{table}\""
                            ),
                        )
                        .at(c.at));
                    }
                    nullable |= !not_null;
                    explicit_not_null |= not_null;
                    new.column.not_null |= not_null;
                }
                ColumnConstraintKind::Default(expr, text) => {
                    if new.column.identity != Identity::No {
                        return Err(default_and_identity(name, table).at(c.at));
                    }
                    if new.sequence.is_some() {
                        // A serial type brought the first; PostgreSQL does not say where the second is.
                        return Err(twice("default values", c.at).nowhere());
                    }
                    if new.column.default.is_some() {
                        return Err(twice("default values", c.at));
                    }
                    let (text, uses) = self.default_text(expr, *text, name, new.column.ty)?;
                    new.column.default = text;
                    new.uses = uses;
                }
                ColumnConstraintKind::Identity { identity, options } => {
                    if new.column.default.is_some() || new.sequence.is_some() {
                        return Err(default_and_identity(name, table).at(c.at));
                    }
                    new.column.identity = *identity;
                    new.column.not_null = true;
                    new.sequence = Some(OwnSequence {
                        ty: new.column.ty,
                        identity: true,
                        options: options.clone(),
                    });
                }
                ColumnConstraintKind::PrimaryKey { .. } => new.column.not_null = true,
                ColumnConstraintKind::Generated(..) => {
                    return Err(SqlError::unsupported("generated columns are not supported")
                        .hint("Compute the value in the query, or keep it with a trigger of the application.")
                        .at(c.at));
                }
                ColumnConstraintKind::Check { .. }
                | ColumnConstraintKind::Unique { .. }
                | ColumnConstraintKind::References(_) => {}
            }
        }
        Ok(())
    }

    /// The default's text to store (NULL is no default) and the sequences it uses.
    pub fn default_text(
        &self,
        expr: &Expr,
        text: SourceText,
        column: &str,
        ty: SqlType,
    ) -> Result<(Option<String>, Vec<Oid>)> {
        use crate::sql::front::ast::{ExprKind, Literal};
        if matches!(expr.kind, ExprKind::Literal(Literal::Null)) {
            return Ok((None, Vec::new()));
        }
        let view = self.view();
        let defined = bind::new_default(expr, column, ty, &view, self.functions)?;
        if let Some(text) = moment_text(&defined.expr, self.functions) {
            return Ok((Some(text), Vec::new()));
        }
        if let ExprKind::Literal(Literal::Text(literal)) = &expr.kind {
            return Ok((Some(typed_literal(literal, ty)), Vec::new()));
        }
        let stored = stored(self.source, text, expr, &defined, &view, self.functions)?;
        Ok((Some(stored.text), stored.relations))
    }

    /// The row of a default; it may use sequences.
    pub async fn insert_default(
        &mut self,
        table: Oid,
        attribute: i16,
        text: &str,
        uses: &[Oid],
    ) -> Result<()> {
        let oid = self.new_oid()?;
        self.insert(&AttrdefRow {
            oid,
            adrelid: table,
            adnum: attribute,
            adbin: text.to_owned(),
        })
        .await?;
        for sequence in uses {
            self.default_uses(oid, *sequence).await?;
        }
        Ok(())
    }

    /// What SEQUENCE NAME calls the sequence, in the schema of its table. In another one it would be owned by a table there
    /// (`generateSerialExtraStmts`).
    fn asked_name(&self, asked: &ObjectName, table: &Relation, taken: &[String]) -> Result<String> {
        if let Some(schema) = &asked.schema
            && self.place(asked).map_err(SqlError::nowhere)?.schema != table.schema
        {
            return Err(SqlError::new(
                state::UNDEFINED_TABLE,
                format!("relation \"{}.{}\" does not exist", schema.name, table.name),
            ));
        }
        let name = &asked.name.name;
        if taken.contains(name) || self.taken(table.schema, name)? {
            return Err(SqlError::new(
                state::DUPLICATE_TABLE,
                format!("relation \"{name}\" already exists"),
            ));
        }
        Ok(name.clone())
    }

    /// Makes the sequence of a `serial` or identity column and gives the default that uses it.
    pub async fn make_own_sequence(
        &mut self,
        table: &Relation,
        new: &mut NewColumn,
        taken: &mut Vec<String>,
    ) -> Result<Option<Oid>> {
        let Some(own) = &new.sequence else {
            return Ok(None);
        };
        let (asked, options) = super::sequence::own_name(&own.options)?;
        let name = match asked {
            Some(asked) => self.asked_name(asked, table, taken)?,
            None => {
                let column = Some(new.column.name.as_str());
                self.free_name(&table.name, column, "seq", table.schema, taken)?
            }
        };
        taken.push(name.clone());
        let sequence =
            super::sequence::make(self, &name, table, own.ty, &options, own.identity).await?;
        new.column.default = Some(format!("nextval('{}'::regclass)", sequence.raw()));
        Ok(Some(sequence))
    }
}

/// A constant date or time is stored as it was understood: its text may mean another moment later, or in another
/// `TimeZone` or `DateStyle`.
fn moment_text(bound: &Bound, functions: &FunctionCx) -> Option<String> {
    let Bound::Const(value, ty) = bound else {
        return None;
    };
    let is_moment = matches!(
        ty.oid,
        oids::DATE | oids::TIME | oids::TIMETZ | oids::TIMESTAMP | oids::TIMESTAMPTZ
    );
    if !is_moment || value.is_null() {
        return None;
    }
    let text = codec::to_text(ty.oid, value, &unambiguous(functions));
    let name = registry::format_type(SqlType::plain(ty.oid));
    Some(format!("'{text}'::{name}"))
}

/// A literal with the type that it was read as: two columns may have the same text and mean different values by it.
fn typed_literal(literal: &str, ty: SqlType) -> String {
    let read_as = match ty.oid {
        oids::INTERVAL => ty,
        oid => SqlType::plain(oid),
    };
    format!(
        "{}::{}",
        quote_literal_text(literal),
        registry::format_type(read_as)
    )
}

/// A column must have a real type.
pub fn check_storable(ty: SqlType, column: &str) -> Result<()> {
    match registry::by_oid(ty.oid) {
        Some(t) if t.kind == b'p' => Err(SqlError::new(
            state::INVALID_TABLE_DEFINITION,
            format!(
                "column \"{column}\" has pseudo-type {}",
                bind::type_text(SqlType::plain(ty.oid))
            ),
        )),
        _ => Ok(()),
    }
}

fn default_and_identity(column: &str, table: &str) -> SqlError {
    SqlError::new(
        state::SYNTAX_ERROR,
        format!("both default and identity specified for column \"{column}\" of table \"{table}\""),
    )
}
