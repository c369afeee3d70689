//! Sequences: one page that says up to which value numbers have been reserved, and a counter in memory.
//!
//! ```text
//! page item 1:  reserved i64 | called u8      (little-endian)
//! ```
//!
//! `reserved` is logged ahead: numbers up to it may have been given out. What is left of a reservation is known only
//! to the running server, so a crash or a failover goes on behind it and never gives a number twice. `called`
//! false means that `reserved` itself has not been given out yet. A number is safe to show once the record that
//! reserved it is safe; [`Reserved::lsn`] lets the caller make his transaction wait for it. Values behind the
//! reservation are lost by a crash: gaps, as in PostgreSQL.

use parking_lot::Mutex;
use std::collections::HashMap;

use crate::ids::{BlockNumber, Fork, Lsn, OffsetNumber, PageId, RelFile, Xid};
use crate::storage::change::{BlockMode, Change, PageFn};
use crate::storage::page::{self, PageBuf};
use crate::storage::{PageFault, StorageError, Store};
use crate::wal::RmgrId;

/// The only record: block 0 is the page, its data the new item.
const SET: u8 = 0x00;
pub const WRITTEN: &[(u8, &str)] = &[(SET, "SET")];
const ITEM_SIZE: usize = 9;
/// Numbers reserved by one record; PostgreSQL's `SEQ_LOG_VALS`.
const AHEAD: i64 = 32;

/// What `pg_sequence` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    pub increment: i64,
    pub min: i64,
    pub max: i64,
    pub cycle: bool,
}

/// A sequence's state: the last number and whether it has been given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub last: i64,
    pub called: bool,
}

/// A number, and the record that has to be safe before anyone may rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    pub value: i64,
    pub lsn: Lsn,
}

#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// 2200H; `sql` adds the sequence's name.
    #[error("reached maximum value of sequence ({0})")]
    AtMaximum(i64),
    #[error("reached minimum value of sequence ({0})")]
    AtMinimum(i64),
    #[error("sequence file {0} is damaged: its page holds no sequence")]
    Damaged(RelFile),
}

/// Numbers in memory, by sequence file.
#[derive(Default)]
pub struct Sequences {
    counters: Mutex<HashMap<RelFile, Counter>>,
}

#[derive(Debug, Clone, Copy)]
struct Counter {
    state: State,
    /// The last number that may be given out without a record.
    reserved: i64,
    lsn: Lsn,
}

pub fn page_fn() -> PageFn {
    apply
}

fn apply(_info: u8, _block: u8, page: &mut PageBuf, data: &[u8]) -> Result<(), PageFault> {
    let first = OffsetNumber::FIRST;
    if page::is_new(page) {
        page::init(page, 0);
        return page::put_item_at(page, first, data);
    }
    match page::item_mut(page, first) {
        Some(item) if item.len() == data.len() => {
            item.copy_from_slice(data);
            Ok(())
        }
        _ => Err(PageFault::at("sequence item has another size", first.raw())),
    }
}

fn encode(state: State) -> [u8; ITEM_SIZE] {
    let mut item = [0; ITEM_SIZE];
    item[..8].copy_from_slice(&state.last.to_le_bytes());
    item[8] = u8::from(state.called);
    item
}

fn page_of(file: RelFile) -> PageId {
    PageId {
        file,
        fork: Fork::Main,
        block: BlockNumber::new(0),
    }
}

fn log(store: &Store, file: RelFile, xid: Xid, state: State) -> Result<Lsn, SequenceError> {
    let pinned = store.pool.pin(page_of(file))?;
    let mut page = pinned.write();
    // A change that can't be applied would end the server.
    item(&page, file)?;
    let mut change = Change::new(RmgrId::SEQUENCE, SET, xid);
    change.block(&mut page, BlockMode::Update, &encode(state));
    Ok(change.commit(&store.wal, apply).end)
}

fn item(page: &PageBuf, file: RelFile) -> Result<[u8; ITEM_SIZE], SequenceError> {
    page::item(page, OffsetNumber::FIRST)
        .and_then(|item| item.try_into().ok())
        .ok_or(SequenceError::Damaged(file))
}

/// What the page says: the last number that may have been given out.
pub fn stored(store: &Store, file: RelFile) -> Result<State, SequenceError> {
    let pinned = store.pool.pin(page_of(file))?;
    let [last @ .., called] = item(&pinned.read(), file)?;
    Ok(State {
        last: i64::from_le_bytes(last),
        called: called != 0,
    })
}

/// Writes the page of a new sequence, whose (empty) file is there already.
pub fn create(store: &Store, file: RelFile, xid: Xid, start: i64) -> Result<(), SequenceError> {
    let pinned = store.pool.extend(file, Fork::Main)?;
    let mut page = pinned.write();
    let mut change = Change::new(RmgrId::SEQUENCE, SET, xid);
    change.block(
        &mut page,
        BlockMode::Init,
        &encode(State {
            last: start,
            called: false,
        }),
    );
    change.commit(&store.wal, apply);
    Ok(())
}

impl Sequences {
    /// The next number. `xid` goes into the record, if one is written.
    pub fn next(
        &self,
        store: &Store,
        file: RelFile,
        parameters: Parameters,
        xid: Xid,
    ) -> Result<Reserved, SequenceError> {
        let mut counters = self.counters.lock();
        let counter = match counters.get(&file) {
            Some(counter) => *counter,
            None => {
                let state = stored(store, file)?;
                Counter {
                    state,
                    reserved: state.last,
                    lsn: Lsn::INVALID,
                }
            }
        };
        let value = following(counter.state, parameters)?;
        let covered = counter.lsn.is_valid() && is_covered(value, counter, parameters);
        let state = State {
            last: value,
            called: true,
        };
        let counter = if covered {
            Counter { state, ..counter }
        } else {
            let reserved = reserve(value, parameters);
            let lsn = log(
                store,
                file,
                xid,
                State {
                    last: reserved,
                    called: true,
                },
            )?;
            Counter {
                state,
                reserved,
                lsn,
            }
        };
        counters.insert(file, counter);
        Ok(Reserved {
            value,
            lsn: counter.lsn,
        })
    }

    /// `setval`: at once and for everyone, whatever becomes of the transaction.
    pub fn set(
        &self,
        store: &Store,
        file: RelFile,
        state: State,
        xid: Xid,
    ) -> Result<Lsn, SequenceError> {
        let mut counters = self.counters.lock();
        let lsn = log(store, file, xid, state)?;
        counters.insert(
            file,
            Counter {
                state,
                reserved: state.last,
                lsn,
            },
        );
        Ok(lsn)
    }

    /// What `SELECT last_value, is_called` shows: on a server that has given out numbers, the last of them.
    pub fn state(&self, store: &Store, file: RelFile) -> Result<State, SequenceError> {
        match self.counters.lock().get(&file) {
            Some(counter) => Ok(counter.state),
            None => stored(store, file),
        }
    }

    /// The sequence is dropped, or this server follows another one's log from here on.
    pub fn forget(&self, file: Option<RelFile>) {
        let mut counters = self.counters.lock();
        match file {
            Some(file) => {
                counters.remove(&file);
            }
            None => counters.clear(),
        }
    }
}

fn following(state: State, p: Parameters) -> Result<i64, SequenceError> {
    if !state.called {
        return Ok(state.last);
    }
    match state
        .last
        .checked_add(p.increment)
        .filter(|v| (p.min..=p.max).contains(v))
    {
        Some(value) => Ok(value),
        None if p.cycle => Ok(if p.increment > 0 { p.min } else { p.max }),
        None if p.increment > 0 => Err(SequenceError::AtMaximum(p.max)),
        None => Err(SequenceError::AtMinimum(p.min)),
    }
}

/// The number that stands `AHEAD` steps behind `value`, or the last one before the end.
fn reserve(value: i64, p: Parameters) -> i64 {
    let room = if p.increment > 0 {
        i128::from(p.max) - i128::from(value)
    } else {
        i128::from(value) - i128::from(p.min)
    };
    let steps = (room / i128::from(p.increment.unsigned_abs())).min(i128::from(AHEAD));
    let ahead = i128::from(value) + steps * i128::from(p.increment);
    i64::try_from(ahead).expect("between the value and the sequence's end")
}

fn is_covered(value: i64, counter: Counter, p: Parameters) -> bool {
    // After a wrap the value lies before the last one given out, which the reservation does not cover.
    if p.increment > 0 {
        value > counter.state.last && value <= counter.reserved
    } else {
        value < counter.state.last && value >= counter.reserved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Parameters = Parameters {
        increment: 1,
        min: 1,
        max: 40,
        cycle: false,
    };

    #[test]
    fn numbers_follow_each_other_to_the_end() {
        let at = |last, called| State { last, called };
        assert_eq!(following(at(1, false), UP).ok(), Some(1));
        assert_eq!(following(at(39, true), UP).ok(), Some(40));
        assert!(matches!(
            following(at(40, true), UP),
            Err(SequenceError::AtMaximum(40))
        ));
        assert_eq!(
            following(at(40, true), Parameters { cycle: true, ..UP }).ok(),
            Some(1)
        );
        let down = Parameters {
            increment: -3,
            min: -10,
            max: 0,
            cycle: true,
        };
        assert_eq!(following(at(-9, true), down).ok(), Some(0));
        let wide = Parameters {
            increment: i64::MAX,
            min: i64::MIN,
            max: i64::MAX,
            cycle: false,
        };
        assert!(following(at(1, true), wide).is_err(), "no overflow");
    }

    #[test]
    fn reservations_end_at_the_sequences_end() {
        assert_eq!(reserve(1, UP), 33);
        assert_eq!(reserve(20, UP), 40);
        let down = Parameters {
            increment: -3,
            min: -10,
            max: 0,
            cycle: true,
        };
        assert_eq!(reserve(0, down), -9);
        let extreme = Parameters {
            increment: i64::MIN,
            min: i64::MIN,
            max: i64::MAX,
            cycle: false,
        };
        assert_eq!(reserve(i64::MAX, extreme), -1);
    }

    #[test]
    fn a_wrapped_number_needs_a_record_of_its_own() {
        let counter = Counter {
            state: State {
                last: 40,
                called: true,
            },
            reserved: 40,
            lsn: Lsn::new(8),
        };
        assert!(!is_covered(1, counter, UP));
        let counter = Counter {
            state: State {
                last: 5,
                called: true,
            },
            reserved: 33,
            ..counter
        };
        assert!(is_covered(6, counter, UP) && !is_covered(34, counter, UP));
    }
}
