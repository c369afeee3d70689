//! What the planner may do and what it believes things cost: the `enable_*` and `*_cost` settings. Manual, 20.7.

use std::sync::Arc;

use crate::catalog::relation::{Index, Relation};
use crate::types::function::FunctionCx;

#[derive(Debug, Clone)]
pub struct PlannerSettings {
    pub seq_page_cost: f64,
    pub random_page_cost: f64,
    pub cpu_tuple_cost: f64,
    pub cpu_index_tuple_cost: f64,
    pub cpu_operator_cost: f64,
    pub enable_seqscan: bool,
    pub enable_indexscan: bool,
    pub enable_nestloop: bool,
    pub enable_hashjoin: bool,
    pub enable_hashagg: bool,
    pub enable_sort: bool,
    pub enable_material: bool,
    /// KiB, as the setting counts.
    pub work_mem: usize,
    /// KiB: `work_mem` times `hash_mem_multiplier`.
    pub hash_mem: usize,
    pub effective_cache_pages: f64,
}

impl Default for PlannerSettings {
    fn default() -> PlannerSettings {
        PlannerSettings {
            seq_page_cost: 1.0,
            random_page_cost: 4.0,
            cpu_tuple_cost: 0.01,
            cpu_index_tuple_cost: 0.005,
            cpu_operator_cost: 0.0025,
            enable_seqscan: true,
            enable_indexscan: true,
            enable_nestloop: true,
            enable_hashjoin: true,
            enable_hashagg: true,
            enable_sort: true,
            enable_material: true,
            work_mem: 4096,
            hash_mem: 8192,
            effective_cache_pages: 524_288.0,
        }
    }
}

/// What planning needs beside the catalog.
#[derive(Clone, Copy)]
pub struct PlanCx<'a> {
    pub settings: &'a PlannerSettings,
    /// How many pages a table has right now, if that can be asked.
    pub pages: Option<&'a dyn Fn(&Relation) -> Option<u32>>,
    /// Whether the statement's snapshot may be answered from an index with [`Index::only_if_sees`]; without it none is.
    pub may_use: Option<&'a dyn Fn(&Index) -> bool>,
    /// For computing constant expressions ahead; only immutable functions are.
    pub function: &'a Arc<FunctionCx>,
}
