//! Rows of `pg_proc`: what `functions/make_time` implements. Oids and signatures are PostgreSQL 15's.

use super::functions;
use crate::types::function::Function;
use crate::types::functions::make_time;

pub(super) static ROWS: &[Function] = functions! {
    1158 "to_timestamp" [FLOAT8] TIMESTAMPTZ IS => Scalar(make_time::float8_timestamptz);
    3461 "make_timestamp" [INT4 INT4 INT4 INT4 INT4 FLOAT8] TIMESTAMP IS => Scalar(make_time::make_timestamp);
    3462 "make_timestamptz" [INT4 INT4 INT4 INT4 INT4 FLOAT8] TIMESTAMPTZ SS => Scalar(make_time::make_timestamptz);
    3463 "make_timestamptz" [INT4 INT4 INT4 INT4 INT4 FLOAT8 TEXT] TIMESTAMPTZ SS => Scalar(make_time::make_timestamptz_at_timezone);
    3464 "make_interval" [INT4 INT4 INT4 INT4 INT4 INT4 FLOAT8] INTERVAL IS => Scalar(make_time::make_interval) defaults ["0" "0" "0" "0" "0" "0" "0.0"];
    3846 "make_date" [INT4 INT4 INT4] DATE IS => Scalar(make_time::make_date);
    3847 "make_time" [INT4 INT4 FLOAT8] TIME IS => Scalar(make_time::make_time);
};
