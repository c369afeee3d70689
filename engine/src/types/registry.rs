//! The built-in types: what `pg_type` says of them, their spellings in SQL, their modifiers.
//!
//! One table serves name lookup, `format_type` and the catalog's `pg_type` rows. It lists only types whose
//! values this engine can read and write, and the pseudo-types that function signatures need.

use std::borrow::Cow;
use std::sync::LazyLock;

use hashbrown::HashMap;

use crate::ids::Oid;
use crate::types::datum::SqlType;
use crate::types::error::TypeError;
use crate::types::interval::range;
use crate::types::oids;
use crate::types::type_table::TYPES;

/// A row of `pg_type`. Manual, 52.64.
#[derive(Debug)]
pub struct Type {
    pub oid: Oid,
    pub name: &'static str,
    /// Bytes, -1 for variable length, -2 for a C string.
    pub length: i16,
    pub by_value: bool,
    /// `b` base or `p` pseudo.
    pub kind: u8,
    pub category: u8,
    pub preferred: bool,
    /// Element type of arrays (and of `name`, `int2vector`, ...).
    pub element: Oid,
    /// The type of arrays of it.
    pub array: Oid,
    /// `c`, `s`, `i` or `d`.
    pub align: u8,
    /// `p`, `e`, `m` or `x`.
    pub storage: u8,
    pub input: &'static str,
    pub output: &'static str,
    pub receive: &'static str,
    pub send: &'static str,
    /// Names of the functions that read and print the modifier, empty if it has none.
    pub modifier_in: &'static str,
    pub modifier_out: &'static str,
    /// 0, 100 (default) or 950 (C).
    pub collation: Oid,
    pub subscript: &'static str,
}

impl Type {
    /// A true array type: `int4[]`, not `int2vector` or `name`. `record[]` is one although its category is that of the
    /// pseudo-types.
    pub fn is_array(&self) -> bool {
        (self.category == b'A' || self.oid == oids::RECORD_ARRAY)
            && self.length == -1
            && self.element.is_valid()
            && self.name.starts_with('_')
    }
    pub fn is_pseudo(&self) -> bool {
        self.kind == b'p'
    }
}

static BY_OID: LazyLock<HashMap<Oid, &'static Type>> =
    LazyLock::new(|| TYPES.iter().map(|t| (t.oid, t)).collect());
static BY_NAME: LazyLock<HashMap<&'static str, &'static Type>> =
    LazyLock::new(|| TYPES.iter().map(|t| (t.name, t)).collect());

pub fn all() -> &'static [Type] {
    TYPES
}

pub fn by_oid(oid: Oid) -> Option<&'static Type> {
    BY_OID.get(&oid).copied()
}

/// By `pg_type.typname` (`int4`, `_text`), not by SQL spelling.
pub fn by_name(name: &str) -> Option<&'static Type> {
    BY_NAME.get(name).copied()
}

/// The element type of an array type.
pub fn element_of(array: Oid) -> Option<Oid> {
    by_oid(array).filter(|t| t.is_array()).map(|t| t.element)
}

/// The type of arrays of `element`.
pub fn array_of(element: Oid) -> Option<Oid> {
    by_oid(element).map(|t| t.array).filter(|a| a.is_valid())
}

/// How the last parts of a multi-word spelling read; longest first.
const SPELLINGS: &[(&str, &str)] = &[
    ("timestamp with time zone", "timestamptz"),
    ("timestamp without time zone", "timestamp"),
    ("time with time zone", "timetz"),
    ("time without time zone", "time"),
    ("national character varying", "varchar"),
    ("national char varying", "varchar"),
    ("national character", "bpchar"),
    ("national char", "bpchar"),
    ("nchar varying", "varchar"),
    ("nchar", "bpchar"),
    ("character varying", "varchar"),
    ("char varying", "varchar"),
    ("character", "bpchar"),
    ("char", "bpchar"),
    ("double precision", "float8"),
    ("boolean", "bool"),
    ("bool", "bool"),
    ("smallint", "int2"),
    ("integer", "int4"),
    ("int", "int4"),
    ("bigint", "int8"),
    ("real", "float4"),
    ("decimal", "numeric"),
    ("dec", "numeric"),
    ("bit varying", "varbit"),
];

/// The `pg_type` name of an SQL keyword spelling: `integer` is `int4`. Other names stand for themselves.
pub fn canonical_name(spelling: &str) -> &str {
    SPELLINGS
        .iter()
        .find(|(s, _)| *s == spelling)
        .map_or(spelling, |(_, name)| name)
}

fn no_type(text: &str) -> TypeError {
    TypeError::new("42704", format!("type \"{text}\" does not exist"))
}

/// A type name as SQL spells it, modifiers and array brackets included: `character varying(10)`, `int[]`,
/// `timestamp(3) with time zone`, `pg_catalog.int4`, `"char"`. Error 42704 if there is no such type.
pub fn parse_type_name(text: &str) -> Result<SqlType, TypeError> {
    let mut body = text.trim();
    let mut is_array = false;
    while let Some(open) = body.strip_suffix(']').and_then(|b| b.rfind('[')) {
        let inside = body[open + 1..body.len() - 1].trim();
        if !inside.bytes().all(|b| b.is_ascii_digit()) {
            return Err(TypeError::new(
                "42601",
                format!("invalid type name \"{text}\""),
            ));
        }
        body = body[..open].trim_end();
        is_array = true;
    }
    let (spelling, arguments) = split_modifier(body)?;
    let oid = scalar_named(&spelling).ok_or_else(|| no_type(&spelling))?;
    let modifier = match (spelling.as_str(), arguments.as_slice()) {
        // Plain `char` is `char(1)`; `bpchar` has no limit.
        ("char" | "character" | "nchar" | "national char" | "national character", []) => 5,
        ("float", _) | (_, []) if !spelling.starts_with("interval ") => -1,
        _ => interval_or_plain_modifier(oid, &spelling, &arguments)?,
    };
    let oid = match (spelling.as_str(), arguments.as_slice()) {
        ("float", [precision]) => float_by_precision(*precision)?,
        _ => oid,
    };
    let oid = if is_array {
        array_of(oid).ok_or_else(|| no_type(text))?
    } else {
        oid
    };
    Ok(SqlType { oid, modifier })
}

fn float_by_precision(bits: i32) -> Result<Oid, TypeError> {
    match bits {
        ..1 => Err(TypeError::new(
            "22023",
            "precision for type float must be at least 1 bit",
        )),
        1..25 => Ok(oids::FLOAT4),
        25..54 => Ok(oids::FLOAT8),
        _ => Err(TypeError::new(
            "22023",
            "precision for type float must be less than 54 bits",
        )),
    }
}

/// Lower-case words without the parenthesised part, and the numbers in it.
fn split_modifier(body: &str) -> Result<(String, Vec<i32>), TypeError> {
    let bad = || TypeError::new("42601", format!("invalid type name \"{body}\""));
    let (words, arguments) = match (body.find('('), body.starts_with('"')) {
        (Some(open), false) => {
            let close = body[open..].find(')').map(|c| c + open).ok_or_else(bad)?;
            let numbers: Result<Vec<i32>, _> = body[open + 1..close]
                .split(',')
                .map(|n| n.trim().parse::<i32>())
                .collect();
            (
                format!("{} {}", &body[..open], &body[close + 1..]),
                numbers.map_err(|_| bad())?,
            )
        }
        _ => (body.to_owned(), Vec::new()),
    };
    if words.starts_with('"') {
        return Ok((words, arguments));
    }
    let joined = words
        .split_whitespace()
        .map(str::to_ascii_lowercase)
        .collect::<Vec<_>>()
        .join(" ");
    Ok((joined, arguments))
}

fn scalar_named(spelling: &str) -> Option<Oid> {
    let unqualified = spelling.strip_prefix("pg_catalog.").unwrap_or(spelling);
    if let Some(quoted) = unqualified
        .strip_prefix('"')
        .and_then(|q| q.strip_suffix('"'))
    {
        return by_name(quoted).map(|t| t.oid);
    }
    // `pg_catalog.char` is the internal type: qualified names are never keywords.
    if unqualified.len() != spelling.len() {
        return by_name(unqualified).map(|t| t.oid);
    }
    if unqualified == "float" {
        return Some(oids::FLOAT8);
    }
    if unqualified.starts_with("interval") {
        return Some(oids::INTERVAL);
    }
    by_name(canonical_name(unqualified)).map(|t| t.oid)
}

/// `interval day to second(3)`, or the arguments of any other type.
fn interval_or_plain_modifier(
    oid: Oid,
    spelling: &str,
    arguments: &[i32],
) -> Result<i32, TypeError> {
    if oid != oids::INTERVAL {
        return modifier_from(oid, arguments);
    }
    let fields = match spelling.strip_prefix("interval").unwrap_or("").trim() {
        "" => range::FULL,
        "year" => range::YEAR,
        "month" => range::MONTH,
        "day" => range::DAY,
        "hour" => range::HOUR,
        "minute" => range::MINUTE,
        "second" => range::SECOND,
        "year to month" => range::YEAR | range::MONTH,
        "day to hour" => range::DAY | range::HOUR,
        "day to minute" => range::DAY | range::HOUR | range::MINUTE,
        "day to second" => range::DAY | range::HOUR | range::MINUTE | range::SECOND,
        "hour to minute" => range::HOUR | range::MINUTE,
        "hour to second" => range::HOUR | range::MINUTE | range::SECOND,
        "minute to second" => range::MINUTE | range::SECOND,
        _ => return Err(no_type(spelling)),
    };
    match arguments {
        [] => modifier_from(oid, &[fields]),
        [precision] => modifier_from(oid, &[fields, *precision]),
        _ => Err(TypeError::new("22023", "invalid INTERVAL type modifier")),
    }
}

/// The modifier that `type(n, ...)` means, checked as PostgreSQL checks it. For `interval` the arguments are the
/// mask of fields and, if given, the precision.
pub fn modifier_from(oid: Oid, arguments: &[i32]) -> Result<i32, TypeError> {
    let oid = element_of(oid).unwrap_or(oid);
    let bad = |message: String| TypeError::new("22023", message);
    let Some(ty) = by_oid(oid).filter(|t| !t.modifier_in.is_empty()) else {
        let name = format_type(SqlType::plain(oid));
        return Err(TypeError::new(
            "42601",
            format!("type modifier is not allowed for type \"{name}\""),
        ));
    };
    match oid {
        oids::VARCHAR | oids::BPCHAR => {
            let name = if oid == oids::VARCHAR {
                "varchar"
            } else {
                "char"
            };
            match arguments {
                [n] if *n < 1 => Err(bad(format!("length for type {name} must be at least 1"))),
                [n] if *n > 10_485_760 => Err(bad(format!(
                    "length for type {name} cannot exceed 10485760"
                ))),
                [n] => Ok(n + 4),
                _ => Err(bad("invalid type modifier".into())),
            }
        }
        oids::NUMERIC => numeric_modifier(arguments),
        oids::INTERVAL => match arguments {
            [fields] if *fields == range::FULL => Ok(-1),
            [fields] => Ok((fields << 16) | 0xFFFF),
            [_, precision] if *precision < 0 => Err(bad(format!(
                "INTERVAL({precision}) precision must not be negative"
            ))),
            [fields, precision] => Ok((fields << 16) | (*precision).min(6)),
            _ => Err(bad("invalid INTERVAL type modifier".into())),
        },
        _ => {
            let (name, zone) = match ty.oid {
                oids::TIME => ("TIME", ""),
                oids::TIMETZ => ("TIME", " WITH TIME ZONE"),
                oids::TIMESTAMP => ("TIMESTAMP", ""),
                _ => ("TIMESTAMP", " WITH TIME ZONE"),
            };
            match arguments {
                [n] if *n < 0 => Err(bad(format!(
                    "{name}({n}){zone} precision must not be negative"
                ))),
                // PostgreSQL warns and takes 6.
                [n] => Ok((*n).min(6)),
                _ => Err(bad("invalid type modifier".into())),
            }
        }
    }
}

fn numeric_modifier(arguments: &[i32]) -> Result<i32, TypeError> {
    let bad = |message: String| Err(TypeError::new("22023", message));
    let (precision, scale) = match arguments {
        [p] => (*p, 0),
        [p, s] => (*p, *s),
        _ => return bad("invalid NUMERIC type modifier".into()),
    };
    if !(1..=1000).contains(&precision) {
        return bad(format!(
            "NUMERIC precision {precision} must be between 1 and 1000"
        ));
    }
    if !(-1000..=1000).contains(&scale) {
        return bad(format!(
            "NUMERIC scale {scale} must be between -1000 and 1000"
        ));
    }
    Ok(((precision << 16) | (scale & 0x7ff)) + 4)
}

/// The modifier as `format_type` shows it, empty for none: `(10,2)`.
pub fn modifier_text(ty: SqlType) -> String {
    let m = ty.modifier;
    if m < 0 {
        return String::new();
    }
    match ty.oid {
        oids::VARCHAR | oids::BPCHAR if m > 4 => format!("({})", m - 4),
        oids::NUMERIC => match crate::types::numeric::precision_scale(m) {
            Some((p, s)) => format!("({p},{s})"),
            None => String::new(),
        },
        oids::TIME | oids::TIMESTAMP => format!("({m}) without time zone"),
        oids::TIMETZ | oids::TIMESTAMPTZ => format!("({m}) with time zone"),
        oids::INTERVAL => interval_modifier_text(m),
        oids::VARCHAR
        | oids::BPCHAR
        | oids::BOOL
        | oids::INT2
        | oids::INT4
        | oids::INT8
        | oids::FLOAT4
        | oids::FLOAT8 => String::new(),
        // A type without modifiers of its own.
        _ => format!("({m})"),
    }
}

fn interval_modifier_text(modifier: i32) -> String {
    let (fields, precision) = ((modifier >> 16) & 0x7FFF, modifier & 0xFFFF);
    let name = |bit: i32| match bit {
        range::YEAR => "year",
        range::MONTH => "month",
        range::DAY => "day",
        range::HOUR => "hour",
        range::MINUTE => "minute",
        _ => "second",
    };
    let order = [
        range::YEAR,
        range::MONTH,
        range::DAY,
        range::HOUR,
        range::MINUTE,
        range::SECOND,
    ];
    let mut set = order.into_iter().filter(|bit| fields & bit != 0);
    let text = match (fields, set.next(), set.next_back()) {
        (range::FULL, _, _) | (_, None, _) => String::new(),
        (_, Some(only), None) => format!(" {}", name(only)),
        (_, Some(first), Some(last)) => format!(" {} to {}", name(first), name(last)),
    };
    if precision == 0xFFFF {
        text
    } else {
        format!("{text}({precision})")
    }
}

/// The name of a type in messages and as `regtype`: `format_type` without a modifier to show.
pub fn type_name(oid: Oid) -> Cow<'static, str> {
    match oid {
        oids::BPCHAR => Cow::Borrowed("character"),
        oids::BPCHAR_ARRAY => Cow::Borrowed("character[]"),
        oid => format_type(SqlType::plain(oid)),
    }
}

/// `format_type(oid, modifier)` for built-in types; `???` for unknown ones.
pub fn format_type(ty: SqlType) -> Cow<'static, str> {
    if !ty.oid.is_valid() {
        return Cow::Borrowed("-");
    }
    if let Some(element) = element_of(ty.oid) {
        return Cow::Owned(format!(
            "{}[]",
            format_type(SqlType {
                oid: element,
                modifier: ty.modifier
            })
        ));
    }
    let plain = match ty.oid {
        oids::BOOL => "boolean",
        oids::INT2 => "smallint",
        oids::INT4 => "integer",
        oids::INT8 => "bigint",
        oids::FLOAT4 => "real",
        oids::FLOAT8 => "double precision",
        oids::VARCHAR => "character varying",
        // Without a modifier the standard's name would mean char(1).
        oids::BPCHAR if ty.modifier >= 0 => "character",
        oids::CHAR => "\"char\"",
        oids::TIME if ty.modifier < 0 => "time without time zone",
        oids::TIME | oids::TIMETZ if ty.modifier >= 0 => "time",
        oids::TIMETZ => "time with time zone",
        oids::TIMESTAMP if ty.modifier < 0 => "timestamp without time zone",
        oids::TIMESTAMP | oids::TIMESTAMPTZ if ty.modifier >= 0 => "timestamp",
        oids::TIMESTAMPTZ => "timestamp with time zone",
        oids::ANY => "\"any\"",
        oid => match by_oid(oid) {
            Some(t) => t.name,
            None => return Cow::Borrowed("???"),
        },
    };
    let modifier = modifier_text(ty);
    if modifier.is_empty() {
        Cow::Borrowed(plain)
    } else {
        Cow::Owned(format!("{plain}{modifier}"))
    }
}
