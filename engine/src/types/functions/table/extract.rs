//! Rows of `pg_proc`: what `functions/extract` implements. Oids and signatures are PostgreSQL 15's.

use super::functions;
use crate::types::function::Function;
use crate::types::functions::extract;

pub(super) static ROWS: &[Function] = functions! {
    1171 "date_part" [TEXT TIMESTAMPTZ] FLOAT8 SS => Scalar(extract::timestamptz_part);
    1172 "date_part" [TEXT INTERVAL] FLOAT8 IS => Scalar(extract::interval_part);
    1273 "date_part" [TEXT TIMETZ] FLOAT8 IS => Scalar(extract::timetz_part);
    1384 "date_part" [TEXT DATE] FLOAT8 IS => Scalar(extract::date_part_date);
    1385 "date_part" [TEXT TIME] FLOAT8 IS => Scalar(extract::time_part_float);
    2021 "date_part" [TEXT TIMESTAMP] FLOAT8 IS => Scalar(extract::timestamp_part);
    6199 "extract" [TEXT DATE] NUMERIC IS => Scalar(extract::extract_date);
    6200 "extract" [TEXT TIME] NUMERIC IS => Scalar(extract::extract_time);
    6201 "extract" [TEXT TIMETZ] NUMERIC IS => Scalar(extract::extract_timetz);
    6202 "extract" [TEXT TIMESTAMP] NUMERIC IS => Scalar(extract::extract_timestamp);
    6203 "extract" [TEXT TIMESTAMPTZ] NUMERIC SS => Scalar(extract::extract_timestamptz);
    6204 "extract" [TEXT INTERVAL] NUMERIC IS => Scalar(extract::extract_interval);
};
