//! Rows kept in order, in memory up to `work_mem`, the rest in a temporary file.

use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::eval::Slot;
use crate::sql::exec::memory::datum_bytes;
use crate::sql::exec::spill::{SpillFile, SpillReader};
use crate::types::datum::Datum;

/// Rows of a fixed width. What is in memory comes before what is on disk.
pub struct RowStore {
    width: usize,
    values: Vec<Datum>,
    rows: usize,
    bytes: usize,
    spilled: usize,
    file: Option<SpillFile>,
}

/// A place in a [`RowStore`].
#[derive(Default)]
pub struct RowReader {
    row: usize,
    file: Option<SpillReader>,
}

impl RowStore {
    pub fn new(width: usize) -> RowStore {
        RowStore {
            width,
            values: Vec::new(),
            rows: 0,
            bytes: 0,
            spilled: 0,
            file: None,
        }
    }

    pub fn len(&self) -> usize {
        self.rows + self.spilled
    }

    /// Gives back what it has on the statement's account.
    pub fn forget(self, cx: &mut EvalCx) {
        cx.memory.give_back(self.bytes);
    }

    /// Keeps the row that is in `slots`.
    pub fn push(
        &mut self,
        slots: &[Slot],
        frame: &[Datum],
        cx: &mut EvalCx,
    ) -> Result<(), SqlError> {
        debug_assert_eq!(slots.len(), self.width);
        if self.file.is_none() {
            let bytes: usize = slots.iter().map(|s| datum_bytes(&frame[*s])).sum();
            if self.bytes + bytes <= cx.memory.work() {
                cx.memory.take(bytes)?;
                self.bytes += bytes;
                self.values.extend(slots.iter().map(|s| frame[*s].clone()));
                self.rows += 1;
                return Ok(());
            }
            self.file = Some(cx.access.temp()?.create()?);
        }
        let file = self.file.as_mut().expect("just made");
        file.push(slots.iter().map(|s| &frame[*s]))?;
        self.spilled += 1;
        Ok(())
    }

    /// Puts the reader's next row into `slots`; false at the end of what is there now.
    pub fn read(
        &mut self,
        reader: &mut RowReader,
        slots: &[Slot],
        frame: &mut [Datum],
    ) -> Result<bool, SqlError> {
        if reader.row >= self.len() {
            return Ok(false);
        }
        if reader.row < self.rows {
            let from = reader.row * self.width;
            for (slot, value) in slots.iter().zip(&self.values[from..from + self.width]) {
                frame[*slot] = value.clone();
            }
        } else {
            let file = self
                .file
                .as_mut()
                .expect("rows beyond memory are in the file");
            let end = file.position();
            let source = reader
                .file
                .get_or_insert_with(|| SpillReader::starting_at(0));
            source.read(file, end, self.width, |i, value| frame[slots[i]] = value)?;
        }
        reader.row += 1;
        Ok(true)
    }
}

impl RowReader {
    /// Behind every row that the store has now.
    pub fn to_end(&mut self, store: &RowStore) {
        self.row = store.len();
        self.file = store
            .file
            .as_ref()
            .map(|f| SpillReader::starting_at(f.position()));
    }
}
