//! Rows of `pg_proc`: what `functions/clock` implements. Oids and signatures are PostgreSQL 15's.

use super::functions;
use crate::types::function::Function;
use crate::types::functions::clock;

pub(super) static ROWS: &[Function] = functions! {
    274 "timeofday" [] TEXT VS => Scalar(clock::timeofday);
    1026 "timezone" [INTERVAL TIMESTAMPTZ] TIMESTAMP IS => Scalar(clock::timestamptz_izone);
    1159 "timezone" [TEXT TIMESTAMPTZ] TIMESTAMP IS => Scalar(clock::timestamptz_zone);
    1299 "now" [] TIMESTAMPTZ SS => Scalar(clock::now);
    2037 "timezone" [TEXT TIMETZ] TIMETZ SS => Scalar(clock::timetz_zone);
    2038 "timezone" [INTERVAL TIMETZ] TIMETZ IS => Scalar(clock::timetz_izone);
    2069 "timezone" [TEXT TIMESTAMP] TIMESTAMPTZ IS => Scalar(clock::timestamp_zone);
    2070 "timezone" [INTERVAL TIMESTAMP] TIMESTAMPTZ IS => Scalar(clock::timestamp_izone);
    2647 "transaction_timestamp" [] TIMESTAMPTZ SS => Scalar(clock::now);
    2648 "statement_timestamp" [] TIMESTAMPTZ SS => Scalar(clock::statement_timestamp);
    2649 "clock_timestamp" [] TIMESTAMPTZ VS => Scalar(clock::clock_timestamp);
};
