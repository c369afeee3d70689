//! Scalar expressions.

use super::query::{OrderItem, Query};
use crate::sql::bound::{Exclusion, FrameMode};

/// An identifier, folded, with the byte offset of its first character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ident {
    pub name: String,
    pub at: u32,
}

/// `name`, `schema.name` or `database.schema.name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    pub database: Option<Ident>,
    pub schema: Option<Ident>,
    pub name: Ident,
}

impl ObjectName {
    pub fn at(&self) -> u32 {
        self.database
            .as_ref()
            .or(self.schema.as_ref())
            .unwrap_or(&self.name)
            .at
    }
    pub fn schema_name(&self) -> Option<&str> {
        self.schema.as_ref().map(|s| s.name.as_str())
    }
}

/// As PostgreSQL shows it in messages: dotted, not quoted.
impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(d) = &self.database {
            write!(f, "{}.", d.name)?;
        }
        if let Some(s) = &self.schema {
            write!(f, "{}.", s.name)?;
        }
        f.write_str(&self.name.name)
    }
}

/// A type as written: name, modifiers, array dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct TypeName {
    pub name: ObjectName,
    /// True where the grammar chose the name (`int` is `pg_catalog.int4`).
    pub system: bool,
    /// `varchar(10)`, `numeric(10, 2)`.
    pub modifiers: Vec<Expr>,
    /// INTERVAL's field restriction, as the mask of `interval`'s type modifier.
    pub interval_fields: Option<i32>,
    /// How many `[]`.
    pub array_dimensions: usize,
    pub set_of: bool,
    pub at: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    /// Where PostgreSQL points for this node: for an operator at the operator.
    pub at: u32,
}

impl Expr {
    /// Calls `f` with each direct part. What is inside of a subquery is no part.
    pub fn parts<'e>(&'e self, f: &mut dyn FnMut(&'e Expr)) {
        match &self.kind {
            ExprKind::Field { arg, .. }
            | ExprKind::FieldStar(arg)
            | ExprKind::Not(arg)
            | ExprKind::IsNull { arg, .. }
            | ExprKind::BoolTest { arg, .. }
            | ExprKind::Cast { arg, .. }
            | ExprKind::Collate { arg, .. } => f(arg),
            ExprKind::And(items)
            | ExprKind::Or(items)
            | ExprKind::Coalesce(items)
            | ExprKind::Array(items)
            | ExprKind::MinMax { args: items, .. }
            | ExprKind::Row { fields: items, .. } => items.iter().for_each(f),
            ExprKind::Operator { left, right, .. } => {
                if let Some(left) = left {
                    f(left);
                }
                f(right);
            }
            ExprKind::IsDistinct { left, right, .. } | ExprKind::NullIf(left, right) => {
                f(left);
                f(right);
            }
            ExprKind::Between { arg, low, high, .. } => {
                f(arg);
                f(low);
                f(high);
            }
            ExprKind::Like {
                arg,
                pattern,
                escape,
                ..
            } => {
                f(arg);
                f(pattern);
                if let Some(escape) = escape {
                    f(escape);
                }
            }
            _ => self.other_parts(f),
        }
    }

    fn other_parts<'e>(&'e self, f: &mut dyn FnMut(&'e Expr)) {
        match &self.kind {
            ExprKind::In { arg, list, .. } => {
                f(arg);
                if let InList::Items(items) = list {
                    items.iter().for_each(f);
                }
            }
            ExprKind::Quantified { left, right, .. } => {
                f(left);
                if let QuantifiedOperand::Array(array) = right {
                    f(array);
                }
            }
            ExprKind::Subscript { arg, index } => {
                f(arg);
                match index {
                    Subscript::Index(at) => f(at),
                    Subscript::Slice(from, to) => {
                        for end in [from, to].into_iter().flatten() {
                            f(end);
                        }
                    }
                }
            }
            ExprKind::Call(call) => {
                for argument in &call.args {
                    f(&argument.value);
                }
                for item in &call.order_by {
                    f(&item.expr);
                }
                if let Some(filter) = &call.filter {
                    f(filter);
                }
                if let Some(Over::Window(window)) = call.over.as_deref() {
                    window.parts(f);
                }
            }
            ExprKind::Case {
                operand,
                arms,
                otherwise,
            } => {
                if let Some(operand) = operand {
                    f(operand);
                }
                for (when, then) in arms {
                    f(when);
                    f(then);
                }
                if let Some(otherwise) = otherwise {
                    f(otherwise);
                }
            }
            _ => {}
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Null,
    /// PostgreSQL makes a cast of it: the column is called `bool`.
    Bool(bool),
    Int(i32),
    /// Too large for `int4`, or with a fraction or an exponent; as written.
    Number(String),
    Text(String),
    /// `b'01'` with the letter in front: `b` or `x`.
    Bits(String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    Literal(Literal),
    /// `$n`, from 1.
    Param(u32),
    /// `a`, `t.a`, `s.t.a`, `d.s.t.a`
    Column(Vec<Ident>),
    /// `*`, `t.*`
    Star(Vec<Ident>),
    /// `(expression).field`
    Field {
        arg: Box<Expr>,
        field: Ident,
    },
    /// `(expression).*`
    FieldStar(Box<Expr>),
    Subscript {
        arg: Box<Expr>,
        index: Subscript,
    },
    /// `left` is `None` for a prefix operator.
    Operator {
        op: OperatorName,
        left: Option<Box<Expr>>,
        right: Box<Expr>,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    IsNull {
        arg: Box<Expr>,
        negated: bool,
    },
    /// IS [NOT] TRUE, FALSE, UNKNOWN (`None`).
    BoolTest {
        arg: Box<Expr>,
        is: Option<bool>,
        negated: bool,
    },
    IsDistinct {
        left: Box<Expr>,
        right: Box<Expr>,
        negated: bool,
    },
    Between {
        arg: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
        negated: bool,
        symmetric: bool,
    },
    In {
        arg: Box<Expr>,
        list: InList,
        negated: bool,
    },
    Like {
        kind: LikeKind,
        arg: Box<Expr>,
        pattern: Box<Expr>,
        escape: Option<Box<Expr>>,
        negated: bool,
    },
    /// `left op ANY (...)` or ALL.
    Quantified {
        op: OperatorName,
        left: Box<Expr>,
        all: bool,
        right: QuantifiedOperand,
    },
    Call(Box<FunctionCall>),
    /// `CAST(x AS t)`, `x::t`, `t 'x'`; `at` is the `::`, the CAST or the constant.
    Cast {
        arg: Box<Expr>,
        ty: TypeName,
    },
    Case {
        operand: Option<Box<Expr>>,
        arms: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    Coalesce(Vec<Expr>),
    NullIf(Box<Expr>, Box<Expr>),
    /// GREATEST or LEAST.
    MinMax {
        greatest: bool,
        args: Vec<Expr>,
    },
    Array(Vec<Expr>),
    /// `ROW(...)`, or `(a, b)` if not explicit.
    Row {
        fields: Vec<Expr>,
        explicit: bool,
    },
    Subquery(Box<Query>),
    Exists(Box<Query>),
    ArraySubquery(Box<Query>),
    /// `current_date`, `current_user`, ...
    SessionValue(SessionValue),
    Collate {
        arg: Box<Expr>,
        collation: ObjectName,
    },
    /// DEFAULT in VALUES and SET.
    Default,
    /// GROUPING(...), XML functions: named so that the analyzer refuses them by name.
    Unsupported(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Subscript {
    Index(Box<Expr>),
    Slice(Option<Box<Expr>>, Option<Box<Expr>>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorName {
    /// From `OPERATOR(schema.op)`.
    pub schema: Option<String>,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum InList {
    Items(Vec<Expr>),
    Query(Box<Query>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikeKind {
    Like,
    ILike,
    Similar,
}

#[derive(Debug, Clone, PartialEq)]
pub enum QuantifiedOperand {
    Array(Box<Expr>),
    Query(Box<Query>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct FunctionCall {
    pub name: ObjectName,
    /// True where the grammar made the call of other syntax (EXTRACT, AT TIME ZONE, ...).
    pub sql_syntax: bool,
    pub args: Vec<Argument>,
    /// `count(*)`
    pub star: bool,
    /// The last argument is `VARIADIC array`.
    pub variadic: bool,
    pub distinct: bool,
    pub order_by: Vec<OrderItem>,
    /// `WITHIN GROUP (ORDER BY ...)`
    pub within_group: bool,
    pub filter: Option<Box<Expr>>,
    pub over: Option<Box<Over>>,
}

/// What stands behind OVER.
#[derive(Debug, Clone, PartialEq)]
pub enum Over {
    /// A window of the WINDOW clause as it is.
    Name(Ident),
    Window(Box<Window>),
}

/// A window's definition, in brackets.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The window that it begins with.
    pub base: Option<Ident>,
    pub partition_by: Vec<Expr>,
    pub order_by: Vec<OrderItem>,
    pub frame: Option<Frame>,
    /// The bracket.
    pub at: u32,
}

impl Window {
    /// Calls `f` on each expression that stands in it.
    pub fn parts<'e>(&'e self, f: &mut dyn FnMut(&'e Expr)) {
        self.partition_by.iter().for_each(&mut *f);
        self.order_by.iter().for_each(|item| f(&item.expr));
        let Some(frame) = &self.frame else { return };
        for bound in [&frame.start, &frame.end] {
            if let FrameBound::Preceding(offset) | FrameBound::Following(offset) = bound {
                f(offset);
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub mode: FrameMode,
    pub start: FrameBound,
    pub end: FrameBound,
    pub exclude: Exclusion,
}

#[derive(Debug, Clone, PartialEq)]
pub enum FrameBound {
    UnboundedPreceding,
    Preceding(Expr),
    CurrentRow,
    Following(Expr),
    UnboundedFollowing,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// `name => value`
    pub name: Option<Ident>,
    pub value: Expr,
}

/// The niladic functions of the grammar, with their precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionValue {
    CurrentDate,
    CurrentTime(Option<i32>),
    CurrentTimestamp(Option<i32>),
    LocalTime(Option<i32>),
    LocalTimestamp(Option<i32>),
    CurrentRole,
    CurrentUser,
    User,
    SessionUser,
    CurrentCatalog,
    CurrentSchema,
}
