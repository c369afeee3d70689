//! What ways cost, in PostgreSQL's units: a sequential page is 1. Manual, 20.7.2.

use crate::sql::plan::settings::PlannerSettings;

/// Added to ways that a setting switched off: they are taken only if there is no other.
pub const DISABLED: f64 = 1.0e10;

#[derive(Debug, Clone, Copy)]
pub struct Costs {
    pub startup: f64,
    pub total: f64,
}

pub fn seq_scan(s: &PlannerSettings, pages: f64, rows: f64, conditions: usize) -> Costs {
    let total = pages * s.seq_page_cost
        + rows * (s.cpu_tuple_cost + s.cpu_operator_cost * conditions as f64);
    let off = if s.enable_seqscan { 0.0 } else { DISABLED };
    Costs {
        startup: off,
        total: total + off,
    }
}

pub struct IndexCost {
    /// Of the table.
    pub pages: f64,
    pub rows: f64,
    /// Entries read, in one scan.
    pub entries: f64,
    /// How many separate ranges are read.
    pub ranges: f64,
    pub correlation: f64,
    pub filters: usize,
    /// How often the scan is repeated, as the inner side of a loop.
    pub loops: f64,
}

pub fn index_scan(s: &PlannerSettings, i: &IndexCost) -> Costs {
    let index_pages = (i.rows / 250.0).max(1.0);
    let share = if i.rows > 0.0 {
        i.entries / i.rows
    } else {
        1.0
    };
    let leaves = (share * index_pages).ceil().max(1.0);
    let height = (index_pages.ln() / 250.0_f64.ln()).ceil().max(0.0);
    let descent = ((i.rows.max(2.0)).log2().ceil() + (height + 1.0) * 50.0) * s.cpu_operator_cost;
    // Pages met again in later loops are in memory.
    let scattered = fetched_pages(i.entries * i.loops, i.pages) / i.loops.max(1.0);
    let worst = scattered * s.random_page_cost;
    let run = (share * i.pages).ceil().max(1.0);
    let best = if i.loops > 1.0 {
        worst.min(run * s.random_page_cost)
    } else {
        s.random_page_cost + (run - 1.0).max(0.0) * s.seq_page_cost
    };
    let c2 = i.correlation * i.correlation;
    let heap = worst + c2 * (best.min(worst) - worst);
    let index = if i.loops > 1.0 {
        fetched_pages(leaves * i.loops, index_pages) / i.loops * s.random_page_cost
    } else {
        leaves * s.random_page_cost
    };
    let cpu = i.entries
        * (s.cpu_index_tuple_cost
            + s.cpu_tuple_cost
            + s.cpu_operator_cost * (1.0 + i.filters as f64));
    let off = if s.enable_indexscan { 0.0 } else { DISABLED };
    Costs {
        startup: descent + off,
        total: descent * i.ranges.max(1.0) + heap + index + cpu + off,
    }
}

/// Mackert and Lohman: pages touched by so many random row fetches from a table of so many pages.
fn fetched_pages(rows: f64, pages: f64) -> f64 {
    let pages = pages.max(1.0);
    (2.0 * pages * rows / (2.0 * pages + rows))
        .min(pages)
        .ceil()
        .max(1.0)
}

/// Added to the input's total.
pub fn sort(s: &PlannerSettings, rows: f64, width: f64, limit: Option<f64>) -> f64 {
    let rows = rows.max(2.0);
    let kept = limit.map_or(rows, |l| (l * 2.0).clamp(2.0, rows));
    let bytes = kept * (width + 24.0);
    let memory = (s.work_mem * 1024) as f64;
    let compare = 2.0 * s.cpu_operator_cost * rows * kept.log2().max(1.0);
    let io = if bytes > memory {
        2.0 * (bytes / 8192.0) * (s.seq_page_cost * 0.75 + s.random_page_cost * 0.25)
    } else {
        0.0
    };
    let off = if s.enable_sort { 0.0 } else { DISABLED };
    compare + io + off
}

pub fn hash_join(
    s: &PlannerSettings,
    outer: (f64, f64, f64, f64),
    inner: (f64, f64, f64, f64),
    keys: usize,
    rows: f64,
) -> Costs {
    let (outer_startup, outer_total, outer_rows, outer_width) = outer;
    let (_, inner_total, inner_rows, inner_width) = inner;
    let per_key = s.cpu_operator_cost * keys as f64;
    let build = inner_rows * (per_key + s.cpu_tuple_cost);
    let probe = outer_rows * per_key + rows * s.cpu_tuple_cost;
    let bytes = inner_rows * (inner_width + 48.0);
    let io = if bytes > (s.hash_mem * 1024) as f64 {
        2.0 * s.seq_page_cost * (bytes + outer_rows * (outer_width + 24.0)) / 8192.0
    } else {
        0.0
    };
    let off = if s.enable_hashjoin { 0.0 } else { DISABLED };
    let startup = inner_total + build + outer_startup + off;
    Costs {
        startup,
        total: startup + (outer_total - outer_startup) + probe + io,
    }
}

/// `rescan`: the inner side once more.
pub fn nest_loop(
    s: &PlannerSettings,
    outer: (f64, f64, f64),
    inner_first: (f64, f64),
    rescan: f64,
    inner_rows: f64,
    conditions: usize,
) -> Costs {
    let (outer_startup, outer_total, outer_rows) = outer;
    let (inner_startup, inner_total) = inner_first;
    let pairs = outer_rows * inner_rows;
    let cpu = pairs * (s.cpu_tuple_cost + s.cpu_operator_cost * conditions as f64);
    let off = if s.enable_nestloop { 0.0 } else { DISABLED };
    Costs {
        startup: outer_startup + inner_startup + off,
        total: outer_total + inner_total + (outer_rows - 1.0).max(0.0) * rescan + cpu + off,
    }
}

/// Rows read again from a materialisation.
pub fn rescan_materialized(s: &PlannerSettings, rows: f64, width: f64) -> f64 {
    let bytes = rows * (width + 24.0);
    let io = if bytes > (s.work_mem * 1024) as f64 {
        bytes / 8192.0 * s.seq_page_cost
    } else {
        0.0
    };
    rows * s.cpu_operator_cost + io
}
