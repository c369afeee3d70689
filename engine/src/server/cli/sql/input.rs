//! Where lines come from: a file, or standard input, which is read on a thread so that Ctrl-C is heard meanwhile.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _};

use tokio::sync::mpsc;

/// Lines read ahead of whoever wants them.
const AHEAD: usize = 64;

pub struct Input {
    source: Source,
    /// Lines given out.
    pub count: usize,
    is_terminal: bool,
}

enum Source {
    File(BufReader<File>),
    Standard(mpsc::Receiver<io::Result<Vec<u8>>>),
    /// The thread begins with the first line that is asked for.
    Unread,
}

impl Input {
    pub fn standard() -> Input {
        Input {
            source: Source::Unread,
            count: 0,
            is_terminal: io::stdin().is_terminal(),
        }
    }

    pub fn file(file: File) -> Input {
        Input {
            source: Source::File(BufReader::new(file)),
            count: 0,
            is_terminal: false,
        }
    }

    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// The next line with its end, if it has one; `None` at the end of the input. Cancel safe.
    pub async fn line(&mut self) -> Option<Vec<u8>> {
        if matches!(self.source, Source::Unread) {
            self.source = Source::Standard(read_standard_input());
        }
        let line = match &mut self.source {
            Source::File(reader) => read_line(reader),
            Source::Standard(lines) => lines.recv().await,
            Source::Unread => None,
        };
        match line? {
            Ok(line) => {
                self.count += 1;
                Some(line)
            }
            Err(error) => {
                super::session::eprint_all(&format!("could not read the input: {error}\n"));
                None
            }
        }
    }
}

fn read_standard_input() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, lines) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(io::stdin());
        while let Some(line) = read_line(&mut reader) {
            let is_error = line.is_err();
            if sender.blocking_send(line).is_err() || is_error {
                return;
            }
        }
    });
    lines
}

fn read_line(reader: &mut impl BufRead) -> Option<io::Result<Vec<u8>>> {
    let mut bytes = Vec::new();
    match reader.read_until(b'\n', &mut bytes) {
        Ok(0) => None,
        Ok(_) => Some(Ok(bytes)),
        Err(error) => Some(Err(error)),
    }
}
