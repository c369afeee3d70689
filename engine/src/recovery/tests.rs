//! Recovery as a whole: crashes, standbys, promotions, checkpoints.
