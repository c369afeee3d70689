//! Expressions of a plan as SQL, in `ruleutils.c`'s manner: parentheses round every operator, casts behind.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use super::simple::{is_negated_number, is_simple};

use crate::ids::Oid;
use crate::sql::bound::Expr;
use crate::sql::exec::eval::{FRAME, INIT_PLAN};
use crate::sql::plan::tree::SlotInfo;
use crate::types::datum::{Datum, SqlType};
use crate::types::function::{FunctionCx, Operator};
use crate::types::functions::{CALLED_BY_NAME, IN_SQL_WORDS, SessionWord, quote_identifier};
use crate::types::registry::format_type;
use crate::types::{aggregates, casts, codec, functions, oids, operators};

/// What an expression is shown for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// In a plan, constants computed.
    Plan,
    /// As the catalog has it, to be read back.
    Stored,
    /// The same for people's eyes: with no more parentheses than needed.
    Pretty,
}

/// Stands before a line break that `CASE` makes; blanks before it go.
const BREAK: char = '\0';
/// How far `WHEN` stands to the right of `CASE`.
const CASE_INDENT: usize = 4;
/// From here on lines are moved less far to the right.
const INDENT_LIMIT: usize = 40;

/// What names mean at one level of a plan.
#[derive(Clone)]
pub struct Words<'p> {
    pub slots: &'p [SlotInfo],
    /// Columns are shown with their relation's name: there is more than one.
    pub qualified: bool,
    /// The relation whose columns go by their bare names all the same: where it is scanned, nobody can mistake them.
    pub bare: Option<&'p str>,
    pub function: &'p FunctionCx,
    /// Arguments of the level's aggregates, for `Expr::Aggregate`.
    pub aggregates: Vec<String>,
    /// How window functions are called, by the slots of their results: for `Expr::Window` of a plan.
    pub windows: BTreeMap<usize, String>,
    /// What outer values and init plans' results go by, by the numbers of their `Expr::Param`.
    pub params: BTreeMap<usize, String>,
    pub style: Style,
    /// How far inside of `CASE`s the text is.
    pub indent: Cell<usize>,
}

pub(super) fn operator_of(function: Oid) -> Option<&'static Operator> {
    static KNOWN: OnceLock<HashMap<Oid, &'static Operator>> = OnceLock::new();
    KNOWN
        .get_or_init(|| operators::all().iter().map(|o| (o.function, o)).collect())
        .get(&function)
        .copied()
}

impl Words<'_> {
    /// A whole stored expression: lines broken where ruleutils.c breaks them.
    pub fn whole(&self, expr: &Expr) -> String {
        let mut out = String::new();
        for c in self.show(expr).chars() {
            match c {
                BREAK => out.truncate(out.trim_end_matches(' ').len()),
                c => out.push(c),
            }
        }
        out
    }

    /// In parentheses, as everything is that is to be read back.
    fn enclosed(&self, text: String) -> String {
        match self.style {
            Style::Pretty => text,
            Style::Plan | Style::Stored => format!("({text})"),
        }
    }

    /// A part of `parent`, in parentheses where it needs them.
    fn part(&self, node: &Expr, parent: &Expr) -> String {
        let shown = self.show(node);
        match self.style == Style::Pretty && !is_simple(node, parent) {
            true => format!("({shown})"),
            false => shown,
        }
    }

    pub fn slot(&self, slot: usize) -> String {
        let info = &self.slots[slot];
        if let Some(computed) = &info.computed {
            return self.show(computed);
        }
        match info.name.split_once('.') {
            Some((relation, column)) if self.qualified && self.bare != Some(relation) => {
                format!("{}.{}", quoted(relation), quote_identifier(column))
            }
            Some((_, column)) => quote_identifier(column),
            None => info.name.clone(),
        }
    }

    /// As a sort key: what a node below computed stands in parentheses, besides its own (`get_special_variable`).
    pub fn key(&self, slot: usize) -> String {
        let shown = self.slot(slot);
        match &self.slots[slot].computed {
            Some(_) => format!("({shown})"),
            None => shown,
        }
    }

    fn list(&self, items: &[Expr]) -> String {
        let shown: Vec<String> = items.iter().map(|e| self.show(e)).collect();
        shown.join(", ")
    }

    pub fn show(&self, expr: &Expr) -> String {
        match expr {
            Expr::Const(value, ty) => self.constant(value, *ty),
            Expr::Param(n, _) if *n >= INIT_PLAN => {
                self.params.get(n).map_or("?", String::as_str).to_owned()
            }
            Expr::Param(n, _) => format!("${}", n + 1),
            Expr::Column(c) if c.range == FRAME => self.slot(c.column),
            Expr::Column(c) => format!("column{}", c.column + 1),
            Expr::Group(n, _) => format!("group{}", n + 1),
            Expr::Aggregate(n, _) => self
                .aggregates
                .get(*n)
                .cloned()
                .unwrap_or_else(|| format!("aggregate{}", n + 1)),
            Expr::Window(n, _) => self
                .windows
                .get(n)
                .cloned()
                .unwrap_or_else(|| format!("window{}", n + 1)),
            Expr::Call { function, args, ty } => {
                self.call(expr, function.oid, function.name, args, *ty)
            }
            Expr::CastViaText { arg, ty } | Expr::Relabel { arg, ty } => self.cast(expr, arg, *ty),
            Expr::Coerce { arg, ty, explicit } => match self.style {
                Style::Plan => self.cast(expr, arg, *ty),
                // Brought about by storing alone.
                _ if !explicit => self.part(arg, expr),
                // The cast before the length is not a cast of its own.
                Style::Stored | Style::Pretty => self.cast(expr, under_cast(arg, *ty), *ty),
            },
            Expr::And(parts) => self.joined(expr, parts, " AND "),
            Expr::Or(parts) => self.joined(expr, parts, " OR "),
            Expr::Not(arg) => self.enclosed(format!("NOT {}", self.part(arg, expr))),
            Expr::IsNull { arg, negated } => {
                let not = if *negated { "NOT " } else { "" };
                self.enclosed(format!("{} IS {not}NULL", self.part(arg, expr)))
            }
            Expr::BoolTest { arg, is, negated } => {
                let not = if *negated { "NOT " } else { "" };
                let what = match is {
                    Some(true) => "TRUE",
                    Some(false) => "FALSE",
                    None => "UNKNOWN",
                };
                self.enclosed(format!("{} IS {not}{what}", self.part(arg, expr)))
            }
            other => self.show_rest(other),
        }
    }

    fn show_rest(&self, expr: &Expr) -> String {
        match expr {
            Expr::IsDistinct {
                left,
                right,
                negated,
                ..
            } => {
                let not = if *negated { "NOT " } else { "" };
                let (a, b) = (self.part(left, expr), self.part(right, expr));
                match (self.style, negated) {
                    // PostgreSQL keeps it as the opposite of IS DISTINCT FROM.
                    (Style::Stored, true) => format!("(NOT ({a} IS DISTINCT FROM {b}))"),
                    (Style::Pretty, true) => format!("NOT {a} IS DISTINCT FROM {b}"),
                    _ => self.enclosed(format!("{a} IS {not}DISTINCT FROM {b}")),
                }
            }
            Expr::Case {
                operand,
                arms,
                otherwise,
                ty,
            } => self.case(operand.as_deref(), arms, otherwise.as_deref(), *ty),
            Expr::Coalesce(args, _) => format!("COALESCE({})", self.list(args)),
            Expr::NullIf { left, right, .. } => {
                format!("NULLIF({}, {})", self.show(left), self.show(right))
            }
            Expr::MinMax { args, greatest, .. } => {
                let name = if *greatest { "GREATEST" } else { "LEAST" };
                format!("{name}({})", self.list(args))
            }
            Expr::AnyOf {
                function,
                left,
                items,
                all,
            } => self.any(expr, function.oid, left, &self.any_items(items), *all),
            Expr::SubPlan(run) => format!("({})", subplan_name(run.number)),
            // What is compared is part of the run.
            Expr::AnyArray { array: run, .. } | Expr::AnyRow { rows: run, .. }
                if matches!(**run, Expr::SubPlan(_)) =>
            {
                self.show(run)
            }
            Expr::AnyArray {
                function,
                left,
                array,
                all,
            } => self.any(expr, function.oid, left, &self.part(array, expr), *all),
            Expr::AnyRow { left, rows, test } => format!(
                "(ROW({}) {} {} ({}))",
                self.list(left),
                test.operator,
                if test.all { "ALL" } else { "ANY" },
                self.show(rows)
            ),
            Expr::ArrayLiteral { items, ty } if items.is_empty() && self.style != Style::Plan => {
                format!("ARRAY[]::{}", format_type(SqlType::plain(ty.oid)))
            }
            Expr::ArrayLiteral { items, .. } => format!("ARRAY[{}]", self.list(items)),
            Expr::Row(items) => format!("ROW({})", self.list(items)),
            _ => "?".to_owned(),
        }
    }

    fn case(
        &self,
        operand: Option<&Expr>,
        arms: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
        ty: SqlType,
    ) -> String {
        let mut shown = self.line("", "CASE");
        self.indent.set(self.indent.get() + CASE_INDENT);
        if let Some(operand) = operand {
            shown += &format!(" {}", self.show(operand));
        }
        for (when, then) in arms {
            // Of a comparison with the operand the other side alone is written.
            let when = match (operand, when) {
                (Some(_), Expr::Call { args, .. }) if args.len() == 2 => &args[1],
                _ => when,
            };
            shown += &self.line(" ", "WHEN ");
            shown += &format!("{} THEN {}", self.show(when), self.show(then));
        }
        let otherwise = match otherwise {
            Some(otherwise) => Some(self.show(otherwise)),
            None if self.style == Style::Plan => None,
            None => Some(self.constant(&Datum::Null, ty)),
        };
        if let Some(otherwise) = otherwise {
            shown += &self.line(" ", "ELSE ");
            shown += &otherwise;
        }
        self.indent.set(self.indent.get() - CASE_INDENT);
        shown + &self.line(" ", "END")
    }

    /// A word of CASE: in a plan behind `gap`, elsewhere in a line of its own.
    fn line(&self, gap: &str, word: &str) -> String {
        if self.style == Style::Plan {
            return format!("{gap}{word}");
        }
        let blanks = match self.indent.get() {
            few @ ..INDENT_LIMIT => few,
            many => (many - INDENT_LIMIT) / CASE_INDENT % INDENT_LIMIT,
        };
        format!("{BREAK}\n{:blanks$}{word}", "")
    }

    fn joined(&self, whole: &Expr, parts: &[Expr], word: &str) -> String {
        let shown: Vec<String> = parts.iter().map(|p| self.part(p, whole)).collect();
        self.enclosed(shown.join(word))
    }

    fn any(&self, whole: &Expr, function: Oid, left: &Expr, right: &str, all: bool) -> String {
        let op = operator_of(function).map_or("?", |o| o.name);
        let word = if all { "ALL" } else { "ANY" };
        self.enclosed(format!("{} {op} {word} ({right})", self.part(left, whole)))
    }

    /// Constants as an array literal, anything else as a constructor.
    fn any_items(&self, items: &[Expr]) -> String {
        if self.style != Style::Plan {
            return format!("ARRAY[{}]", self.list(items));
        }
        let mut shown = Vec::new();
        for item in items {
            let Expr::Const(value, ty) = item else {
                return format!("ARRAY[{}]", self.list(items));
            };
            shown.push(match value {
                Datum::Null => "NULL".to_owned(),
                value => codec::to_text(ty.oid, value, self.function),
            });
        }
        let ty = items.first().map_or(SqlType::plain(oids::TEXT), Expr::ty);
        format!(
            "'{{{}}}'::{}[]",
            shown.join(",").replace('\'', "''"),
            format_type(SqlType::plain(ty.oid))
        )
    }

    fn call(&self, whole: &Expr, oid: Oid, name: &str, args: &[Expr], ty: SqlType) -> String {
        match (operator_of(oid), args) {
            (Some(op), [left, right]) => {
                let (left, right) = (self.part(left, whole), self.part(right, whole));
                self.enclosed(format!("{left} {} {right}", op.name))
            }
            (Some(op), [arg]) if !op.left.is_valid() => match arg {
                Expr::Const(value, _) if is_negated_number(op, arg) => {
                    let shown = codec::to_text(ty.oid, value, self.function);
                    format!("'-{shown}'::{}", format_type(ty))
                }
                _ => self.enclosed(format!("{} {}", op.name, self.part(arg, whole))),
            },
            (_, [arg, ..]) if casts::is_cast(oid) => self.cast(whole, arg, ty),
            (_, [array, subscripts @ ..]) if functions::is_subscript(oid) => {
                self.item(array, subscripts)
            }
            (_, [inner]) if oid == IN_SQL_WORDS => self.in_words(whole, inner),
            (_, [Expr::Call { function, args, .. }]) if oid == CALLED_BY_NAME => {
                self.named(function.oid, function.name, args)
            }
            (_, []) if SessionWord::is_one(oid) => name.to_owned(),
            _ if SessionWord::is_one(oid) => format!("{name}({})", self.list(args)),
            _ => self.named(oid, name, args),
        }
    }

    /// As a call of a function is written.
    fn named(&self, oid: Oid, name: &str, args: &[Expr]) -> String {
        let name = quote_identifier(name);
        match args {
            [before @ .., array] if self.style != Style::Plan && spreads(oid) => {
                let before: Vec<String> = before.iter().map(|e| self.show(e) + ", ").collect();
                format!("{name}({}VARIADIC {})", before.concat(), self.show(array))
            }
            _ => format!("{name}({})", self.list(args)),
        }
    }

    /// A call that SQL writes in words of its own (`get_func_sql_syntax`).
    fn in_words(&self, whole: &Expr, inner: &Expr) -> String {
        let Expr::Call { function, args, .. } = inner else {
            return self.show(inner);
        };
        let trim = |side: &str| match args.as_slice() {
            [text, what] => format!("TRIM({side} {} FROM {})", self.show(what), self.show(text)),
            _ => format!("TRIM({side} FROM {})", self.list(args)),
        };
        match (function.name, args.as_slice()) {
            ("timezone", [zone, moment]) => format!(
                "({} AT TIME ZONE {})",
                self.part(moment, whole),
                self.part(zone, whole)
            ),
            ("extract", [Expr::Const(Datum::Text(field), _), from]) => {
                format!("EXTRACT({field} FROM {})", self.show(from))
            }
            ("position", [text, what]) => {
                format!("POSITION(({}) IN ({}))", self.show(what), self.show(text))
            }
            ("overlay", [text, with, rest @ ..]) => {
                let rest = self.from_and_for(rest);
                format!(
                    "OVERLAY({} PLACING {}{rest})",
                    self.show(text),
                    self.show(with)
                )
            }
            ("substring", [text, pattern, escape]) if escape.ty().oid == oids::TEXT => format!(
                "SUBSTRING({} SIMILAR {} ESCAPE {})",
                self.show(text),
                self.show(pattern),
                self.show(escape)
            ),
            ("substring", [text, rest @ ..]) => {
                format!("SUBSTRING({}{})", self.show(text), self.from_and_for(rest))
            }
            ("btrim", _) => trim("BOTH"),
            ("ltrim", _) => trim("LEADING"),
            ("rtrim", _) => trim("TRAILING"),
            ("pg_collation_for", [of]) => format!("COLLATION FOR ({})", self.show(of)),
            _ => self.show(inner),
        }
    }

    fn from_and_for(&self, args: &[Expr]) -> String {
        let words = [" FROM ", " FOR "].into_iter().zip(args);
        words
            .map(|(word, e)| format!("{word}{}", self.show(e)))
            .collect()
    }

    fn item(&self, array: &Expr, subscripts: &[Expr]) -> String {
        let mut shown = match array {
            Expr::Column(_) => self.show(array),
            _ => format!("({})", self.show(array)),
        };
        for subscript in subscripts {
            shown += &format!("[{}]", self.show(subscript));
        }
        shown
    }

    fn cast(&self, whole: &Expr, arg: &Expr, ty: SqlType) -> String {
        let name = format_type(ty);
        if self.style == Style::Plan {
            let shown = self.show(arg);
            return match matches!(arg, Expr::Param(..)) || shown.starts_with('(') {
                true => format!("{shown}::{name}"),
                false => format!("({shown})::{name}"),
            };
        }
        match arg {
            // A constant of that very type is written with it already.
            Expr::Const(value, own) if own.oid == ty.oid && own.modifier < 0 => {
                format!("{}::{name}", self.bare_constant(value, *own))
            }
            _ => {
                let shown = self.part(arg, whole);
                format!("{}::{name}", self.enclosed(shown))
            }
        }
    }

    /// Without the name of its type.
    fn bare_constant(&self, value: &Datum, ty: SqlType) -> String {
        let shown = self.constant(value, ty);
        let label = format!("::{}", format_type(ty));
        match shown.strip_suffix(&label) {
            Some(bare) => bare.to_owned(),
            None => shown,
        }
    }

    fn constant(&self, value: &Datum, ty: SqlType) -> String {
        let name = format_type(ty);
        match value {
            Datum::Null => format!("NULL::{name}"),
            Datum::Bool(b) => b.to_string(),
            Datum::Int4(n) if *n >= 0 => n.to_string(),
            Datum::Numeric(_) => {
                let shown = codec::to_text(ty.oid, value, self.function);
                if shown.starts_with('-') || !shown.contains('.') {
                    format!("'{shown}'::{name}")
                } else {
                    shown
                }
            }
            value => {
                let shown = codec::to_text(ty.oid, value, self.function);
                let shown = format!("'{}'", shown.replace('\'', "''"));
                // A field of a row may have no type.
                match ty.oid {
                    oids::UNKNOWN => shown,
                    _ => format!("{shown}::{name}"),
                }
            }
        }
    }
}

/// `rank() OVER (?)`, as PostgreSQL shows it outside of the node that computes it.
pub fn window_call(words: &Words<'_>, call: &crate::sql::plan::tree::WindowSpec) -> String {
    use crate::sql::bound::WindowCallee;
    let args: Vec<String> = call.args.iter().map(|a| words.show(a.source())).collect();
    let is_aggregate = matches!(call.callee, WindowCallee::Aggregate(_));
    let args = match args.is_empty() && is_aggregate {
        true => "*".to_owned(),
        false => args.join(", "),
    };
    let mut shown = format!("{}({args})", call.callee.name());
    if let Some(filter) = &call.filter {
        shown += &format!(" FILTER (WHERE {})", words.show(filter.source()));
    }
    shown + " OVER (?)"
}

/// As EXPLAIN calls a subquery's plan, by its place in the list.
pub fn subplan_name(number: usize) -> String {
    format!("SubPlan {}", number + 1)
}

/// In double quotes if it needs them.
pub fn quoted(name: &str) -> String {
    match name.starts_with('"') {
        true => name.to_owned(),
        false => quote_identifier(name),
    }
}

/// What stands under the cast to a type whose length is then seen to.
fn under_cast(arg: &Expr, ty: SqlType) -> &Expr {
    match arg {
        Expr::Relabel { arg: inner, ty: to } | Expr::CastViaText { arg: inner, ty: to }
            if to.oid == ty.oid =>
        {
            inner
        }
        Expr::Call {
            function,
            args,
            ty: to,
        } if to.oid == ty.oid && casts::is_cast(function.oid) => args.first().unwrap_or(arg),
        _ => arg,
    }
}

/// The last argument of its calls is an array that was made of several.
fn spreads(function: Oid) -> bool {
    let variadic = functions::by_oid(function).map_or(Oid::INVALID, |f| f.variadic);
    variadic.is_valid() && variadic != oids::ANY
}

/// `sum(a)`, `count(*)`, `count(DISTINCT a ORDER BY b)`.
pub fn aggregate(words: &Words<'_>, call: &crate::sql::plan::tree::AggregateSpec) -> String {
    let name = aggregates::by_oid(call.aggregate.oid).map_or(call.aggregate.name, |a| a.name);
    let args: Vec<String> = call.args.iter().map(|a| words.show(a.source())).collect();
    let args = if args.is_empty() {
        "*".to_owned()
    } else {
        args.join(", ")
    };
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let mut shown = format!("{name}({distinct}{args}");
    if !call.order_by.is_empty() {
        let keys: Vec<String> = call
            .order_by
            .iter()
            .map(|o| {
                let down = if o.descending { " DESC" } else { "" };
                format!("{}{down}", words.show(o.value.source()))
            })
            .collect();
        shown += &format!(" ORDER BY {}", keys.join(", "));
    }
    shown.push(')');
    if let Some(filter) = &call.filter {
        shown += &format!(" FILTER (WHERE {})", words.show(filter.source()));
    }
    shown
}
