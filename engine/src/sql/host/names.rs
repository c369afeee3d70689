//! Names of what the catalog holds: input and output of `regclass`, `regnamespace` and `regrole`. Manual, 8.19.

use crate::catalog::SessionCatalog;
use crate::catalog::view::{CatalogError, CatalogView};
use crate::ids::Oid;
use crate::sql::bind;
use crate::sql::host::environment::{Environment, to_type_error};
use crate::sql::host::{oid, text};
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::Function;
use crate::types::functions::quote_identifier;

type Answer = Result<Datum, TypeError>;

pub(super) fn call(env: &Environment, function: &Function, args: &[Datum]) -> Option<Answer> {
    Some(match function.name {
        "regclassin" => class_named(env, text(args, 0)),
        "regclassout" => env.with_catalog(|catalog| class_name(catalog, oid(args, 0))),
        "regnamespacein" => one_name(text(args, 0)).and_then(|name| {
            let found = env.with_catalog(|catalog| catalog.schema_named(&name))?;
            found
                .map(Datum::Oid)
                .ok_or_else(|| TypeError::new("3F000", format!("schema \"{name}\" does not exist")))
        }),
        "regnamespaceout" => env.with_catalog(|catalog| {
            let name = catalog.schema_name(oid(args, 0))?;
            Ok(shown(name.map(|name| quote_identifier(&name))))
        }),
        "regrolein" => one_name(text(args, 0)).and_then(|name| {
            let found = env.with_catalog(|catalog| catalog.role_named(&name))?;
            found
                .map(|role| Datum::Oid(role.oid))
                .ok_or_else(|| TypeError::new("42704", format!("role \"{name}\" does not exist")))
        }),
        "regroleout" => env.with_catalog(|catalog| {
            let role = catalog.role(oid(args, 0))?;
            Ok(shown(role.map(|role| quote_identifier(&role.name))))
        }),
        _ => return None,
    })
}

fn shown(name: Option<String>) -> Datum {
    name.map_or(Datum::Null, |name| Datum::text(&name))
}

fn one_name(text: &str) -> Result<String, TypeError> {
    let mut names = bind::qualified_names(text).map_err(to_type_error)?;
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        _ => Err(TypeError::new("42602", "invalid name syntax")),
    }
}

pub(super) fn class_named(env: &Environment, text: &str) -> Answer {
    let names = bind::qualified_names(text).map_err(to_type_error)?;
    let (schema, name) = match names.as_slice() {
        [name] => (None, name),
        [schema, name] => (Some(schema.as_str()), name),
        [database, schema, name] if **database == *env.facts.database_name => {
            (Some(schema.as_str()), name)
        }
        [_, _, _] => {
            let named = names.join(".");
            let what = format!("cross-database references are not implemented: \"{named}\"");
            return Err(TypeError::new("0A000", what));
        }
        _ => {
            let what = format!("improper relation name (too many dotted names): {text}");
            return Err(TypeError::new("42601", what));
        }
    };
    let found = match env.with_catalog(|catalog| catalog.relation_named(schema, name))? {
        Some(relation) => relation.oid,
        None => {
            let what = format!("relation \"{}\" does not exist", names.join("."));
            return Err(TypeError::new("42P01", what));
        }
    };
    Ok(Datum::Oid(found))
}

/// With its schema where the bare name would find another one, or nothing.
fn class_name(catalog: &SessionCatalog<'_>, oid: Oid) -> Result<Datum, CatalogError> {
    let Some(relation) = catalog.relation(oid)? else {
        return Ok(Datum::Null);
    };
    let bare = catalog.relation_named(None, &relation.name)?;
    let name = quote_identifier(&relation.name);
    Ok(Datum::text(&if bare.is_some_and(|r| r.oid == oid) {
        name
    } else {
        format!("{}.{name}", quote_identifier(&relation.schema_name))
    }))
}
