//! Plans made and run without storage: relations are VALUES, results are compared with simple models.

pub(in crate::sql) mod harness;
mod joins;
mod shapes;
