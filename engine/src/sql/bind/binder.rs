//! The analyzer's state: query levels, parameters, what was touched.

use std::sync::Arc;

use crate::catalog::relation::{LockMode, Relation, RelationKind};
use crate::catalog::schema::has_rows_in_code;
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::bound::{
    AggregateCall, ColumnRef, CteId, CteSource, Expr, FromItem, OutputColumn, Range, RangeColumn,
    RangeSource, Window, WindowCall,
};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast;
use crate::sql::rights::Needed;
use crate::types::acl::Privileges;
use crate::types::datum::{Datum, SqlType};
use crate::types::function::FunctionCx;
use crate::types::oids;

type Result<T> = std::result::Result<T, SqlError>;

/// Highest `$n`.
const MAX_PARAMETER: u32 = 65535;
/// Most entries of a select list (`MaxTupleAttributeNumber`).
pub const MAX_TARGETS: usize = 1664;

/// What is being analyzed, for the errors that name it (`ParseExprKind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    Select,
    JoinOn,
    /// A subquery in FROM: what its aggregates that belong to the query around it are told.
    FromSubquery,
    FunctionInFrom,
    Where,
    Having,
    Filter,
    GroupBy,
    OrderBy,
    DistinctOn,
    WindowPartition,
    WindowOrder,
    WindowRows,
    WindowRange,
    WindowGroups,
    Limit,
    Offset,
    Values,
    /// The one row of INSERT ... VALUES, which is a select list.
    InsertRow,
    UpdateSet,
    ConflictSet,
    Returning,
    Default,
    Check,
    CopyWhere,
    /// The WHERE behind ON CONFLICT's columns.
    IndexPredicate,
    Execute,
}

impl Context {
    /// As in "... are not allowed in WHERE".
    pub fn name(self) -> &'static str {
        match self {
            Context::Select => "SELECT",
            Context::JoinOn => "JOIN conditions",
            Context::FromSubquery => "FROM clause of their own query level",
            Context::FunctionInFrom => "functions in FROM",
            Context::Where => "WHERE",
            Context::Having => "HAVING",
            Context::Filter => "FILTER",
            Context::GroupBy => "GROUP BY",
            Context::OrderBy => "ORDER BY",
            Context::DistinctOn => "DISTINCT ON",
            Context::WindowPartition => "window PARTITION BY",
            Context::WindowOrder => "window ORDER BY",
            Context::WindowRows => "window ROWS",
            Context::WindowRange => "window RANGE",
            Context::WindowGroups => "window GROUPS",
            Context::Limit => "LIMIT",
            Context::Offset => "OFFSET",
            Context::Values | Context::InsertRow => "VALUES",
            Context::UpdateSet | Context::ConflictSet => "UPDATE",
            Context::Returning => "RETURNING",
            Context::Default => "DEFAULT expressions",
            Context::Check => "check constraints",
            Context::CopyWhere => "COPY FROM WHERE conditions",
            Context::IndexPredicate => "index predicates",
            Context::Execute => "EXECUTE parameters",
        }
    }
    pub fn allows_aggregates(self) -> bool {
        matches!(
            self,
            Context::Select
                | Context::Having
                | Context::OrderBy
                | Context::DistinctOn
                | Context::WindowPartition
                | Context::WindowOrder
        )
    }
    pub fn allows_windows(self) -> bool {
        matches!(
            self,
            Context::Select | Context::OrderBy | Context::DistinctOn
        )
    }
    fn is_of_window(self) -> bool {
        matches!(
            self,
            Context::WindowPartition
                | Context::WindowOrder
                | Context::WindowRows
                | Context::WindowRange
                | Context::WindowGroups
        )
    }
    /// As in "window functions are not allowed in WHERE".
    pub fn name_without_windows(self) -> &'static str {
        match self.is_of_window() {
            true => "window definitions",
            false => self.name(),
        }
    }
    /// As in "set-returning functions are not allowed in WHERE".
    pub fn name_without_sets(self) -> &'static str {
        match self {
            Context::WindowRows | Context::WindowRange | Context::WindowGroups => {
                "window definitions"
            }
            _ => self.name(),
        }
    }
    pub fn allows_sets(self) -> bool {
        matches!(
            self,
            Context::Select
                | Context::InsertRow
                | Context::GroupBy
                | Context::OrderBy
                | Context::DistinctOn
                | Context::WindowPartition
                | Context::WindowOrder
        )
    }
    /// The contexts whose name is singular in the messages about subqueries.
    pub fn refuses_subqueries(self) -> Option<&'static str> {
        Some(match self {
            Context::Check => "cannot use subquery in check constraint",
            Context::Default => "cannot use subquery in DEFAULT expression",
            Context::CopyWhere => "cannot use subquery in COPY FROM WHERE condition",
            Context::IndexPredicate => "cannot use subquery in index predicate",
            Context::Execute => "cannot use subquery in EXECUTE parameter",
            _ => return None,
        })
    }
}

/// A name in FROM and the columns that it brings (`ParseNamespaceItem`).
#[derive(Debug, Clone)]
pub struct Item {
    pub name: Option<String>,
    /// Schema of a table without an alias: `schema.table.column` finds it.
    pub schema: Option<String>,
    pub columns: Vec<ItemColumn>,
    /// The range behind it; joins have none.
    pub range: Option<usize>,
    pub table_visible: bool,
    pub columns_visible: bool,
    /// While FROM is analyzed.
    pub reach: Reach,
}

/// Whether what stands to the right of an item may name it (`p_lateral_ok`). If not, its name is found all the same,
/// and is an error: so SQL wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Yes,
    /// It is the other side of a RIGHT or FULL join.
    OtherSide,
    /// It is the table that the statement changes.
    Changed,
}

#[derive(Debug, Clone)]
pub struct ItemColumn {
    pub name: String,
    pub expr: Expr,
}

/// One query level.
#[derive(Debug, Default)]
pub struct Scope {
    pub ranges: Vec<Range>,
    pub items: Vec<Item>,
    pub aggregates: Vec<AggregateCall>,
    /// The windows of WINDOW, and behind them those of OVER.
    pub windows: Vec<WindowEntry>,
    /// Window functions, with their windows by these numbers.
    pub window_calls: Vec<WindowCall>,
    pub has_windows: bool,
    pub in_aggregate: bool,
    /// Columns used outside aggregates, with their places: for the grouping error.
    pub seen: Vec<(ColumnRef, u32)>,
    /// The same of those that subqueries use.
    pub seen_below: Vec<(ColumnRef, u32)>,
    /// Where the subquery stands that is being analyzed.
    pub below: Option<Context>,
    /// The names of FROM's items so far, while FROM is analyzed.
    pub beside: Vec<Item>,
    /// What is being analyzed may name these: a function in FROM, or a subquery after LATERAL.
    pub sees_beside: bool,
    /// Functions whose fields the select list asks for became ranges; they go behind FROM.
    pub set_ranges: Vec<FromItem>,
    /// The select list calls set-returning functions.
    pub calls_sets: bool,
    pub has_outer_join: bool,
    /// WITH queries that this level defines.
    pub ctes: Vec<CteEntry>,
    /// Names of WITH queries that come behind the one that is being analyzed, and its own; the last one comes first.
    pub future_ctes: Vec<String>,
}

impl Scope {
    /// The items that what is being analyzed may name.
    pub fn nameable(&self) -> impl Iterator<Item = &Item> {
        let beside: &[Item] = match self.sees_beside {
            true => &self.beside,
            false => &[],
        };
        self.items.iter().chain(beside)
    }
}

/// A window as it is written, and as it is bound once something is over it or all has been analyzed.
#[derive(Debug, Clone)]
pub struct WindowEntry {
    /// Of WINDOW.
    pub name: Option<String>,
    pub window: Arc<ast::Window>,
    pub bound: Option<Arc<Window>>,
}

/// A WITH query, which is analyzed where it is defined.
#[derive(Debug, Clone)]
pub struct CteEntry {
    pub id: CteId,
    pub name: String,
    pub references: usize,
    pub columns: Vec<OutputColumn>,
    pub materialized: Option<bool>,
    /// Nothing of a recursive one that is being analyzed.
    pub source: Option<CteSource>,
    pub recursive: bool,
}

pub struct Parameters {
    /// 0 for one that nothing has given a type yet.
    pub types: Vec<Oid>,
    /// New ones may appear.
    pub open: bool,
}

/// A literal that was read as a date or time. What its text means depends on when it is read, and under which settings.
#[derive(Debug, Clone)]
pub struct Moment {
    /// Where the literal stands.
    pub at: u32,
    pub value: Datum,
    pub ty: Oid,
}

pub struct Binder<'a> {
    pub catalog: &'a dyn CatalogView,
    pub functions: &'a FunctionCx,
    pub parameters: Parameters,
    pub relations: Vec<(Oid, LockMode)>,
    pub rights: Needed,
    pub scopes: Vec<Scope>,
    pub context: Context,
    /// Inside CASE or COALESCE: a set-returning function there has its own error.
    pub conditional: Option<&'static str>,
    /// Where the last set-returning function stands that FROM calls.
    pub set_in_from: Option<u32>,
    /// How many WITH queries there are so far.
    pub ctes: usize,
    /// The level of the statement itself: what changes rows may stand in its WITH only.
    pub top_level: usize,
    /// The aggregates so far: the level that each belongs to, and where it stands.
    pub aggregates: Vec<(usize, u32)>,
    /// The window functions so far, likewise.
    pub windows: Vec<(usize, u32)>,
    /// Where this level's last set-returning function stands that is called outside FROM.
    pub last_set: Option<u32>,
    /// Kept of an expression that is going to be stored.
    pub moments: Option<Vec<Moment>>,
    /// The result is to be shown, not run: words that SQL has for calls stay recognizable, and nothing is computed.
    pub as_written: bool,
}

impl<'a> Binder<'a> {
    pub fn new(
        catalog: &'a dyn CatalogView,
        functions: &'a FunctionCx,
        param_types: Option<&[Oid]>,
    ) -> Binder<'a> {
        Binder {
            catalog,
            functions,
            parameters: Parameters {
                types: param_types.unwrap_or(&[]).to_vec(),
                open: param_types.is_some(),
            },
            relations: Vec::new(),
            rights: Vec::new(),
            scopes: vec![Scope::default()],
            context: Context::Select,
            conditional: None,
            set_in_from: None,
            ctes: 0,
            top_level: 0,
            aggregates: Vec::new(),
            windows: Vec::new(),
            last_set: None,
            moments: None,
            as_written: false,
        }
    }

    pub fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("a query level is open")
    }
    pub fn scope_ref(&self) -> &Scope {
        self.scopes.last().expect("a query level is open")
    }
    /// The number of the level that is being analyzed.
    pub fn level_number(&self) -> usize {
        self.scopes.len() - 1
    }
    /// True if the expression reads anything of this level.
    pub fn has_columns(&self, expr: &Expr) -> bool {
        super::walk::reads_level(expr, self.level_number())
    }

    /// Runs `f` in `context`.
    pub fn within<T>(
        &mut self,
        context: Context,
        f: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let before = std::mem::replace(&mut self.context, context);
        let conditional = self.conditional.take();
        let out = f(self);
        self.context = before;
        self.conditional = conditional;
        out
    }

    /// Runs `f` one query level down; gives what the level came to hold.
    pub fn level<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<(T, Scope)> {
        let context = std::mem::replace(&mut self.context, Context::Select);
        let conditional = self.conditional.take();
        let last_set = self.last_set.take();
        let below = self.scope().below.replace(context);
        self.scopes.push(Scope::default());
        let out = f(self);
        let scope = self.scopes.pop().expect("the level that was pushed");
        self.scope().below = below;
        self.context = context;
        self.conditional = conditional;
        self.last_set = last_set;
        out.map(|t| (t, scope))
    }

    /// Notes that the statement touches `relation`; the strongest mode counts.
    pub fn touch(&mut self, relation: Oid, mode: LockMode) {
        match self.relations.iter_mut().find(|(oid, _)| *oid == relation) {
            Some((_, old)) => *old = (*old).max(mode),
            None => self.relations.push((relation, mode)),
        }
    }

    /// Notes what the asker must be allowed to do with `relation`.
    pub fn needs(&mut self, relation: Oid, privileges: Privileges) {
        match self.rights.iter_mut().find(|(oid, _)| *oid == relation) {
            Some((_, all)) => *all = all.and(privileges),
            None => self.rights.push((relation, privileges)),
        }
    }

    /// `$n`
    pub fn parameter(&mut self, n: u32, at: u32) -> Result<Expr> {
        let missing = |at| {
            SqlError::new(
                state::UNDEFINED_PARAMETER,
                format!("there is no parameter ${n}"),
            )
            .at(at)
        };
        if n == 0 || n > MAX_PARAMETER || !self.parameters.open {
            return Err(missing(at));
        }
        let index = n as usize - 1;
        if self.parameters.types.len() <= index {
            self.parameters.types.resize(index + 1, Oid::INVALID);
        }
        let oid = match self.parameters.types[index] {
            Oid::INVALID => oids::UNKNOWN,
            oid => oid,
        };
        Ok(Expr::Param(index, SqlType::plain(oid)))
    }

    /// The parameter gets its type from where it stands.
    pub fn param_as(&mut self, index: usize, ty: Oid, at: u32) -> Result<Expr> {
        let slot = &mut self.parameters.types[index];
        if *slot == Oid::INVALID || *slot == oids::UNKNOWN {
            *slot = ty;
        } else if *slot != ty {
            let old = super::types::type_text(SqlType::plain(*slot));
            let new = super::types::type_text(SqlType::plain(ty));
            return Err(SqlError::new(
                state::AMBIGUOUS_PARAMETER,
                format!("inconsistent types deduced for parameter ${}", index + 1),
            )
            .detail(format!("{old} versus {new}"))
            .at(at));
        }
        Ok(Expr::Param(index, SqlType::plain(ty)))
    }

    /// Types of all parameters; one that nothing told is 42P18.
    pub fn parameter_types(&self) -> Result<Vec<SqlType>> {
        self.parameters
            .types
            .iter()
            .enumerate()
            .map(|(i, oid)| {
                if *oid == Oid::INVALID || *oid == oids::UNKNOWN {
                    Err(undetermined(i))
                } else {
                    Ok(SqlType::plain(*oid))
                }
            })
            .collect()
    }

    /// Adds a range for a table that is read, or only written.
    pub fn table_range(&mut self, relation: Arc<Relation>, alias: String) -> usize {
        // A sequence's one row is kept as its file keeps it, not as a row version.
        let made = matches!(
            relation.kind,
            RelationKind::Virtual | RelationKind::Sequence
        );
        self.relation_range(relation, alias, made)
    }

    /// A range of FROM: of some tables only a part of the rows is in the heap.
    pub fn read_range(&mut self, relation: Arc<Relation>, alias: String) -> usize {
        match has_rows_in_code(relation.oid) {
            true => self.relation_range(relation, alias, true),
            false => self.table_range(relation, alias),
        }
    }

    /// `made`: the code makes the rows.
    fn relation_range(&mut self, relation: Arc<Relation>, alias: String, made: bool) -> usize {
        let columns = relation
            .columns
            .iter()
            .map(|c| RangeColumn {
                name: c.name.clone(),
                ty: c.ty,
            })
            .collect();
        let source = if made {
            RangeSource::Virtual(relation)
        } else {
            RangeSource::Table(relation)
        };
        self.add_range(Range {
            alias,
            source,
            columns,
        })
    }

    /// Makes `relation`'s columns the level's only names, as range 0.
    pub fn row_of(&mut self, relation: &Relation) {
        let columns = relation
            .columns
            .iter()
            .map(|c| RangeColumn {
                name: c.name.clone(),
                ty: c.ty,
            })
            .collect();
        let range = self.add_range(Range {
            alias: relation.name.clone(),
            // Where the row comes from is the caller's business.
            source: RangeSource::Values(crate::sql::bound::Values {
                rows: Vec::new(),
                types: Vec::new(),
            }),
            columns,
        });
        let columns = relation
            .live_columns()
            .map(|(column, c)| ItemColumn {
                name: c.name.clone(),
                expr: Expr::Column(ColumnRef {
                    range,
                    column,
                    ty: c.ty,
                }),
            })
            .collect();
        self.scope().items = vec![Item {
            name: Some(relation.name.clone()),
            schema: Some(relation.schema_name.clone()),
            columns,
            range: Some(range),
            table_visible: true,
            columns_visible: true,
            reach: Reach::Yes,
        }];
    }

    pub fn add_range(&mut self, range: Range) -> usize {
        let scope = self.scope();
        scope.ranges.push(range);
        scope.ranges.len() - 1
    }

    /// The item of a range; `names` rename its first columns.
    pub fn item_of(&self, range: usize, names: &[String], schema: Option<String>) -> Item {
        let r = &self.scope_ref().ranges[range];
        let live = |i: usize| match &r.source {
            RangeSource::Table(rel) | RangeSource::Virtual(rel) => !rel.columns[i].dropped,
            _ => true,
        };
        let columns = (0..r.columns.len())
            .filter(|i| live(*i))
            .enumerate()
            .map(|(n, i)| ItemColumn {
                name: names.get(n).unwrap_or(&r.columns[i].name).clone(),
                expr: Expr::Column(ColumnRef {
                    range,
                    column: i,
                    ty: r.columns[i].ty,
                }),
            })
            .collect();
        Item {
            name: Some(r.alias.clone()),
            schema,
            columns,
            range: Some(range),
            table_visible: true,
            columns_visible: true,
            reach: Reach::Yes,
        }
    }
}

/// 42P18 for a parameter, counted from 0, whose type nothing told.
pub(super) fn undetermined(index: usize) -> SqlError {
    let message = format!("could not determine data type of parameter ${}", index + 1);
    SqlError::new(state::INDETERMINATE_DATATYPE, message)
}
