//! Type names to types, and types to text.

use crate::catalog::view::CatalogView;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{ExprKind, Literal, TypeName};
use crate::types::datum::SqlType;
use crate::types::{oids, registry};

use super::resolve::array_of;

/// Types of PostgreSQL 15 that are not here: using one is refused.
const ABSENT: &[&str] = &[
    "bit",
    "box",
    "cidr",
    "circle",
    "datemultirange",
    "daterange",
    "gtsvector",
    "inet",
    "int4multirange",
    "int4range",
    "int8multirange",
    "int8range",
    "jsonpath",
    "line",
    "lseg",
    "macaddr",
    "macaddr8",
    "money",
    "nummultirange",
    "numrange",
    "path",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "point",
    "polygon",
    "tsmultirange",
    "tsquery",
    "tsrange",
    "tstzmultirange",
    "tstzrange",
    "tsvector",
    "txid_snapshot",
    "varbit",
    "xml",
];

/// `format_type`, for messages.
pub fn type_text(ty: SqlType) -> String {
    match ty.oid {
        oids::UNKNOWN => "unknown".to_owned(),
        oids::RECORD => "record".to_owned(),
        // Without a modifier `format_type_be` shows the SQL name, where `format_type` shows the internal one.
        oids::BPCHAR if ty.modifier < 0 => "character".to_owned(),
        oids::BIT if ty.modifier < 0 => "bit".to_owned(),
        _ => registry::format_type(ty).into_owned(),
    }
}

/// The types that `serial` and its relatives stand for in CREATE TABLE: not types of their own.
pub fn is_serial(name: &str) -> Option<&'static str> {
    match name {
        "smallserial" | "serial2" => Some("int2"),
        "serial" | "serial4" => Some("int4"),
        "bigserial" | "serial8" => Some("int8"),
        _ => None,
    }
}

pub fn resolve_type(ty: &TypeName, catalog: &dyn CatalogView) -> Result<SqlType, SqlError> {
    if ty.set_of {
        return Err(SqlError::new(
            state::INVALID_TABLE_DEFINITION,
            "type cannot be declared SETOF",
        )
        .at(ty.at));
    }
    if let Some(schema) = &ty.name.schema
        && schema.name != "pg_catalog"
        && catalog.schema_named(&schema.name)?.is_none()
    {
        return Err(SqlError::new(
            state::INVALID_SCHEMA_NAME,
            format!("schema \"{}\" does not exist", schema.name),
        )
        .at(ty.at));
    }
    let in_catalog = ty.name.schema_name().is_none_or(|s| s == "pg_catalog");
    let found = in_catalog
        .then(|| registry::by_name(&ty.name.name.name))
        .flatten();
    let Some(found) = found else {
        let mut shown = ty.name.to_string();
        for _ in 0..ty.array_dimensions {
            shown.push_str("[]");
        }
        if ABSENT.contains(&ty.name.name.name.as_str())
            && ty.name.schema_name().is_none_or(|s| s == "pg_catalog")
        {
            let what = format!("type \"{}\" is not supported", ty.name.name.name);
            return Err(SqlError::unsupported(what).at(ty.at));
        }
        let schema = ty.name.schema_name();
        if catalog
            .relation_named(schema, &ty.name.name.name)?
            .is_some()
        {
            let what = "the row type of a table is not supported as a type";
            return Err(SqlError::unsupported(what).at(ty.at));
        }
        return Err(SqlError::new(
            state::UNDEFINED_OBJECT,
            format!("type \"{shown}\" does not exist"),
        )
        .at(ty.at));
    };
    let modifier = modifier(ty, found.name, found.oid, found.modifier_in)?;
    let mut out = SqlType {
        oid: found.oid,
        modifier,
    };
    if ty.array_dimensions > 0 {
        out.oid = array_of(out.oid).ok_or_else(|| {
            SqlError::new(
                state::UNDEFINED_OBJECT,
                format!("type \"{}[]\" does not exist", ty.name),
            )
            .at(ty.at)
        })?;
    }
    Ok(out)
}

fn modifier(
    ty: &TypeName,
    name: &str,
    oid: crate::ids::Oid,
    modifier_in: &str,
) -> Result<i32, SqlError> {
    let mut arguments: Vec<i32> = ty.interval_fields.into_iter().collect();
    if ty.modifiers.is_empty() && arguments.is_empty() {
        return Ok(-1);
    }
    if modifier_in.is_empty() {
        return Err(SqlError::new(
            state::SYNTAX_ERROR,
            format!("type modifier is not allowed for type \"{name}\""),
        )
        .at(ty.at));
    }
    // An interval's precision without fields means all fields (INTERVAL_FULL_RANGE).
    if oid == oids::INTERVAL && arguments.is_empty() {
        arguments.push(0x7FFF);
    }
    for m in &ty.modifiers {
        match &m.kind {
            ExprKind::Literal(Literal::Int(n)) => arguments.push(*n),
            ExprKind::Literal(Literal::Number(text) | Literal::Text(text)) => {
                let n = text.trim().parse().map_err(|_| {
                    SqlError::new(
                        state::INVALID_TEXT_REPRESENTATION,
                        format!("invalid input syntax for type integer: \"{text}\""),
                    )
                })?;
                arguments.push(n);
            }
            _ => {
                return Err(SqlError::new(
                    state::SYNTAX_ERROR,
                    "type modifiers must be simple constants or identifiers",
                )
                .at(ty.at));
            }
        }
    }
    registry::modifier_from(oid, &arguments).map_err(|e| SqlError::from(e).at(ty.at))
}
