//! Rows of `pg_proc`: what `functions/series` implements. Oids and signatures are PostgreSQL 15's.

use super::functions;
use crate::types::function::Function;
use crate::types::functions::series;

pub(super) static ROWS: &[Function] = functions! {
    938 "generate_series" [TIMESTAMP TIMESTAMP INTERVAL] TIMESTAMP IS => Set(series::generate_series_timestamp);
    939 "generate_series" [TIMESTAMPTZ TIMESTAMPTZ INTERVAL] TIMESTAMPTZ SS => Set(series::generate_series_timestamptz);
    1066 "generate_series" [INT4 INT4 INT4] INT4 IS => Set(series::generate_series_step_int4);
    1067 "generate_series" [INT4 INT4] INT4 IS => Set(series::generate_series_int4);
    1068 "generate_series" [INT8 INT8 INT8] INT8 IS => Set(series::generate_series_step_int8);
    1069 "generate_series" [INT8 INT8] INT8 IS => Set(series::generate_series_int8);
    1191 "generate_subscripts" [ANYARRAY INT4 BOOL] INT4 IS => Set(series::generate_subscripts);
    1192 "generate_subscripts" [ANYARRAY INT4] INT4 IS => Set(series::generate_subscripts_nodir);
    2971 "text" [BOOL] TEXT IS => Scalar(series::booltext);
};
