//! Running programs to their end, and waiting for something to become true.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(100);

/// Where system programs are: the set-up script's packages put some where a user's `PATH` does not reach.
pub const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program of the system, without whatever the caller's environment says about proxies and configuration.
pub fn system(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", SYSTEM_PATH);
    command.env("HOME", "/root").env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null());
    command
}

/// A `mount` of the machine's own, that notes nothing beside the kernel's table: a machine on which nobody has mounted
/// anything yet has no `/run/mount`, and would keep it.
pub fn mounting() -> Command {
    let mut command = system("mount");
    command.arg("--no-mtab");
    command
}

/// The same for its end.
pub fn unmounting(path: &Path) -> Command {
    let mut command = system("umount");
    command.arg("--no-mtab").arg(path);
    command
}

/// Runs to the end and gives the standard output.
///
/// # Errors
/// If it cannot be started or fails; the error has the command line and what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("run {}", shown(command)))?;
    judge(command, &output)
}

/// The same, with a text on its standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("run {}", shown(command)))?;
    let mut pipe = child.stdin.take().context("a piped standard input")?;
    let text = input.to_owned();
    // A program that does not read must not stop its own output from being read.
    let writer = std::thread::spawn(move || pipe.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    // Whoever ends without reading everything says why by its exit status.
    let _ = writer.join();
    judge(command, &output)
}

fn judge(command: &Command, output: &Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = [text.trim(), errors.trim()].join("\n");
    bail!(
        "{} failed ({}): {}",
        shown(command),
        output.status,
        said.trim()
    );
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// `ip`, in a network namespace or on the machine itself: one program for many lines.
///
/// # Errors
/// If a line fails; those before it have been done.
pub fn ip(namespace: Option<&Path>, lines: &[String]) -> Result<()> {
    let mut command = match namespace {
        Some(file) => in_network(file, "ip"),
        None => system("ip"),
    };
    run_with_input(command.args(["-batch", "-"]), &(lines.join("\n") + "\n"))
        .with_context(|| format!("ip: {}", lines.join("; ")))?;
    Ok(())
}

/// A program in a network namespace, with the machine's own files.
pub fn in_network(namespace: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = system("nsenter");
    command.arg(format!("--net={}", namespace.display()));
    command.arg("--").arg(program);
    command
}

/// A program that sees a node's files.
pub fn in_mounts(namespace: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = system("nsenter");
    command.arg(format!("--mount={}", namespace.display()));
    command.arg("--").arg(program);
    command
}

/// Looks until `done` says so. `Ok(None)` means not yet; an error ends the wait.
///
/// # Errors
/// After `limit`, naming what was waited for; or what `done` said.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut done: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(result) = done().with_context(|| format!("waiting for {what}"))? {
            return Ok(result);
        }
        if begin.elapsed() > limit {
            let seconds = limit.as_secs();
            return Err(anyhow!("{what}: has not come within {seconds} s"));
        }
        std::thread::sleep(POLL);
    }
}

/// The last lines of a log, for an error message.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = run(system("sh").args(["-c", "echo to its error output >&2; exit 3"]))
            .expect_err("it fails");
        let text = format!("{error:#}");
        assert!(text.contains("sh -c"), "{text}");
        assert!(text.contains("to its error output"), "{text}");
        assert!(text.contains('3'), "{text}");
        let text = format!(
            "{:#}",
            run(&mut system("no-such-program")).expect_err("none")
        );
        assert!(text.contains("no-such-program"), "{text}");
    }

    #[test]
    fn input_reaches_the_program_even_if_it_prints_much() {
        let input = "line\n".repeat(100_000);
        let output = run_with_input(&mut system("cat"), &input).expect("cat runs");
        assert_eq!(output, input);
        run_with_input(&mut system("true"), &input).expect("not reading is no failure");
    }

    #[test]
    fn a_wait_ends_with_what_was_waited_for() {
        let error = wait_for::<()>("the moon", Duration::ZERO, || Ok(None)).expect_err("never");
        assert!(error.to_string().contains("the moon"), "{error}");
        let mut left = 3;
        let got = wait_for("three looks", Duration::from_secs(10), || {
            left -= 1;
            Ok((left == 0).then_some("done"))
        });
        assert_eq!(got.expect("it comes"), "done");
    }
}
