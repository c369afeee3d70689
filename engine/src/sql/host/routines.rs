//! Functions as SQL text: `pg_get_function_arguments` and its relatives, `pg_get_functiondef`. Manual, 9.26.5.
//!
//! All functions are of the language `internal`: nobody can make others.

use crate::ids::Oid;
use crate::sql::host::environment::Environment;
use crate::sql::host::{int, oid};
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{Function, Volatility};
use crate::types::functions::{Argument, quote_identifier};
use crate::types::registry::type_name;
use crate::types::{aggregates, conversions, functions, windows};

type Answer = Result<Datum, TypeError>;

pub(super) fn call(_env: &Environment, function: &Function, args: &[Datum]) -> Option<Answer> {
    let asked = oid(args, 0);
    let shown = |show: fn(&Routine) -> Datum| routine(asked).map_or(Datum::Null, |r| show(&r));
    Some(match function.name {
        "pg_get_function_arguments" => Ok(shown(|r| Datum::text(&arguments(r, true)))),
        "pg_get_function_identity_arguments" => Ok(shown(|r| Datum::text(&arguments(r, false)))),
        "pg_get_function_result" => Ok(shown(|r| Datum::text(&result(r)))),
        "pg_get_function_arg_default" => Ok(argument_default(asked, int(args, 1))),
        // A body in SQL (BEGIN ATOMIC): no function has one.
        "pg_get_function_sqlbody" => Ok(Datum::Null),
        "pg_get_functiondef" => definition(asked),
        _ => return None,
    })
}

struct Routine {
    oid: Oid,
    name: &'static str,
    arguments: Vec<Argument>,
    returns: Oid,
    is_set: bool,
    strict: bool,
    volatility: Volatility,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Aggregate,
    Window,
}

fn routine(asked: Oid) -> Option<Routine> {
    if let Some(f) = functions::by_oid(asked).filter(|f| f.oid < functions::FIRST_HIDDEN) {
        return Some(Routine {
            oid: f.oid,
            name: f.name,
            arguments: functions::arguments(f),
            returns: f.returns,
            is_set: f.returns_set(),
            strict: f.strict,
            volatility: f.volatility,
            kind: Kind::Plain,
        });
    }
    if let Some(a) = aggregates::by_oid(asked) {
        return Some(Routine {
            oid: a.oid,
            name: a.name,
            arguments: functions::plain_arguments(a.oid, a.args),
            returns: a.returns,
            is_set: false,
            strict: false,
            volatility: Volatility::Immutable,
            kind: Kind::Aggregate,
        });
    }
    if let Some(w) = windows::by_oid(asked) {
        return Some(Routine {
            oid: w.oid,
            name: w.name,
            arguments: functions::plain_arguments(w.oid, w.args),
            returns: w.returns,
            is_set: false,
            strict: w.strict,
            volatility: Volatility::Immutable,
            kind: Kind::Window,
        });
    }
    conversions::by_oid(asked).map(|c| Routine {
        oid: c.oid,
        name: c.name,
        arguments: functions::plain_arguments(c.oid, c.args),
        returns: c.returns,
        is_set: false,
        strict: c.strict,
        volatility: match c.volatile {
            b's' => Volatility::Stable,
            b'v' => Volatility::Volatile,
            _ => Volatility::Immutable,
        },
        kind: Kind::Plain,
    })
}

/// `print_function_arguments`
fn arguments(routine: &Routine, with_defaults: bool) -> String {
    let shown: Vec<String> = routine
        .arguments
        .iter()
        .map(|argument| {
            let mode = match argument.mode {
                b'o' => "OUT ",
                b'v' => "VARIADIC ",
                _ => "",
            };
            let name = match argument.name {
                "" => String::new(),
                name => format!("{} ", quote_identifier(name)),
            };
            let default = match argument.default {
                Some(default) if with_defaults => format!(" DEFAULT {default}"),
                _ => String::new(),
            };
            format!("{mode}{name}{}{default}", type_name(argument.ty))
        })
        .collect();
    shown.join(", ")
}

fn result(routine: &Routine) -> String {
    let set = if routine.is_set { "SETOF " } else { "" };
    format!("{set}{}", type_name(routine.returns))
}

/// Counted from 1, results among them; NULL for one without.
fn argument_default(asked: Oid, number: i64) -> Datum {
    let at = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
    let default = routine(asked).and_then(|r| r.arguments.get(at?)?.default);
    default.map_or(Datum::Null, Datum::text)
}

fn definition(asked: Oid) -> Answer {
    let Some(routine) = routine(asked) else {
        return Ok(Datum::Null);
    };
    if routine.kind == Kind::Aggregate {
        let what = format!("\"{}\" is an aggregate function", routine.name);
        return Err(TypeError::new("42809", what));
    }
    Ok(Datum::text(&format!(
        "CREATE OR REPLACE FUNCTION pg_catalog.{}({})\n RETURNS {}\n LANGUAGE internal\n{}AS $function${}$function$\n",
        quote_identifier(routine.name),
        arguments(&routine, true),
        result(&routine),
        properties(&routine),
        source(&routine),
    )))
}

fn source(routine: &Routine) -> &'static str {
    let window = windows::by_oid(routine.oid).map(|w| w.source);
    let other = || functions::facts(routine.oid).source;
    window.or_else(other).unwrap_or(routine.name)
}

/// A line of what is not as it is without a word, or nothing.
fn properties(routine: &Routine) -> String {
    let facts = functions::facts(routine.oid);
    let mut words = String::new();
    if routine.kind == Kind::Window {
        words.push_str(" WINDOW");
    }
    words.push_str(match routine.volatility {
        Volatility::Immutable => " IMMUTABLE",
        Volatility::Stable => " STABLE",
        Volatility::Volatile => "",
    });
    words.push_str(match facts.parallel {
        b's' => " PARALLEL SAFE",
        b'r' => " PARALLEL RESTRICTED",
        _ => "",
    });
    for (is, word) in [(routine.strict, " STRICT"), (facts.leakproof, " LEAKPROOF")] {
        if is {
            words.push_str(word);
        }
    }
    if facts.cost != 1.0 {
        words.push_str(&format!(" COST {}", facts.cost));
    }
    if facts.rows > 0.0 && facts.rows != 1000.0 {
        words.push_str(&format!(" ROWS {}", facts.rows));
    }
    if let Some(support) = functions::support(routine.oid) {
        words.push_str(&format!(" SUPPORT {support}"));
    }
    if !words.is_empty() {
        words.push('\n');
    }
    words
}
