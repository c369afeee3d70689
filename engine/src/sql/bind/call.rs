//! Function and aggregate calls (`ParseFuncOrColumn`, `func_get_detail`). Manual, 10.3.

use super::binder::{Binder, Context};
use super::resolve::{self, Choice, Pathway};
use super::types::type_text;
use super::walk;
use super::window::Called;
use crate::ids::Oid;
use crate::sql::bound::{
    ColumnRef, Expr, FromItem, Range, RangeCall, RangeColumn, RangeSource, WindowCallee,
};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{self, FunctionCall};
use crate::types::datum::SqlType;
use crate::types::function::{Aggregate, CastContext, Function, Volatility};
use crate::types::windows::WindowFunction;
use crate::types::{aggregates, functions, oids, registry, windows};

type Result<T> = std::result::Result<T, SqlError>;

/// One way to read the call.
struct Candidate {
    target: Target,
    parameters: Vec<Oid>,
    /// How many arguments go into the variadic array.
    spread: Option<usize>,
    /// How many defaults fill the end.
    defaults: usize,
}

#[derive(Clone, Copy)]
enum Target {
    Function(&'static Function),
    Aggregate(&'static Aggregate),
    Window(&'static WindowFunction),
}

/// Names of parameters, where callers use them. Manual, 9.27.3 and 9.9.
const PARAMETER_NAMES: &[(&str, &[&str])] = &[
    ("pg_backup_start", &["label", "fast"]),
    ("pg_start_backup", &["label", "fast", "exclusive"]),
    ("pg_backup_stop", &["wait_for_archive"]),
    ("pg_stop_backup", &["exclusive", "wait_for_archive"]),
    ("pg_promote", &["wait", "wait_seconds"]),
    ("pg_terminate_backend", &["pid", "timeout"]),
    (
        "make_interval",
        &["years", "months", "weeks", "days", "hours", "mins", "secs"],
    ),
    ("make_date", &["year", "month", "day"]),
    ("make_time", &["hour", "min", "sec"]),
    (
        "make_timestamp",
        &["year", "month", "mday", "hour", "min", "sec"],
    ),
    (
        "make_timestamptz",
        &["year", "month", "mday", "hour", "min", "sec", "timezone"],
    ),
];

/// A set-returning function is called in it.
pub(super) fn calls_set(expr: &Expr) -> bool {
    walk::any(
        expr,
        &|e| matches!(e, Expr::Call { function, .. } if function.returns_set()),
    )
}

fn beside_spread_set(at: u32) -> SqlError {
    SqlError::unsupported(
        "fields of a set-returning function's rows beside another set are not supported",
    )
    .hint("Call the functions in FROM.")
    .at(at)
}

impl Binder<'_> {
    /// A call that other syntax stands for.
    pub(super) fn system_function(
        &mut self,
        name: &str,
        args: &[ast::Expr],
        at: u32,
    ) -> Result<Expr> {
        let ident = |name: &str| ast::Ident {
            name: name.to_owned(),
            at,
        };
        let call = FunctionCall {
            name: ast::ObjectName {
                database: None,
                schema: Some(ident("pg_catalog")),
                name: ident(name),
            },
            sql_syntax: true,
            args: args
                .iter()
                .map(|value| ast::Argument {
                    name: None,
                    value: value.clone(),
                })
                .collect(),
            star: false,
            variadic: false,
            distinct: false,
            order_by: Vec::new(),
            within_group: false,
            filter: None,
            over: None,
        };
        self.bind_call(&call, at)
    }

    pub(super) fn bind_call(&mut self, call: &FunctionCall, at: u32) -> Result<Expr> {
        if call.within_group {
            return Err(SqlError::unsupported("ordered-set aggregates are not supported").at(at));
        }
        let name = call.name.name.name.as_str();
        let in_catalog = call.name.schema_name().is_none_or(|s| s == "pg_catalog");
        self.check_schema(call, in_catalog, at)?;
        let marks = self.marks();
        let (args, set_inside) = self.arguments_of(call, in_catalog)?;
        let types: Vec<Oid> = args.iter().map(|(e, _)| e.ty().oid).collect();
        if name.contains("json") {
            refuse_named_rows(call, &types, at)?;
        }
        let candidates = if in_catalog {
            candidates(name, types.len(), call.variadic)
        } else {
            Vec::new()
        };
        let chosen = candidates
            .iter()
            .position(|c| c.parameters == types)
            .map(Choice::One);
        let choice = match chosen {
            Some(choice) => choice,
            None => {
                if let Some(cast) = self.call_as_cast(call, &args, at)? {
                    return Ok(cast);
                }
                let slices: Vec<&[Oid]> =
                    candidates.iter().map(|c| c.parameters.as_slice()).collect();
                prefer_plain(&candidates, resolve::choose(&types, &slices), &types)
            }
        };
        let candidate = match choice {
            Choice::One(i) => &candidates[i],
            Choice::None => return Err(no_function(call, &types, at)),
            Choice::Ambiguous => {
                return Err(SqlError::new(
                    state::AMBIGUOUS_FUNCTION,
                    format!("function {} is not unique", signature(call, &types)),
                )
                .hint("Could not choose a best candidate function. You might need to add explicit type casts.")
                .at(at));
            }
        };
        match candidate.target {
            Target::Aggregate(aggregate) if call.over.is_none() => {
                self.aggregate_call(call, aggregate, &candidate.parameters, args, &marks, at)
            }
            Target::Aggregate(aggregate) => {
                let callee = WindowCallee::Aggregate(aggregate);
                let called = Called {
                    callee,
                    set_inside,
                    at,
                };
                self.window_call(call, called, &candidate.parameters, args, &marks)
            }
            Target::Window(function) => {
                let callee = WindowCallee::Function(function);
                let called = Called {
                    callee,
                    set_inside,
                    at,
                };
                self.window_call(call, called, &candidate.parameters, args, &marks)
            }
            Target::Function(function) => {
                let bound = self.function_call(call, function, candidate, args, at)?;
                match (self.as_written, call.sql_syntax) {
                    (false, _) => Ok(bound),
                    (true, false) => super::written::by_name(bound),
                    (true, true) => super::written::in_words(call, bound),
                }
            }
        }
    }

    fn check_schema(&self, call: &FunctionCall, in_catalog: bool, at: u32) -> Result<()> {
        if let Some(schema) = call.name.schema_name()
            && !in_catalog
            && self.catalog.schema_named(schema)?.is_none()
        {
            return Err(SqlError::new(
                state::INVALID_SCHEMA_NAME,
                format!("schema \"{schema}\" does not exist"),
            )
            .at(at));
        }
        Ok(())
    }

    /// The arguments, and where a set-returning function stands among them.
    fn arguments_of(
        &mut self,
        call: &FunctionCall,
        in_catalog: bool,
    ) -> Result<(Vec<(Expr, u32)>, Option<u32>)> {
        let name = call.name.name.name.as_str();
        let is_aggregate = in_catalog
            && call.over.is_none()
            && !aggregates::named(name).is_empty()
            && functions::named(name).is_empty();
        let last_set = self.last_set.take();
        let in_aggregate = self.scope_ref().in_aggregate;
        if is_aggregate {
            self.scope().in_aggregate = true;
        }
        let args = self.call_arguments(call, in_catalog);
        self.scope().in_aggregate = in_aggregate;
        let args = args?;
        let set_inside = self.last_set;
        if last_set.is_some() {
            self.last_set = last_set;
        }
        Ok((args, set_inside))
    }

    /// Arguments in the order of the parameters.
    fn call_arguments(
        &mut self,
        call: &FunctionCall,
        in_catalog: bool,
    ) -> Result<Vec<(Expr, u32)>> {
        if call.args.iter().all(|a| a.name.is_none()) {
            return call.args.iter().map(|a| self.operand(&a.value)).collect();
        }
        let name = call.name.name.name.as_str();
        let names = PARAMETER_NAMES
            .iter()
            .find(|(f, _)| in_catalog && *f == name)
            .map_or(&[][..], |(_, names)| names);
        let mut slots: Vec<Option<(Expr, u32)>> = Vec::new();
        for argument in &call.args {
            let value = self.operand(&argument.value)?;
            let position = match &argument.name {
                None => slots.len(),
                Some(wanted) => names
                    .iter()
                    .position(|n| *n == wanted.name)
                    .ok_or_else(|| no_function(call, &[], call.name.at()))?,
            };
            if slots.len() <= position {
                slots.resize(position + 1, None);
            }
            slots[position] = Some(value);
        }
        self.fill_named_gaps(call, slots)
    }

    /// Parameters that were left out before one that was named take their defaults.
    fn fill_named_gaps(
        &mut self,
        call: &FunctionCall,
        slots: Vec<Option<(Expr, u32)>>,
    ) -> Result<Vec<(Expr, u32)>> {
        let at = call.name.at();
        let longest = functions::named(&call.name.name.name)
            .iter()
            .filter(|f| f.args.len() >= slots.len())
            .max_by_key(|f| f.defaults.len())
            .copied();
        let mut out = Vec::with_capacity(slots.len());
        for (i, slot) in slots.into_iter().enumerate() {
            out.push(match (slot, longest) {
                (Some(value), _) => value,
                (None, Some(f)) if i + f.defaults.len() >= f.args.len() => {
                    let text = f.defaults[i + f.defaults.len() - f.args.len()];
                    (self.default_argument(text, f.args[i])?, at)
                }
                (None, _) => return Err(no_function(call, &[], at)),
            });
        }
        Ok(out)
    }

    fn default_argument(&mut self, text: &str, ty: Oid) -> Result<Expr> {
        let parsed = crate::sql::front::parse_expression(text)?;
        let expr = self.bind(&parsed)?;
        self.implicit(expr, ty, 0)
    }

    /// `int4(x)`: a type's name as a function of one argument.
    fn call_as_cast(
        &mut self,
        call: &FunctionCall,
        args: &[(Expr, u32)],
        at: u32,
    ) -> Result<Option<Expr>> {
        let [(arg, arg_at)] = args else {
            return Ok(None);
        };
        if call.sql_syntax || call.star || call.args[0].name.is_some() {
            return Ok(None);
        }
        let in_catalog = call.name.schema_name().is_none_or(|s| s == "pg_catalog");
        let found = registry::by_name(&call.name.name.name).filter(|t| t.kind == b'b');
        let (true, Some(ty)) = (in_catalog, found) else {
            return Ok(None);
        };
        let source = arg.ty().oid;
        let possible = source == oids::UNKNOWN
            || matches!(
                resolve::pathway(source, ty.oid, CastContext::Explicit),
                Some(Pathway::Relabel | Pathway::Text)
            );
        if !possible {
            return Ok(None);
        }
        self.explicit(arg.clone(), SqlType::plain(ty.oid), *arg_at, at)
            .map(Some)
    }

    fn function_call(
        &mut self,
        call: &FunctionCall,
        function: &'static Function,
        candidate: &Candidate,
        args: Vec<(Expr, u32)>,
        at: u32,
    ) -> Result<Expr> {
        let shown = call.name.to_string();
        if call.star {
            return Err(wrong_kind(
                format!("{shown}(*) specified, but {shown} is not an aggregate function"),
                at,
            ));
        }
        for (given, what) in [
            (call.distinct, "DISTINCT"),
            (!call.order_by.is_empty(), "ORDER BY"),
            (call.filter.is_some(), "FILTER"),
        ] {
            if given {
                return Err(wrong_kind(
                    format!("{what} specified, but {shown} is not an aggregate function"),
                    at,
                ));
            }
        }
        if call.over.is_some() {
            return Err(wrong_kind(
                format!(
                    "OVER specified, but {shown} is not a window function nor an aggregate function"
                ),
                at,
            ));
        }
        let inputs: Vec<Oid> = args.iter().map(|(e, _)| e.ty().oid).collect();
        let types = resolve::polymorphic_types(&inputs, &candidate.parameters)
            .map_err(|_| no_function(call, &inputs, at))?;
        let mut bound = Vec::with_capacity(function.args.len());
        for ((arg, arg_at), declared) in args.into_iter().zip(&candidate.parameters) {
            let ty = types.actual(*declared).ok_or_else(undetermined)?;
            bound.push(self.implicit(arg, ty, arg_at)?);
        }
        if let Some(count) = candidate.spread {
            self.gather_variadic(function, &mut bound, count)?;
        }
        let missing = function.defaults.len() - candidate.defaults;
        for (text, ty) in function.defaults[missing..]
            .iter()
            .zip(&function.args[function.args.len() - candidate.defaults..])
        {
            bound.push(self.default_argument(text, *ty)?);
        }
        let ty = types.actual(function.returns).ok_or_else(undetermined)?;
        let ty = SqlType::plain(ty);
        if function.returns_set() {
            return self.set_call(function, bound, ty, at);
        }
        Ok(Expr::Call {
            function,
            args: bound,
            ty,
        })
    }

    /// The variadic arguments become one array, unless the parameter takes anything.
    fn gather_variadic(
        &mut self,
        function: &'static Function,
        bound: &mut Vec<Expr>,
        count: usize,
    ) -> Result<()> {
        if function.variadic == oids::ANY {
            return Ok(());
        }
        let items = bound.split_off(bound.len() - count);
        let element = items.first().map_or(function.variadic, |e| e.ty().oid);
        let array = resolve::array_of(element)
            .ok_or_else(|| SqlError::internal("a variadic parameter without an array type"))?;
        bound.push(Expr::ArrayLiteral {
            items,
            ty: SqlType::plain(array),
        });
        Ok(())
    }

    /// A set-returning function: the planner makes rows of it.
    fn set_call(
        &mut self,
        function: &'static Function,
        args: Vec<Expr>,
        ty: SqlType,
        at: u32,
    ) -> Result<Expr> {
        if self.context == Context::FunctionInFrom && self.conditional.is_none() {
            if args.iter().any(calls_set) {
                return Err(self.not_at_top(at));
            }
            self.set_in_from = Some(at);
            return Ok(Expr::Call { function, args, ty });
        }
        self.check_set_place(at)?;
        self.last_set = Some(at);
        if self.spreads_set() {
            return Err(beside_spread_set(at));
        }
        if ty.oid == oids::RECORD {
            return Err(SqlError::unsupported(
                "a set-returning function of rows in a select list is not supported",
            )
            .hint("Call it in FROM.")
            .at(at));
        }
        self.scope().calls_sets = true;
        Ok(Expr::Call { function, args, ty })
    }

    /// Whether a set-returning function may be called here, outside FROM.
    fn check_set_place(&self, at: u32) -> Result<()> {
        let refuse = |what: &str| {
            SqlError::new(
                state::FEATURE_NOT_SUPPORTED,
                format!("set-returning functions are not allowed in {what}"),
            )
            .at(at)
        };
        if let Some(what) = self.conditional {
            return Err(refuse(what).hint(
                "You might be able to move the set-returning function into a LATERAL FROM item.",
            ));
        }
        if self.scope_ref().in_aggregate {
            return Err(SqlError::new(
                state::FEATURE_NOT_SUPPORTED,
                "aggregate function calls cannot contain set-returning function calls",
            )
            .hint("You might be able to move the set-returning function into a LATERAL FROM item.")
            .at(at));
        }
        if !self.context.allows_sets() {
            return Err(refuse(self.context.name_without_sets()));
        }
        Ok(())
    }

    /// 0A000 for a set inside of the expression that FROM calls.
    pub(super) fn check_sets_at_top(&self, expr: &Expr, at: u32) -> Result<()> {
        let inside = match expr {
            Expr::Call { args, .. } => args.as_slice(),
            other => std::slice::from_ref(other),
        };
        match inside.iter().any(calls_set) {
            true => Err(self.not_at_top(at)),
            false => Ok(()),
        }
    }

    /// A set inside of an expression in FROM; without a better place it stands at `at`.
    fn not_at_top(&self, at: u32) -> SqlError {
        SqlError::new(
            state::FEATURE_NOT_SUPPORTED,
            "set-returning functions must appear at top level of FROM",
        )
        .at(self.set_in_from.unwrap_or(at))
    }

    /// A range made of the select list gives a set: another set would be joined with it, and not stand beside it.
    fn spreads_set(&self) -> bool {
        let scope = self.scope_ref();
        scope.set_ranges.iter().any(|item| match item {
            FromItem::Range(range) => matches!(
                &scope.ranges[*range].source,
                RangeSource::Function { calls, .. }
                    if calls.iter().filter_map(RangeCall::function).any(Function::returns_set)
            ),
            FromItem::Join(_) => false,
        })
    }

    /// The range that an earlier field of the same call was made into: their rows are the same rows.
    fn range_of_call(&self, function: &Function, args: &[Expr]) -> Option<usize> {
        let repeatable = function.volatility != Volatility::Volatile
            && !args.iter().any(super::expr::is_volatile);
        if !repeatable {
            return None;
        }
        let scope = self.scope_ref();
        let same_as = |range: usize| {
            let RangeSource::Function { calls, .. } = &scope.ranges[range].source else {
                return false;
            };
            calls.iter().any(|c| match &c.call {
                Expr::Call {
                    function: other,
                    args: others,
                    ..
                } => {
                    other.oid == function.oid
                        && others.len() == args.len()
                        && others.iter().zip(args).all(|(a, b)| walk::same(a, b))
                }
                _ => false,
            })
        };
        scope.set_ranges.iter().find_map(|item| match item {
            FromItem::Range(range) if same_as(*range) => Some(*range),
            _ => None,
        })
    }

    /// `(f(...)).field` for a function with OUT columns, called once in FROM.
    pub(super) fn function_field(
        &mut self,
        call: &FunctionCall,
        field: &ast::Ident,
        at: u32,
    ) -> Result<Option<Expr>> {
        let out = functions::named(&call.name.name.name)
            .iter()
            .any(|f| !f.out.is_empty());
        if !out || self.context != Context::Select {
            return Ok(None);
        }
        let bound = self.within(Context::FunctionInFrom, |b| b.bind_call(call, at))?;
        let Expr::Call {
            function,
            args,
            ty: row,
        } = bound
        else {
            return Ok(None);
        };
        if function.returns_set() {
            self.check_set_place(at)?;
        }
        if args.iter().any(|e| self.has_columns(e)) {
            return Err(SqlError::unsupported(
                "fields of a function's row are not supported where its arguments are columns",
            )
            .hint("Call it in FROM.")
            .at(at));
        }
        let Some(column) = function.out.iter().position(|(n, _)| *n == field.name) else {
            return Err(SqlError::new(
                state::UNDEFINED_COLUMN,
                format!("column \"{}\" not found in data type record", field.name),
            )
            .at(at));
        };
        let ty = SqlType::plain(function.out[column].1);
        if let Some(range) = self.range_of_call(function, &args) {
            return Ok(Some(Expr::Column(ColumnRef { range, column, ty })));
        }
        if function.returns_set() && (self.scope_ref().calls_sets || self.spreads_set()) {
            return Err(beside_spread_set(at));
        }
        let columns: Vec<RangeColumn> = function
            .out
            .iter()
            .map(|(n, ty)| RangeColumn {
                name: (*n).to_owned(),
                ty: SqlType::plain(*ty),
            })
            .collect();
        let range = self.add_range(Range {
            alias: function.name.to_owned(),
            source: RangeSource::Function {
                calls: vec![RangeCall {
                    call: Expr::Call {
                        function,
                        args,
                        ty: row,
                    },
                    columns: columns.len(),
                }],
                with_ordinality: false,
            },
            columns,
        });
        self.scope().set_ranges.push(FromItem::Range(range));
        Ok(Some(Expr::Column(ColumnRef { range, column, ty })))
    }
}

fn candidates(name: &str, arguments: usize, variadic_call: bool) -> Vec<Candidate> {
    let mut out: Vec<Candidate> = aggregates::named(name)
        .iter()
        .filter(|a| a.args.len() == arguments)
        .map(|a| Candidate {
            target: Target::Aggregate(a),
            parameters: a.args.to_vec(),
            spread: None,
            defaults: 0,
        })
        .collect();
    out.extend(
        windows::named(name)
            .iter()
            .filter(|w| w.args.len() == arguments)
            .map(|w| Candidate {
                target: Target::Window(w),
                parameters: w.args.to_vec(),
                spread: None,
                defaults: 0,
            }),
    );
    for f in functions::named(name) {
        let n = f.args.len();
        if n == arguments && (f.variadic == Oid::INVALID || variadic_call) {
            out.push(Candidate {
                target: Target::Function(f),
                parameters: f.args.to_vec(),
                spread: None,
                defaults: 0,
            });
        } else if arguments < n && n - arguments <= f.defaults.len() {
            out.push(Candidate {
                target: Target::Function(f),
                parameters: f.args[..arguments].to_vec(),
                spread: None,
                defaults: n - arguments,
            });
        } else if f.variadic != Oid::INVALID && !variadic_call && arguments >= n {
            let fixed = n - 1;
            let mut parameters = f.args[..fixed].to_vec();
            parameters.resize(arguments, f.variadic);
            out.push(Candidate {
                target: Target::Function(f),
                parameters,
                spread: Some(arguments - fixed),
                defaults: 0,
            });
        }
    }
    out
}

/// Of two that fit alike, the one without VARIADIC wins.
fn prefer_plain(candidates: &[Candidate], choice: Choice, types: &[Oid]) -> Choice {
    if choice != Choice::Ambiguous {
        return choice;
    }
    let plain: Vec<usize> = (0..candidates.len())
        .filter(|i| candidates[*i].spread.is_none())
        .collect();
    if plain.len() == candidates.len() || plain.is_empty() {
        return choice;
    }
    let slices: Vec<&[Oid]> = plain
        .iter()
        .map(|i| candidates[*i].parameters.as_slice())
        .collect();
    match resolve::choose(types, &slices) {
        Choice::One(i) => Choice::One(plain[i]),
        _ => choice,
    }
}

pub(super) fn wrong_kind(message: String, at: u32) -> SqlError {
    SqlError::new(state::WRONG_OBJECT_TYPE, message).at(at)
}

/// Says nowhere where, as in PostgreSQL.
pub(super) fn undetermined() -> SqlError {
    SqlError::new(
        state::DATATYPE_MISMATCH,
        "could not determine polymorphic type because input has type unknown",
    )
}

fn signature(call: &FunctionCall, types: &[Oid]) -> String {
    let mut shown: Vec<String> = types
        .iter()
        .map(|t| type_text(SqlType::plain(*t)))
        .collect();
    for (text, argument) in shown.iter_mut().zip(&call.args) {
        if let Some(name) = &argument.name {
            *text = format!("{} => {text}", name.name);
        }
    }
    format!("{}({})", call.name, shown.join(", "))
}

pub(super) fn no_function(call: &FunctionCall, types: &[Oid], at: u32) -> SqlError {
    let in_catalog = call.name.schema_name().is_none_or(|s| s == "pg_catalog");
    let name = call.name.name.name.as_str();
    if in_catalog && functions::is_absent(name) {
        let what = format!("function {}() is not implemented", call.name.name.name);
        return SqlError::unsupported(what).at(at);
    }
    // The window functions of these names are not all that PostgreSQL has by them.
    let hypothetical = matches!(name, "rank" | "dense_rank" | "percent_rank" | "cume_dist");
    if in_catalog && hypothetical && !call.args.is_empty() {
        return SqlError::unsupported("ordered-set aggregates are not supported").at(at);
    }
    SqlError::new(
        state::UNDEFINED_FUNCTION,
        format!("function {} does not exist", signature(call, types)),
    )
    .hint("No function matches the given name and argument types. You might need to add explicit type casts.")
    .at(at)
}

/// A row value carries no names of its columns, which JSON would need; ROW(...) has none in PostgreSQL either.
fn refuse_named_rows(call: &FunctionCall, types: &[Oid], at: u32) -> Result<()> {
    let named = |(argument, ty): (&ast::Argument, &Oid)| {
        *ty == oids::RECORD && !matches!(argument.value.kind, ast::ExprKind::Row { .. })
    };
    if call.args.iter().zip(types).any(named) {
        return Err(
            SqlError::unsupported("rows of a table as JSON are not supported")
                .hint("Use json_build_object() with the columns.")
                .at(at),
        );
    }
    Ok(())
}
