//! Expressions as the catalog keeps them: SQL text, in which sequences stand by oid and moments as they were understood.
//!
//! `nextval('orders_id_seq')` is stored as `nextval('16401'::regclass)`: the literal was resolved when it was
//! written, as in PostgreSQL, and a rename of the sequence or another search path does not change it. So it is with the
//! text of dates and times: `'now'`, or a date under another `DateStyle` or `TimeZone`, would mean something else later.

use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::bind::Defined;
use crate::sql::bound::Expr as Bound;
use crate::sql::error::SqlError;
use crate::sql::front::ast::{Expr, ExprKind, Literal, SourceText};
use crate::types::datetime::{DateOutput, DateStyle, FieldOrder};
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;
use crate::types::{codec, oids};

/// The text to store, and the relations that it names.
pub struct Stored {
    pub text: String,
    pub relations: Vec<Oid>,
}

/// Functions whose only literal argument names a sequence.
const OF_SEQUENCE: &[&str] = &["nextval", "currval", "setval"];

pub fn stored(
    source: &str,
    piece: SourceText,
    expr: &Expr,
    defined: &Defined,
    catalog: &dyn CatalogView,
    functions: &FunctionCx,
) -> Result<Stored, SqlError> {
    let mut relations = Vec::new();
    collect(&defined.expr, &mut relations);
    let mut names = Vec::new();
    literals(expr, &mut names);
    let mut resolved = Vec::with_capacity(names.len() + defined.moments.len());
    for (at, name) in names {
        if let Some(oid) = oid_of(&name, catalog)? {
            resolved.push((at, format!("'{}'::regclass", oid.raw())));
        }
    }
    let plain = unambiguous(functions);
    for moment in &defined.moments {
        let text = codec::to_text(moment.ty, &moment.value, &plain);
        resolved.push((moment.at, format!("'{}'", text.replace('\'', "''"))));
    }
    // From the end, so that offsets before a replacement stay right. An operand may have been read twice (BETWEEN).
    resolved.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    resolved.dedup_by_key(|(at, _)| *at);
    let start = piece.start as usize;
    let mut text = source[start..piece.end as usize].to_owned();
    for (at, literal) in resolved {
        let Some(from) = (at as usize).checked_sub(start) else {
            continue;
        };
        let length = text.get(from..).and_then(crate::sql::front::literal_length);
        if let Some(length) = length {
            text.replace_range(from..from + length, &literal);
        }
    }
    Ok(Stored { text, relations })
}

/// Settings under which the text of a moment is read alike under all settings.
pub fn unambiguous(functions: &FunctionCx) -> FunctionCx {
    FunctionCx {
        time_zone: jiff::tz::TimeZone::UTC,
        date_style: DateStyle {
            output: DateOutput::Iso,
            order: FieldOrder::Mdy,
        },
        ..functions.clone()
    }
}

fn oid_of(name: &str, catalog: &dyn CatalogView) -> Result<Option<Oid>, SqlError> {
    if name.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let names = crate::sql::bind::qualified_names(name)?;
    let found = match names.as_slice() {
        [name] => catalog.relation_named(None, name)?,
        [schema, name] | [_, schema, name] => catalog.relation_named(Some(schema), name)?,
        _ => None,
    };
    Ok(found.map(|r| r.oid))
}

/// Literals that name relations, with their places.
fn literals(expr: &Expr, out: &mut Vec<(u32, String)>) {
    match &expr.kind {
        ExprKind::Call(call) => {
            let of_sequence = OF_SEQUENCE.contains(&call.name.name.name.as_str());
            for (i, argument) in call.args.iter().enumerate() {
                match &argument.value.kind {
                    ExprKind::Literal(Literal::Text(text)) if of_sequence && i == 0 => {
                        out.push((argument.value.at, text.clone()));
                    }
                    _ => literals(&argument.value, out),
                }
            }
        }
        ExprKind::Cast { arg, ty } => match &arg.kind {
            ExprKind::Literal(Literal::Text(text)) if ty.name.name.name == "regclass" => {
                out.push((arg.at, text.clone()));
            }
            _ => literals(arg, out),
        },
        ExprKind::Operator { left, right, .. } => {
            left.iter().for_each(|e| literals(e, out));
            literals(right, out);
        }
        ExprKind::And(items) | ExprKind::Or(items) | ExprKind::Coalesce(items) => {
            items.iter().for_each(|e| literals(e, out));
        }
        ExprKind::Case {
            operand,
            arms,
            otherwise,
        } => {
            operand.iter().for_each(|e| literals(e, out));
            for (when, then) in arms {
                literals(when, out);
                literals(then, out);
            }
            otherwise.iter().for_each(|e| literals(e, out));
        }
        _ => {}
    }
}

fn collect(expr: &Bound, out: &mut Vec<Oid>) {
    if let Bound::Const(Datum::Oid(oid), ty) = expr
        && ty.oid == oids::REGCLASS
        && !out.contains(oid)
    {
        out.push(*oid);
    }
    crate::sql::bind::parts(expr, &mut |part| collect(part, out));
}

/// A stored expression for people: relations by name again (`pg_get_expr`).
pub fn shown_expression(text: &str, catalog: &dyn CatalogView) -> Result<String, SqlError> {
    const BEHIND: &str = "'::regclass";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(end) = rest.find(BEHIND) {
        let digits = rest[..end]
            .bytes()
            .rev()
            .take_while(u8::is_ascii_digit)
            .count();
        let start = end - digits;
        let oid = rest[start..end].parse::<u32>().ok();
        let quoted = rest[..start].ends_with('\'');
        let relation = match oid {
            Some(oid) if quoted => catalog.relation(Oid::new(oid))?,
            _ => None,
        };
        match relation {
            Some(r) => {
                out.push_str(&rest[..start]);
                let visible = catalog
                    .relation_named(None, &r.name)?
                    .is_some_and(|found| found.oid == r.oid);
                if !visible {
                    out.push_str(&quoted_name(&r.schema_name));
                    out.push('.');
                }
                out.push_str(&quoted_name(&r.name));
                out.push_str(BEHIND);
            }
            None => out.push_str(&rest[..end + BEHIND.len()]),
        }
        rest = &rest[end + BEHIND.len()..];
    }
    out.push_str(rest);
    Ok(out)
}

/// `quote_identifier`, inside a literal.
fn quoted_name(name: &str) -> String {
    let plain = name
        .bytes()
        .enumerate()
        .all(|(i, b)| b == b'_' || b.is_ascii_lowercase() || (i > 0 && b.is_ascii_digit()));
    if plain && !name.is_empty() {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\"").replace('\'', "''"))
}
