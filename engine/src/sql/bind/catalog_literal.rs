//! Literals whose meaning is in the catalog: `'t'::regclass` and its relatives. Manual, 8.19.

use super::binder::Binder;
use super::names::{numeric_oid, qualified_names};
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::types::datum::Datum;
use crate::types::{codec, oids, registry};

type Result<T> = std::result::Result<T, SqlError>;

impl Binder<'_> {
    /// `None`: the type's own input function reads the text.
    pub(super) fn catalog_literal(&self, text: &str, ty: Oid, at: u32) -> Result<Option<Datum>> {
        let known = matches!(
            ty,
            oids::REGCLASS
                | oids::REGTYPE
                | oids::REGNAMESPACE
                | oids::REGROLE
                | oids::REGPROC
                | oids::REGPROCEDURE
        );
        if !known {
            return Ok(None);
        }
        if let Some(oid) = numeric_oid(text) {
            return Ok(Some(Datum::Oid(oid)));
        }
        let found = match ty {
            oids::REGCLASS => self.class_named(text),
            oids::REGTYPE => registry::parse_type_name(text)
                .map(|t| t.oid)
                .map_err(SqlError::from),
            oids::REGNAMESPACE => self.namespace_named(text),
            oids::REGROLE => self.role_named_in(text),
            oids::REGPROC => procedure_named(text),
            _ => procedure_with_arguments(text),
        };
        found.map(|oid| Some(Datum::Oid(oid))).map_err(|e| e.at(at))
    }

    fn class_named(&self, text: &str) -> Result<Oid> {
        let names = qualified_names(text)?;
        let (schema, name) = match names.as_slice() {
            [name] => (None, name),
            [schema, name] => (Some(schema.as_str()), name),
            [database, schema, name] if self.is_this(database)? => (Some(schema.as_str()), name),
            [_, _, _] => {
                let named = names.join(".");
                let what = format!("cross-database references are not implemented: \"{named}\"");
                return Err(SqlError::unsupported(what));
            }
            _ => {
                return Err(SqlError::new(
                    state::SYNTAX_ERROR,
                    format!("improper relation name (too many dotted names): {text}"),
                ));
            }
        };
        match self.catalog.relation_named(schema, name)? {
            Some(relation) => Ok(relation.oid),
            None => Err(SqlError::new(
                state::UNDEFINED_TABLE,
                format!("relation \"{}\" does not exist", names.join(".")),
            )),
        }
    }

    fn is_this(&self, database: &str) -> Result<bool> {
        let here = self.catalog.database(self.catalog.current_database())?;
        Ok(here.is_some_and(|d| d.name == database))
    }

    fn namespace_named(&self, text: &str) -> Result<Oid> {
        let names = qualified_names(text)?;
        let [name] = names.as_slice() else {
            return Err(SqlError::new(state::INVALID_NAME, "invalid name syntax"));
        };
        self.catalog.schema_named(name)?.ok_or_else(|| {
            SqlError::new(
                state::INVALID_SCHEMA_NAME,
                format!("schema \"{name}\" does not exist"),
            )
        })
    }

    fn role_named_in(&self, text: &str) -> Result<Oid> {
        let names = qualified_names(text)?;
        let [name] = names.as_slice() else {
            return Err(SqlError::new(state::INVALID_NAME, "invalid name syntax"));
        };
        match self.catalog.role_named(name)? {
            Some(role) => Ok(role.oid),
            None => Err(SqlError::new(
                state::UNDEFINED_OBJECT,
                format!("role \"{name}\" does not exist"),
            )),
        }
    }
}

/// The last of the names, if the others are `pg_catalog`.
fn catalog_name(text: &str) -> Result<Option<String>> {
    let mut names = qualified_names(text)?;
    let name = names.pop();
    Ok(name.filter(|_| names.iter().all(|n| n == "pg_catalog")))
}

fn undefined_function(text: &str) -> SqlError {
    SqlError::new(
        state::UNDEFINED_FUNCTION,
        format!("function \"{text}\" does not exist"),
    )
}

fn procedure_named(text: &str) -> Result<Oid> {
    let Some(name) = catalog_name(text)? else {
        return Err(undefined_function(text));
    };
    codec::function_named(&name, text).map_err(SqlError::from)
}

fn procedure_with_arguments(text: &str) -> Result<Oid> {
    let open = text.find('(').ok_or_else(|| {
        SqlError::new(
            state::INVALID_TEXT_REPRESENTATION,
            "expected a left parenthesis",
        )
    })?;
    let inner = text[open + 1..]
        .trim_end()
        .strip_suffix(')')
        .ok_or_else(|| {
            SqlError::new(
                state::INVALID_TEXT_REPRESENTATION,
                "expected a right parenthesis",
            )
        })?;
    let mut types = Vec::new();
    for part in inner.split(',').filter(|p| !p.trim().is_empty()) {
        types.push(registry::parse_type_name(part.trim())?.oid);
    }
    let Some(name) = catalog_name(&text[..open])? else {
        return Err(undefined_function(text));
    };
    codec::functions_named(&name)
        .into_iter()
        .find(|(_, args)| *args == types.as_slice())
        .map(|(oid, _)| oid)
        .ok_or_else(|| undefined_function(text))
}
