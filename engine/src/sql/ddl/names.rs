//! Where new things go and what they are called when nobody says (`ChooseRelationName`, `makeObjectName`).

use crate::catalog::schema::PG_CATALOG;
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::ObjectName;

use super::Result;
use super::cx::{DdlCx, by};

/// Longest name, in bytes.
const MAX_NAME: usize = 63;

/// A schema that something is created in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub schema: Oid,
    pub schema_name: String,
}

impl DdlCx<'_> {
    /// The schema that the name's owner says, or the first of the search path; the user may create in it.
    pub fn place(&self, name: &ObjectName) -> Result<Place> {
        if let Some(database) = &name.database
            && self.view().database_named(&database.name)?.map(|d| d.oid) != Some(self.database)
        {
            return Err(SqlError::unsupported(format!(
                "cross-database references are not implemented: {name}"
            ))
            .at(name.at()));
        }
        let view = self.view();
        let schema = match &name.schema {
            Some(s) => view
                .schema_named(&s.name)?
                .ok_or_else(|| no_schema(&s.name).at(name.at()))?,
            None => view.creation_schema()?.ok_or_else(|| {
                SqlError::new(
                    state::INVALID_SCHEMA_NAME,
                    "no schema has been selected to create in",
                )
                .at(name.at())
            })?,
        };
        let schema_name = view.schema_name(schema)?.ok_or_else(|| {
            SqlError::internal(format!("cache lookup failed for schema {schema}"))
        })?;
        self.must_create_in(self.user.oid, schema, &schema_name)?;
        if schema == PG_CATALOG {
            return Err(SqlError::new(
                state::INSUFFICIENT_PRIVILEGE,
                format!(
                    "permission denied to create \"pg_catalog.{}\"",
                    name.name.name
                ),
            )
            .detail("System catalog modifications are currently disallowed."));
        }
        Ok(Place {
            schema,
            schema_name,
        })
    }

    /// Some relation of that name is in the schema.
    pub fn taken(&self, schema: Oid, name: &str) -> Result<bool> {
        use crate::catalog::rows::ClassRow;
        use crate::types::datum::Datum;
        let key = [Datum::text(name), Datum::Oid(schema)];
        Ok(!self.find::<ClassRow>(by::CLASS_NAME, &key)?.is_empty())
    }

    /// `first_second_label`, with a number behind it if that is taken, here or by `also`.
    pub fn free_name(
        &self,
        first: &str,
        second: Option<&str>,
        label: &str,
        schema: Oid,
        also: &[String],
    ) -> Result<String> {
        let mut pass = 0;
        loop {
            let shown = if pass == 0 {
                label.to_owned()
            } else {
                format!("{label}{pass}")
            };
            let name = object_name(first, second, &shown);
            if !also.contains(&name) && !self.taken(schema, &name)? {
                return Ok(name);
            }
            pass += 1;
        }
    }
}

pub fn no_schema(name: &str) -> SqlError {
    SqlError::new(
        state::INVALID_SCHEMA_NAME,
        format!("schema \"{name}\" does not exist"),
    )
}

pub fn no_relation(name: &ObjectName, word: &str) -> SqlError {
    SqlError::new(
        state::UNDEFINED_TABLE,
        format!("{word} \"{name}\" does not exist"),
    )
}

/// `makeObjectName`: the longer of the two names is cut first.
pub fn object_name(first: &str, second: Option<&str>, label: &str) -> String {
    let overhead = label.len() + 1 + usize::from(second.is_some());
    let room = MAX_NAME.saturating_sub(overhead);
    let (mut a, mut b) = (first.len(), second.map_or(0, str::len));
    while a + b > room {
        if a > b {
            a -= 1;
        } else {
            b -= 1;
        }
    }
    let cut = |s: &str, mut n: usize| {
        while !s.is_char_boundary(n) {
            n -= 1;
        }
        s[..n].to_owned()
    };
    let mut out = cut(first, a);
    if let Some(second) = second {
        out.push('_');
        out.push_str(&cut(second, b));
    }
    out.push('_');
    out.push_str(label);
    out
}

#[cfg(test)]
mod tests {
    use super::object_name;

    #[test]
    fn names_are_cut_as_postgresql_cuts_them() {
        assert_eq!(object_name("t", Some("a"), "key"), "t_a_key");
        assert_eq!(object_name("t", None, "pkey"), "t_pkey");
        let long = "x".repeat(63);
        let made = object_name(&long, Some("column"), "seq");
        assert_eq!(made, format!("{}_column_seq", "x".repeat(52)));
        let made = object_name(&long, Some(&long), "key");
        assert_eq!(made.len(), 63);
        assert_eq!(made, format!("{}_{}_key", "x".repeat(29), "x".repeat(29)));
    }
}
