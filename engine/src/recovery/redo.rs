//! Applying one record.
//!
//! A record's effect on pages is its owner's page function, block by block; all blocks are latched, in the
//! record's order, before the first is changed and until the last one is, so that a query on a standby never sees
//! half of a linked change. Effects beyond pages are the owner's hooks: `before` (a conflict with a query, a lock
//! to take) and `after` (a commit, a file made or dropped).

use smallvec::SmallVec;

use crate::ids::{Fork, Lsn};
use crate::storage::change::{PageFn, Replay, replay, replay_image};
use crate::storage::{Pinned, StorageError, Store, page};
use crate::wal::{Decoded, DecodedBlock, RmgrId, xlog_records};

use super::error::RedoError;
use super::missing::MissingPages;

/// What a hook may use.
pub struct RedoCx<'a> {
    pub store: &'a Store,
    pub missing: &'a MissingPages,
    /// Not crash recovery: queries run, or will once it is consistent, so locks and conflicts matter.
    pub standby: bool,
}

pub type RecordHook = Box<dyn Fn(&RedoCx<'_>, &Decoded<'_>) -> Result<(), RedoError> + Send + Sync>;

/// How the records of one resource manager are redone.
#[derive(Default)]
pub struct Handler {
    pub pages: Option<PageFn>,
    pub before: Option<RecordHook>,
    pub after: Option<RecordHook>,
}

impl Handler {
    pub fn pages(function: PageFn) -> Handler {
        Handler {
            pages: Some(function),
            ..Handler::default()
        }
    }
    #[must_use]
    pub fn before(mut self, hook: RecordHook) -> Handler {
        self.before = Some(hook);
        self
    }
    #[must_use]
    pub fn after(mut self, hook: RecordHook) -> Handler {
        self.after = Some(hook);
        self
    }
}

/// What an owner does when all records have been applied.
pub type EndHook = Box<dyn Fn(&Store) + Send + Sync>;

/// The registry: who redoes what. The log's own records are recovery's.
#[derive(Default)]
pub struct RedoTable {
    handlers: Vec<(RmgrId, Handler)>,
    at_end: Vec<EndHook>,
}

impl RedoTable {
    pub fn new() -> RedoTable {
        RedoTable::default()
    }
    #[must_use]
    pub fn with(mut self, rmgr: RmgrId, handler: Handler) -> RedoTable {
        assert!(self.get(rmgr).is_none(), "two handlers for {rmgr}");
        self.handlers.push((rmgr, handler));
        self
    }
    /// `hook` runs at the end of a crash recovery, before anything new is logged.
    #[must_use]
    pub fn at_end(mut self, hook: EndHook) -> RedoTable {
        self.at_end.push(hook);
        self
    }
    pub(super) fn finish(&self, store: &Store) {
        for hook in &self.at_end {
            hook(store);
        }
    }
    fn get(&self, rmgr: RmgrId) -> Option<&Handler> {
        self.handlers
            .iter()
            .find(|(id, _)| *id == rmgr)
            .map(|(_, handler)| handler)
    }

    /// Applies the record. Returns the highest page LSN that it met, which a log must reach to be whole.
    pub(super) fn apply(&self, cx: &RedoCx<'_>, record: &Decoded<'_>) -> Result<Lsn, RedoError> {
        let handler = match self.get(record.rmgr) {
            Some(handler) => handler,
            None if record.rmgr == RmgrId::XLOG => return apply_pages(cx, record, None),
            None => return Err(RedoError::NoHandler(record.rmgr)),
        };
        if let Some(before) = &handler.before {
            before(cx, record)?;
        }
        let newest = apply_pages(cx, record, handler.pages)?;
        if let Some(after) = &handler.after {
            after(cx, record)?;
        }
        Ok(newest)
    }
}

fn apply_pages(
    cx: &RedoCx<'_>,
    record: &Decoded<'_>,
    function: Option<PageFn>,
) -> Result<Lsn, RedoError> {
    if record.blocks.is_empty() {
        return Ok(Lsn::INVALID);
    }
    let mut pins: SmallVec<[Option<Pinned>; 4]> = SmallVec::new();
    for block in &record.blocks {
        pins.push(pin(cx, block)?);
    }
    let mut newest = Lsn::INVALID;
    let mut latched: SmallVec<[_; 4]> = SmallVec::new();
    for (pin, block) in pins.iter().zip(&record.blocks) {
        latched.push(pin.as_ref().map(Pinned::write));
        let Some(Some(page)) = latched.last_mut() else {
            continue;
        };
        newest = newest.max(page::lsn(page));
        if let Some(image) = block.image.filter(|_| block.apply_image) {
            replay_image(page, record.start, record.end, |bytes| image.restore(bytes));
            continue;
        }
        let unset = !block.will_init && block.page.fork == Fork::Main && page::is_new(page);
        let Some(function) = function.filter(|_| !unset) else {
            if unset {
                cx.missing.remember(block.page);
            }
            continue;
        };
        let record = Replay {
            start: record.start,
            end: record.end,
            info: record.info,
            block: block.id,
            will_init: block.will_init,
            data: block.data,
        };
        replay(page, &record, function).map_err(|fault| RedoError::Page {
            page: block.page,
            fault,
        })?;
    }
    Ok(newest)
}

/// The page, or `None` where it is missing. The auxiliary forks are made as they are needed.
fn pin(cx: &RedoCx<'_>, block: &DecodedBlock<'_>) -> Result<Option<Pinned>, RedoError> {
    let pool = &cx.store.pool;
    if block.will_init || (block.image.is_some() && block.apply_image) {
        return Ok(Some(pool.pin_for_init(block.page)?));
    }
    if block.page.fork != Fork::Main {
        pool.pin_or_extend(block.page)?;
        return Ok(Some(pool.pin_or_zero(block.page)?));
    }
    match pool.pin(block.page) {
        Ok(pinned) => Ok(Some(pinned)),
        Err(error) if error.is_not_found() || matches!(error, StorageError::BeyondEnd(_)) => {
            cx.missing.remember(block.page);
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Is it one of the two checkpoint records?
pub(super) fn is_checkpoint(record: &Decoded<'_>) -> bool {
    record.rmgr == RmgrId::XLOG
        && matches!(
            record.info,
            xlog_records::CHECKPOINT_SHUTDOWN | xlog_records::CHECKPOINT_ONLINE
        )
}
