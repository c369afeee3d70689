//! A model of a cluster around the real [`super::decide`]: instances that obey as `instance/commands.rs` does, operators
//! that freeze between any two of their steps, and what can go wrong around them.
//!
//! `walk` goes at random, and heals; `search` looks at every state within its bounds.

mod mutant;
mod node;
mod search;
mod show;
mod walk;
