//! Redo, checkpoints, standby replay, promotion.
