//! Expressions as the catalog keeps them: SQL text, in which sequences stand by oid and moments as they were understood.
//!
//! `nextval('orders_id_seq')` is stored as `nextval('16401'::regclass)`: the literal was resolved when it was
//! written, as in PostgreSQL, and a rename of the sequence or another search path does not change it. So it is with the
//! text of dates and times: `'now'`, or a date under another `DateStyle` or `TimeZone`, would mean something else later.

use std::ops::Range;

use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::bind::Defined;
use crate::sql::bound::Expr as Bound;
use crate::sql::error::SqlError;
use crate::sql::front::ast::{Expr, ExprKind, Ident, Literal, SourceText};
use crate::sql::front::{identifier_length, literal_length};
use crate::types::datetime::{DateOutput, DateStyle, FieldOrder};
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;
use crate::types::functions::quote_identifier;
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
    let (start, end) = (piece.start as usize, piece.end as usize);
    let whole = &source[start..end];
    let length_at = |at: u32| {
        let from = (at as usize).checked_sub(start)?;
        let length = literal_length(whole.get(from..)?)?;
        Some(from..from + length)
    };
    let mut edits: Vec<(Range<usize>, String)> = resolved
        .into_iter()
        .filter_map(|(at, literal)| Some((length_at(at)?, literal)))
        .collect();
    // A table's own columns are named without it: it may be called otherwise one day.
    column_names(expr, &mut |names| {
        if let [first, .., last] = names {
            let place = |name: &Ident| (name.at as usize).checked_sub(start);
            if let (Some(from), Some(at)) = (place(first), place(last)) {
                // Behind a dot any word is a name.
                edits.extend(renaming(whole, from, at, &quote_identifier(&last.name)));
            }
        }
    });
    let text = edited(whole, edits);
    Ok(Stored { text, relations })
}

/// The text with pieces of it replaced. Of two for one place, an operand that was read twice (BETWEEN), one counts.
fn edited(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    // From the end, so that offsets before a replacement stay right.
    edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    edits.dedup_by_key(|(range, _)| range.start);
    let mut out = text.to_owned();
    for (range, with) in edits {
        out.replace_range(range, &with);
    }
    out
}

/// `to` in place of what stands from `from` to the end of the identifier at `at`.
fn renaming(text: &str, from: usize, at: usize, to: &str) -> Option<(Range<usize>, String)> {
    let end = at + identifier_length(text.get(at..)?)?;
    // Words may stand next to a name in quotes, and not next to one without; and `u&"a"` is one name.
    let gap = |c: Option<char>| match c {
        Some(c) if c.is_alphanumeric() || matches!(c, '_' | '$' | '&') => " ",
        _ => "",
    };
    let before = gap(text[..from].chars().next_back());
    let behind = gap(text[end..].chars().next());
    Some((from..end, format!("{before}{to}{behind}")))
}

/// The table of `(t).a`, which is `t.a`.
fn row_of(arg: &Expr) -> Option<&Ident> {
    let ExprKind::Column(names) = &arg.kind else {
        return None;
    };
    let [table] = names.as_slice() else {
        return None;
    };
    Some(table)
}

/// The names of each column that the expression reads, with what stands before them.
fn column_names<'e>(expr: &'e Expr, found: &mut dyn FnMut(&'e [Ident])) {
    match &expr.kind {
        ExprKind::Column(names) => found(names),
        ExprKind::Field { arg, field } if row_of(arg).is_some() => {
            found(std::slice::from_ref(field));
            return;
        }
        _ => {}
    }
    expr.parts(&mut |part| column_names(part, found));
}

/// A stored expression after its table's column `from` was named `to`.
pub fn with_column_renamed(text: &str, from: &str, to: &str) -> Result<String, SqlError> {
    let expr = crate::sql::front::parse_expression(text).map_err(SqlError::nowhere)?;
    let to = quote_identifier(to);
    let mut edits = Vec::new();
    column_names(&expr, &mut |names| {
        if let Some(column) = names.last().filter(|column| column.name == from) {
            let at = column.at as usize;
            edits.extend(renaming(text, at, at, &to));
        }
    });
    Ok(edited(text, edits))
}

/// A stored expression after its table `from` was named `to`: a whole row is called by its table. `has_column`: the
/// table has a column of its old name, which is meant where that stands alone.
pub fn with_table_renamed(
    text: &str,
    from: &str,
    has_column: bool,
    to: &str,
) -> Result<String, SqlError> {
    let expr = crate::sql::front::parse_expression(text).map_err(SqlError::nowhere)?;
    let to = quote_identifier(to);
    let mut edits = Vec::new();
    table_names(&expr, !has_column, &mut |table| {
        if table.name == from {
            let at = table.at as usize;
            edits.extend(renaming(text, at, at, &to));
        }
    });
    Ok(edited(text, edits))
}

/// The names that may be a table's; `alone`: also those that stand alone.
fn table_names<'e>(expr: &'e Expr, alone: bool, found: &mut dyn FnMut(&'e Ident)) {
    match &expr.kind {
        ExprKind::Column(names) => match names.as_slice() {
            [whole] if alone => found(whole),
            [.., table, _] => found(table),
            _ => {}
        },
        ExprKind::Star(names) => {
            if let Some(table) = names.last() {
                found(table);
            }
        }
        ExprKind::Field { arg, .. } => {
            // Found again as a name that stands alone, it is replaced once.
            if let Some(table) = row_of(arg) {
                found(table);
            }
        }
        _ => {}
    }
    expr.parts(&mut |part| table_names(part, alone, found));
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
        _ => expr.parts(&mut |part| literals(part, out)),
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

#[cfg(test)]
mod tests {
    use super::{with_column_renamed, with_table_renamed};

    #[test]
    fn a_renamed_column_is_named_anew_wherever_it_is_read() {
        let renamed = |text: &str, from: &str, to: &str| {
            with_column_renamed(text, from, to).expect("an expression")
        };
        assert_eq!(
            renamed(
                "a > 0 AND (\"a\" IS NULL OR a IN (1, aa, a)) AND a(a) <> 'a'",
                "a",
                "b"
            ),
            "b > 0 AND (b IS NULL OR b IN (1, aa, b)) AND a(b) <> 'a'"
        );
        assert_eq!(
            renamed(
                "CASE WHEN NOT x BETWEEN 1 AND length(y) THEN x::text LIKE y END",
                "y",
                "Y z"
            ),
            "CASE WHEN NOT x BETWEEN 1 AND length(\"Y z\") THEN x::text LIKE \"Y z\" END"
        );
        assert_eq!(
            renamed(
                "\"select\" <> extract(year FROM d) AND name = 'name'",
                "select",
                "year"
            ),
            "year <> extract(year FROM d) AND name = 'name'"
        );
        assert_eq!(renamed("name = 'name'", "name", "n"), "n = 'name'");
        assert_eq!(renamed("NOT\"a\"OR b", "a", "c"), "NOT c OR b");
        assert_eq!(renamed("u&a > 0", "a", "A"), "u& \"A\" > 0");
        assert_eq!(renamed("a&\"B\" > 0", "a", "u"), "u &\"B\" > 0");
        assert_eq!(
            renamed("(t).a > 0 AND (t).t > a", "a", "x"),
            "(t).x > 0 AND (t).t > x"
        );
        assert_eq!(renamed("(t).t > t", "t", "x"), "(t).x > x");
    }

    #[test]
    fn a_renamed_table_is_named_anew_where_its_row_is_read() {
        let renamed = |text: &str, has_column: bool| {
            with_table_renamed(text, "t", has_column, "T").expect("an expression")
        };
        assert_eq!(
            renamed(
                "t IS NOT NULL AND ROW(t.*) IS NOT NULL AND t(a) <> 't' AND t.t > a",
                false
            ),
            "\"T\" IS NOT NULL AND ROW(\"T\".*) IS NOT NULL AND t(a) <> 't' AND \"T\".t > a"
        );
        assert_eq!(
            renamed("t > 0 AND ROW(t.*) IS NULL", true),
            "t > 0 AND ROW(\"T\".*) IS NULL"
        );
        assert_eq!(renamed("(t).t > t", true), "(\"T\").t > t");
        assert_eq!(renamed("(t).a > a", false), "(\"T\").a > a");
    }
}
