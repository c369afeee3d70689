//! Physical replication slots: promises to keep the log from a position on.
//!
//! In this version slots are temporary: they live as long as the connection that made them, as `pg_basebackup`
//! and `pg_receivewal` use them, and leave nothing on disk. A permanent one is refused with that reason.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::ids::{Lsn, ProcessId};
use crate::replication::reply::CommandError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub name: String,
    /// The session that made it.
    pub owner: ProcessId,
    /// The log is kept from here on; invalid until something was reserved.
    pub restart: Lsn,
    pub active: bool,
    /// It asked for more of the log than `max_slot_wal_keep_size` allows, and keeps nothing any more.
    pub lost: bool,
}

#[derive(Default)]
pub struct Slots {
    slots: Mutex<HashMap<String, Slot>>,
    limit: usize,
}

impl Slots {
    /// `limit`: `max_replication_slots`.
    pub fn new(limit: usize) -> Arc<Slots> {
        Arc::new(Slots {
            slots: Mutex::default(),
            limit,
        })
    }

    /// Makes a temporary slot; `restart` is the position to keep, if it is to be reserved at once.
    pub fn create(
        &self,
        name: &str,
        owner: ProcessId,
        restart: Option<Lsn>,
    ) -> Result<(), CommandError> {
        check_name(name)?;
        let mut slots = self.slots.lock();
        if slots.contains_key(name) {
            let message = format!("replication slot \"{name}\" already exists");
            return Err(CommandError::new("42710", message));
        }
        if slots.len() >= self.limit {
            return Err(
                CommandError::new("53400", "all replication slots are in use")
                    .hint("Free one or increase max_replication_slots."),
            );
        }
        let restart = restart.unwrap_or(Lsn::INVALID);
        let slot = Slot {
            name: name.to_owned(),
            owner,
            restart,
            active: false,
            lost: false,
        };
        slots.insert(name.to_owned(), slot);
        Ok(())
    }

    /// Another session's slot is in use as long as it is there, as PostgreSQL's temporary ones are.
    pub fn drop_slot(&self, name: &str, by: ProcessId) -> Result<(), CommandError> {
        let mut slots = self.slots.lock();
        let slot = slots.get(name).ok_or_else(|| missing(name))?;
        if slot.active || slot.owner != by {
            return Err(in_use(slot));
        }
        slots.remove(name);
        Ok(())
    }

    /// When a session ends, so do its slots.
    pub fn drop_of(&self, owner: ProcessId) {
        self.slots.lock().retain(|_, slot| slot.owner != owner);
    }

    pub fn get(&self, name: &str) -> Option<Slot> {
        self.slots.lock().get(name).cloned()
    }

    pub fn all(&self) -> Vec<Slot> {
        self.slots.lock().values().cloned().collect()
    }

    /// Marks a slot of the session's own as streamed from, until the guard is dropped.
    pub fn acquire(self: &Arc<Self>, name: &str, by: ProcessId) -> Result<Acquired, CommandError> {
        let mut slots = self.slots.lock();
        let slot = slots.get_mut(name).ok_or_else(|| missing(name))?;
        if slot.active || slot.owner != by {
            return Err(in_use(slot));
        }
        slot.active = true;
        Ok(Acquired {
            slots: Arc::clone(self),
            name: name.to_owned(),
        })
    }

    /// The consumer has everything below `flushed`.
    pub fn advance(&self, name: &str, flushed: Lsn) {
        if let Some(slot) = self.slots.lock().get_mut(name)
            && !slot.lost
        {
            slot.restart = slot.restart.max(flushed);
        }
    }

    /// What lies below `from` goes. Slots that still wanted some of it keep nothing from here on; as they were.
    pub fn lose_below(&self, from: Lsn) -> Vec<Slot> {
        let mut slots = self.slots.lock();
        let late = slots
            .values_mut()
            .filter(|s| s.restart.is_valid() && s.restart < from);
        late.map(|slot| {
            let before = slot.clone();
            slot.restart = Lsn::INVALID;
            slot.lost = true;
            before
        })
        .collect()
    }

    /// The log from here on must be kept; `None` if no slot asks for any.
    pub fn oldest(&self) -> Option<Lsn> {
        self.slots
            .lock()
            .values()
            .map(|s| s.restart)
            .filter(|lsn| lsn.is_valid())
            .min()
    }
}

pub struct Acquired {
    slots: Arc<Slots>,
    name: String,
}

impl Drop for Acquired {
    fn drop(&mut self) {
        if let Some(slot) = self.slots.slots.lock().get_mut(&self.name) {
            slot.active = false;
        }
    }
}

fn check_name(name: &str) -> Result<(), CommandError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let problem = match name.len() {
        0 => format!("replication slot name \"{name}\" is too short"),
        64.. => format!("replication slot name \"{name}\" is too long"),
        _ if name.bytes().all(fits) => return Ok(()),
        _ => format!("replication slot name \"{name}\" contains invalid character"),
    };
    Err(CommandError::new("42602", problem).hint(
        "Replication slot names may only contain lower case letters, numbers, and the underscore character.",
    ))
}

fn missing(name: &str) -> CommandError {
    CommandError::new(
        "42704",
        format!("replication slot \"{name}\" does not exist"),
    )
}

fn in_use(slot: &Slot) -> CommandError {
    let message = format!(
        "replication slot \"{}\" is active for PID {}",
        slot.name, slot.owner
    );
    CommandError::new("55006", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_hold_the_log_until_they_go() {
        let me = ProcessId::MIN;
        let slots = Slots::new(2);
        slots.create("a", me, Some(Lsn::new(500))).expect("free");
        slots.create("b", me, None).expect("free");
        assert_eq!(
            slots.create("c", me, None).expect_err("full").state,
            "53400"
        );
        assert_eq!(
            slots.create("a", me, None).expect_err("taken").state,
            "42710"
        );
        assert_eq!(slots.oldest(), Some(Lsn::new(500)));
        {
            let _held = slots.acquire("a", me).expect("idle");
            assert_eq!(slots.drop_slot("a", me).expect_err("in use").state, "55006");
        }
        let other = me.saturating_add(1);
        let refused = slots.acquire("a", other).err().expect("another's");
        assert_eq!(refused.state, "55006");
        assert!(refused.message.ends_with("is active for PID 1"));
        let refused = slots.drop_slot("a", other).expect_err("another's");
        assert_eq!(refused.state, "55006");
        slots.advance("a", Lsn::new(900));
        slots.advance("a", Lsn::new(700));
        assert_eq!(slots.oldest(), Some(Lsn::new(900)));
        slots.drop_of(me);
        assert_eq!(slots.oldest(), None);
    }

    #[test]
    fn a_slot_that_asks_for_what_goes_is_lost() {
        let me = ProcessId::MIN;
        let slots = Slots::new(3);
        slots.create("late", me, Some(Lsn::new(500))).expect("free");
        slots.create("new", me, Some(Lsn::new(700))).expect("free");
        slots.create("none", me, None).expect("free");
        assert!(slots.lose_below(Lsn::new(500)).is_empty());
        let lost = slots.lose_below(Lsn::new(600));
        assert_eq!(lost.len(), 1);
        assert_eq!(
            (lost[0].name.as_str(), lost[0].restart),
            ("late", Lsn::new(500))
        );
        slots.advance("late", Lsn::new(650));
        assert_eq!(slots.oldest(), Some(Lsn::new(700)));
        assert!(slots.lose_below(Lsn::new(600)).is_empty(), "only once");
    }

    #[test]
    fn names_are_checked() {
        for bad in ["", "A", "a-b", &"x".repeat(64)] {
            assert_eq!(check_name(bad).expect_err("bad").state, "42602", "{bad}");
        }
        assert_eq!(check_name("pg_basebackup_123"), Ok(()));
    }
}
