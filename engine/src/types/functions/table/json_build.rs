//! Rows of `pg_proc`: what `functions/json_build` implements. Oids and signatures are PostgreSQL 15's.

use super::functions;
use crate::types::function::Function;
use crate::types::functions::json_build;

pub(super) static ROWS: &[Function] = functions! {
    3153 "array_to_json" [ANYARRAY] JSON SS => Typed(json_build::array_to_json);
    3154 "array_to_json" [ANYARRAY BOOL] JSON SS => Typed(json_build::array_to_json_pretty);
    3155 "row_to_json" [RECORD] JSON SS => Typed(json_build::row_to_json);
    3156 "row_to_json" [RECORD BOOL] JSON SS => Typed(json_build::row_to_json_pretty);
    3176 "to_json" [ANYELEMENT] JSON SS => Typed(json_build::to_json_any);
    3198 "json_build_array" [ANY] JSON S => Typed(json_build::json_build_array) variadic ANY;
    3199 "json_build_array" [] JSON S => Scalar(json_build::json_build_array_noargs);
    3200 "json_build_object" [ANY] JSON S => Typed(json_build::json_build_object) variadic ANY;
    3201 "json_build_object" [] JSON S => Scalar(json_build::json_build_object_noargs);
    3202 "json_object" [TEXT_ARRAY] JSON IS => Scalar(json_build::json_object);
    3203 "json_object" [TEXT_ARRAY TEXT_ARRAY] JSON IS => Scalar(json_build::json_object_two_arg);
    3263 "jsonb_object" [TEXT_ARRAY] JSONB IS => Scalar(json_build::jsonb_object);
    3264 "jsonb_object" [TEXT_ARRAY TEXT_ARRAY] JSONB IS => Scalar(json_build::jsonb_object_two_arg);
    3271 "jsonb_build_array" [ANY] JSONB S => Typed(json_build::jsonb_build_array) variadic ANY;
    3272 "jsonb_build_array" [] JSONB S => Scalar(json_build::jsonb_build_array_noargs);
    3273 "jsonb_build_object" [ANY] JSONB S => Typed(json_build::jsonb_build_object) variadic ANY;
    3274 "jsonb_build_object" [] JSONB S => Scalar(json_build::jsonb_build_object_noargs);
    3787 "to_jsonb" [ANYELEMENT] JSONB SS => Typed(json_build::to_jsonb_any);
};
