//! Rows of `pg_proc`: what `functions/misc` implements. Oids and signatures are PostgreSQL 15's.

use super::functions;
use crate::types::function::Function;
use crate::types::functions::misc;

pub(super) static ROWS: &[Function] = functions! {
    438 "num_nulls" [ANY] INT4 I => Typed(misc::pg_num_nulls) variadic ANY;
    440 "num_nonnulls" [ANY] INT4 I => Typed(misc::pg_num_nonnulls) variadic ANY;
    1081 "format_type" [OID INT4] TEXT S => Scalar(misc::format_type);
    1268 "parse_ident" [TEXT BOOL] TEXT_ARRAY IS => Scalar(misc::parse_ident) defaults ["true"];
    1619 "pg_typeof" [ANY] REGTYPE S => Typed(misc::pg_typeof);
    2914 "bpchartypmodout" [INT4] CSTRING IS => Scalar(misc::bpchartypmodout);
    2916 "varchartypmodout" [INT4] CSTRING IS => Scalar(misc::varchartypmodout);
    2918 "numerictypmodout" [INT4] CSTRING IS => Scalar(misc::numerictypmodout);
    3058 "concat" [ANY] TEXT S => Typed(misc::text_concat) variadic ANY;
    3059 "concat_ws" [TEXT ANY] TEXT S => Typed(misc::text_concat_ws) variadic ANY;
    3432 "gen_random_uuid" [] UUID VS => Scalar(misc::gen_random_uuid);
    3539 "format" [TEXT ANY] TEXT S => Typed(misc::text_format) variadic ANY;
    3540 "format" [TEXT] TEXT S => Typed(misc::text_format_nv);
    6198 "unistr" [TEXT] TEXT IS => Scalar(misc::unistr);
};
