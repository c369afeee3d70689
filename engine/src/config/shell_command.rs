//! The commands of the administrator's: `archive_command` and `restore_command`, their placeholders and how they run.
//!
//! PostgreSQL gives each to `/bin/sh -c`. A command that is made only of words means the same without a shell, so it
//! runs without one: an image that has no shell can archive with `understudy archive-copy`. Everything else goes
//! through `/bin/sh`, and is refused as a setting where there is none.

use std::path::Path;
use std::process::Command;

use rustix::fs::{Access, access};

use super::error::{FEATURE_NOT_SUPPORTED, SettingError};

const SHELL: &str = "/bin/sh";

/// What stands between words outside of quotes.
const BLANKS: [char; 2] = [' ', '\t'];

/// As the first word of a command these are the shell's own: reserved words, special built-ins and the built-ins that
/// no program stands for (POSIX, Shell and Utilities, 2.4, 2.9.1.1 and 2.14).
const OF_THE_SHELL: &[&str] = &[
    "!", ".", ":", "alias", "bg", "break", "case", "cd", "command", "continue", "do", "done",
    "elif", "else", "esac", "eval", "exec", "exit", "export", "fc", "fg", "fi", "for", "getopts",
    "hash", "if", "in", "jobs", "local", "read", "readonly", "return", "set", "shift", "source",
    "then", "times", "trap", "type", "ulimit", "umask", "unalias", "unset", "until", "wait",
    "while",
];

/// A command as it stands in a setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShellCommand {
    /// Program and arguments, placeholders not yet replaced.
    Words(Vec<String>),
    /// What only a shell understands.
    Line(String),
}

impl ShellCommand {
    pub fn parse(text: &str) -> ShellCommand {
        match words(text) {
            Some(words) => ShellCommand::Words(words),
            None => ShellCommand::Line(text.to_owned()),
        }
    }

    /// The command for one file. A letter behind `%` stands for its value, `%%` for a percent sign; other letters
    /// stay as they are.
    pub fn to_run(&self, values: &[(char, &str)]) -> Command {
        match self {
            ShellCommand::Words(words) => {
                let mut command = Command::new(expand(&words[0], values));
                command.args(words[1..].iter().map(|word| expand(word, values)));
                command
            }
            ShellCommand::Line(line) => {
                let mut command = Command::new(SHELL);
                command.arg("-c").arg(expand(line, values));
                command
            }
        }
    }
}

/// Refuses a setting that needs a shell on a machine, or in an image, that has none.
pub fn check(setting: &str, text: &str) -> Result<(), SettingError> {
    check_with(setting, text, has_shell())
}

fn has_shell() -> bool {
    Path::new(SHELL).is_file() && access(SHELL, Access::EXEC_OK).is_ok()
}

fn check_with(setting: &str, text: &str, has_shell: bool) -> Result<(), SettingError> {
    let is_empty = text.trim_matches(BLANKS).is_empty();
    if has_shell || is_empty || matches!(ShellCommand::parse(text), ShellCommand::Words(_)) {
        return Ok(());
    }
    let mut error = SettingError::invalid_value(setting, text)
        .detail(format!(
            "The command needs a shell, and there is no {SHELL} here. Only a program with plain arguments can be run without one."
        ))
        .hint(remedy(setting));
    error.state = FEATURE_NOT_SUPPORTED;
    Err(error)
}

fn remedy(setting: &str) -> &'static str {
    if setting == "restore_command" {
        "Use \"understudy restore-copy /path/of/archive/%f %p\"."
    } else {
        "Use \"understudy archive-copy %p /path/of/archive/%f\"."
    }
}

/// The words of a command that has nothing but words in it: bare ones, and quoted ones in which the shell would look
/// for nothing. `None` for everything that a shell would read differently.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = text.trim_matches(BLANKS);
    while !rest.is_empty() {
        let (word, after) = word(rest)?;
        words.push(word);
        rest = after.trim_start_matches(BLANKS);
    }
    let first = words.first()?;
    let is_of_the_shell =
        OF_THE_SHELL.contains(&first.as_str()) || first.contains('=') || first.is_empty();
    (!is_of_the_shell).then_some(words)
}

/// The word at the beginning, and what is behind it.
fn word(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match c {
            ' ' | '\t' => break,
            '\'' | '"' => {
                let inner = &rest[1..];
                let end = inner.find(c)?;
                let (quoted, after) = inner.split_at(end);
                // In double quotes these still mean something.
                if c == '"' && quoted.contains(['$', '`', '\\']) || quoted.contains('\n') {
                    return None;
                }
                word.push_str(quoted);
                rest = &after[1..];
            }
            c if c.is_ascii_alphanumeric() || !c.is_ascii() || "%+,-./:=@_^".contains(c) => {
                word.push(c);
                rest = &rest[c.len_utf8()..];
            }
            _ => return None,
        }
    }
    Some((word, rest))
}

fn expand(text: &str, values: &[(char, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('%') | None => out.push('%'),
            Some(letter) => match values.iter().find(|(l, _)| *l == letter) {
                Some((_, value)) => out.push_str(value),
                None => out.extend(['%', letter]),
            },
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_words(text: &str) -> Option<Vec<String>> {
        match ShellCommand::parse(text) {
            ShellCommand::Words(words) => Some(words),
            ShellCommand::Line(_) => None,
        }
    }

    #[test]
    fn words_are_told_from_what_a_shell_would_read() {
        for (text, expected) in [
            ("cp %p /a/%f", &["cp", "%p", "/a/%f"][..]),
            ("  cp\t\"%p\"  '/a b/%f' ", &["cp", "%p", "/a b/%f"]),
            ("/x/y --opt=a'b c'\"d\"", &["/x/y", "--opt=ab cd"]),
            ("cp '$HOME' ''", &["cp", "$HOME", ""]),
            ("false", &["false"]),
        ] {
            assert_eq!(only_words(text).expect(text), expected, "{text}");
        }
        for text in [
            "",
            "  ",
            "cp %p /a/%f && sync",
            "cp %p \"$DIR/%f\"",
            "cp %p ~/a",
            "cp %p /a/*",
            "cp %p /a\\ b/%f",
            "test ! -f /a/%f",
            "exit 1",
            "A=b cp %p x",
            "cp 'open",
            "cp %p \"a`b`\"",
            "cp a # note",
            "{ cp a b; }",
            "cp a\ncp b",
            "cp a > b",
            ": > x",
        ] {
            assert_eq!(only_words(text), None, "{text:?}");
        }
    }

    /// What is run without a shell gives a program the very arguments that the shell would have given it.
    #[test]
    fn the_shell_would_have_given_the_same_arguments() {
        let values = [
            ('p', "pg_wal/000000010000000000000001"),
            ('f', "F"),
            ('r', "R"),
        ];
        for text in [
            "printf '<%%s>' %p %f %r",
            "printf '<%%s>' \"%p\" 'a  b' %f %%x",
            "printf '<%%s>' a'b'\"c\"d --x=\"y z\" '' '$HOME' é:@,^+",
        ] {
            let words = only_words(text).expect(text);
            let direct = ShellCommand::Words(words).to_run(&values);
            let shell = ShellCommand::Line(text.to_owned()).to_run(&values);
            let [direct, shell] = [direct, shell].map(|mut command| {
                let output = command.output().expect("it runs");
                assert!(output.status.success(), "{command:?}");
                String::from_utf8(output.stdout).expect("text")
            });
            assert_eq!(direct, shell, "{text}");
        }
    }

    #[test]
    fn placeholders_are_expanded() {
        let values = [('f', "F"), ('p', "pg_wal/T"), ('r', "R")];
        let line = expand("cp /a/%f \"%p\" # %r 100%% %x %", &values);
        assert_eq!(line, "cp /a/F \"pg_wal/T\" # R 100% %x %");
    }

    #[test]
    fn without_a_shell_what_needs_one_is_refused_with_the_remedy() {
        for text in ["", " ", "understudy archive-copy %p /a/%f"] {
            assert_eq!(check_with("archive_command", text, false), Ok(()));
        }
        let text = "test ! -f /a/%f && cp %p /a/%f";
        assert_eq!(check_with("archive_command", text, true), Ok(()));
        for (setting, remedy) in [
            ("archive_command", "understudy archive-copy %p"),
            ("restore_command", "understudy restore-copy /path"),
        ] {
            let error = check_with(setting, text, false).expect_err("refused");
            assert_eq!(error.state, "0A000");
            assert!(error.message.contains(setting), "{error:?}");
            assert!(error.hint.expect("a remedy").contains(remedy));
        }
    }
}
