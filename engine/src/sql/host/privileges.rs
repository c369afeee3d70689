//! `has_table_privilege` and its relatives. Manual, 9.26.2.
//!
//! There are no grants yet: whoever is let in may use what is there. What a call names has to exist all the same.

use crate::catalog::view::CatalogView;
use crate::sql::host::environment::Environment;
use crate::sql::host::names::class_named;
use crate::sql::host::text;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::Function;
use crate::types::oids;

type Answer = Result<Datum, TypeError>;

pub(super) fn call(env: &Environment, function: &Function, args: &[Datum]) -> Option<Answer> {
    let (what, privileges): (Object, &[&str]) = match function.name {
        "has_table_privilege" | "has_any_column_privilege" | "has_column_privilege" => (
            Object::Relation,
            &[
                "SELECT",
                "INSERT",
                "UPDATE",
                "DELETE",
                "TRUNCATE",
                "REFERENCES",
                "TRIGGER",
                "RULE",
            ],
        ),
        "has_sequence_privilege" => (Object::Relation, &["USAGE", "SELECT", "UPDATE"]),
        "has_schema_privilege" => (Object::Schema, &["CREATE", "USAGE"]),
        "has_database_privilege" => (
            Object::Database,
            &["CREATE", "TEMPORARY", "TEMP", "CONNECT"],
        ),
        "has_function_privilege" => (Object::Other, &["EXECUTE"]),
        "has_language_privilege" | "has_type_privilege" => (Object::Other, &["USAGE"]),
        "has_tablespace_privilege" => (Object::Other, &["CREATE"]),
        "pg_has_role" => (Object::Other, &["USAGE", "MEMBER"]),
        _ => return None,
    };
    Some(checked(env, function, args, what, privileges))
}

#[derive(Clone, Copy, PartialEq)]
enum Object {
    Relation,
    Schema,
    Database,
    Other,
}

fn checked(
    env: &Environment,
    function: &Function,
    args: &[Datum],
    what: Object,
    privileges: &[&str],
) -> Answer {
    let behind = if function.name == "has_column_privilege" {
        3
    } else {
        2
    };
    if args.len() > behind && function.args[0] == oids::NAME && text(args, 0) != "public" {
        role_exists(env, text(args, 0))?;
    }
    let object = args.len() - behind;
    if function.args[object] == oids::TEXT {
        object_exists(env, text(args, object), what)?;
    }
    for word in text(args, args.len() - 1).split(',') {
        let plain = word.trim().to_ascii_uppercase();
        let plain = plain.strip_suffix(" WITH GRANT OPTION").unwrap_or(&plain);
        let plain = plain.strip_suffix(" WITH ADMIN OPTION").unwrap_or(plain);
        if !privileges.contains(&plain) {
            let what = format!("unrecognized privilege type: \"{}\"", word.trim());
            return Err(TypeError::new("22023", what));
        }
    }
    Ok(Datum::Bool(true))
}

fn role_exists(env: &Environment, name: &str) -> Result<(), TypeError> {
    let found = env.with_catalog(|catalog| catalog.role_named(name))?;
    found
        .map(|_| ())
        .ok_or_else(|| TypeError::new("42704", format!("role \"{name}\" does not exist")))
}

fn object_exists(env: &Environment, name: &str, what: Object) -> Result<(), TypeError> {
    let missing = |state, kind: &str| {
        Err(TypeError::new(
            state,
            format!("{kind} \"{name}\" does not exist"),
        ))
    };
    match what {
        Object::Relation => class_named(env, name).map(|_| ()),
        Object::Schema => match env.with_catalog(|catalog| catalog.schema_named(name))? {
            Some(_) => Ok(()),
            None => missing("3F000", "schema"),
        },
        Object::Database => match env.with_catalog(|catalog| catalog.database_named(name))? {
            Some(_) => Ok(()),
            None => missing("3D000", "database"),
        },
        Object::Other => Ok(()),
    }
}
