//! `regclass` and its relatives: oids that read and print as names.
//!
//! Types, functions and operators are found in this room's tables; relations, schemas and roles are asked of the
//! host, by the input and output functions' own table rows.

use bytes::{BufMut, BytesMut};

use super::{scalar, to_text};
use crate::ids::Oid;
use crate::types::acl::AclItem;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::FunctionCx;
use crate::types::functions::quote_identifier;
use crate::types::{aggregates, conversions, functions, oids, operators, registry, windows};

pub(crate) fn is_alias(ty: Oid) -> bool {
    matches!(
        ty,
        oids::REGCLASS
            | oids::REGTYPE
            | oids::REGPROC
            | oids::REGPROCEDURE
            | oids::REGOPER
            | oids::REGOPERATOR
            | oids::REGNAMESPACE
            | oids::REGROLE
            | REGCOLLATION
            | REGCONFIG
            | REGDICTIONARY
    )
}

const REGCOLLATION: Oid = Oid::new(4191);
const REGCONFIG: Oid = Oid::new(3734);
const REGDICTIONARY: Oid = Oid::new(3769);

fn by_host(function: &str, arg: Datum, cx: &FunctionCx) -> Result<Datum, TypeError> {
    let row = functions::named(function)
        .first()
        .expect("input and output functions are in the table");
    cx.host.call(row, &[arg])
}

pub(crate) fn parse(ty: Oid, text: &str, cx: &FunctionCx) -> Result<Datum, TypeError> {
    if text == "-" {
        return Ok(Datum::Oid(Oid::INVALID));
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Datum::Oid(Oid::new(scalar::parse_oid(text)?)));
    }
    match ty {
        oids::REGCLASS => by_host("regclassin", Datum::text(text), cx),
        oids::REGNAMESPACE => by_host("regnamespacein", Datum::text(text), cx),
        oids::REGROLE => by_host("regrolein", Datum::text(text), cx),
        oids::REGTYPE => registry::parse_type_name(text).map(|t| Datum::Oid(t.oid)),
        oids::REGPROC => function_named(unqualified(text), text).map(Datum::Oid),
        oids::REGPROCEDURE => signature(text).map(Datum::Oid),
        oids::REGOPER => operator(text).map(Datum::Oid),
        oids::REGOPERATOR => operator_signature(text).map(Datum::Oid),
        _ => Err(TypeError::new(
            "0A000",
            format!(
                "names of type {} are not implemented: use the oid",
                registry::type_name(ty)
            ),
        )),
    }
}

fn unqualified(text: &str) -> &str {
    text.trim()
        .strip_prefix("pg_catalog.")
        .unwrap_or(text.trim())
}

/// Names that PostgreSQL has more functions of, which are not here: a name alone says no more here than there.
const AMBIGUOUS: &[&str] = &[
    "cume_dist",
    "dense_rank",
    "get_bit",
    "like_escape",
    "lower",
    "percent_rank",
    "rank",
    "set_bit",
    "unnest",
    "upper",
];

/// The one function of that name (`regprocin`). `text`: what the message calls it.
pub fn function_named(name: &str, text: &str) -> Result<Oid, TypeError> {
    match functions_named(name).as_slice() {
        [] => Err(TypeError::new(
            "42883",
            format!("function \"{text}\" does not exist"),
        )),
        [(only, _)] if !AMBIGUOUS.contains(&name) => Ok(*only),
        _ => Err(TypeError::new(
            "42725",
            format!("more than one function named \"{text}\""),
        )),
    }
}

fn argument_types(list: &str) -> Result<Vec<Oid>, TypeError> {
    let list = list.trim();
    if list.is_empty() {
        return Ok(Vec::new());
    }
    list.split(',')
        .map(|t| match t.trim() {
            "none" | "NONE" => Ok(Oid::INVALID),
            t => registry::parse_type_name(t).map(|t| t.oid),
        })
        .collect()
}

fn split_signature<'a>(text: &'a str, what: &str) -> Result<(&'a str, Vec<Oid>), TypeError> {
    let bad = |m: &str| TypeError::new("22P02", m.to_owned());
    let open = text
        .find('(')
        .ok_or_else(|| bad("expected a left parenthesis"))?;
    let list = text[open + 1..]
        .trim_end()
        .strip_suffix(')')
        .ok_or_else(|| bad("expected a right parenthesis"))?;
    let name = text[..open].trim();
    if name.is_empty() {
        return Err(bad(&format!("expected {what} name")));
    }
    Ok((unqualified(name), argument_types(list)?))
}

/// The function of that name and those argument types (`regprocedurein`).
pub fn signature(text: &str) -> Result<Oid, TypeError> {
    let (name, args) = split_signature(text, "a function")?;
    functions_named(name)
        .into_iter()
        .find(|(_, own)| *own == args.as_slice())
        .map(|(oid, _)| oid)
        .ok_or_else(|| TypeError::new("42883", format!("function \"{text}\" does not exist")))
}

fn operator(text: &str) -> Result<Oid, TypeError> {
    match operators::named(unqualified(text)) {
        [only] => Ok(only.oid),
        [] => Err(TypeError::new(
            "42883",
            format!("operator does not exist: {text}"),
        )),
        _ => Err(TypeError::new(
            "42725",
            format!("more than one operator named {text}"),
        )),
    }
}

fn operator_signature(text: &str) -> Result<Oid, TypeError> {
    let (name, args) = split_signature(text, "an operator")?;
    let [left, right] = args.as_slice() else {
        return Err(TypeError::new("42P02", "missing argument")
            .with_hint("Use NONE to denote the missing argument of a unary operator."));
    };
    operators::named(name)
        .iter()
        .find(|o| o.left == *left && o.right == *right)
        .map(|o| o.oid)
        .ok_or_else(|| TypeError::new("42883", format!("operator does not exist: {text}")))
}

/// Everything in `pg_proc` of that name: oids and arguments.
pub fn functions_named(name: &str) -> Vec<(Oid, &'static [Oid])> {
    let called = functions::named(name).iter().map(|f| (f.oid, f.args));
    let aggregates = aggregates::named(name).iter().map(|a| (a.oid, a.args));
    let conversion = conversions::named(name).map(|c| (c.oid, c.args));
    let windows = windows::named(name).iter().map(|w| (w.oid, w.args));
    let called = called.chain(aggregates).chain(windows);
    called.chain(conversion).collect()
}

/// Name and arguments.
fn function(oid: Oid) -> Option<(&'static str, &'static [Oid])> {
    let conversion = || conversions::by_oid(oid).map(|c| (c.name, c.args));
    let aggregate = || aggregates::by_oid(oid).map(|a| (a.name, a.args));
    let called = functions::by_oid(oid).map(|f| (f.name, f.args));
    let window = || windows::by_oid(oid).map(|w| (w.name, w.args));
    let called = called.or_else(aggregate).or_else(window);
    called.or_else(conversion)
}

/// Whether `pg_proc` has it.
pub fn is_function(oid: Oid) -> bool {
    oid < functions::FIRST_HIDDEN && function(oid).is_some()
}

/// With its schema where others have the name too (`regprocout`).
fn unique_name(name: &str) -> String {
    let shown = quote_identifier(name);
    match functions_named(name).len() {
        1 if !AMBIGUOUS.contains(&name) => shown,
        _ => format!("pg_catalog.{shown}"),
    }
}

/// Appends the name, or the number if there is no such object.
pub(crate) fn write(ty: Oid, oid: Oid, out: &mut BytesMut, cx: &FunctionCx) {
    if !oid.is_valid() {
        // The operator types print 0, the others a dash.
        let zero = matches!(ty, oids::REGOPER | oids::REGOPERATOR);
        return out.put_u8(if zero { b'0' } else { b'-' });
    }
    let name = match ty {
        oids::REGCLASS => host_name("regclassout", oid, cx),
        oids::REGNAMESPACE => host_name("regnamespaceout", oid, cx),
        oids::REGROLE => host_name("regroleout", oid, cx),
        oids::REGTYPE => registry::by_oid(oid).map(|_| registry::type_name(oid).into_owned()),
        oids::REGPROC => function(oid).map(|(name, _)| unique_name(name)),
        oids::REGPROCEDURE => function(oid)
            .map(|(name, args)| format!("{}({})", quote_identifier(name), type_list(args))),
        oids::REGOPER => operators::by_oid(oid).map(|o| match operators::named(o.name) {
            [_] => o.name.to_owned(),
            _ => format!("pg_catalog.{}", o.name),
        }),
        oids::REGOPERATOR => operators::by_oid(oid).map(|o| {
            let name = |t: Oid| {
                if t.is_valid() {
                    registry::type_name(t).into_owned()
                } else {
                    "NONE".to_owned()
                }
            };
            format!("{}({},{})", o.name, name(o.left), name(o.right))
        }),
        _ => None,
    };
    match name {
        Some(name) => out.put_slice(name.as_bytes()),
        None => scalar::write_int(i64::from(oid.raw()), out),
    }
}

/// `aclitem`: the host looks its roles up.
pub(crate) fn parse_acl_item(text: &str, cx: &FunctionCx) -> Result<Datum, TypeError> {
    by_host("aclitemin", Datum::text(text), cx)
}

/// Appends it with the names of its roles, or with their numbers where nobody knows the names.
pub(crate) fn write_acl_item(item: AclItem, out: &mut BytesMut, cx: &FunctionCx) {
    let shown = match by_host("aclitemout", Datum::AclItem(item), cx) {
        Ok(Datum::Text(text)) => text.to_string(),
        _ => item.show(|role| role.to_string()),
    };
    out.put_slice(shown.as_bytes());
}

fn type_list(args: &[Oid]) -> String {
    let names: Vec<_> = args.iter().map(|t| registry::type_name(*t)).collect();
    names.join(",")
}

/// A host that cannot answer leaves the number.
fn host_name(function: &str, oid: Oid, cx: &FunctionCx) -> Option<String> {
    match by_host(function, Datum::Oid(oid), cx) {
        Ok(Datum::Null) | Err(_) => None,
        Ok(name) => Some(to_text(oids::CSTRING, &name, cx)),
    }
}
