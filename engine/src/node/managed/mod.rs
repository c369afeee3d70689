//! An instance under a supervisor: obeying its promise, and telling what there is to know.
//!
//! Owns who this instance is in the operator's eyes: the promise as last obeyed, the term of its own promotion, and
//! the release policy that follows from both. Invariants (DESIGN, section 6): an instance acknowledges only as the
//! primary of the very term that it has promised, by a set of that term, not sealed; a primary whose promise names a
//! higher term, or is sealed, ends with exit code 3; a sealed standby receives nothing when `/obey` is answered; the
//! promised term never goes down; a primary that was cut off from its set, stood still without one, or has only started,
//! acknowledges nothing before `/confirm` has said that by the record it still is the primary
//! (`txn/release/isolation.rs`). A crash leaves nothing here: the promise is the supervisor's file.
//!
//! Reading order: `promise`, this file, `trigger`, `told` (what a standby may show), `position` (how far the log
//! reaches), `standstill` (replay that does not go on), `report` (status and metrics), `doors` (where all of it is answered).

pub mod doors;
mod position;
mod promise;
mod report;
mod standstill;
pub mod told;
pub mod trigger;

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::Settings;
use crate::config::value::Value;
use crate::ids::Term;
use crate::server::log;
use crate::storage::ControlData;
use crate::txn::{ReleasePolicy, TxnManager};

pub use promise::PromiseError;
use promise::{Identity, Promise};
use trigger::Order;

/// The exit code of a primary that a higher term has replaced.
pub const DEPOSED: u8 = 3;

/// What this instance is, in terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Standby,
    /// It obeys a trigger of this term, and can't go back.
    Promoting(Term),
    Primary(Term),
}

impl Life {
    fn own_term(self) -> Option<Term> {
        match self {
            Life::Standby => None,
            Life::Promoting(term) | Life::Primary(term) => Some(term),
        }
    }
}

struct State {
    promise: Promise,
    life: Life,
}

impl State {
    fn is_deposed(&self) -> bool {
        let own = self.life.own_term();
        own.is_some_and(|own| self.promise.term() > own || self.promise.sealed)
    }
}

/// How a start of a managed instance is refused.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a managed instance needs understudy.instance_id and understudy.cluster_id")]
    NoIdentity,
    #[error(transparent)]
    Promise(#[from] PromiseError),
    #[error("the promise is sealed: this instance starts only in recovery (with standby.signal)")]
    Sealed,
    #[error("term {promised} was promised, this primary's is {own}")]
    Deposed { promised: Term, own: Term },
}

/// See the module's header.
pub struct Managed {
    settings: Arc<Settings>,
    identity: Identity,
    promise_file: PathBuf,
    txns: Arc<TxnManager>,
    state: Mutex<State>,
}

impl Managed {
    /// `None` where no promise file is configured. Takes up the promise, and with it the release policy.
    pub fn start(
        settings: &Arc<Settings>,
        control: &ControlData,
        starts_as_primary: bool,
        txns: &Arc<TxnManager>,
    ) -> Result<Option<Arc<Managed>>, StartError> {
        let current = settings.current();
        let Some(promise_file) = current.promise_file.clone() else {
            return Ok(None);
        };
        let (Some(instance_id), Some(cluster_id)) =
            (current.instance_id.clone(), current.cluster_id.clone())
        else {
            return Err(StartError::NoIdentity);
        };
        let identity = Identity {
            cluster_id,
            instance_id,
            system_id: control.system_id,
        };
        let promise = Promise::read(&promise_file, &identity)?;
        let own = Term::new(position::own_timeline(control).raw());
        let life = match starts_as_primary {
            true if promise.sealed => return Err(StartError::Sealed),
            true if promise.term() > own => {
                let promised = promise.term();
                return Err(StartError::Deposed { promised, own });
            }
            true => Life::Primary(own),
            false => Life::Standby,
        };
        let managed = Managed {
            settings: Arc::clone(settings),
            identity,
            promise_file,
            txns: Arc::clone(txns),
            state: Mutex::new(State { promise, life }),
        };
        managed.take_up(&managed.state.lock());
        if starts_as_primary {
            managed.txns.release().begin_held();
        }
        Ok(Some(Arc::new(managed)))
    }

    /// The release policy and `SHOW understudy.term` after the promise.
    fn take_up(&self, state: &State) {
        let policy = state.promise.policy(state.life.own_term());
        if !self.txns.release().set_policy(policy) {
            // The supervisor never goes back either, so this is an old file; what is in effect stays.
            tracing::warn!("an in-sync set older than the one in effect is not taken up");
        }
        let term = i32::try_from(state.promise.promised_term).unwrap_or(i32::MAX);
        self.settings
            .compute("understudy.term", Value::Integer(term));
    }

    pub fn promised_term(&self) -> Term {
        self.state.lock().promise.term()
    }
    pub fn is_sealed(&self) -> bool {
        self.state.lock().promise.sealed
    }
    /// The term of this primary's own promotion; `None` on a standby.
    pub fn primary_term(&self) -> Option<Term> {
        match self.state.lock().life {
            Life::Primary(term) => Some(term),
            Life::Standby | Life::Promoting(_) => None,
        }
    }

    /// Reads the promise again and takes it up. True if a stream that is running has to end: it was begun under
    /// another promise. A deposed primary does not return from here.
    fn reread(&self) -> Result<bool, PromiseError> {
        let mut state = self.state.lock();
        let new = self.read_promise(&state)?;
        let changed = new.sealed || new.promised_term != state.promise.promised_term;
        state.promise = new;
        if state.is_deposed() {
            self.depose(&state);
        }
        self.take_up(&state);
        Ok(changed)
    }

    fn read_promise(&self, state: &State) -> Result<Promise, PromiseError> {
        let new = Promise::read(&self.promise_file, &self.identity)?;
        let (from, to) = (state.promise.promised_term, new.promised_term);
        if to < from {
            return Err(PromiseError::WentBack { from, to });
        }
        Ok(new)
    }

    /// The supervisor's word for a hold: by the record this still is the primary of `term`.
    fn confirm(&self, term: Term, hold: u64) -> Result<(), String> {
        let state = self.state.lock();
        let own = state.life.own_term();
        if own != Some(term) || state.is_deposed() {
            let promised = state.promise.term();
            return Err(match own {
                Some(own) => format!(
                    "the word is for term {term}; this is a primary of term {own}, and term {promised} was promised"
                ),
                None => format!("the word is for the primary of term {term}; this is a standby"),
            });
        }
        let confirmed = self.txns.release().confirm(hold);
        confirmed.map_err(|no| no.to_string())?;
        tracing::info!(%term, hold, "the record has this as the primary: what was held goes on");
        Ok(())
    }

    /// Nothing is acknowledged any more; the process ends here and now.
    fn depose(&self, state: &State) -> ! {
        self.txns.release().set_policy(ReleasePolicy::Closed);
        let own = state.life.own_term().unwrap_or_default();
        let promised = state.promise.term();
        log::fatal(&format!(
            "this primary of term {own} is deposed: term {promised} was promised"
        ));
        std::process::exit(i32::from(DEPOSED))
    }

    /// A trigger file: the term of the promotion to make, or why it is refused.
    fn accept(&self, order: &Order) -> Result<Term, String> {
        let mut state = self.state.lock();
        // The supervisor stores its promise first, and may not have called yet.
        state.promise = self.read_promise(&state).map_err(|e| e.to_string())?;
        let promise = &state.promise;
        if order.cluster_id != self.identity.cluster_id {
            return Err(format!("it is for the cluster {}", order.cluster_id));
        }
        if order.candidate != self.identity.instance_id {
            return Err(format!("its candidate is {}", order.candidate));
        }
        if order.term != promise.term() {
            let promised = promise.term();
            return Err(format!(
                "it is for term {}, promised is {promised}",
                order.term
            ));
        }
        if promise.sealed {
            return Err("the promise is sealed".to_owned());
        }
        state.life = Life::Promoting(order.term);
        self.take_up(&state);
        Ok(order.term)
    }

    /// Recovery is over and the log is written: what the instance is from now on. A deposed primary does not return.
    fn is_primary(&self, own: Term) {
        let mut state = self.state.lock();
        state.life = Life::Primary(own);
        if state.is_deposed() {
            self.depose(&state);
        }
        self.take_up(&state);
    }
}
