//! Rows of `pg_proc`: what `functions/to_number` and `functions/number_to_char` implement. Oids and signatures are
//! PostgreSQL 15's.

use super::functions;
use crate::types::function::Function;
use crate::types::functions::{number_to_char, to_number};

pub(super) static ROWS: &[Function] = functions! {
    1772 "to_char" [NUMERIC TEXT] TEXT SS => Scalar(number_to_char::numeric_to_char);
    1773 "to_char" [INT4 TEXT] TEXT SS => Scalar(number_to_char::int4_to_char);
    1774 "to_char" [INT8 TEXT] TEXT SS => Scalar(number_to_char::int8_to_char);
    1775 "to_char" [FLOAT4 TEXT] TEXT SS => Scalar(number_to_char::float4_to_char);
    1776 "to_char" [FLOAT8 TEXT] TEXT SS => Scalar(number_to_char::float8_to_char);
    1777 "to_number" [TEXT TEXT] NUMERIC SS => Scalar(to_number::numeric_to_number);
};
