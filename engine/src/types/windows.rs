//! The table of window functions: rows of `pg_proc` of kind `w`. Aggregates serve as window functions besides.
//!
//! What they give depends on rows and their order, which nothing here knows: the kind says what to compute, and the node
//! that has the rows computes it.

use std::sync::LazyLock;

use hashbrown::HashMap;

use crate::ids::Oid;
use crate::types::oids;

/// What a window function gives. Manual, 9.22.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowKind {
    RowNumber,
    Rank,
    DenseRank,
    PercentRank,
    CumeDist,
    Ntile,
    Lag,
    Lead,
    FirstValue,
    LastValue,
    NthValue,
}

/// A row of `pg_proc` of kind `w`.
#[derive(Debug)]
pub struct WindowFunction {
    pub oid: Oid,
    pub name: &'static str,
    pub args: &'static [Oid],
    pub returns: Oid,
    /// What the catalog says; nothing asks it of a window function.
    pub strict: bool,
    pub kind: WindowKind,
    /// `prosrc`
    pub source: &'static str,
}

macro_rules! windows {
    ($($oid:literal $name:literal [$($arg:ident)*] $returns:ident $strict:ident $kind:ident $source:literal;)*) => {
        &[$(WindowFunction {
            oid: Oid::new($oid),
            name: $name,
            args: &[$(oids::$arg),*],
            returns: oids::$returns,
            strict: windows!(@$strict),
            kind: WindowKind::$kind,
            source: $source,
        }),*]
    };
    (@strict) => { true };
    (@any) => { false };
}

static FUNCTIONS: &[WindowFunction] = windows! {
    3100 "row_number" [] INT8 any RowNumber "window_row_number";
    3101 "rank" [] INT8 any Rank "window_rank";
    3102 "dense_rank" [] INT8 any DenseRank "window_dense_rank";
    3103 "percent_rank" [] FLOAT8 any PercentRank "window_percent_rank";
    3104 "cume_dist" [] FLOAT8 any CumeDist "window_cume_dist";
    3105 "ntile" [INT4] INT4 strict Ntile "window_ntile";
    3106 "lag" [ANYELEMENT] ANYELEMENT strict Lag "window_lag";
    3107 "lag" [ANYELEMENT INT4] ANYELEMENT strict Lag "window_lag_with_offset";
    3108 "lag" [ANYCOMPATIBLE INT4 ANYCOMPATIBLE] ANYCOMPATIBLE strict Lag "window_lag_with_offset_and_default";
    3109 "lead" [ANYELEMENT] ANYELEMENT strict Lead "window_lead";
    3110 "lead" [ANYELEMENT INT4] ANYELEMENT strict Lead "window_lead_with_offset";
    3111 "lead" [ANYCOMPATIBLE INT4 ANYCOMPATIBLE] ANYCOMPATIBLE strict Lead "window_lead_with_offset_and_default";
    3112 "first_value" [ANYELEMENT] ANYELEMENT strict FirstValue "window_first_value";
    3113 "last_value" [ANYELEMENT] ANYELEMENT strict LastValue "window_last_value";
    3114 "nth_value" [ANYELEMENT INT4] ANYELEMENT strict NthValue "window_nth_value";
};

static BY_NAME: LazyLock<HashMap<&'static str, Vec<&'static WindowFunction>>> =
    LazyLock::new(|| {
        let mut map: HashMap<&'static str, Vec<&'static WindowFunction>> = HashMap::new();
        for f in FUNCTIONS {
            map.entry(f.name).or_default().push(f);
        }
        map
    });

/// Every window function.
pub fn all() -> &'static [WindowFunction] {
    FUNCTIONS
}

pub fn named(name: &str) -> &'static [&'static WindowFunction] {
    BY_NAME.get(name).map_or(&[], |list| list.as_slice())
}

pub fn by_oid(oid: Oid) -> Option<&'static WindowFunction> {
    FUNCTIONS.iter().find(|f| f.oid == oid)
}
