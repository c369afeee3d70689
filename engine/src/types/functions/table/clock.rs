//! Rows of `pg_proc`: what `functions/clock` implements. Oids and signatures are PostgreSQL 15's.

use super::functions;
use crate::types::function::Function;
use crate::types::functions::clock;

pub(super) static ROWS: &[Function] = functions! {
    274 "timeofday" [] TEXT VS => Scalar(clock::timeofday);
    1026 "timezone" [INTERVAL TIMESTAMPTZ] TIMESTAMP IS => Scalar(clock::timestamptz_izone);
    1158 "to_timestamp" [FLOAT8] TIMESTAMPTZ IS => Scalar(clock::float8_timestamptz);
    1159 "timezone" [TEXT TIMESTAMPTZ] TIMESTAMP IS => Scalar(clock::timestamptz_zone);
    1171 "date_part" [TEXT TIMESTAMPTZ] FLOAT8 SS => Scalar(clock::timestamptz_part);
    1172 "date_part" [TEXT INTERVAL] FLOAT8 IS => Scalar(clock::interval_part);
    1217 "date_trunc" [TEXT TIMESTAMPTZ] TIMESTAMPTZ SS => Scalar(clock::timestamptz_trunc);
    1218 "date_trunc" [TEXT INTERVAL] INTERVAL IS => Scalar(clock::interval_trunc);
    1273 "date_part" [TEXT TIMETZ] FLOAT8 IS => Scalar(clock::timetz_part);
    1284 "date_trunc" [TEXT TIMESTAMPTZ TEXT] TIMESTAMPTZ SS => Scalar(clock::timestamptz_trunc_zone);
    1299 "now" [] TIMESTAMPTZ SS => Scalar(clock::now);
    1384 "date_part" [TEXT DATE] FLOAT8 IS => Scalar(clock::date_part_date);
    1385 "date_part" [TEXT TIME] FLOAT8 IS => Scalar(clock::time_part_float);
    2020 "date_trunc" [TEXT TIMESTAMP] TIMESTAMP IS => Scalar(clock::timestamp_trunc);
    2021 "date_part" [TEXT TIMESTAMP] FLOAT8 IS => Scalar(clock::timestamp_part);
    2037 "timezone" [TEXT TIMETZ] TIMETZ SS => Scalar(clock::timetz_zone);
    2038 "timezone" [INTERVAL TIMETZ] TIMETZ IS => Scalar(clock::timetz_izone);
    2069 "timezone" [TEXT TIMESTAMP] TIMESTAMPTZ IS => Scalar(clock::timestamp_zone);
    2070 "timezone" [INTERVAL TIMESTAMP] TIMESTAMPTZ IS => Scalar(clock::timestamp_izone);
    2647 "transaction_timestamp" [] TIMESTAMPTZ SS => Scalar(clock::now);
    2648 "statement_timestamp" [] TIMESTAMPTZ SS => Scalar(clock::statement_timestamp);
    2649 "clock_timestamp" [] TIMESTAMPTZ VS => Scalar(clock::clock_timestamp);
    3461 "make_timestamp" [INT4 INT4 INT4 INT4 INT4 FLOAT8] TIMESTAMP IS => Scalar(clock::make_timestamp);
    3462 "make_timestamptz" [INT4 INT4 INT4 INT4 INT4 FLOAT8] TIMESTAMPTZ SS => Scalar(clock::make_timestamptz);
    3463 "make_timestamptz" [INT4 INT4 INT4 INT4 INT4 FLOAT8 TEXT] TIMESTAMPTZ SS => Scalar(clock::make_timestamptz_at_timezone);
    3464 "make_interval" [INT4 INT4 INT4 INT4 INT4 INT4 FLOAT8] INTERVAL IS => Scalar(clock::make_interval) defaults ["0" "0" "0" "0" "0" "0" "0.0"];
    3846 "make_date" [INT4 INT4 INT4] DATE IS => Scalar(clock::make_date);
    3847 "make_time" [INT4 INT4 FLOAT8] TIME IS => Scalar(clock::make_time);
    6177 "date_bin" [INTERVAL TIMESTAMP TIMESTAMP] TIMESTAMP IS => Scalar(clock::timestamp_bin);
    6178 "date_bin" [INTERVAL TIMESTAMPTZ TIMESTAMPTZ] TIMESTAMPTZ IS => Scalar(clock::timestamptz_bin);
    6199 "extract" [TEXT DATE] NUMERIC IS => Scalar(clock::extract_date);
    6200 "extract" [TEXT TIME] NUMERIC IS => Scalar(clock::extract_time);
    6201 "extract" [TEXT TIMETZ] NUMERIC IS => Scalar(clock::extract_timetz);
    6202 "extract" [TEXT TIMESTAMP] NUMERIC IS => Scalar(clock::extract_timestamp);
    6203 "extract" [TEXT TIMESTAMPTZ] NUMERIC SS => Scalar(clock::extract_timestamptz);
    6204 "extract" [TEXT INTERVAL] NUMERIC IS => Scalar(clock::extract_interval);
};
