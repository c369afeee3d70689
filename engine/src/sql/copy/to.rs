//! COPY TO: rows out.

use std::sync::Arc;

use bytes::BytesMut;

use super::options::{CopyFormat, CopyOptions, Header};
use super::{binary, csv, lines};
use crate::catalog::relation::Relation;
use crate::ids::Oid;
use crate::sql::bound::{
    Body, ColumnRef, Distinct, Expr, FromItem, OutputColumn, Query, Range, RangeColumn,
    RangeSource, Select, Target,
};
use crate::sql::error::{SqlError, state};
use crate::types::codec;
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

/// PostgreSQL's largest allocation: no row may be longer. Bytes.
const MAX_ROW: usize = 0x3fff_ffff;

/// Error 54000 before a row becomes longer than one may be: a value that is long may stand in it many times.
fn check_length(row: &[u8]) -> Result<(), SqlError> {
    if row.len() <= MAX_ROW {
        return Ok(());
    }
    Err(
        SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, "out of memory")
            .detail("A row of COPY data is longer than 1 GB.")
            .hint("Copy fewer columns at a time."),
    )
}

/// Writes rows in the form that the options ask for.
pub struct CopyTo {
    options: CopyOptions,
    columns: Vec<(String, Oid)>,
    scratch: BytesMut,
}

impl CopyTo {
    pub fn new(options: CopyOptions, columns: &[OutputColumn]) -> Result<CopyTo, SqlError> {
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        options.force_quote.check("FORCE_QUOTE", &names)?;
        Ok(CopyTo {
            options,
            columns: columns.iter().map(|c| (c.name.clone(), c.ty.oid)).collect(),
            scratch: BytesMut::new(),
        })
    }

    pub fn is_binary(&self) -> bool {
        self.options.format == CopyFormat::Binary
    }
    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    /// What comes before the rows.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if self.is_binary() {
            binary::write_header(out);
            return;
        }
        if self.options.header == Header::No {
            return;
        }
        let alone = self.columns.len() == 1;
        for (number, (name, _)) in self.columns.iter().enumerate() {
            if number > 0 {
                out.push(self.options.delimiter);
            }
            if self.options.format == CopyFormat::Csv {
                csv::write_csv(name.as_bytes(), &self.options, false, alone, out);
            } else {
                lines::write_text(name.as_bytes(), self.options.delimiter, out);
            }
        }
        out.push(b'\n');
    }

    /// Appends a row. Error 54000 for one that is longer than 1 GB.
    pub fn row(
        &mut self,
        row: &[Datum],
        out: &mut Vec<u8>,
        cx: &FunctionCx,
    ) -> Result<(), SqlError> {
        if self.is_binary() {
            return self.binary_row(row, out);
        }
        let alone = self.columns.len() == 1;
        for (number, (value, (name, ty))) in row.iter().zip(&self.columns).enumerate() {
            if number > 0 {
                out.push(self.options.delimiter);
            }
            if value.is_null() {
                out.extend_from_slice(self.options.null.as_bytes());
                continue;
            }
            self.scratch.clear();
            codec::check_text(value, cx)?;
            codec::write_text(*ty, value, &mut self.scratch, cx);
            if self.options.format == CopyFormat::Csv {
                let force = self.options.force_quote.has(name);
                csv::write_csv(&self.scratch, &self.options, force, alone, out);
            } else {
                lines::write_text(&self.scratch, self.options.delimiter, out);
            }
            check_length(out)?;
        }
        out.push(b'\n');
        Ok(())
    }

    fn binary_row(&mut self, row: &[Datum], out: &mut Vec<u8>) -> Result<(), SqlError> {
        let count = i16::try_from(row.len()).expect("a row has at most 1664 columns");
        out.extend_from_slice(&count.to_be_bytes());
        for (value, (_, ty)) in row.iter().zip(&self.columns) {
            if value.is_null() {
                out.extend_from_slice(&(-1_i32).to_be_bytes());
                continue;
            }
            self.scratch.clear();
            codec::encode_binary(*ty, value, &mut self.scratch);
            check_length(&self.scratch)?;
            let length = i32::try_from(self.scratch.len()).expect("just measured");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&self.scratch);
            check_length(out)?;
        }
        Ok(())
    }

    /// What comes behind the rows.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        if self.is_binary() {
            out.extend_from_slice(&(-1_i16).to_be_bytes());
        }
    }
}

/// The query that `COPY relation (columns) TO` reads; columns by position.
pub fn table_query(relation: &Arc<Relation>, columns: &[usize]) -> Query {
    let described = |number: &usize| {
        let column = &relation.columns[*number];
        OutputColumn {
            name: column.name.clone(),
            ty: column.ty,
            table: relation.oid,
            attribute: column.attribute,
        }
    };
    let targets = columns
        .iter()
        .map(|number| Target {
            expr: Expr::Column(ColumnRef {
                range: 0,
                column: *number,
                ty: relation.columns[*number].ty,
            }),
            name: relation.columns[*number].name.clone(),
        })
        .collect();
    let range = Range {
        alias: relation.name.clone(),
        source: RangeSource::Table(Arc::clone(relation)),
        columns: relation
            .columns
            .iter()
            .map(|c| RangeColumn {
                name: c.name.clone(),
                ty: c.ty,
            })
            .collect(),
    };
    Query {
        body: Body::Select(Box::new(Select {
            level: None,
            ranges: vec![range],
            from: vec![FromItem::Range(0)],
            filter: None,
            group_by: Vec::new(),
            having: None,
            aggregates: Vec::new(),
            windows: crate::sql::bound::Windowing::default(),
            targets,
            distinct: Distinct::No,
        })),
        order_by: Vec::new(),
        limit: None,
        offset: None,
        ctes: Vec::new(),
        with_ties: false,
        locking: Vec::new(),
        output: columns.iter().map(described).collect(),
    }
}
