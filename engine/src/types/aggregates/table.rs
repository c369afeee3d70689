//! Rows of `pg_aggregate`. Oids and signatures are PostgreSQL 15's.

use super::*;
use crate::types::oids;

macro_rules! aggregates {
    ($($oid:literal $name:literal [$($arg:ident)*] $returns:ident $strict:ident $make:expr;)*) => {
        &[$(Aggregate {
            oid: Oid::new($oid),
            name: $name,
            args: &[$(oids::$arg),*],
            returns: oids::$returns,
            strict: aggregates!(@$strict),
            make: $make,
        }),*]
    };
    (@strict) => { true };
    (@any) => { false };
}

/// Oid, name, arguments, result, whether NULLs are skipped, what makes the accumulator.
pub(super) static AGGREGATES: &[Aggregate] = aggregates! {
    2335 "array_agg" [ANYNONARRAY] ANYARRAY any collect::array_agg_anynonarray;
    4053 "array_agg" [ANYARRAY] ANYARRAY any collect::array_agg_anyarray;
    2100 "avg" [INT8] NUMERIC strict sums::avg_int8;
    2101 "avg" [INT4] NUMERIC strict sums::avg_int4;
    2102 "avg" [INT2] NUMERIC strict sums::avg_int2;
    2103 "avg" [NUMERIC] NUMERIC strict sums::avg_numeric;
    2104 "avg" [FLOAT4] FLOAT8 strict statistics::avg_float4;
    2105 "avg" [FLOAT8] FLOAT8 strict statistics::avg_float8;
    2106 "avg" [INTERVAL] INTERVAL strict sums::avg_interval;
    2236 "bit_and" [INT2] INT2 strict basic::bit_and;
    2238 "bit_and" [INT4] INT4 strict basic::bit_and;
    2240 "bit_and" [INT8] INT8 strict basic::bit_and;
    2242 "bit_and" [BIT] BIT strict basic::bit_and;
    2237 "bit_or" [INT2] INT2 strict basic::bit_or;
    2239 "bit_or" [INT4] INT4 strict basic::bit_or;
    2241 "bit_or" [INT8] INT8 strict basic::bit_or;
    2243 "bit_or" [BIT] BIT strict basic::bit_or;
    6164 "bit_xor" [INT2] INT2 strict basic::bit_xor;
    6165 "bit_xor" [INT4] INT4 strict basic::bit_xor;
    6166 "bit_xor" [INT8] INT8 strict basic::bit_xor;
    6167 "bit_xor" [BIT] BIT strict basic::bit_xor;
    2517 "bool_and" [BOOL] BOOL strict basic::bool_and;
    2518 "bool_or" [BOOL] BOOL strict basic::bool_or;
    2829 "corr" [FLOAT8 FLOAT8] FLOAT8 strict statistics::corr;
    2147 "count" [ANY] INT8 strict basic::count;
    2803 "count" [] INT8 strict basic::count;
    2827 "covar_pop" [FLOAT8 FLOAT8] FLOAT8 strict statistics::covar_pop;
    2828 "covar_samp" [FLOAT8 FLOAT8] FLOAT8 strict statistics::covar_samp;
    2519 "every" [BOOL] BOOL strict basic::every;
    3175 "json_agg" [ANYELEMENT] JSON any collect::json_agg;
    3197 "json_object_agg" [ANY ANY] JSON any collect::json_object_agg;
    3267 "jsonb_agg" [ANYELEMENT] JSONB any collect::jsonb_agg;
    3270 "jsonb_object_agg" [ANY ANY] JSONB any collect::jsonb_object_agg;
    2050 "max" [ANYARRAY] ANYARRAY strict basic::max;
    2115 "max" [INT8] INT8 strict basic::max;
    2116 "max" [INT4] INT4 strict basic::max;
    2117 "max" [INT2] INT2 strict basic::max;
    2118 "max" [OID] OID strict basic::max;
    2119 "max" [FLOAT4] FLOAT4 strict basic::max;
    2120 "max" [FLOAT8] FLOAT8 strict basic::max;
    2122 "max" [DATE] DATE strict basic::max;
    2123 "max" [TIME] TIME strict basic::max;
    2124 "max" [TIMETZ] TIMETZ strict basic::max;
    2126 "max" [TIMESTAMP] TIMESTAMP strict basic::max;
    2127 "max" [TIMESTAMPTZ] TIMESTAMPTZ strict basic::max;
    2128 "max" [INTERVAL] INTERVAL strict basic::max;
    2129 "max" [TEXT] TEXT strict basic::max;
    2130 "max" [NUMERIC] NUMERIC strict basic::max;
    2244 "max" [BPCHAR] BPCHAR strict basic::max;
    2797 "max" [TID] TID strict basic::max;
    3526 "max" [ANYENUM] ANYENUM strict basic::max;
    4189 "max" [PG_LSN] PG_LSN strict basic::max;
    5099 "max" [XID8] XID8 strict basic::max;
    2051 "min" [ANYARRAY] ANYARRAY strict basic::min;
    2131 "min" [INT8] INT8 strict basic::min;
    2132 "min" [INT4] INT4 strict basic::min;
    2133 "min" [INT2] INT2 strict basic::min;
    2134 "min" [OID] OID strict basic::min;
    2135 "min" [FLOAT4] FLOAT4 strict basic::min;
    2136 "min" [FLOAT8] FLOAT8 strict basic::min;
    2138 "min" [DATE] DATE strict basic::min;
    2139 "min" [TIME] TIME strict basic::min;
    2140 "min" [TIMETZ] TIMETZ strict basic::min;
    2142 "min" [TIMESTAMP] TIMESTAMP strict basic::min;
    2143 "min" [TIMESTAMPTZ] TIMESTAMPTZ strict basic::min;
    2144 "min" [INTERVAL] INTERVAL strict basic::min;
    2145 "min" [TEXT] TEXT strict basic::min;
    2146 "min" [NUMERIC] NUMERIC strict basic::min;
    2245 "min" [BPCHAR] BPCHAR strict basic::min;
    2798 "min" [TID] TID strict basic::min;
    3527 "min" [ANYENUM] ANYENUM strict basic::min;
    4190 "min" [PG_LSN] PG_LSN strict basic::min;
    5100 "min" [XID8] XID8 strict basic::min;
    2822 "regr_avgx" [FLOAT8 FLOAT8] FLOAT8 strict statistics::regr_avgx;
    2823 "regr_avgy" [FLOAT8 FLOAT8] FLOAT8 strict statistics::regr_avgy;
    2818 "regr_count" [FLOAT8 FLOAT8] INT8 strict statistics::regr_count;
    2826 "regr_intercept" [FLOAT8 FLOAT8] FLOAT8 strict statistics::regr_intercept;
    2824 "regr_r2" [FLOAT8 FLOAT8] FLOAT8 strict statistics::regr_r2;
    2825 "regr_slope" [FLOAT8 FLOAT8] FLOAT8 strict statistics::regr_slope;
    2819 "regr_sxx" [FLOAT8 FLOAT8] FLOAT8 strict statistics::regr_sxx;
    2821 "regr_sxy" [FLOAT8 FLOAT8] FLOAT8 strict statistics::regr_sxy;
    2820 "regr_syy" [FLOAT8 FLOAT8] FLOAT8 strict statistics::regr_syy;
    2154 "stddev" [INT8] NUMERIC strict statistics::stddev;
    2155 "stddev" [INT4] NUMERIC strict statistics::stddev;
    2156 "stddev" [INT2] NUMERIC strict statistics::stddev;
    2157 "stddev" [FLOAT4] FLOAT8 strict statistics::stddev;
    2158 "stddev" [FLOAT8] FLOAT8 strict statistics::stddev;
    2159 "stddev" [NUMERIC] NUMERIC strict statistics::stddev;
    2724 "stddev_pop" [INT8] NUMERIC strict statistics::stddev_pop;
    2725 "stddev_pop" [INT4] NUMERIC strict statistics::stddev_pop;
    2726 "stddev_pop" [INT2] NUMERIC strict statistics::stddev_pop;
    2727 "stddev_pop" [FLOAT4] FLOAT8 strict statistics::stddev_pop;
    2728 "stddev_pop" [FLOAT8] FLOAT8 strict statistics::stddev_pop;
    2729 "stddev_pop" [NUMERIC] NUMERIC strict statistics::stddev_pop;
    2712 "stddev_samp" [INT8] NUMERIC strict statistics::stddev_samp;
    2713 "stddev_samp" [INT4] NUMERIC strict statistics::stddev_samp;
    2714 "stddev_samp" [INT2] NUMERIC strict statistics::stddev_samp;
    2715 "stddev_samp" [FLOAT4] FLOAT8 strict statistics::stddev_samp;
    2716 "stddev_samp" [FLOAT8] FLOAT8 strict statistics::stddev_samp;
    2717 "stddev_samp" [NUMERIC] NUMERIC strict statistics::stddev_samp;
    3538 "string_agg" [TEXT TEXT] TEXT any collect::string_agg_text;
    3545 "string_agg" [BYTEA BYTEA] BYTEA any collect::string_agg_bytea;
    2107 "sum" [INT8] NUMERIC strict sums::sum_int8;
    2108 "sum" [INT4] INT8 strict sums::sum_int4;
    2109 "sum" [INT2] INT8 strict sums::sum_int2;
    2110 "sum" [FLOAT4] FLOAT4 strict sums::sum_float4;
    2111 "sum" [FLOAT8] FLOAT8 strict sums::sum_float8;
    2113 "sum" [INTERVAL] INTERVAL strict sums::sum_interval;
    2114 "sum" [NUMERIC] NUMERIC strict sums::sum_numeric;
    2718 "var_pop" [INT8] NUMERIC strict statistics::var_pop;
    2719 "var_pop" [INT4] NUMERIC strict statistics::var_pop;
    2720 "var_pop" [INT2] NUMERIC strict statistics::var_pop;
    2721 "var_pop" [FLOAT4] FLOAT8 strict statistics::var_pop;
    2722 "var_pop" [FLOAT8] FLOAT8 strict statistics::var_pop;
    2723 "var_pop" [NUMERIC] NUMERIC strict statistics::var_pop;
    2641 "var_samp" [INT8] NUMERIC strict statistics::var_samp;
    2642 "var_samp" [INT4] NUMERIC strict statistics::var_samp;
    2643 "var_samp" [INT2] NUMERIC strict statistics::var_samp;
    2644 "var_samp" [FLOAT4] FLOAT8 strict statistics::var_samp;
    2645 "var_samp" [FLOAT8] FLOAT8 strict statistics::var_samp;
    2646 "var_samp" [NUMERIC] NUMERIC strict statistics::var_samp;
    2148 "variance" [INT8] NUMERIC strict statistics::variance;
    2149 "variance" [INT4] NUMERIC strict statistics::variance;
    2150 "variance" [INT2] NUMERIC strict statistics::variance;
    2151 "variance" [FLOAT4] FLOAT8 strict statistics::variance;
    2152 "variance" [FLOAT8] FLOAT8 strict statistics::variance;
    2153 "variance" [NUMERIC] NUMERIC strict statistics::variance;
};
