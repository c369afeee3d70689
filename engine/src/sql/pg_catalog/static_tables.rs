//! `pg_type`, `pg_proc`, `pg_operator`, `pg_cast`, `pg_aggregate` and others whose rows are tables in the code.

use crate::catalog::relation::Relation;
use crate::catalog::rights::MONITOR;
use crate::catalog::schema::{BOOTSTRAP_SUPERUSER, PG_CATALOG};
use crate::ids::{DEFAULT_TABLESPACE, GLOBAL_TABLESPACE, Oid};
use crate::sql::pg_catalog::row::{RowBuilder, array, oid_vector};
use crate::types::acl::{AclItem, Privileges};
use crate::types::datum::Datum;
use crate::types::function::{CastContext, CastMethod, Function, Volatility};
use crate::types::functions::{Argument, Execute};
use crate::types::registry::Type;
use crate::types::{aggregates, casts, conversions, functions, oids, operators, registry, windows};

/// `pg_language`'s row for functions that are code.
const INTERNAL_LANGUAGE: Oid = Oid::new(12);

pub fn types(relation: &Relation) -> Vec<Vec<Datum>> {
    let mut row = RowBuilder::new(relation);
    registry::all()
        .iter()
        .map(|ty| type_row(&mut row, ty))
        .collect()
}

fn type_row(row: &mut RowBuilder, ty: &Type) -> Vec<Datum> {
    row.set("oid", ty.oid)
        .set("typname", ty.name)
        .set("typnamespace", PG_CATALOG);
    row.set("typowner", BOOTSTRAP_SUPERUSER)
        .set("typlen", ty.length)
        .set("typbyval", ty.by_value);
    row.set("typtype", ty.kind)
        .set("typcategory", ty.category)
        .set("typispreferred", ty.preferred);
    row.set("typisdefined", true)
        .set("typdelim", b',')
        .set("typelem", ty.element);
    row.set("typarray", ty.array)
        .set("typalign", ty.align)
        .set("typstorage", ty.storage);
    row.set("typcollation", ty.collation)
        .set("typtypmod", -1_i32);
    for (column, name) in [
        ("typsubscript", ty.subscript),
        ("typinput", ty.input),
        ("typoutput", ty.output),
        ("typreceive", ty.receive),
        ("typsend", ty.send),
        ("typmodin", ty.modifier_in),
        ("typmodout", ty.modifier_out),
    ] {
        row.set(column, conversions::oid_of(name));
    }
    row.take()
}

pub fn functions(relation: &Relation) -> Vec<Vec<Datum>> {
    let mut row = RowBuilder::new(relation);
    let mut rows: Vec<Vec<Datum>> = functions::all()
        .map(|f| function_row(&mut row, f))
        .collect();
    for conversion in conversions::all() {
        let arguments = functions::plain_arguments(conversion.oid, conversion.args);
        common_function(
            &mut row,
            conversion.oid,
            conversion.name,
            &arguments,
            conversion.returns,
        );
        row.set("proisstrict", conversion.strict)
            .set("provolatile", conversion.volatile);
        rows.push(row.take());
    }
    for aggregate in aggregates::all() {
        let arguments = functions::plain_arguments(aggregate.oid, aggregate.args);
        common_function(
            &mut row,
            aggregate.oid,
            aggregate.name,
            &arguments,
            aggregate.returns,
        );
        row.set("prokind", b'a')
            .set("provolatile", b'i')
            .set("prosrc", "aggregate_dummy");
        rows.push(row.take());
    }
    for window in windows::all() {
        let arguments = functions::plain_arguments(window.oid, window.args);
        common_function(
            &mut row,
            window.oid,
            window.name,
            &arguments,
            window.returns,
        );
        row.set("prokind", b'w')
            .set("proisstrict", window.strict)
            .set("provolatile", b'i')
            .set("prosrc", window.source);
        rows.push(row.take());
    }
    rows
}

fn common_function(
    row: &mut RowBuilder,
    oid: Oid,
    name: &str,
    arguments: &[Argument],
    returns: Oid,
) {
    let facts = functions::facts(oid);
    let inputs: Vec<Oid> = arguments
        .iter()
        .filter(|a| a.mode != b'o')
        .map(|a| a.ty)
        .collect();
    let count = i16::try_from(inputs.len()).expect("functions have few arguments");
    row.set("oid", oid)
        .set("proname", name)
        .set("pronamespace", PG_CATALOG);
    row.set("proowner", BOOTSTRAP_SUPERUSER)
        .set("prolang", INTERNAL_LANGUAGE)
        .set("procost", facts.cost);
    row.set("prorows", facts.rows)
        .set("prokind", b'f')
        .set("proparallel", facts.parallel);
    row.set("proleakproof", facts.leakproof)
        .set("prosrc", facts.source.unwrap_or(name))
        .set("pronargs", count);
    row.set("prorettype", returns)
        .set("proargtypes", oid_vector(&inputs))
        .set("proacl", access_list(facts.execute));
    let list = |element: Oid, item: &dyn Fn(&Argument) -> Datum| {
        array(element, arguments.iter().map(item).collect())
    };
    if arguments.iter().any(|a| a.mode != b'i') {
        row.set("proallargtypes", list(oids::OID, &|a| Datum::Oid(a.ty)));
        row.set("proargmodes", list(oids::CHAR, &|a| Datum::Char(a.mode)));
    }
    if arguments.iter().any(|a| !a.name.is_empty()) {
        row.set("proargnames", list(oids::TEXT, &|a| Datum::text(a.name)));
    }
}

/// NULL where it is the built-in one.
pub(super) fn access_list(execute: Execute) -> Option<Datum> {
    let to = |grantee: Oid| {
        Datum::AclItem(AclItem {
            grantee,
            grantor: BOOTSTRAP_SUPERUSER,
            privileges: Privileges::EXECUTE,
            grantable: Privileges::NONE,
        })
    };
    let owner = to(BOOTSTRAP_SUPERUSER);
    let items = match execute {
        Execute::Everybody => return None,
        Execute::Owner => vec![owner],
        Execute::Monitor => vec![owner, to(MONITOR)],
    };
    Some(array(oids::ACLITEM, items))
}

fn function_row(row: &mut RowBuilder, function: &Function) -> Vec<Datum> {
    common_function(
        row,
        function.oid,
        function.name,
        &functions::arguments(function),
        function.returns,
    );
    row.set("proisstrict", function.strict)
        .set("proretset", function.returns_set())
        .set("provariadic", function.variadic);
    row.set(
        "provolatile",
        match function.volatility {
            Volatility::Immutable => b'i',
            Volatility::Stable => b's',
            Volatility::Volatile => b'v',
        },
    );
    let defaults = i16::try_from(function.defaults.len()).expect("few defaults");
    row.set("pronargdefaults", defaults);
    row.take()
}

pub fn operators(relation: &Relation) -> Vec<Vec<Datum>> {
    let mut row = RowBuilder::new(relation);
    let make = |operator: &crate::types::function::Operator| {
        row.set("oid", operator.oid)
            .set("oprname", operator.name)
            .set("oprnamespace", PG_CATALOG);
        row.set("oprowner", BOOTSTRAP_SUPERUSER)
            .set("oprleft", operator.left);
        row.set(
            "oprkind",
            if operator.left.is_valid() { b'b' } else { b'l' },
        );
        row.set("oprright", operator.right)
            .set("oprresult", operator.result);
        row.set("oprcom", operator.commutator)
            .set("oprnegate", operator.negator);
        row.set("oprcanhash", operator.can_hash)
            .set("oprcanmerge", operator.can_merge);
        row.set("oprcode", operator.function);
        row.take()
    };
    operators::all().iter().map(make).collect()
}

pub fn casts(relation: &Relation) -> Vec<Vec<Datum>> {
    let mut row = RowBuilder::new(relation);
    let mut rows = Vec::new();
    // PostgreSQL's own numbers carry no meaning; these are stable as long as the table's order is.
    for (oid, cast) in (10_000..).zip(casts::all()) {
        let (function, method) = match cast.method {
            // A function that only the code needs, because values of the two types are kept apart.
            CastMethod::Function(function) if function >= functions::FIRST_HIDDEN => {
                (Oid::INVALID, b'b')
            }
            CastMethod::Function(function) => (function, b'f'),
            CastMethod::Binary => (Oid::INVALID, b'b'),
            CastMethod::InOut => (Oid::INVALID, b'i'),
        };
        row.set("oid", Oid::new(oid))
            .set("castsource", cast.source)
            .set("casttarget", cast.target);
        row.set("castfunc", function).set("castmethod", method);
        row.set(
            "castcontext",
            match cast.context {
                CastContext::Implicit => b'i',
                CastContext::Assignment => b'a',
                CastContext::Explicit => b'e',
            },
        );
        rows.push(row.take());
    }
    rows
}

pub fn aggregates(relation: &Relation) -> Vec<Vec<Datum>> {
    let mut row = RowBuilder::new(relation);
    let make = |aggregate: &crate::types::function::Aggregate| {
        row.set("aggfnoid", aggregate.oid).set("aggkind", b'n');
        row.set("aggfinalmodify", b'r').set("aggmfinalmodify", b'r');
        row.set("aggtranstype", oids::ANY);
        row.take()
    };
    aggregates::all().iter().map(make).collect()
}

pub fn collations(relation: &Relation) -> Vec<Vec<Datum>> {
    let mut row = RowBuilder::new(relation);
    [
        (100, "default", b'd', None),
        (950, "C", b'c', Some("C")),
        (951, "POSIX", b'c', Some("POSIX")),
    ]
    .into_iter()
    .map(|(oid, name, provider, locale)| {
        row.set("oid", Oid::new(oid))
            .set("collname", name)
            .set("collnamespace", PG_CATALOG);
        row.set("collowner", BOOTSTRAP_SUPERUSER)
            .set("collprovider", provider);
        row.set("collisdeterministic", true)
            .set("collencoding", -1_i32);
        row.set("collcollate", locale)
            .set("collctype", locale)
            .take()
    })
    .collect()
}

pub fn tablespaces(relation: &Relation) -> Vec<Vec<Datum>> {
    let mut row = RowBuilder::new(relation);
    [
        (DEFAULT_TABLESPACE, "pg_default"),
        (GLOBAL_TABLESPACE, "pg_global"),
    ]
    .into_iter()
    .map(|(oid, name)| {
        row.set("oid", oid)
            .set("spcname", name)
            .set("spcowner", BOOTSTRAP_SUPERUSER)
            .take()
    })
    .collect()
}

pub fn languages(relation: &Relation) -> Vec<Vec<Datum>> {
    let mut row = RowBuilder::new(relation);
    row.set("oid", INTERNAL_LANGUAGE)
        .set("lanname", "internal")
        .set("lanowner", BOOTSTRAP_SUPERUSER);
    row.set(
        "lanvalidator",
        conversions::oid_of("fmgr_internal_validator"),
    );
    vec![row.take()]
}
