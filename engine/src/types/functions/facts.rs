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

/// Functions about which PostgreSQL's planner asks another one (`prosupport`), which is only named here, where a function is
/// shown.
const SUPPORT: &[(u32, &str)] = &[
    (79, "textregexeq_support"),
    (669, "varchar_support"),
    (850, "textlike_support"),
    (858, "textlike_support"),
    (1066, "generate_series_int4_support"),
    (1067, "generate_series_int4_support"),
    (1068, "generate_series_int8_support"),
    (1069, "generate_series_int8_support"),
    (1200, "interval_support"),
    (1238, "texticregexeq_support"),
    (1240, "texticregexeq_support"),
    (1254, "textregexeq_support"),
    (1569, "textlike_support"),
    (1571, "textlike_support"),
    (1631, "textlike_support"),
    (1633, "texticlike_support"),
    (1635, "texticlike_support"),
    (1656, "texticregexeq_support"),
    (1658, "textregexeq_support"),
    (1660, "texticlike_support"),
    (1703, "numeric_support"),
    (1961, "timestamp_support"),
    (1967, "timestamp_support"),
    (1968, "time_support"),
    (1969, "time_support"),
    (2005, "textlike_support"),
    (2007, "textlike_support"),
    (2331, "array_unnest_support"),
    (3100, "window_row_number_support"),
    (3101, "window_rank_support"),
    (3102, "window_dense_rank_support"),
    (3696, "text_starts_with_support"),
];

/// The name of a function's planner support function.
pub fn support(function: Oid) -> Option<&'static str> {
    let at = SUPPORT.binary_search_by_key(&function.raw(), |(oid, _)| *oid);
    at.ok().map(|at| SUPPORT[at].1)
}

/// Of a function, an aggregate, a window function or a conversion.
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
    use crate::types::{codec, functions};

    #[test]
    fn every_line_is_of_a_function() {
        let stray = BY_OID.keys().find(|oid| !codec::is_function(**oid));
        assert_eq!(stray, None);
        assert!(SUPPORT.is_sorted_by_key(|(oid, _)| *oid));
        let of = |(oid, _): &&(u32, &str)| !codec::is_function(Oid::new(*oid));
        assert_eq!(SUPPORT.iter().find(of), None);
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
