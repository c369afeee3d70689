//! `pg_type`, `pg_proc`, `pg_operator`, `pg_cast`, `pg_aggregate` and others whose rows are tables in the code.

use crate::catalog::relation::Relation;
use crate::catalog::schema::{BOOTSTRAP_SUPERUSER, PG_CATALOG};
use crate::ids::{DEFAULT_TABLESPACE, GLOBAL_TABLESPACE, Oid};
use crate::sql::pg_catalog::row::{RowBuilder, array, oid_vector};
use crate::types::datum::Datum;
use crate::types::function::{CastContext, CastMethod, Function, Implementation, Volatility};
use crate::types::registry::Type;
use crate::types::{aggregates, casts, conversions, functions, oids, operators, registry, windows};

/// `pg_language`'s row for functions that are code.
const INTERNAL_LANGUAGE: Oid = Oid::new(12);
const HEAP_ACCESS_METHOD: Oid = Oid::new(2);
const BTREE_ACCESS_METHOD: Oid = Oid::new(403);

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
        common_function(
            &mut row,
            conversion.oid,
            conversion.name,
            conversion.args,
            conversion.returns,
        );
        row.set("proisstrict", conversion.strict)
            .set("provolatile", conversion.volatile)
            .set("prosrc", conversion.name);
        rows.push(row.take());
    }
    for aggregate in aggregates::all() {
        common_function(
            &mut row,
            aggregate.oid,
            aggregate.name,
            aggregate.args,
            aggregate.returns,
        );
        row.set("prokind", b'a')
            .set("provolatile", b'i')
            .set("prosrc", "aggregate_dummy");
        rows.push(row.take());
    }
    for window in windows::all() {
        common_function(
            &mut row,
            window.oid,
            window.name,
            window.args,
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

fn common_function(row: &mut RowBuilder, oid: Oid, name: &str, args: &[Oid], returns: Oid) {
    let count = i16::try_from(args.len()).expect("functions have few arguments");
    row.set("oid", oid)
        .set("proname", name)
        .set("pronamespace", PG_CATALOG);
    row.set("proowner", BOOTSTRAP_SUPERUSER)
        .set("prolang", INTERNAL_LANGUAGE)
        .set("procost", 1.0_f32);
    row.set("prokind", b'f')
        .set("proparallel", b's')
        .set("pronargs", count);
    row.set("prorettype", returns)
        .set("proargtypes", oid_vector(args));
}

fn function_row(row: &mut RowBuilder, function: &Function) -> Vec<Datum> {
    common_function(
        row,
        function.oid,
        function.name,
        function.args,
        function.returns,
    );
    let is_set = matches!(
        function.implementation,
        Implementation::Set(_) | Implementation::TypedSet(_) | Implementation::HostSet
    );
    row.set("proisstrict", function.strict)
        .set("proretset", is_set);
    row.set("prorows", if is_set { 1000.0_f32 } else { 0.0 })
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
    row.set("pronargdefaults", defaults)
        .set("prosrc", function.name);
    if !function.out.is_empty() {
        let inputs = function.args.iter().map(|oid| (Datum::Oid(*oid), b'i', ""));
        let outputs = function
            .out
            .iter()
            .map(|(name, oid)| (Datum::Oid(*oid), b'o', *name));
        let all: Vec<(Datum, u8, &str)> = inputs.chain(outputs).collect();
        let column =
            |f: &dyn Fn(&(Datum, u8, &str)) -> Datum| all.iter().map(f).collect::<Vec<_>>();
        row.set(
            "proallargtypes",
            array(oids::OID, column(&|(oid, _, _)| oid.clone())),
        );
        row.set(
            "proargmodes",
            array(oids::CHAR, column(&|(_, mode, _)| Datum::Char(*mode))),
        );
        row.set(
            "proargnames",
            array(oids::TEXT, column(&|(_, _, name)| Datum::text(name))),
        );
    }
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
        row.set("oprcanhash", operator.name == "=")
            .set("oprcanmerge", operator.name == "=");
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

pub fn access_methods(relation: &Relation) -> Vec<Vec<Datum>> {
    let mut row = RowBuilder::new(relation);
    [
        (HEAP_ACCESS_METHOD, "heap", b't'),
        (BTREE_ACCESS_METHOD, "btree", b'i'),
    ]
    .into_iter()
    .map(|(oid, name, kind)| {
        row.set("oid", oid)
            .set("amname", name)
            .set("amtype", kind)
            .take()
    })
    .collect()
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
    vec![row.take()]
}
