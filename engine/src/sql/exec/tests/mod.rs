//! Plans made and run without storage: relations are VALUES, results are compared with simple models.

mod harness;
mod joins;
mod shapes;
