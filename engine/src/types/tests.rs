//! PostgreSQL's recorded answers, given again by these tables.
//!
//! `testdata/probes.txt` holds thousands of calls with the answer of PostgreSQL 15: a line `@timezone|datestyle|intervalstyle`
//! sets settings, a line `#` begins a group (`F` function, `S` set-returning, `I` input, `C` cast, `A` aggregate), the
//! others hold (behind a blank) tab-separated arguments and the answer: `=text`, `~` for NULL, `!SQLSTATE message`.

use std::sync::Arc;

use crate::ids::Oid;
use crate::types::array::Array;
use crate::types::codec;
use crate::types::datetime::{DateOutput, DateStyle, FieldOrder};
use crate::types::datum::{Datum, SqlType};
use crate::types::error::TypeError;
use crate::types::function::{
    CallTypes, CastMethod, Function, FunctionCx, Host, Implementation, Rows,
};
use crate::types::interval::IntervalStyle;
use crate::types::{aggregates, casts, functions, oids, registry};

/// Knows no sessions and no catalog.
#[derive(Debug)]
struct NoHost;

impl Host for NoHost {
    fn call(&self, function: &'static Function, _args: &[Datum]) -> Result<Datum, TypeError> {
        Err(TypeError::new(
            "0A000",
            format!("no host to call {} of", function.name),
        ))
    }
    fn call_set(&self, function: &'static Function, _args: &[Datum]) -> Result<Rows, TypeError> {
        Err(TypeError::new(
            "0A000",
            format!("no host to call {} of", function.name),
        ))
    }
}

pub(crate) fn context() -> FunctionCx {
    FunctionCx {
        // In winter, as when the answers were recorded: `timetz` takes its zone from today.
        transaction_timestamp: 848_750_000_000_000,
        statement_timestamp: 848_750_000_000_000,
        time_zone: jiff::tz::TimeZone::get("America/New_York").expect("a known zone"),
        date_style: DateStyle {
            output: DateOutput::Iso,
            order: FieldOrder::Mdy,
        },
        interval_style: IntervalStyle::Postgres,
        extra_float_digits: 1,
        bytea_hex: true,
        host: Arc::new(NoHost),
    }
}

fn set(cx: &mut FunctionCx, line: &str) {
    let parts: Vec<&str> = line.split('|').collect();
    cx.time_zone = jiff::tz::TimeZone::get(parts[0]).expect("a known zone");
    let (output, order) = parts[1].split_once(", ").expect("two parts of DateStyle");
    cx.date_style = DateStyle {
        output: match output {
            "ISO" => DateOutput::Iso,
            "SQL" => DateOutput::Sql,
            "Postgres" => DateOutput::Postgres,
            _ => DateOutput::German,
        },
        order: match order {
            "MDY" => FieldOrder::Mdy,
            "DMY" => FieldOrder::Dmy,
            _ => FieldOrder::Ymd,
        },
    };
    cx.interval_style = match parts[2] {
        "postgres" => IntervalStyle::Postgres,
        "postgres_verbose" => IntervalStyle::PostgresVerbose,
        "sql_standard" => IntervalStyle::SqlStandard,
        _ => IntervalStyle::Iso8601,
    };
}

/// By the name of the constant in `oids`.
fn type_oid(name: &str) -> Oid {
    let lower = name.to_ascii_lowercase();
    let spelled = match lower.strip_suffix("_array") {
        Some(element) => format!("_{element}"),
        None => lower,
    };
    registry::by_name(&spelled)
        .unwrap_or_else(|| panic!("no type {name}"))
        .oid
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            (_, Some('n')) => out.push('\n'),
            (_, Some('t')) => out.push('\t'),
            (_, Some('r')) => out.push('\r'),
            (_, Some(other)) => out.push(other),
            (c, None) => out.push(c),
        }
    }
    out
}

fn value(ty: Oid, text: &str, cx: &FunctionCx) -> Result<Datum, TypeError> {
    if text == "\x02" {
        Ok(Datum::Null)
    } else {
        codec::parse_text(SqlType::plain(ty), text, cx)
    }
}

fn shown(ty: Oid, value: &Datum, cx: &FunctionCx) -> String {
    if value.is_null() {
        "\x02".to_owned()
    } else {
        codec::to_text(ty, value, cx)
    }
}

/// The result type of a polymorphic function.
fn resolve(declared: Oid, function: &Function, args: &[Oid]) -> Oid {
    let is_array = matches!(declared, oids::ANYARRAY | oids::ANYCOMPATIBLEARRAY);
    let is_element = matches!(
        declared,
        oids::ANYELEMENT | oids::ANYNONARRAY | oids::ANYCOMPATIBLE | oids::ANYCOMPATIBLENONARRAY
    );
    if !is_array && !is_element {
        return declared;
    }
    for (declared, actual) in function.args.iter().zip(args) {
        let array = matches!(*declared, oids::ANYARRAY | oids::ANYCOMPATIBLEARRAY);
        let element = matches!(
            *declared,
            oids::ANYELEMENT
                | oids::ANYNONARRAY
                | oids::ANYCOMPATIBLE
                | oids::ANYCOMPATIBLENONARRAY
        );
        if array || element {
            return match (is_array, array) {
                (true, true) | (false, false) => *actual,
                (true, false) => registry::array_of(*actual).expect("an array type"),
                (false, true) => registry::element_of(*actual).expect("an element type"),
            };
        }
    }
    declared
}

fn call(
    function: &'static Function,
    types: &[Oid],
    args: &[Datum],
    cx: &FunctionCx,
) -> Result<Datum, TypeError> {
    if function.strict && args.iter().any(Datum::is_null) {
        return Ok(Datum::Null);
    }
    let call = CallTypes {
        args: types,
        result: resolve(function.returns, function, types),
    };
    match function.implementation {
        Implementation::Scalar(f) => f(args, cx),
        Implementation::Typed(f) => f(args, call, cx),
        other => panic!("{} is {other:?}", function.name),
    }
}

fn rows(
    function: &'static Function,
    types: &[Oid],
    args: &[Datum],
    cx: &FunctionCx,
) -> Result<Rows, TypeError> {
    if function.strict && args.iter().any(Datum::is_null) {
        return Ok(Box::new(std::iter::empty()));
    }
    let call = CallTypes {
        args: types,
        result: resolve(function.returns, function, types),
    };
    match function.implementation {
        Implementation::Set(f) => f(args, cx),
        Implementation::TypedSet(f) => f(args, call, cx),
        other => panic!("{} is {other:?}", function.name),
    }
}

enum Answer {
    Null,
    Text(String),
}

fn probe(group: &str, fields: &[String], cx: &FunctionCx) -> Result<Answer, TypeError> {
    let (kind, rest) = group.split_once(' ').expect("a kind and what it is about");
    let answer = |ty: Oid, v: Datum| {
        if v.is_null() {
            Answer::Null
        } else {
            Answer::Text(shown(ty, &v, cx))
        }
    };
    match kind {
        "I" => {
            let ty = registry::parse_type_name(rest)?;
            let explicit = matches!(ty.oid, oids::VARCHAR | oids::BPCHAR);
            let plain = if explicit { SqlType::plain(ty.oid) } else { ty };
            let v = codec::parse_text(plain, &fields[0], cx)?;
            let v = codec::coerce_length(ty, v, true)?;
            Ok(answer(ty.oid, v))
        }
        "C" => {
            let (from, to) = rest.split_once(' ').expect("two types");
            let (from, to) = (type_oid(from), type_oid(to));
            let v = value(from, &fields[0], cx)?;
            let cast = casts::find(from, to).expect("a cast in the table");
            let v = match cast.method {
                CastMethod::Function(f) => {
                    let f = functions::by_oid(f).expect("the cast's function");
                    let mut args = vec![v];
                    if f.args.len() > 1 {
                        args.push(Datum::Int4(-1));
                    }
                    if f.args.len() > 2 {
                        args.push(Datum::Bool(true));
                    }
                    call(f, f.args, &args, cx)?
                }
                CastMethod::Binary => v,
                CastMethod::InOut => codec::cast_via_text(from, SqlType::plain(to), &v, cx)?,
            };
            Ok(answer(to, v))
        }
        _ => called(kind, rest, fields, cx),
    }
}

fn called(kind: &str, rest: &str, fields: &[String], cx: &FunctionCx) -> Result<Answer, TypeError> {
    let mut words = rest.split(' ').filter(|w| !w.is_empty());
    let oid = Oid::new(words.next().and_then(|w| w.parse().ok()).expect("an oid"));
    words.next();
    let types: Vec<Oid> = words.map(type_oid).collect();
    if kind == "A" {
        let aggregate = aggregates::by_oid(oid).expect("an aggregate");
        let mut state = (aggregate.make)(&types);
        for row in fields {
            let args: Result<Vec<Datum>, TypeError> = row
                .split('\x1e')
                .zip(&types)
                .map(|(f, ty)| {
                    if f == "\\N" {
                        Ok(Datum::Null)
                    } else {
                        value(*ty, f, cx)
                    }
                })
                .collect();
            let args = args?;
            if !(aggregate.strict && args.iter().any(Datum::is_null)) {
                state.update(&args, cx)?;
            }
        }
        // A window asks again and again before the end.
        let so_far = [state.so_far(cx)?, state.so_far(cx)?];
        let v = state.finish(cx)?;
        for earlier in so_far {
            assert_eq!(
                format!("{earlier:?}"),
                format!("{v:?}"),
                "{}",
                aggregate.name
            );
        }
        let ty = match aggregate.returns {
            oids::ANYARRAY => match &v {
                Datum::Array(a) => registry::array_of(a.element).expect("an array type"),
                _ => oids::TEXT_ARRAY,
            },
            oids::ANYELEMENT => types[0],
            ty => ty,
        };
        return Ok(if v.is_null() {
            Answer::Null
        } else {
            Answer::Text(shown(ty, &v, cx))
        });
    }
    let function = functions::by_oid(oid).unwrap_or_else(|| panic!("no function {rest}"));
    let args: Result<Vec<Datum>, TypeError> = fields
        .iter()
        .zip(&types)
        .map(|(f, ty)| value(*ty, f, cx))
        .collect();
    let args = args?;
    let result = resolve(function.returns, function, &types);
    if kind == "F" {
        let v = call(function, &types, &args, cx)?;
        return Ok(if v.is_null() {
            Answer::Null
        } else {
            Answer::Text(shown(result, &v, cx))
        });
    }
    let mut out = Vec::new();
    for row in rows(function, &types, &args, cx)?.take(12) {
        out.push(shown(result, &row?, cx));
    }
    Ok(Answer::Text(out.join("\x1f")))
}

fn run(corpus: &str) -> (usize, Vec<String>) {
    let mut cx = context();
    let (mut group, mut count, mut wrong) = ("", 0, Vec::new());
    let mut settings = "";
    for line in corpus.lines() {
        if let Some(line) = line.strip_prefix('@') {
            settings = line;
            set(&mut cx, line);
            continue;
        }
        if let Some(line) = line.strip_prefix('#') {
            group = line;
            continue;
        }
        count += 1;
        let line = line
            .strip_prefix(' ')
            .expect("an answer's line begins with a blank");
        let mut fields: Vec<String> = line.split('\t').map(unescaped).collect();
        let expected = fields.pop().expect("an answer");
        // A panic is one wrong answer, not the end of the comparison.
        let ran =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| probe(group, &fields, &cx)));
        let got = match ran {
            Ok(Ok(Answer::Null)) => "~".to_owned(),
            Ok(Ok(Answer::Text(t))) => format!("={t}"),
            Ok(Err(e)) => format!("!{} {}", e.state, e.message),
            Err(_) => "a panic".to_owned(),
        };
        if got != expected {
            wrong.push(format!(
                "{settings} {group} {fields:?}\n  PostgreSQL {expected:?}\n  here       {got:?}"
            ));
        }
    }
    (count, wrong)
}

#[test]
fn answers_are_postgresqls() {
    let path = "src/types/testdata/probes.txt";
    let (count, wrong) = run(&std::fs::read_to_string(path).expect("the corpus"));
    assert!(count > 3000, "the corpus is there");
    assert!(
        wrong.is_empty(),
        "{} of {count} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn oids_are_unique_and_references_hold() {
    let mut seen = std::collections::HashSet::new();
    for f in functions::all() {
        assert!(seen.insert(f.oid), "function oid {} twice", f.oid);
        assert!(
            f.defaults.len() <= f.args.len(),
            "{} has more defaults than arguments",
            f.name
        );
    }
    for a in aggregates::all() {
        assert!(seen.insert(a.oid), "aggregate oid {} twice", a.oid);
    }
    for o in crate::types::operators::all() {
        let f = functions::by_oid(o.function)
            .unwrap_or_else(|| panic!("operator {} has no function", o.oid));
        assert_eq!(f.returns, o.result, "operator {}", o.oid);
    }
    for c in casts::all() {
        if let CastMethod::Function(f) = c.method {
            assert!(
                functions::by_oid(f).is_some(),
                "cast {} has no function",
                c.oid
            );
        }
    }
}

#[test]
fn arrays_of_arrays_keep_their_shape() {
    let cx = context();
    let a = Array::of(oids::INT4, vec![Datum::Int4(1), Datum::Null]);
    let shown = codec::to_text(oids::INT4_ARRAY, &Datum::Array(Arc::new(a)), &cx);
    assert_eq!(shown, "{1,NULL}");
}
