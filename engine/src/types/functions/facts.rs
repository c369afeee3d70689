//! What `pg_proc` says of a function and no call asks for: the C function's name, costs, the names of its arguments.

use std::sync::LazyLock;

use hashbrown::HashMap;

use crate::ids::Oid;
use crate::types::function::Function;

/// Columns of `pg_proc`.
#[derive(Debug)]
pub struct Facts {
    /// `prosrc`; `None` where it is the function's own name.
    pub source: Option<&'static str>,
    pub cost: f32,
    /// Expected rows of a set.
    pub rows: f32,
    /// `s`, `r` or `u`.
    pub parallel: u8,
    pub leakproof: bool,
    pub execute: Execute,
    /// Of the input arguments, from the first on.
    names: Vec<&'static str>,
}

/// Who may call it, as initdb leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execute {
    Everybody,
    /// Superusers.
    Owner,
    /// And `pg_monitor`.
    Monitor,
}

static USUAL: Facts = Facts {
    source: None,
    cost: 1.0,
    rows: 0.0,
    parallel: b's',
    leakproof: false,
    execute: Execute::Everybody,
    names: Vec::new(),
};

/// Oid, source (`=`: its name), cost, rows, parallel, leakproof, who may call it (`p`, `o` or `m`), names of arguments
/// (`-`: none); a line for each function of which one of them is not the usual one.
static BY_OID: LazyLock<HashMap<Oid, Facts>> = LazyLock::new(|| {
    include_str!("proc_facts.txt")
        .lines()
        .map(|text| line(text).expect("a line has eight words"))
        .collect()
});

fn line(text: &'static str) -> Option<(Oid, Facts)> {
    let mut words = text.split(' ');
    let oid = words.next()?.parse().ok()?;
    let facts = Facts {
        source: words.next().filter(|word| *word != "="),
        cost: words.next()?.parse().ok()?,
        rows: words.next()?.parse().ok()?,
        parallel: *words.next()?.as_bytes().first()?,
        leakproof: words.next()? == "t",
        execute: match words.next()? {
            "o" => Execute::Owner,
            "m" => Execute::Monitor,
            _ => Execute::Everybody,
        },
        names: match words.next()? {
            "-" => Vec::new(),
            names => names.split(',').collect(),
        },
    };
    Some((Oid::new(oid), facts))
}

/// Of a function, an aggregate or a conversion.
pub fn facts(function: Oid) -> &'static Facts {
    BY_OID.get(&function).unwrap_or(&USUAL)
}

/// An argument as `pg_proc` describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    pub ty: Oid,
    /// `i`, `o` or `v`.
    pub mode: u8,
    /// Empty if it has none.
    pub name: &'static str,
    /// As SQL, if it may be left out.
    pub default: Option<&'static str>,
}

/// Arguments without what only a table of our own functions says.
pub fn plain_arguments(oid: Oid, args: &[Oid]) -> Vec<Argument> {
    let names = &facts(oid).names;
    let argument = |(at, ty): (usize, &Oid)| Argument {
        ty: *ty,
        mode: b'i',
        name: names.get(at).copied().unwrap_or(""),
        default: None,
    };
    args.iter().enumerate().map(argument).collect()
}

/// Arguments in order, results behind them.
pub fn arguments(function: &Function) -> Vec<Argument> {
    let mut all = plain_arguments(function.oid, function.args);
    if function.variadic.is_valid()
        && let Some(last) = all.last_mut()
    {
        last.mode = b'v';
    }
    let required = all.len().saturating_sub(function.defaults.len());
    for (argument, default) in all[required..].iter_mut().zip(function.defaults) {
        argument.default = Some(*default);
    }
    all.extend(function.out.iter().map(|(name, ty)| Argument {
        ty: *ty,
        mode: b'o',
        name,
        default: None,
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{aggregates, conversions, functions};

    #[test]
    fn every_line_is_of_a_function() {
        let known = |oid: Oid| {
            functions::by_oid(oid).is_some()
                || aggregates::by_oid(oid).is_some()
                || conversions::by_oid(oid).is_some()
        };
        let stray = BY_OID.keys().find(|oid| !known(**oid));
        assert_eq!(stray, None);
    }

    #[test]
    fn defaults_and_results_stand_where_pg_proc_has_them() {
        let [promote] = functions::named("pg_promote") else {
            panic!("there is one");
        };
        let all = arguments(promote);
        let shown: Vec<_> = all.iter().map(|a| (a.name, a.mode, a.default)).collect();
        let wanted = [
            ("wait", b'i', Some("true")),
            ("wait_seconds", b'i', Some("60")),
        ];
        assert_eq!(shown, wanted);
    }
}
