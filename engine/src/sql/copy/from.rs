//! COPY FROM: bytes in, rows written in batches.
//!
//! A batch goes to the heap in one call and then into each index; what waits for another transaction waits between
//! rows. After an error the rows already written are dead with their transaction.

use std::sync::Arc;

use super::binary::{self, Row};
use super::csv::{self, Field};
use super::lines::{self, Cut, LineEnd};
use super::options::{CopyFormat, CopyOptions, Header};
use crate::catalog::relation::Relation;
use crate::catalog::view::CatalogView;
use crate::ids::{Tid, Xid};
use crate::sql::bind;
use crate::sql::bound::{Disclosure, Expr};
use crate::sql::error::{SqlError, state};
use crate::sql::exec::ExecCx;
use crate::sql::exec::access::{Access, NoVirtualTables, Storage};
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::eval::{Scalar, Test};
use crate::sql::exec::modify::constraint::NewRow;
use crate::sql::exec::modify::entries::{self, Added};
use crate::sql::plan::over_row;
use crate::sql::plan::tree::CheckTest;
use crate::sql::references::changes;
use crate::table::heap::BulkInsert;
use crate::txn::{LockWait, Transaction};
use crate::types::codec;
use crate::types::datum::Datum;

/// Rows written at a time, and bytes of input.
const BATCH_ROWS: usize = 1000;
const BATCH_BYTES: usize = 64 << 10;
/// How much of a line an error's context shows.
const SHOWN: usize = 100;
/// One record that grows beyond this is refused.
const RECORD_LIMIT: usize = 1 << 30;

/// What rows go into.
pub struct CopyTarget {
    pub relation: Arc<Relation>,
    /// Positions (from 0) of the columns that the input has, in its order.
    pub columns: Vec<usize>,
    /// WHERE, over the new row (range 0).
    pub filter: Option<Expr>,
    pub disclosure: Disclosure,
}

impl CopyTarget {
    fn new_row<'a>(&'a self, values: &'a [Datum]) -> NewRow<'a> {
        NewRow {
            relation: &self.relation,
            values,
            disclosure: &self.disclosure,
        }
    }
}

/// A running COPY FROM.
pub struct CopyFrom {
    target: CopyTarget,
    options: CopyOptions,
    cx: EvalCx,
    /// Values of the columns that the input leaves out.
    defaults: Vec<(usize, Scalar)>,
    checks: Vec<CheckTest>,
    filter: Option<Test>,
    buffer: Vec<u8>,
    at: usize,
    /// How many bytes there have to be before the next record is looked for.
    enough: usize,
    /// Bytes that one record may have.
    limit: usize,
    ends: LineEnd,
    line: u64,
    header: Header,
    /// The binary header has been read.
    begun: bool,
    /// The end-of-data marker has been read: what follows is ignored.
    ended: bool,
    batch: Batch,
    bulk: Option<BulkInsert>,
    rows: u64,
    fields: Vec<Option<Vec<u8>>>,
    csv_fields: Vec<Field>,
}

#[derive(Default)]
struct Batch {
    values: Vec<Datum>,
    lines: Vec<u64>,
    bytes: usize,
}

impl Batch {
    /// Those of a table without columns have no values.
    fn rows(&self, width: usize) -> impl Iterator<Item = &[Datum]> {
        (0..self.lines.len()).map(move |number| &self.values[number * width..][..width])
    }
}

fn bad(message: impl Into<String>) -> SqlError {
    SqlError::new(state::BAD_COPY_FORMAT, message)
}

impl CopyFrom {
    pub fn new(
        target: CopyTarget,
        options: CopyOptions,
        catalog: &dyn CatalogView,
        given: ExecCx,
    ) -> Result<CopyFrom, SqlError> {
        let relation = Arc::clone(&target.relation);
        let names: Vec<&str> = target
            .columns
            .iter()
            .map(|c| relation.columns[*c].name.as_str())
            .collect();
        options.force_not_null.check("FORCE_NOT_NULL", &names)?;
        options.force_null.check("FORCE_NULL", &names)?;
        let mut defaults = Vec::new();
        for (number, _) in relation.live_columns() {
            if target.columns.contains(&number) {
                continue;
            }
            let expr = bind::column_default(&relation, number, catalog, &given.function)?;
            if !matches!(expr, Expr::Const(Datum::Null, _)) {
                defaults.push((number, Scalar::compiled(over_row(expr)?)));
            }
        }
        let mut checks = Vec::new();
        for check in &relation.checks {
            let expr =
                bind::check_expression(&check.expression, &relation, catalog, &given.function)?;
            checks.push(CheckTest {
                name: check.name.clone(),
                test: Test::compiled(over_row(expr)?),
            });
        }
        let filter = match &target.filter {
            None => None,
            Some(filter) => Some(Test::compiled(over_row(filter.clone())?)),
        };
        let access = Access {
            storage: Some(Storage {
                store: given.store,
                txns: given.txns,
                snapshot: given.snapshot,
            }),
            virtuals: Arc::new(NoVirtualTables),
            temp: Some(given.temp),
            xid: None,
            command: crate::ids::CommandId::FIRST,
            isolation: given.isolation,
            crosscheck: None,
        };
        let cx = EvalCx::new(
            None,
            Vec::new(),
            given.function,
            given.interrupts,
            given.limits,
            access,
        );
        Ok(CopyFrom {
            header: options.header,
            target,
            options,
            cx,
            defaults,
            checks,
            filter,
            buffer: Vec::new(),
            at: 0,
            enough: 0,
            limit: RECORD_LIMIT,
            ends: LineEnd::Unknown,
            line: 0,
            begun: false,
            ended: false,
            batch: Batch::default(),
            bulk: None,
            rows: 0,
            fields: Vec::new(),
            csv_fields: Vec::new(),
        })
    }

    pub fn columns(&self) -> usize {
        self.target.columns.len()
    }

    #[cfg(test)]
    pub(crate) fn limit_records(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    /// Takes the next bytes of the input, cut anywhere.
    pub async fn push(&mut self, txn: &mut Transaction, data: &[u8]) -> Result<(), SqlError> {
        if self.ended {
            return self.behind_the_end(!data.is_empty());
        }
        self.forget_taken();
        if self.buffer.len() + data.len() > self.limit && self.enough > 0 {
            // The record that waits for more may be whole by now.
            self.enough = 0;
            self.consume(txn, false).await?;
            if self.ended {
                return self.behind_the_end(!data.is_empty());
            }
            self.forget_taken();
        }
        if self.buffer.len() + data.len() > self.limit {
            return Err(SqlError::new(
                state::PROGRAM_LIMIT_EXCEEDED,
                "a record of COPY data is larger than 1 GB",
            ));
        }
        self.buffer.extend_from_slice(data);
        self.consume(txn, false).await
    }

    fn forget_taken(&mut self) {
        self.buffer.drain(..self.at);
        self.at = 0;
    }

    /// The input is complete. Returns how many rows were written.
    pub async fn finish(mut self, txn: &mut Transaction) -> Result<u64, SqlError> {
        if !self.ended {
            self.consume(txn, true).await?;
            if self.options.format == CopyFormat::Binary && !self.ended {
                self.binary_end()?;
            }
        }
        self.flush(txn).await?;
        Ok(self.rows)
    }

    /// Nothing may follow the binary trailer; behind the text marker it is ignored.
    fn behind_the_end(&self, more: bool) -> Result<(), SqlError> {
        if more && self.options.format == CopyFormat::Binary {
            let message = "received copy data after EOF marker";
            return Err(bad(message).context(self.place_of(self.line + 1)));
        }
        Ok(())
    }

    /// The input ended without a trailer: right if it ended between two rows, as for PostgreSQL. Drivers do that.
    fn binary_end(&self) -> Result<(), SqlError> {
        if !self.begun {
            // Told before there is a line to speak of.
            return Err(bad("COPY file signature not recognized"));
        }
        let rest = &self.buffer[self.at..];
        let Row::More(Some(fields)) = binary::cut_row(rest, self.target.columns.len())? else {
            return Ok(());
        };
        let cut_off = fields.len();
        self.decode(&fields, self.line + 1)?;
        let place = self.place_in(self.line + 1, cut_off);
        Err(bad("unexpected EOF in COPY data").context(place))
    }

    async fn consume(&mut self, txn: &mut Transaction, last: bool) -> Result<(), SqlError> {
        while !self.ended {
            let more = match self.options.format {
                CopyFormat::Binary => self.next_binary()?,
                CopyFormat::Text | CopyFormat::Csv => self.next_record(last)?,
            };
            if self.batch.lines.len() >= BATCH_ROWS || self.batch.bytes >= BATCH_BYTES {
                self.flush(txn).await?;
                self.cx.check_interrupts()?;
                tokio::task::yield_now().await;
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Where the input is, for an error that is not in it.
    pub fn context(&self) -> String {
        self.place_of(self.line + 1)
    }

    /// `COPY t, line 3`
    fn place(&self) -> String {
        self.place_of(self.line)
    }

    fn place_of(&self, line: u64) -> String {
        format!("COPY {}, line {line}", self.target.relation.name)
    }

    fn place_with(&self, record: &[u8]) -> String {
        format!("{}: \"{}\"", self.place(), shown(record))
    }

    /// Takes one line or CSV record; false: there is no whole one.
    fn next_record(&mut self, last: bool) -> Result<bool, SqlError> {
        let csv = self.options.format == CopyFormat::Csv;
        let ends = self.ends;
        let rest = &self.buffer[self.at..];
        let there = rest.len();
        if there < self.enough && !last {
            return Ok(false);
        }
        let cut = if csv {
            csv::cut_csv(rest, &self.options, &mut self.ends, last)
        } else {
            lines::cut_text(rest, &mut self.ends, last)
        };
        let cut = cut.map_err(|e| {
            self.line += 1;
            e.context(self.place())
        })?;
        let (length, whole) = match cut {
            Cut::More => {
                // A long record comes in many messages: with each of them to read it anew would take for ever.
                self.enough = if there > BATCH_BYTES { there * 2 } else { 0 };
                return Ok(false);
            }
            Cut::Record { length, whole } => (length, whole),
            Cut::End { length } => {
                self.ended = true;
                (length, length)
            }
        };
        self.enough = 0;
        let start = self.at;
        self.at += whole;
        self.line += 1;
        let record = self.buffer[start..start + length].to_vec();
        if csv {
            // Line ends inside of quotes begin lines of the file as well.
            let end = if ends == LineEnd::Newline {
                b'\n'
            } else {
                b'\r'
            };
            self.line += memchr::memchr_iter(end, &record).count() as u64;
        }
        // In CSV the marker counts only where it is a whole line.
        let marked = csv && record == b"\\." && whole > length;
        if marked || (self.ended && record.is_empty()) {
            self.ended = true;
            return Ok(false);
        }
        if self.header != Header::No {
            let check = self.header == Header::Match;
            self.header = Header::No;
            if check {
                self.match_header(&record)?;
            }
            return Ok(true);
        }
        self.take_record(&record)?;
        Ok(true)
    }

    /// The record's fields into `self.fields`.
    fn split(&mut self, record: &[u8]) -> Result<(), SqlError> {
        if self.options.format == CopyFormat::Text {
            lines::split_text(record, &self.options, &mut self.fields);
            return self.check_escapes(record);
        }
        csv::split_csv(record, &self.options, &mut self.csv_fields)
            .map_err(|e| e.context(self.place_with(record)))?;
        self.fields.clear();
        for (number, field) in self.csv_fields.drain(..).enumerate() {
            let column = self.target.columns.get(number);
            let name = column.map_or("", |c| self.target.relation.columns[*c].name.as_str());
            let is_marker = field.value == self.options.null.as_bytes();
            let null = is_marker
                && if field.quoted {
                    self.options.force_null.has(name)
                } else {
                    !self.options.force_not_null.has(name)
                };
            self.fields.push((!null).then_some(field.value));
        }
        Ok(())
    }

    /// What escapes have made of a line of good text has to be good text too; told before any field is read.
    fn check_escapes(&self, record: &[u8]) -> Result<(), SqlError> {
        if memchr::memchr(b'\\', record).is_none() {
            return Ok(());
        }
        codec::text_of(record).map_err(|e| SqlError::from(e).context(self.place()))?;
        for field in self.fields.iter().flatten() {
            codec::text_of(field)
                .map_err(|e| SqlError::from(e).context(self.place_with(record)))?;
        }
        Ok(())
    }

    fn match_header(&mut self, record: &[u8]) -> Result<(), SqlError> {
        self.split(record)?;
        let columns = &self.target.columns;
        let fail = |message: String| Err(bad(message).context(self.place_with(record)));
        if self.fields.len() != columns.len() {
            return fail(format!(
                "wrong number of fields in header line: got {}, expected {}",
                self.fields.len(),
                columns.len()
            ));
        }
        for (number, (field, column)) in self.fields.iter().zip(columns).enumerate() {
            let wanted = &self.target.relation.columns[*column].name;
            let Some(field) = field else {
                return fail(format!(
                    "column name mismatch in header line field {}: got null value (\"{}\"), \
                     expected \"{wanted}\"",
                    number + 1,
                    self.options.null
                ));
            };
            if field.as_slice() != wanted.as_bytes() {
                return fail(format!(
                    "column name mismatch in header line field {}: got \"{}\", expected \
                     \"{wanted}\"",
                    number + 1,
                    String::from_utf8_lossy(field)
                ));
            }
        }
        Ok(())
    }

    fn take_record(&mut self, record: &[u8]) -> Result<(), SqlError> {
        self.split(record)?;
        let count = self.target.columns.len();
        let relation = Arc::clone(&self.target.relation);
        if self.fields.len() > count && !(count == 0 && record.is_empty()) {
            return Err(
                bad("extra data after last expected column").context(self.place_with(record))
            );
        }
        let mut row = vec![Datum::Null; relation.columns.len()];
        let fields = std::mem::take(&mut self.fields);
        for (column, field) in self.target.columns.iter().zip(&fields) {
            let Some(bytes) = field else { continue };
            row[*column] = self.parse(&relation, *column, bytes)?;
        }
        self.fields = fields;
        // Told only now: what is wrong with the fields that are there comes first.
        if self.fields.len() < count {
            let missing = &relation.columns[self.target.columns[self.fields.len()]].name;
            return Err(bad(format!("missing data for column \"{missing}\""))
                .context(self.place_with(record)));
        }
        self.take_row(row, record.len())
            .map_err(|e| e.context(self.place_with(record)))
    }

    fn parse(&self, relation: &Relation, column: usize, bytes: &[u8]) -> Result<Datum, SqlError> {
        let column = &relation.columns[column];
        let text = codec::text_of(bytes).map_err(|e| SqlError::from(e).context(self.place()))?;
        codec::parse_text(column.ty, text, &self.cx.function).map_err(|e| {
            SqlError::from(e).context(format!(
                "{}, column {}: \"{}\"",
                self.place(),
                column.name,
                shown(bytes)
            ))
        })
    }

    /// Takes one binary row; false: there is no whole one.
    fn next_binary(&mut self) -> Result<bool, SqlError> {
        let rest = &self.buffer[self.at..];
        if !self.begun {
            let Some(length) = binary::header_length(rest)? else {
                return Ok(false);
            };
            self.begun = true;
            self.at += length;
            return Ok(true);
        }
        let cut = binary::cut_row(rest, self.target.columns.len());
        let cut = cut.map_err(|e| e.context(self.place_of(self.line + 1)))?;
        let (fields, length) = match cut {
            Row::More(_) => return Ok(false),
            Row::Bad { fields, error } => {
                self.decode(&fields, self.line + 1)?;
                return Err(error.context(self.place_in(self.line + 1, fields.len())));
            }
            Row::Trailer => {
                self.ended = true;
                self.at += size_of::<i16>();
                self.behind_the_end(self.at < self.buffer.len())?;
                return Ok(false);
            }
            Row::Fields { fields, length } => (fields, length),
        };
        self.line += 1;
        let row = self.decode(&fields, self.line)?;
        self.at += length;
        self.take_row(row, length)
            .map_err(|e| e.context(self.place()))?;
        Ok(true)
    }

    /// A row of the fields of a binary one, which begins at `self.at`.
    fn decode(&self, fields: &binary::Fields, line: u64) -> Result<Vec<Datum>, SqlError> {
        let relation = &self.target.relation;
        let mut row = vec![Datum::Null; relation.columns.len()];
        for (at, (number, field)) in self.target.columns.iter().zip(fields).enumerate() {
            let Some(range) = field else { continue };
            let bytes = &self.buffer[self.at..][range.clone()];
            let value =
                codec::decode_binary(relation.columns[*number].ty, bytes, &self.cx.function);
            row[*number] = value.map_err(|e| SqlError::from(e).context(self.place_in(line, at)))?;
        }
        Ok(row)
    }

    /// `COPY t, line 3, column a`: the input's column of that number.
    fn place_in(&self, line: u64, column: usize) -> String {
        let column = &self.target.relation.columns[self.target.columns[column]];
        format!("{}, column {}", self.place_of(line), column.name)
    }

    /// Defaults, WHERE, constraints; then into the batch.
    fn take_row(&mut self, mut row: Vec<Datum>, bytes: usize) -> Result<(), SqlError> {
        for (column, value) in &self.defaults {
            row[*column] = value.eval(&[], &mut self.cx)?;
        }
        if let Some(filter) = &self.filter
            && !filter.passes(&row, &mut self.cx)?
        {
            return Ok(());
        }
        let checked = self.target.new_row(&row);
        checked.check_not_null(&self.cx)?;
        checked.check_tests(&self.checks, &row, &mut self.cx)?;
        self.batch.values.append(&mut row);
        self.batch.lines.push(self.line);
        self.batch.bytes += bytes;
        Ok(())
    }

    /// Writes the batch.
    async fn flush(&mut self, txn: &mut Transaction) -> Result<(), SqlError> {
        if self.batch.lines.is_empty() {
            return Ok(());
        }
        let xid = self.begin_writing(txn)?;
        let relation = Arc::clone(&self.target.relation);
        let width = relation.columns.len();
        let storage = self.cx.access.storage()?;
        let bulk = match &mut self.bulk {
            Some(bulk) => bulk,
            none => none.insert(BulkInsert::new(storage.table(), &relation)),
        };
        let mut tids = Vec::with_capacity(self.batch.lines.len());
        bulk.insert_many(
            storage.table(),
            &relation,
            self.batch.rows(width),
            xid,
            self.cx.access.command,
            &mut tids,
        )?;
        self.index(txn, xid, &tids).await?;
        if changes::concerns(&relation) {
            let mut events = Vec::new();
            for (row, tid) in self.batch.rows(width).zip(&tids) {
                changes::inserted(&relation, row, *tid, &mut events);
            }
            txn.row_events_mut().extend(events);
        }
        self.rows += self.batch.lines.len() as u64;
        self.batch = Batch::default();
        Ok(())
    }

    fn begin_writing(&mut self, txn: &mut Transaction) -> Result<Xid, SqlError> {
        if let Some(xid) = self.cx.access.xid {
            return Ok(xid);
        }
        self.cx.access.command = txn.command_id();
        let txns = Arc::clone(&self.cx.access.storage()?.txns);
        let xid = txns.xid(txn)?;
        self.cx.access.xid = Some(xid);
        Ok(xid)
    }

    /// Entries of the batch's rows in every index.
    async fn index(
        &mut self,
        txn: &mut Transaction,
        xid: Xid,
        tids: &[Tid],
    ) -> Result<(), SqlError> {
        let relation = Arc::clone(&self.target.relation);
        let width = relation.columns.len();
        let (mut values, mut bytes) = (Vec::new(), Vec::new());
        for index in &relation.indexes {
            let rows = self.batch.rows(width).zip(&self.batch.lines);
            for ((row, line), tid) in rows.zip(tids) {
                loop {
                    let storage = self.cx.access.storage()?;
                    let scratch = (&mut values, &mut bytes);
                    let added = entries::add(storage, &relation, index, row, *tid, xid, scratch)?;
                    match added {
                        Added::Done => break,
                        Added::Duplicate => {
                            let row = self.target.new_row(row);
                            return Err(row
                                .duplicate_key(index, &self.cx.function)
                                .context(self.place_of(*line)));
                        }
                        Added::Wait(other) => {
                            let txns = Arc::clone(&storage.txns);
                            txns.locks()
                                .wait_for_transaction(txn, other, LockWait::Wait)
                                .await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// At most [`SHOWN`] bytes, cut at a character.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.len() <= SHOWN {
        return text.into_owned();
    }
    let mut end = SHOWN;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &text[..end])
}
