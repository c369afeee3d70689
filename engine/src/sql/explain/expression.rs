//! Expressions of a plan as SQL, in `ruleutils.c`'s manner: parentheses round every operator, casts behind.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use crate::ids::Oid;
use crate::sql::bound::Expr;
use crate::sql::exec::eval::{FRAME, INIT_PLAN};
use crate::sql::plan::tree::SlotInfo;
use crate::types::datum::{Datum, SqlType};
use crate::types::function::{FunctionCx, Operator};
use crate::types::functions::ARRAY_ITEM;
use crate::types::registry::format_type;
use crate::types::{aggregates, casts, codec, oids, operators};

/// What an expression is shown for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// In a plan, constants computed.
    Plan,
    /// As the catalog has it, to be read back.
    Stored,
}

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
}

fn operator_of(function: Oid) -> Option<&'static Operator> {
    static KNOWN: OnceLock<HashMap<Oid, &'static Operator>> = OnceLock::new();
    KNOWN
        .get_or_init(|| operators::all().iter().map(|o| (o.function, o)).collect())
        .get(&function)
        .copied()
}

impl Words<'_> {
    pub fn slot(&self, slot: usize) -> String {
        let info = &self.slots[slot];
        if let Some(computed) = &info.computed {
            return self.show(computed);
        }
        match info.name.split_once('.') {
            Some((relation, column)) if self.qualified && self.bare != Some(relation) => {
                format!("{}.{}", quoted(relation), quoted(column))
            }
            Some((_, column)) => quoted(column),
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
            Expr::Call { function, args, ty } => self.call(function.oid, function.name, args, *ty),
            Expr::CastViaText { arg, ty } | Expr::Relabel { arg, ty } => self.cast(arg, *ty),
            Expr::Coerce { arg, ty, .. } => self.cast(arg, *ty),
            Expr::And(parts) => self.joined(parts, " AND "),
            Expr::Or(parts) => self.joined(parts, " OR "),
            Expr::Not(arg) => format!("(NOT {})", self.show(arg)),
            Expr::IsNull { arg, negated } => {
                let not = if *negated { "NOT " } else { "" };
                format!("({} IS {not}NULL)", self.show(arg))
            }
            Expr::BoolTest { arg, is, negated } => {
                let not = if *negated { "NOT " } else { "" };
                let what = match is {
                    Some(true) => "TRUE",
                    Some(false) => "FALSE",
                    None => "UNKNOWN",
                };
                format!("({} IS {not}{what})", self.show(arg))
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
                let (a, b) = (self.show(left), self.show(right));
                format!("({a} IS {not}DISTINCT FROM {b})")
            }
            Expr::Case {
                operand,
                arms,
                otherwise,
                ..
            } => {
                let mut shown = String::from("CASE");
                if let Some(operand) = operand {
                    shown += &format!(" {}", self.show(operand));
                }
                for (when, then) in arms {
                    // Of a comparison with the operand the other side alone is written.
                    let when = match (operand, when) {
                        (Some(_), Expr::Call { args, .. }) if args.len() == 2 => &args[1],
                        _ => when,
                    };
                    shown += &format!(" WHEN {} THEN {}", self.show(when), self.show(then));
                }
                match otherwise {
                    Some(otherwise) => shown += &format!(" ELSE {}", self.show(otherwise)),
                    None if self.style == Style::Stored => {
                        shown += &format!(" ELSE {}", self.constant(&Datum::Null, expr.ty()));
                    }
                    None => {}
                }
                shown + " END"
            }
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
            } => self.any(function.oid, left, &self.any_items(items), *all),
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
            } => self.any(function.oid, left, &self.show(array), *all),
            Expr::AnyRow { left, rows, test } => format!(
                "(ROW({}) {} {} ({}))",
                self.list(left),
                test.operator,
                if test.all { "ALL" } else { "ANY" },
                self.show(rows)
            ),
            Expr::ArrayLiteral { items, .. } => format!("ARRAY[{}]", self.list(items)),
            Expr::Row(items) => format!("ROW({})", self.list(items)),
            _ => "?".to_owned(),
        }
    }

    fn joined(&self, parts: &[Expr], word: &str) -> String {
        let shown: Vec<String> = parts.iter().map(|p| self.show(p)).collect();
        format!("({})", shown.join(word))
    }

    fn any(&self, function: Oid, left: &Expr, right: &str, all: bool) -> String {
        let op = operator_of(function).map_or("?", |o| o.name);
        let word = if all { "ALL" } else { "ANY" };
        format!("({} {op} {word} ({right}))", self.show(left))
    }

    /// Constants as an array literal, anything else as a constructor.
    fn any_items(&self, items: &[Expr]) -> String {
        if self.style == Style::Stored {
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

    fn call(&self, oid: Oid, name: &str, args: &[Expr], ty: SqlType) -> String {
        match (operator_of(oid), args) {
            (Some(op), [left, right]) => {
                format!("({} {} {})", self.show(left), op.name, self.show(right))
            }
            (Some(op), [arg]) if !op.left.is_valid() => match arg {
                Expr::Const(value, _) if op.name == "-" && !value.is_null() => {
                    let shown = codec::to_text(ty.oid, value, self.function);
                    format!("'-{shown}'::{}", format_type(ty))
                }
                _ => format!("({} {})", op.name, self.show(arg)),
            },
            (_, [arg, ..]) if casts::is_cast(oid) => self.cast(arg, ty),
            (_, [array, subscripts @ ..]) if oid == ARRAY_ITEM => self.item(array, subscripts),
            _ => format!("{name}({})", self.list(args)),
        }
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

    fn cast(&self, arg: &Expr, ty: SqlType) -> String {
        let shown = self.show(arg);
        let ty = format_type(ty);
        if let (Style::Stored, Expr::Const(..)) = (self.style, arg) {
            // A constant of that very type is written with it already.
            return if shown.ends_with(&format!("::{ty}")) {
                shown
            } else {
                format!("({shown})::{ty}")
            };
        }
        let bare = matches!(arg, Expr::Param(..)) || shown.starts_with('(');
        if self.style == Style::Plan && bare {
            return format!("{shown}::{ty}");
        }
        format!("({shown})::{ty}")
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
    let plain = name.chars().enumerate().all(|(i, c)| {
        c == '_' || c.is_ascii_lowercase() || (i > 0 && (c.is_ascii_digit() || c == '$'))
    });
    if plain && !name.is_empty() || name.starts_with('"') {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
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
