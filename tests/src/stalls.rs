//! How long programs of this machine have waited for it (Linux, `Documentation/accounting/psi.rst`): nobody can have been
//! later than that for want of a processor or a disk.

use std::time::Duration;

/// For how long, since the machine was started, at least one program could not run because others did, or waited for a
/// disk. `None` where the kernel does not say.
pub fn stalled() -> Option<Duration> {
    ["cpu", "io"].into_iter().map(of).sum()
}

fn of(what: &str) -> Option<Duration> {
    some_of(&std::fs::read_to_string(format!("/proc/pressure/{what}")).ok()?)
}

/// Of a line `some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS`.
fn some_of(text: &str) -> Option<Duration> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    let micros = line.rsplit_once("total=")?.1.parse().ok()?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_line_is_read() {
        let text = "some avg10=97.45 avg60=96.59 avg300=96.95 total=12791852362\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(some_of(text), Some(Duration::from_micros(12_791_852_362)));
        assert_eq!(some_of(""), None);
    }
}
