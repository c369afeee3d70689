//! The program `understudy`: dispatches to a sub-command, or to the command whose name it was called by.

fn main() {}
