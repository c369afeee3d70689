//! Rows of `pg_proc`: what `functions/to_char` implements. Oids and signatures are PostgreSQL 15's.

use super::functions;
use crate::types::function::Function;
use crate::types::functions::to_char;

pub(super) static ROWS: &[Function] = functions! {
    1768 "to_char" [INTERVAL TEXT] TEXT SS => Scalar(to_char::interval_to_char);
    1770 "to_char" [TIMESTAMPTZ TEXT] TEXT SS => Scalar(to_char::timestamptz_to_char);
    2049 "to_char" [TIMESTAMP TEXT] TEXT SS => Scalar(to_char::timestamp_to_char);
};
