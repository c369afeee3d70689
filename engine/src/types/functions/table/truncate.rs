//! Rows of `pg_proc`: what `functions/truncate` implements. Oids and signatures are PostgreSQL 15's.

use super::functions;
use crate::types::function::Function;
use crate::types::functions::truncate;

pub(super) static ROWS: &[Function] = functions! {
    1217 "date_trunc" [TEXT TIMESTAMPTZ] TIMESTAMPTZ SS => Scalar(truncate::timestamptz_trunc);
    1218 "date_trunc" [TEXT INTERVAL] INTERVAL IS => Scalar(truncate::interval_trunc);
    1284 "date_trunc" [TEXT TIMESTAMPTZ TEXT] TIMESTAMPTZ SS => Scalar(truncate::timestamptz_trunc_zone);
    2020 "date_trunc" [TEXT TIMESTAMP] TIMESTAMP IS => Scalar(truncate::timestamp_trunc);
    6177 "date_bin" [INTERVAL TIMESTAMP TIMESTAMP] TIMESTAMP IS => Scalar(truncate::timestamp_bin);
    6178 "date_bin" [INTERVAL TIMESTAMPTZ TIMESTAMPTZ] TIMESTAMPTZ IS => Scalar(truncate::timestamptz_bin);
};
