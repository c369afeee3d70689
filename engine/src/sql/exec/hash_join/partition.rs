//! Rows on disk, divided by the upper bits of their hash.

use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::spill::{SpillFile, SpillReader};
use crate::types::datum::Datum;

pub const COUNT: usize = 32;

pub struct Partitions {
    width: usize,
    files: Vec<Option<(SpillFile, u64)>>,
    /// Of the partition that is being read, and how many rows are left in it.
    reader: Option<(usize, SpillReader, u64)>,
}

impl Partitions {
    pub fn new(width: usize) -> Partitions {
        Partitions {
            width,
            files: (0..COUNT).map(|_| None).collect(),
            reader: None,
        }
    }

    pub fn push<'d>(
        &mut self,
        hash: u64,
        row: impl Iterator<Item = &'d Datum>,
        cx: &mut EvalCx,
    ) -> Result<(), SqlError> {
        let number = (hash >> 40) as usize % COUNT;
        let place = &mut self.files[number];
        if place.is_none() {
            *place = Some((cx.access.temp()?.create()?, 0));
        }
        let (file, rows) = place.as_mut().expect("just made");
        file.push(row)?;
        *rows += 1;
        Ok(())
    }

    /// The next row of a partition; false at its end.
    pub fn next(&mut self, number: usize, out: impl FnMut(usize, Datum)) -> Result<bool, SqlError> {
        let Some((file, rows)) = &mut self.files[number] else {
            return Ok(false);
        };
        if self.reader.as_ref().is_none_or(|(n, _, _)| *n != number) {
            self.reader = Some((number, SpillReader::default(), *rows));
        }
        let (_, reader, left) = self.reader.as_mut().expect("just set");
        if *left == 0 {
            return Ok(false);
        }
        *left -= 1;
        let end = u64::MAX;
        reader.read(file, end, self.width, out)
    }

    /// Every row of a partition, each in the same vector, which the callee empties.
    pub fn each(
        &mut self,
        number: usize,
        take: &mut dyn FnMut(&mut Vec<Datum>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let mut row = Vec::with_capacity(self.width);
        while self.next(number, |_, value| row.push(value))? {
            take(&mut row)?;
            row.clear();
        }
        Ok(())
    }
}
