//! Lines and records, cut anywhere; what is written is read back.

use proptest::prelude::*;

use super::csv::{self, Field};
use super::lines::{self, Cut, LineEnd};
use super::options::CopyOptions;
use crate::sql::front::ast::{CopyDirection, OptionValue, UtilityOption};

fn options(given: &[(&str, &str)]) -> Result<CopyOptions, crate::sql::error::SqlError> {
    let given: Vec<UtilityOption> = given
        .iter()
        .map(|(name, value)| UtilityOption {
            name: (*name).to_owned(),
            value: Some(OptionValue::Text((*value).to_owned())),
            at: 0,
        })
        .collect();
    CopyOptions::new(&given, CopyDirection::From)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        Just(b'\n'),
        Just(b'\r'),
        Just(b'\\'),
        Just(b'\t'),
        Just(b'"'),
        Just(b','),
        Just(b'N'),
        Just(b'.'),
        Just(8_u8),
        any::<u8>(),
    ];
    proptest::collection::vec(byte, 0..8)
}

fn rows() -> impl Strategy<Value = Vec<Vec<Option<Vec<u8>>>>> {
    let field = prop_oneof![1 => Just(None), 4 => bytes().prop_map(Some)];
    proptest::collection::vec(proptest::collection::vec(field, 2), 0..5)
}

/// Feeds `input` in two pieces and gives the records.
fn records(
    input: &[u8],
    at: usize,
    cut: &mut dyn FnMut(&[u8], &mut LineEnd, bool) -> Cut,
) -> Vec<Vec<u8>> {
    let mut made = Vec::new();
    let mut buffer: Vec<u8> = Vec::new();
    let mut ends = LineEnd::Unknown;
    for (part, last) in [
        (&input[..at], false),
        (&input[at..], false),
        (&input[..0], true),
    ] {
        buffer.extend_from_slice(part);
        while let Cut::Record { length, whole } = cut(&buffer, &mut ends, last) {
            made.push(buffer[..length].to_vec());
            buffer.drain(..whole);
        }
    }
    assert!(buffer.is_empty(), "something is left");
    made
}

proptest! {
    #[test]
    fn text_comes_back(rows in rows(), at in any::<prop::sample::Index>()) {
        let options = options(&[]).expect("defaults");
        let mut out = Vec::new();
        for row in &rows {
            for (n, field) in row.iter().enumerate() {
                if n > 0 { out.push(b'\t'); }
                match field {
                    None => out.extend_from_slice(b"\\N"),
                    Some(value) => lines::write_text(value, b'\t', &mut out),
                }
            }
            out.push(b'\n');
        }
        let at = at.index(out.len() + 1);
        let got = records(&out, at, &mut |b, e, l| lines::cut_text(b, e, l).expect("well formed"));
        let mut fields = Vec::new();
        let back: Vec<_> = got
            .iter()
            .map(|line| { lines::split_text(line, &options, &mut fields); fields.clone() })
            .collect();
        prop_assert_eq!(back, rows);
    }

    #[test]
    fn csv_comes_back(rows in rows(), at in any::<prop::sample::Index>(), escape in prop_oneof![Just("\""), Just("\\")]) {
        let options = options(&[("format", "csv"), ("escape", escape)]).expect("good options");
        let mut out = Vec::new();
        for row in &rows {
            for (n, field) in row.iter().enumerate() {
                if n > 0 { out.push(b','); }
                if let Some(value) = field {
                    csv::write_csv(value, &options, false, false, &mut out);
                }
            }
            out.push(b'\n');
        }
        let at = at.index(out.len() + 1);
        let got = records(&out, at, &mut |b, e, l| csv::cut_csv(b, &options, e, l).expect("well formed"));
        let mut fields: Vec<Field> = Vec::new();
        let mut back = Vec::new();
        for record in &got {
            csv::split_csv(record, &options, &mut fields).expect("well formed");
            back.push(
                fields
                    .iter()
                    .map(|f| (f.quoted || !f.value.is_empty()).then(|| f.value.clone()))
                    .collect::<Vec<_>>(),
            );
        }
        prop_assert_eq!(back, rows);
    }
}

#[test]
fn escapes_of_the_text_form() {
    let options = options(&[]).expect("defaults");
    let mut fields = Vec::new();
    lines::split_text(b"a\\tb\\x41\\101\\\\\t\\N\t\\.\t", &options, &mut fields);
    assert_eq!(
        fields,
        [
            Some(b"a\tbAA\\".to_vec()),
            None,
            Some(b".".to_vec()),
            Some(Vec::new())
        ]
    );
}

#[test]
fn mixed_line_ends_are_refused() {
    let mut ends = LineEnd::Newline;
    let error = lines::cut_text(b"a\rb\n", &mut ends, true)
        .err()
        .expect("refused");
    assert_eq!(error.message, "literal carriage return found in data");
    let mut ends = LineEnd::Unknown;
    assert!(matches!(
        lines::cut_text(b"a\r\nb\r\n", &mut ends, false),
        Ok(Cut::Record {
            length: 1,
            whole: 3
        })
    ));
    assert_eq!(ends, LineEnd::ReturnNewline);
}

#[test]
fn options_are_checked_as_postgresql_does() {
    let message = |given: &[(&str, &str)]| options(given).expect_err("refused").message.clone();
    assert_eq!(
        message(&[("delimiter", "ab")]),
        "COPY delimiter must be a single one-byte character"
    );
    assert_eq!(
        message(&[("delimiter", "a")]),
        "COPY delimiter cannot be \"a\""
    );
    assert_eq!(
        message(&[("quote", "'")]),
        "COPY quote available only in CSV mode"
    );
    assert_eq!(
        message(&[("format", "csv"), ("delimiter", "\"")]),
        "COPY delimiter and quote must be different"
    );
    assert_eq!(
        message(&[("format", "binary"), ("null", "x")]),
        "cannot specify NULL in BINARY mode"
    );
    assert_eq!(
        message(&[("format", "xml")]),
        "COPY format \"xml\" not recognized"
    );
    assert_eq!(
        message(&[("colour", "red")]),
        "option \"colour\" not recognized"
    );
}
