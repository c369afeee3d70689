//! Rows as psql shows them: aligned, unaligned and CSV, across or expanded (psql's reference page, `\pset`; border 1).

use unicode_width::UnicodeWidthChar as _;

use crate::ids::Oid;
use crate::types::oids;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Layout {
    #[default]
    Aligned,
    Unaligned,
    Csv,
}

/// How rows are shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Format {
    pub layout: Layout,
    pub is_expanded: bool,
    /// Without heads and feet.
    pub is_bare: bool,
    /// Between unaligned fields.
    pub separator: String,
}

impl Default for Format {
    fn default() -> Format {
        Format {
            layout: Layout::Aligned,
            is_expanded: false,
            is_bare: false,
            separator: "|".to_owned(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    pub name: String,
    pub is_number: bool,
}

impl Column {
    pub fn new(name: &str, type_oid: u32) -> Column {
        // The types that psql puts to the right.
        const NUMBERS: [u32; 4] = [28, 29, 5069, 790];
        let known = [
            oids::INT2,
            oids::INT4,
            oids::INT8,
            oids::FLOAT4,
            oids::FLOAT8,
            oids::NUMERIC,
            oids::OID,
        ];
        Column {
            name: name.to_owned(),
            is_number: known.map(Oid::raw).contains(&type_oid) || NUMBERS.contains(&type_oid),
        }
    }
}

/// The answer to one statement. NULL is shown as nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn show(&self, format: &Format) -> String {
        let mut out = String::new();
        match (format.layout, format.is_expanded) {
            (Layout::Aligned, false) => self.aligned(format, &mut out),
            (Layout::Aligned, true) => self.aligned_records(format, &mut out),
            (Layout::Unaligned, false) => self.unaligned(format, &mut out),
            (Layout::Unaligned, true) => self.unaligned_records(format, &mut out),
            (Layout::Csv, false) => self.csv(format, &mut out),
            (Layout::Csv, true) => self.csv_records(&mut out),
        }
        out
    }

    fn foot(&self) -> String {
        match self.rows.len() {
            1 => "(1 row)".to_owned(),
            n => format!("({n} rows)"),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    fn aligned(&self, format: &Format, out: &mut String) {
        let head: Vec<Cell> = self.names().map(Cell::new).collect();
        let rows: Vec<Vec<Cell>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(|value| Cell::new(value)).collect())
            .collect();
        let mut widths: Vec<usize> = head.iter().map(Cell::width).collect();
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        if !format.is_bare {
            aligned_head(&head, &widths, out);
        }
        for row in &rows {
            self.aligned_row(row, &widths, out);
        }
        if !format.is_bare {
            out.push_str(&self.foot());
            out.push('\n');
        }
        out.push('\n');
    }

    fn aligned_row(&self, row: &[Cell], widths: &[usize], out: &mut String) {
        let height = row.iter().map(|cell| cell.lines.len()).max().unwrap_or(0);
        for line_number in 0..height {
            for (i, cell) in row.iter().enumerate() {
                let is_last = i + 1 == row.len();
                let goes_on = line_number + 1 < cell.lines.len();
                out.push(' ');
                let (text, width) = match cell.lines.get(line_number) {
                    Some(line) => (line.text.as_str(), line.width),
                    None => ("", 0),
                };
                let padding = widths[i] - width;
                if self.columns[i].is_number {
                    // Where the value has ended, a last column needs no spaces.
                    if line_number < cell.lines.len() || !is_last {
                        pad(padding, out);
                    }
                    out.push_str(text);
                } else {
                    out.push_str(text);
                    if !is_last || goes_on {
                        pad(padding, out);
                    }
                }
                if goes_on {
                    out.push('+');
                } else if !is_last {
                    out.push(' ');
                }
                if !is_last {
                    out.push('|');
                }
            }
            out.push('\n');
        }
    }

    fn aligned_records(&self, format: &Format, out: &mut String) {
        let names: Vec<Cell> = self.names().map(Cell::new).collect();
        let name_width = names.iter().map(Cell::width).max().unwrap_or(0);
        let is_empty = self.rows.is_empty() || names.is_empty();
        if is_empty && !format.is_bare {
            out.push_str(&self.foot());
            out.push('\n');
        }
        let rows: Vec<Vec<Cell>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(|value| Cell::new(value)).collect())
            .collect();
        let widths = rows.iter().flatten().map(Cell::width);
        let value_width = widths.max().unwrap_or(0);
        for (number, row) in rows.iter().enumerate() {
            if is_empty {
                break;
            }
            if !format.is_bare {
                let label = format!("[ RECORD {} ]", number + 1);
                record_rule(&label, name_width, value_width, out);
            } else if number > 0 {
                record_rule("", name_width, value_width, out);
            }
            for (name, value) in names.iter().zip(row) {
                record_field((name, name_width), (value, value_width), out);
            }
        }
        out.push('\n');
    }

    fn unaligned(&self, format: &Format, out: &mut String) {
        let mut lines: Vec<String> = Vec::new();
        if !format.is_bare {
            let names: Vec<&str> = self.names().collect();
            lines.push(names.join(&format.separator));
        }
        // A row without columns is no line.
        let rows = self.rows.iter().filter(|row| !row.is_empty());
        lines.extend(rows.map(|row| row.join(&format.separator)));
        if !format.is_bare {
            lines.push(self.foot());
        }
        for line in lines {
            out.push_str(&line);
            out.push('\n');
        }
    }

    fn unaligned_records(&self, format: &Format, out: &mut String) {
        for (number, row) in self.rows.iter().enumerate() {
            if number > 0 && !row.is_empty() {
                out.push('\n');
            }
            for (name, value) in self.names().zip(row) {
                out.push_str(name);
                out.push_str(&format.separator);
                out.push_str(value);
                out.push('\n');
            }
        }
    }

    fn csv(&self, format: &Format, out: &mut String) {
        let mut line = |fields: &mut dyn Iterator<Item = &str>| {
            let fields: Vec<String> = fields.map(csv_field).collect();
            out.push_str(&fields.join(","));
            out.push('\n');
        };
        if !format.is_bare {
            line(&mut self.names());
        }
        for row in self.rows.iter().filter(|row| !row.is_empty()) {
            line(&mut row.iter().map(String::as_str));
        }
    }

    fn csv_records(&self, out: &mut String) {
        for row in &self.rows {
            for (name, value) in self.names().zip(row) {
                out.push_str(&format!("{},{}\n", csv_field(name), csv_field(value)));
            }
        }
    }
}

fn csv_field(value: &str) -> String {
    if value.contains([',', '"', '\n', '\r']) || value == "\\." {
        format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        value.to_owned()
    }
}

fn aligned_head(head: &[Cell], widths: &[usize], out: &mut String) {
    let height = head.iter().map(|cell| cell.lines.len()).max().unwrap_or(0);
    for line_number in 0..height {
        for (i, cell) in head.iter().enumerate() {
            // A head of several lines is marked on both sides.
            out.push(' ');
            match cell.lines.get(line_number) {
                Some(line) => {
                    let padding = widths[i] - line.width;
                    pad(padding / 2, out);
                    out.push_str(&line.text);
                    pad(padding.div_ceil(2), out);
                }
                None => pad(widths[i], out),
            }
            let goes_on = line_number + 1 < cell.lines.len();
            out.push(if goes_on { '+' } else { ' ' });
            if i + 1 < head.len() {
                out.push('|');
            }
        }
        out.push('\n');
    }
    let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    out.push('-');
    out.push_str(&rules.join("-+-"));
    out.push_str("-\n");
}

/// The line above a record; its label may be longer than the names are wide.
fn record_rule(label: &str, name_width: usize, value_width: usize, out: &mut String) {
    let plain = format!("{}-+-{}", "-".repeat(name_width), "-".repeat(value_width));
    out.push_str(match label {
        "" => "",
        _ => "-",
    });
    out.push_str(label);
    let begun = match label {
        "" => 0,
        _ => label.len() + 1,
    };
    out.extend(plain.chars().skip(begun));
    out.push('\n');
}

fn record_field(
    (name, name_width): (&Cell, usize),
    (value, value_width): (&Cell, usize),
    out: &mut String,
) {
    let height = name.lines.len().max(value.lines.len());
    for line_number in 0..height {
        match name.lines.get(line_number) {
            Some(line) => {
                out.push_str(&line.text);
                pad(name_width - line.width, out);
                let goes_on = line_number + 1 < name.lines.len();
                out.push(if goes_on { '+' } else { ' ' });
            }
            None => pad(name_width + 1, out),
        }
        out.push('|');
        if let Some(line) = value.lines.get(line_number) {
            out.push(' ');
            out.push_str(&line.text);
            if line_number + 1 < value.lines.len() {
                pad(value_width - line.width, out);
                out.push('+');
            }
        }
        out.push('\n');
    }
}

fn pad(count: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', count));
}

struct Line {
    text: String,
    width: usize,
}

/// A value as it stands on a screen.
struct Cell {
    lines: Vec<Line>,
}

impl Cell {
    fn new(value: &str) -> Cell {
        Cell {
            lines: value.split('\n').map(line_of).collect(),
        }
    }

    fn width(&self) -> usize {
        let widths = self.lines.iter().map(|line| line.width);
        widths.max().unwrap_or(0)
    }
}

/// What has no width of its own is written out, so that a value cannot steer the terminal.
fn line_of(value: &str) -> Line {
    let mut line = Line {
        text: String::with_capacity(value.len()),
        width: 0,
    };
    for c in value.chars() {
        match c {
            '\t' => {
                let count = 8 - line.width % 8;
                pad(count, &mut line.text);
                line.width += count;
            }
            '\r' => {
                line.text.push_str("\\r");
                line.width += 2;
            }
            c if c.is_ascii_control() => {
                line.text.push_str(&format!("\\x{:02X}", u32::from(c)));
                line.width += 4;
            }
            c if c.is_control() => {
                line.text.push_str(&format!("\\u{:04X}", u32::from(c)));
                line.width += 6;
            }
            c => {
                line.text.push(c);
                line.width += c.width().unwrap_or(0);
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table {
            columns: vec![Column::new("a", 23), Column::new("text", 25)],
            rows: [["1", "one\ntwo"], ["-20", "\u{1b}[2J日本\t|"]]
                .map(|row| row.map(str::to_owned).to_vec())
                .to_vec(),
        }
    }

    #[test]
    fn aligned() {
        assert_eq!(
            table().show(&Format::default()),
            "\u{20} a  |       text        \n\
             -----+-------------------\n\
             \u{20}  1 | one              +\n\
             \u{20}    | two\n\
             \u{20}-20 | \\x1B[2J日本     |\n\
             (2 rows)\n\n"
        );
    }

    #[test]
    fn csv_quotes_what_would_be_misread() {
        let format = Format {
            layout: Layout::Csv,
            ..Format::default()
        };
        let mut table = table();
        table.rows.push(vec!["".to_owned(), "a\"b,".to_owned()]);
        assert_eq!(
            table.show(&format),
            "a,text\n1,\"one\ntwo\"\n-20,\u{1b}[2J日本\t|\n,\"a\"\"b,\"\n"
        );
    }
}
