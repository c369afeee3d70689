//! Expressions as the catalog keeps them: SQL text, in which sequences stand by oid.
//!
//! `nextval('orders_id_seq')` is stored as `nextval('16401'::regclass)`: the literal was resolved when it was
//! written, as in PostgreSQL, and a rename of the sequence or another search path does not change it.

use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::bound::Expr as Bound;
use crate::sql::error::SqlError;
use crate::sql::front::ast::{Expr, ExprKind, Literal, SourceText};
use crate::types::datum::Datum;
use crate::types::oids;

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
    bound: &Bound,
    catalog: &dyn CatalogView,
) -> Result<Stored, SqlError> {
    let mut relations = Vec::new();
    collect(bound, &mut relations);
    let mut names = Vec::new();
    literals(expr, &mut names);
    let start = piece.start as usize;
    let mut text = source[start..piece.end as usize].to_owned();
    // From the end, so that offsets before a replacement stay right.
    names.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    for (at, name) in names {
        let Some(oid) = oid_of(&name, catalog)? else {
            continue;
        };
        let from = at as usize - start;
        let Some(length) = crate::sql::front::literal_length(&text[from..]) else {
            continue;
        };
        text.replace_range(from..from + length, &format!("'{}'::regclass", oid.raw()));
    }
    Ok(Stored { text, relations })
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
