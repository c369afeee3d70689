//! Heap tables: row versions, visibility, pruning, vacuum, overflow values.
