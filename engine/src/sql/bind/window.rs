//! Window functions and the windows that they are over (`transformWindowFuncCall`, `transformWindowDefinitions`).
//! Manual, 4.2.8 and 7.2.5.
//!
//! A window function belongs to the level in which it stands, whatever it reads. A window of OVER is analyzed where it
//! stands, after the one of WINDOW that it begins with; those of WINDOW that nothing begins with when all else has been.

use std::sync::Arc;

use super::aggregate::Marks;
use super::binder::{Binder, Context, WindowEntry};
use super::call::{calls_set, no_function, undetermined, wrong_kind};
use super::resolve;
use super::targets::{direction, require_equality, require_order};
use super::types::type_text;
use super::walk;
use crate::ids::Oid;
use crate::sql::bound::{
    Expr, Frame, FrameBound, FrameMode, Window, WindowCall, WindowCallee, WindowOrder, Windowing,
};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{self, ExprKind, FunctionCall, Ident, Over};
use crate::sql::front::location_as_written;
use crate::types::datum::SqlType;
use crate::types::function::{CastContext, Volatility};
use crate::types::{in_range, oids, registry};

type Result<T> = std::result::Result<T, SqlError>;

/// What a call with OVER came to mean.
pub(super) struct Called {
    pub callee: WindowCallee,
    /// Where a set-returning function stands among its arguments.
    pub set_inside: Option<u32>,
    pub at: u32,
}

fn windowing(message: impl Into<String>, at: u32) -> SqlError {
    SqlError::new(state::WINDOWING_ERROR, message).at(at)
}

fn no_window(name: &str, at: u32) -> SqlError {
    let message = format!("window \"{name}\" does not exist");
    SqlError::new(state::UNDEFINED_OBJECT, message).at(at)
}

impl WindowEntry {
    pub fn named((name, window): &(Ident, ast::Window)) -> WindowEntry {
        WindowEntry {
            name: Some(name.name.clone()),
            window: Arc::new(window.clone()),
            bound: None,
        }
    }

    fn has_frame(&self) -> bool {
        self.window.frame.is_some()
    }
}

impl Binder<'_> {
    /// Where the first of this level's window functions stands from `place` on.
    pub(super) fn window_from(&self, place: u32) -> u32 {
        let own = self.level_number();
        let behind = self.windows.iter();
        let behind = behind.filter(|(level, at)| *level == own && *at >= place);
        behind.map(|(_, at)| *at).min().unwrap_or(place)
    }

    pub(super) fn window_call(
        &mut self,
        call: &FunctionCall,
        called: Called,
        parameters: &[Oid],
        args: Vec<(Expr, u32)>,
        marks: &Marks,
    ) -> Result<Expr> {
        let Called {
            callee,
            set_inside,
            at,
        } = called;
        let Some(over) = call.over.as_deref() else {
            let shown = call.name.to_string();
            let message = format!("window function {shown} requires an OVER clause");
            return Err(wrong_kind(message, at));
        };
        let (args, ty) = self.window_arguments(call, callee, parameters, args, at)?;
        check_clauses(call, callee, at)?;
        if let Some(place) = set_inside {
            return Err(SqlError::unsupported(
                "window function calls cannot contain set-returning function calls",
            )
            .hint("You might be able to move the set-returning function into a LATERAL FROM item.")
            .at(place));
        }
        let filter = match &call.filter {
            Some(filter) => {
                Some(self.within(Context::Filter, |b| b.bind_boolean(filter, "FILTER"))?)
            }
            None => None,
        };
        if let Some(inner) = self.window_since(marks) {
            return Err(windowing("window function calls cannot be nested", inner));
        }
        if !self.context.allows_windows() {
            let name = self.context.name_without_windows();
            let message = format!("window functions are not allowed in {name}");
            return Err(windowing(message, at));
        }
        let window = self.window_of(over)?;
        let level = self.level_number();
        self.windows.push((level, at));
        self.scope().has_windows = true;
        let new = WindowCall {
            callee,
            window,
            args,
            filter,
            ty,
        };
        // ORDER BY and DISTINCT ON find the one in the select list; there each is computed for itself.
        let stands_alone = self.context == Context::Select && is_volatile(&new);
        let calls = &mut self.scope().window_calls;
        let known = calls.iter().position(|known| same_call(known, &new));
        let number = match known.filter(|_| !stands_alone) {
            Some(known) => known,
            None => {
                calls.push(new);
                calls.len() - 1
            }
        };
        Ok(Expr::Window(number, ty))
    }

    fn window_arguments(
        &mut self,
        call: &FunctionCall,
        callee: WindowCallee,
        parameters: &[Oid],
        args: Vec<(Expr, u32)>,
        at: u32,
    ) -> Result<(Vec<Expr>, SqlType)> {
        let inputs: Vec<Oid> = args.iter().map(|(e, _)| e.ty().oid).collect();
        let types = resolve::polymorphic_types(&inputs, parameters)
            .map_err(|_| no_function(call, &inputs, at))?;
        let mut bound = Vec::with_capacity(args.len());
        for ((arg, arg_at), declared) in args.into_iter().zip(parameters) {
            let ty = types.actual(*declared).ok_or_else(undetermined)?;
            bound.push(match ty {
                oids::ANY => self.settle(arg, arg_at)?,
                ty => self.implicit(arg, ty, arg_at)?,
            });
        }
        let returns = match callee {
            WindowCallee::Function(f) => f.returns,
            WindowCallee::Aggregate(a) => a.returns,
        };
        let ty = types.actual(returns).ok_or_else(undetermined)?;
        Ok((bound, SqlType::plain(ty)))
    }

    /// The number of the window that stands behind OVER: ORDER BY finds a call in the select list by it.
    fn window_of(&mut self, over: &Over) -> Result<usize> {
        let window = match over {
            Over::Name(name) => {
                let mut known = self.scope_ref().windows.iter();
                let found = known.position(|w| w.name.as_ref() == Some(&name.name));
                return found.ok_or_else(|| no_window(&name.name, name.at));
            }
            Over::Window(window) => Arc::new((**window).clone()),
        };
        let windows = &mut self.scope().windows;
        let number = windows.len();
        windows.push(WindowEntry {
            name: None,
            window,
            bound: None,
        });
        self.define_window(number)?;
        let windows = &mut self.scope().windows;
        let new = &windows[number];
        let known = windows[..number].iter().position(|w| same_over(w, new));
        if known.is_some() {
            windows.pop();
        }
        Ok(known.unwrap_or(number))
    }

    /// The level's windows, unused ones among them, and its window functions.
    pub(super) fn window_definitions(&mut self) -> Result<Windowing> {
        for number in 0..self.scope_ref().windows.len() {
            self.define_window(number)?;
        }
        let scope = self.scope();
        let windows = std::mem::take(&mut scope.windows).into_iter();
        let windows = windows.filter_map(|w| w.bound).map(Arc::unwrap_or_clone);
        Ok(Windowing {
            windows: windows.collect(),
            calls: std::mem::take(&mut scope.window_calls),
        })
    }

    /// Binds a window, and first those before it that it begins with: a chain may be as long as a statement.
    fn define_window(&mut self, number: usize) -> Result<()> {
        let mut chain = vec![number];
        while let Some(base) = self.base_of(chain[chain.len() - 1])? {
            if self.scope_ref().windows[base].bound.is_some() {
                break;
            }
            chain.push(base);
        }
        for number in chain.into_iter().rev() {
            self.bind_window(number)?;
        }
        Ok(())
    }

    /// The window that this one begins with, which stands before it.
    fn base_of(&self, number: usize) -> Result<Option<usize>> {
        let windows = &self.scope_ref().windows;
        let window = &windows[number].window;
        let Some(base) = &window.base else {
            return Ok(None);
        };
        let mut before = windows[..number].iter();
        let found = before.position(|w| w.name.as_ref() == Some(&base.name));
        found
            .map(Some)
            .ok_or_else(|| no_window(&base.name, window.at))
    }

    /// Binds a window whose base is bound.
    fn bind_window(&mut self, number: usize) -> Result<()> {
        let entry = self.scope_ref().windows[number].clone();
        if entry.bound.is_some() {
            return Ok(());
        }
        let window = Arc::clone(&entry.window);
        let mut before = self.scope_ref().windows[..number].iter();
        if let Some(name) = &entry.name
            && before.any(|w| w.name.as_ref() == Some(name))
        {
            let message = format!("window \"{name}\" is already defined");
            return Err(windowing(message, window.at));
        }
        let base = self.base_of(number)?;
        let mut order_by = self.window_order(&window.order_by)?;
        let mut partition_by = self.window_partition(&window.partition_by)?;
        if let Some(base) = base {
            let base = &self.scope_ref().windows[base];
            let clauses = (!partition_by.is_empty(), !order_by.is_empty());
            let bound = check_base(base, &entry, clauses)?;
            partition_by.clone_from(&bound.partition_by);
            if order_by.is_empty() {
                order_by.clone_from(&bound.order_by);
            }
        }
        let frame = match &window.frame {
            Some(frame) => self.frame(frame, &order_by, window.at)?,
            None => Frame::default(),
        };
        self.scope().windows[number].bound = Some(Arc::new(Window {
            partition_by,
            order_by,
            frame,
        }));
        Ok(())
    }

    fn window_key(&mut self, e: &ast::Expr, context: Context) -> Result<Expr> {
        let (key, at) = self.within(context, |b| b.operand(e))?;
        let key = self.settle(key, at)?;
        if calls_set(&key) {
            return Err(SqlError::unsupported(
                "set-returning functions in window definitions are not supported",
            )
            .hint("Call the function in FROM.")
            .at(at));
        }
        Ok(key)
    }

    fn window_order(&mut self, items: &[ast::OrderItem]) -> Result<Vec<WindowOrder>> {
        let mut out: Vec<WindowOrder> = Vec::with_capacity(items.len());
        for item in items {
            let expr = self.window_key(&item.expr, Context::WindowOrder)?;
            require_order(expr.ty(), location_as_written(&item.expr))?;
            let (descending, nulls_first) = direction(item)?;
            if !out.iter().any(|o| walk::same(&o.expr, &expr)) {
                out.push(WindowOrder {
                    expr,
                    descending,
                    nulls_first,
                });
            }
        }
        Ok(out)
    }

    fn window_partition(&mut self, items: &[ast::Expr]) -> Result<Vec<Expr>> {
        let mut out: Vec<Expr> = Vec::with_capacity(items.len());
        for item in items {
            // As in GROUP BY, `(a, b)` are both.
            let parts = match &item.kind {
                ExprKind::Row {
                    fields,
                    explicit: false,
                } => fields.as_slice(),
                _ => std::slice::from_ref(item),
            };
            for e in parts {
                let key = self.window_key(e, Context::WindowPartition)?;
                require_equality(key.ty(), location_as_written(e))?;
                if !out.iter().any(|k| walk::same(k, &key)) {
                    out.push(key);
                }
            }
        }
        Ok(out)
    }

    fn frame(&mut self, frame: &ast::Frame, order_by: &[WindowOrder], at: u32) -> Result<Frame> {
        let has_offset = [&frame.start, &frame.end].iter().any(|b| {
            matches!(
                b,
                ast::FrameBound::Preceding(_) | ast::FrameBound::Following(_)
            )
        });
        if frame.mode == FrameMode::Range && has_offset && order_by.len() != 1 {
            return Err(windowing(
                "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column",
                at,
            ));
        }
        if frame.mode == FrameMode::Groups && order_by.is_empty() {
            return Err(windowing("GROUPS mode requires an ORDER BY clause", at));
        }
        let key = order_by.first().map(|o| o.expr.ty().oid);
        Ok(Frame {
            mode: frame.mode,
            start: self.frame_bound(frame.mode, &frame.start, key)?,
            end: self.frame_bound(frame.mode, &frame.end, key)?,
            exclude: frame.exclude,
        })
    }

    fn frame_bound(
        &mut self,
        mode: FrameMode,
        bound: &ast::FrameBound,
        key: Option<Oid>,
    ) -> Result<FrameBound> {
        Ok(match bound {
            ast::FrameBound::UnboundedPreceding => FrameBound::UnboundedPreceding,
            ast::FrameBound::CurrentRow => FrameBound::CurrentRow,
            ast::FrameBound::UnboundedFollowing => FrameBound::UnboundedFollowing,
            ast::FrameBound::Preceding(e) => {
                FrameBound::Preceding(self.frame_offset(mode, e, key)?)
            }
            ast::FrameBound::Following(e) => {
                FrameBound::Following(self.frame_offset(mode, e, key)?)
            }
        })
    }

    /// `transformFrameOffset`
    fn frame_offset(&mut self, mode: FrameMode, e: &ast::Expr, key: Option<Oid>) -> Result<Expr> {
        let (context, label) = match mode {
            FrameMode::Rows => (Context::WindowRows, "ROWS"),
            FrameMode::Range => (Context::WindowRange, "RANGE"),
            FrameMode::Groups => (Context::WindowGroups, "GROUPS"),
        };
        self.without_columns(e, label, |b| {
            b.within(context, |b| match (mode, key) {
                (FrameMode::Range, Some(key)) => b.range_offset(e, key),
                _ => b.specific(e, oids::INT8, label),
            })
        })
    }

    /// An offset as a type that the order's one column can be compared by.
    fn range_offset(&mut self, e: &ast::Expr, key: Oid) -> Result<Expr> {
        let (offset, at) = self.operand(e)?;
        let given = offset.ty().oid;
        let candidates = in_range::offsets(key);
        let column = type_text(SqlType::plain(order_input(key)));
        let what = "RANGE with offset PRECEDING/FOLLOWING";
        if candidates.is_empty() {
            let message = format!("{what} is not supported for column type {column}");
            return Err(SqlError::unsupported(message).at(at));
        }
        let fits = |ty: Oid| {
            given == ty
                || given == oids::UNKNOWN
                || resolve::pathway(given, ty, CastContext::Implicit).is_some()
        };
        let fitting: Vec<Oid> = candidates
            .iter()
            .map(|(ty, _)| *ty)
            .filter(|ty| fits(*ty))
            .collect();
        let preferred = if given == oids::UNKNOWN { key } else { given };
        let chosen = match fitting.as_slice() {
            [only] => *only,
            many if many.contains(&preferred) => preferred,
            [] => {
                let offset = type_text(SqlType::plain(given));
                let message = format!(
                    "{what} is not supported for column type {column} and offset type {offset}"
                );
                return Err(SqlError::unsupported(message)
                    .hint("Cast the offset value to an appropriate type.")
                    .at(at));
            }
            _ => {
                let offset = type_text(SqlType::plain(given));
                let message = format!(
                    "{what} has multiple interpretations for column type {column} and offset type {offset}"
                );
                return Err(SqlError::unsupported(message)
                    .hint("Cast the offset value to the exact intended type.")
                    .at(at));
            }
        };
        self.implicit(offset, chosen, at)
    }
}

/// What the order's operators take: the messages name that.
fn order_input(key: Oid) -> Oid {
    match key {
        oids::VARCHAR => oids::TEXT,
        _ if registry::element_of(key).is_some() => oids::ANYARRAY,
        _ => key,
    }
}

/// Clauses that a call has and a window function cannot.
fn check_clauses(call: &FunctionCall, callee: WindowCallee, at: u32) -> Result<()> {
    if call.distinct {
        let what = "DISTINCT is not implemented for window functions";
        return Err(SqlError::unsupported(what).at(at));
    }
    let is_aggregate = matches!(callee, WindowCallee::Aggregate(_));
    if is_aggregate && call.args.is_empty() && !call.star {
        let shown = call.name.to_string();
        let message = format!("{shown}(*) must be used to call a parameterless aggregate function");
        return Err(wrong_kind(message, at));
    }
    if !call.order_by.is_empty() {
        let what = "aggregate ORDER BY is not implemented for window functions";
        return Err(SqlError::unsupported(what).at(at));
    }
    if !is_aggregate && call.filter.is_some() {
        let what = "FILTER is not implemented for non-aggregate window functions";
        return Err(SqlError::unsupported(what).at(at));
    }
    Ok(())
}

/// The window that another one begins with, if it may. `clauses`: that has a PARTITION BY, an ORDER BY of its own.
fn check_base<'w>(
    base: &'w WindowEntry,
    entry: &WindowEntry,
    clauses: (bool, bool),
) -> Result<&'w Window> {
    let (partitions, orders) = clauses;
    let Some(bound) = base.bound.as_deref() else {
        return Err(SqlError::internal("a window is not bound"));
    };
    let name = base.name.as_deref().unwrap_or_default();
    let at = entry.window.at;
    if partitions {
        let message = format!("cannot override PARTITION BY clause of window \"{name}\"");
        return Err(windowing(message, at));
    }
    if orders && !bound.order_by.is_empty() {
        let message = format!("cannot override ORDER BY clause of window \"{name}\"");
        return Err(windowing(message, at));
    }
    if !base.has_frame() {
        return Ok(bound);
    }
    let message = format!("cannot copy window \"{name}\" because it has a frame clause");
    let error = windowing(message, at);
    // `OVER (w)` is not `OVER w`.
    let is_bare = entry.name.is_none() && !orders && !entry.has_frame();
    Err(match is_bare {
        true => error.hint("Omit the parentheses in this OVER clause."),
        false => error,
    })
}

impl Windowing {
    /// Leaves out windows that nothing is over, and of those that are the same all but one; the same of calls, which
    /// `targets` read by their numbers.
    pub(super) fn settle(&mut self) -> Vec<usize> {
        let mut windows: Vec<Window> = Vec::new();
        let mut calls: Vec<WindowCall> = Vec::new();
        let mut numbers = Vec::with_capacity(self.calls.len());
        for mut call in std::mem::take(&mut self.calls) {
            let window = &self.windows[call.window];
            call.window = match windows.iter().position(|w| same_window(w, window)) {
                Some(known) => known,
                None => {
                    windows.push(window.clone());
                    windows.len() - 1
                }
            };
            let known = match is_volatile(&call) {
                true => None,
                false => calls.iter().position(|c| same_call(c, &call)),
            };
            numbers.push(known.unwrap_or(calls.len()));
            if known.is_none() {
                calls.push(call);
            }
        }
        *self = Windowing { windows, calls };
        numbers
    }
}

fn same_list(a: &[Expr], b: &[Expr]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| walk::same(a, b))
}

fn same_call(a: &WindowCall, b: &WindowCall) -> bool {
    let filters = match (&a.filter, &b.filter) {
        (None, None) => true,
        (Some(a), Some(b)) => walk::same(a, b),
        _ => false,
    };
    a.callee.oid() == b.callee.oid()
        && a.window == b.window
        && a.ty == b.ty
        && filters
        && same_list(&a.args, &b.args)
}

/// It may give something else each time it is computed.
fn is_volatile(call: &WindowCall) -> bool {
    let volatile = |e: &Expr| matches!(e, Expr::Call { function, .. } if function.volatility == Volatility::Volatile);
    let mut parts = call.args.iter().chain(&call.filter);
    parts.any(|e| walk::any(e, &volatile))
}

/// Two windows of OVER that begin alike and mean the same.
fn same_over(a: &WindowEntry, b: &WindowEntry) -> bool {
    let base = |w: &WindowEntry| w.window.base.as_ref().map(|b| b.name.clone());
    let bound = match (&a.bound, &b.bound) {
        (Some(a), Some(b)) => same_window(a, b),
        _ => false,
    };
    a.name.is_none() && b.name.is_none() && base(a) == base(b) && bound
}

fn same_window(a: &Window, b: &Window) -> bool {
    let orders = a.order_by.len() == b.order_by.len()
        && a.order_by.iter().zip(&b.order_by).all(|(a, b)| {
            a.descending == b.descending
                && a.nulls_first == b.nulls_first
                && walk::same(&a.expr, &b.expr)
        });
    orders && same_list(&a.partition_by, &b.partition_by) && same_frame(&a.frame, &b.frame)
}

fn same_frame(a: &Frame, b: &Frame) -> bool {
    let same_bound = |a: &FrameBound, b: &FrameBound| {
        let offsets = match (a.offset(), b.offset()) {
            (None, None) => true,
            (Some(a), Some(b)) => walk::same(a, b),
            _ => false,
        };
        std::mem::discriminant(a) == std::mem::discriminant(b) && offsets
    };
    a.mode == b.mode
        && a.exclude == b.exclude
        && same_bound(&a.start, &b.start)
        && same_bound(&a.end, &b.end)
}
