//! Works through what was asked for: commands, scripts, a terminal. Exit codes and prompts are psql's.

use std::fs::File;

use super::PROGRAM;
use super::input::Input;
use super::options::{Action, Given, Target};
use super::session::{Block, Session, SessionError, eprint_all, print};
use super::split::{Piece, Splitter};
use crate::config::conf_file::os_message;
use crate::server::cli::VERSION;

pub const SUCCESS: u8 = 0;
pub const FAILURE: u8 = 1;
pub const NO_CONNECTION: u8 = 2;
/// A script failed and `ON_ERROR_STOP` is set.
const STOPPED: u8 = 3;

const COMMANDS: &str = "\
  \\q         end
  \\?         this list
  \\conninfo  where this session is

A statement ends with a semicolon. Ctrl-C cancels it, Ctrl-D ends.
Everything else that begins with a backslash is psql's.
";

pub struct Client {
    pub session: Session,
    pub target: Target,
    pub on_error_stop: bool,
}

/// What a command to the client came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Done {
    Well,
    Badly,
    Quit,
}

impl Client {
    /// To the end; gives the exit code.
    pub async fn run(&mut self, given: &Given) -> u8 {
        let ended = if given.actions.is_empty() {
            self.standard_input().await
        } else {
            self.actions(given).await
        };
        ended.unwrap_or_else(|error| self.lost(&error))
    }

    async fn actions(&mut self, given: &Given) -> Result<u8, SessionError> {
        let mut standard = Input::standard();
        let mut code = SUCCESS;
        if given.single_transaction {
            self.run_quietly("BEGIN", &mut standard).await?;
        }
        for action in &given.actions {
            code = match action {
                Action::Command(text) => self.command_or_query(text, &mut standard).await?,
                Action::File(name) if name == "-" => {
                    self.script(&mut standard, Some("<stdin>")).await?
                }
                Action::File(name) => match File::open(name) {
                    Ok(file) => self.script(&mut Input::file(file), Some(name)).await?,
                    Err(error) => {
                        let why = format!("{PROGRAM}: error: {name}: {}\n", os_message(&error));
                        eprint_all(&why);
                        FAILURE
                    }
                },
            };
            if code != SUCCESS && self.on_error_stop {
                break;
            }
        }
        if given.single_transaction {
            let end = if code != SUCCESS && self.on_error_stop {
                "ROLLBACK"
            } else {
                "COMMIT"
            };
            if !self.run_quietly(end, &mut standard).await? && code == SUCCESS {
                code = FAILURE;
            }
        }
        Ok(code)
    }

    async fn run_quietly(&mut self, text: &str, input: &mut Input) -> Result<bool, SessionError> {
        let was_quiet = std::mem::replace(&mut self.session.is_quiet, true);
        let done = self.session.run(text, input).await;
        self.session.is_quiet = was_quiet;
        done
    }

    async fn command_or_query(
        &mut self,
        text: &str,
        standard: &mut Input,
    ) -> Result<u8, SessionError> {
        let done = match text.strip_prefix('\\') {
            Some(command) => self.backslash(command)? != Done::Badly,
            None => self.session.run(text, standard).await?,
        };
        Ok(if done { SUCCESS } else { FAILURE })
    }

    async fn standard_input(&mut self) -> Result<u8, SessionError> {
        let mut input = Input::standard();
        if input.is_terminal() && !self.session.is_quiet {
            print(&format!(
                "{PROGRAM} ({VERSION})\nType \"help\" for help.\n\n"
            ))?;
        }
        self.script(&mut input, None).await
    }

    /// Lines to their end. With a name, complaints say where in it they are.
    async fn script(&mut self, input: &mut Input, name: Option<&str>) -> Result<u8, SessionError> {
        let mut splitter = Splitter::default();
        let code = loop {
            if input.is_terminal() {
                print(&self.prompt(&splitter))?;
            }
            let line = tokio::select! {
                line = input.line() => line,
                () = self.session.interrupted(), if input.is_terminal() => {
                    splitter.take();
                    print("\n")?;
                    continue;
                }
            };
            if let Some(name) = name {
                self.session.place = Some((name.to_owned(), input.count));
            }
            let Some(line) = line else {
                break self.rest(&mut splitter, input).await?;
            };
            let next = match String::from_utf8(line) {
                Ok(line) => self.line(&line, &mut splitter, input).await?,
                Err(_) => {
                    self.session
                        .complain("the line is not UTF-8, which statements have to be in\n");
                    Done::Badly
                }
            };
            match next {
                Done::Quit => break self.rest(&mut splitter, input).await?,
                Done::Badly if self.on_error_stop && !input.is_terminal() => break STOPPED,
                Done::Badly | Done::Well => {}
            }
        };
        if input.is_terminal() && !self.session.is_quiet {
            print("\n")?;
        }
        self.session.place = None;
        Ok(code)
    }

    /// What a line finishes. Where errors stop, nothing behind the first one is run.
    async fn line(
        &mut self,
        line: &str,
        splitter: &mut Splitter,
        input: &mut Input,
    ) -> Result<Done, SessionError> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        if input.is_terminal() && splitter.pending().is_empty() {
            match line.trim() {
                "exit" | "quit" => return Ok(Done::Quit),
                "help" => {
                    print(COMMANDS)?;
                    return Ok(Done::Well);
                }
                _ => {}
            }
        }
        let conforming = self.session.parameter("standard_conforming_strings");
        splitter.backslash_escapes = conforming == Some("off");
        let mut all = Done::Well;
        for piece in splitter.line(line) {
            let done = match piece {
                Piece::Command(command) => self.backslash(&command)?,
                Piece::Statement(text) if self.session.run(&text, input).await? => Done::Well,
                Piece::Statement(_) => Done::Badly,
            };
            match done {
                Done::Quit => return Ok(Done::Quit),
                Done::Badly if self.on_error_stop => return Ok(Done::Badly),
                Done::Badly => all = Done::Badly,
                Done::Well => {}
            }
        }
        Ok(all)
    }

    /// A statement that the end of a script, or `\q`, ends.
    async fn rest(
        &mut self,
        splitter: &mut Splitter,
        input: &mut Input,
    ) -> Result<u8, SessionError> {
        let text = splitter.take();
        if text.is_empty() || input.is_terminal() {
            return Ok(SUCCESS);
        }
        let done = self.session.run(&text, input).await?;
        Ok(if !done && self.on_error_stop {
            STOPPED
        } else {
            SUCCESS
        })
    }

    /// As psql's `%/%R%x%# `.
    fn prompt(&self, splitter: &Splitter) -> String {
        let block = match self.session.block {
            Block::None => "",
            Block::Open => "*",
            Block::Failed => "!",
        };
        let is_superuser = self.session.parameter("is_superuser") == Some("on");
        let mark = splitter.prompt_mark();
        let end = if is_superuser { '#' } else { '>' };
        format!("{}{mark}{block}{end} ", self.target.database)
    }

    fn backslash(&mut self, command: &str) -> Result<Done, SessionError> {
        match command.split_whitespace().next().unwrap_or_default() {
            "q" | "quit" => return Ok(Done::Quit),
            "?" => print(COMMANDS)?,
            "conninfo" => print(&self.conninfo())?,
            other => {
                self.session.complain(&format!(
                    "\\{other} is not known here: there are \\q, \\? and \\conninfo. psql has the others; it connects to a pod by \"kubectl port-forward\".\n"
                ));
                return Ok(Done::Badly);
            }
        }
        Ok(Done::Well)
    }

    fn conninfo(&self) -> String {
        let (host, port) = self.session.peer();
        let place = if host.starts_with('/') {
            format!("via socket in \"{host}\"")
        } else {
            format!("on host \"{host}\"")
        };
        format!(
            "You are connected to database \"{}\" as user \"{}\" {place} at port \"{port}\".\n",
            self.target.database, self.target.user
        )
    }

    fn lost(&self, error: &SessionError) -> u8 {
        match error {
            // Whoever read the output has enough.
            SessionError::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                FAILURE
            }
            SessionError::Output(_) | SessionError::Signals(_) => {
                eprint_all(&format!("{PROGRAM}: error: {error}\n"));
                FAILURE
            }
            SessionError::Closed | SessionError::Lost(_) => {
                let locus = self.session.locus();
                let label = if locus.is_empty() { "" } else { "error: " };
                eprint_all(&format!(
                    "{locus}{error}\n{locus}{label}connection to server was lost\n"
                ));
                NO_CONNECTION
            }
        }
    }
}
