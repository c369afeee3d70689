//! Prepared statements and portals, and the plans that they keep.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::output::Formats;
use super::scroll::Cursor;
use crate::config::SessionSettings;
use crate::ids::Oid;
use crate::sql::bound::OutputColumn;
use crate::sql::error::SqlError;
use crate::sql::exec::Execution;
use crate::sql::front::Parsed;
use crate::sql::plan::Plan;
use crate::txn::{Isolation, Snapshot};
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

/// A parsed statement under a name, until it is closed.
pub struct Prepared {
    pub name: Box<str>,
    /// The query string; the statement's offsets count in it.
    pub text: Arc<str>,
    /// `None`: an empty query.
    pub parsed: Option<Parsed>,
    /// Parameter types as the client declared them; invalid where they are to be inferred.
    pub declared: Vec<Oid>,
    /// What the client was told of its rows, where it was told: a later plan must give the same.
    pub columns: OnceLock<Arc<[OutputColumn]>>,
    /// Types of its parameters, all of them, once it has been analysed: what clients send goes by them, so a change of the
    /// catalog must not give them others.
    pub(super) parameters: OnceLock<SmallVec<[Oid; 4]>>,
    pub(super) cached: Mutex<Option<Arc<Cached>>>,
    /// A finished execution of the cached plan, if it is one that can run again.
    pub(super) idle: Mutex<Option<Box<Execution>>>,
}

/// A plan with the circumstances that it is good for.
pub struct Cached {
    pub plan: Arc<Plan>,
    pub types: Arc<[Oid]>,
    pub generation: u64,
    /// Search path and planner settings; a change of any setting makes another.
    pub settings: Arc<SessionSettings>,
    pub role: Oid,
    /// What the role may not do of it: told when it is run, not when it is prepared.
    pub denied: Option<SqlError>,
    /// False: good for this once, and for its description.
    pub reusable: bool,
}

impl Prepared {
    pub fn new(name: &str, text: Arc<str>, parsed: Option<Parsed>, declared: Vec<Oid>) -> Prepared {
        Prepared {
            name: name.into(),
            text,
            parsed,
            declared,
            columns: OnceLock::new(),
            parameters: OnceLock::new(),
            cached: Mutex::new(None),
            idle: Mutex::new(None),
        }
    }

    /// Keeps a finished execution for the next time.
    pub(super) fn park(&self, mut execution: Box<Execution>) {
        if execution.park() {
            *self.idle.lock() = Some(execution);
        }
    }

    /// Types of parameters that the analyzer has to take as they are.
    pub(super) fn known_types(&self) -> &[Oid] {
        self.parameters
            .get()
            .map_or(self.declared.as_slice(), SmallVec::as_slice)
    }

    /// False if a new plan gives other columns than the client was told of.
    pub(super) fn keeps_result(&self, output: &[OutputColumn]) -> bool {
        self.columns.get().is_none_or(|told| {
            let same = |(a, b): (&OutputColumn, &OutputColumn)| a.name == b.name && a.ty == b.ty;
            told.len() == output.len() && told.iter().zip(output).all(same)
        })
    }
}

/// What Bind has settled of a query: its plan, whose tables are locked, and which rows it sees.
pub struct Begun {
    pub plan: Arc<Plan>,
    pub settings: Arc<SessionSettings>,
    pub snapshot: Arc<Snapshot>,
    pub isolation: Isolation,
}

/// How far a portal is.
pub enum PortalState {
    /// A change, or a statement without a plan: nothing has been done for it but reading its parameters.
    New,
    /// A query that has not run.
    Bound(Begun),
    /// A query that has given some rows; more may come.
    Suspended(Box<Execution>, Arc<FunctionCx>),
    /// Rows of a utility statement that are left to be sent.
    Rows(std::vec::IntoIter<Vec<Datum>>),
    /// Nothing is left.
    Done,
    /// An error ended it; it can only be closed.
    Failed,
}

/// A statement with its parameters, being executed.
pub struct Portal {
    pub statement: Arc<Prepared>,
    pub parameters: Vec<Datum>,
    pub formats: Formats,
    /// What Describe shows; empty for a statement without rows.
    pub columns: Arc<[OutputColumn]>,
    /// Of the columns of a planned statement.
    pub types: Arc<[Oid]>,
    /// DECLARE CURSOR's, reached by FETCH too.
    pub cursor: Option<Cursor>,
    /// A query's plan: what it reads is in use until the portal goes, even when all its rows have been given.
    pub reads: Option<Arc<Plan>>,
    /// Savepoints that were open when it was made: it goes when one of them is rolled back.
    pub level: usize,
    pub state: PortalState,
}

impl Portal {
    /// It can only be closed from here on; what ran of it ends.
    pub(super) fn fail(&mut self) {
        self.state = PortalState::Failed;
        self.cursor = None;
        self.reads = None;
    }

    /// The tables and indexes that it has open.
    pub(super) fn opened(&self) -> Vec<Oid> {
        match (&self.state, &self.reads) {
            (PortalState::Failed, _) | (_, None) => Vec::new(),
            (_, Some(plan)) => plan.opened(),
        }
    }
}
