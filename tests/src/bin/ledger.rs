//! A writer that keeps a ledger: which rows were acknowledged, when, and which of them are missing afterwards.
//!
//! `ledger write` inserts a row about every 10 ms through a Service, opens a new session whenever one breaks, and writes
//! each acknowledgement to a file before the next insert. `ledger check` compares the file with the table and prints the
//! longest pause. A row that was sent and not acknowledged may be there or not: it is never counted as missing.
//!
//! `ledger field PATH` prints a part of a JSON text from standard input: `status.term`, or
//! `status.instances.name=orders-1.enginePid` for the element of a list that has this name. Scripts need no other program
//! for that.
//!
//! The ledger's lines: `ID MILLISECONDS_SINCE_1970`.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use tokio_postgres::{Client, NoTls, Statement};

const PACE: Duration = Duration::from_millis(10);
const RECONNECT: Duration = Duration::from_millis(5);
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const INSERT_LIMIT: Duration = Duration::from_secs(2);

struct Options {
    command: String,
    dsn: String,
    file: PathBuf,
    /// `write`: for how long; 0 is until the stop file appears.
    seconds: u64,
    stop_file: Option<PathBuf>,
}

fn options() -> anyhow::Result<Options> {
    let mut words = std::env::args().skip(1);
    let command = words.next().context(
        "usage: ledger write|check --dsn DSN --file FILE [--seconds N] [--stop-file FILE]",
    )?;
    let mut options = Options {
        command,
        dsn: String::new(),
        file: PathBuf::new(),
        seconds: 0,
        stop_file: None,
    };
    while let Some(word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--dsn" => options.dsn = value,
            "--file" => options.file = value.into(),
            "--seconds" => options.seconds = value.parse().context("--seconds")?,
            "--stop-file" => options.stop_file = Some(value.into()),
            other => bail!("unknown option {other}"),
        }
    }
    Ok(options)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    if let Some(path) = std::env::args().skip_while(|word| word != "field").nth(1) {
        println!(
            "{}",
            field(&std::io::read_to_string(std::io::stdin())?, &path)?
        );
        return Ok(());
    }
    let options = options()?;
    match options.command.as_str() {
        "write" => write(&options).await,
        "check" => check(&options).await,
        other => bail!("unknown command {other}"),
    }
}

/// A part of a JSON text as plain text; nothing for what is not there.
fn field(text: &str, path: &str) -> anyhow::Result<String> {
    let whole: serde_json::Value =
        serde_json::from_str(text).context("standard input is not JSON")?;
    let mut at = &whole;
    for key in path.split('.') {
        at = match key.split_once('=') {
            Some((name, value)) => {
                let mut elements = at.as_array().into_iter().flatten();
                elements
                    .find(|e| e[name] == value)
                    .unwrap_or(&serde_json::Value::Null)
            }
            None => &at[key],
        };
    }
    Ok(match at {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

fn now_ms() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis()
}

async fn connect(dsn: &str) -> anyhow::Result<Client> {
    let connecting = tokio_postgres::connect(dsn, NoTls);
    let (client, connection) = tokio::time::timeout(CONNECT_LIMIT, connecting).await??;
    tokio::spawn(async move {
        // The client sees the same end as an error of its next call.
        let _ = connection.await;
    });
    Ok(client)
}

/// A session that can insert: the table is made with the first one.
async fn session(dsn: &str) -> anyhow::Result<(Client, Statement)> {
    let client = connect(dsn).await?;
    let work = async {
        client
            .batch_execute("CREATE TABLE IF NOT EXISTS understudy_ledger (id bigint PRIMARY KEY)")
            .await?;
        client
            .prepare("INSERT INTO understudy_ledger (id) VALUES ($1)")
            .await
    };
    let statement = tokio::time::timeout(INSERT_LIMIT, work).await??;
    Ok((client, statement))
}

async fn write(options: &Options) -> anyhow::Result<()> {
    let mut ledger = std::fs::File::create(&options.file)
        .with_context(|| format!("create {}", options.file.display()))?;
    let begin = tokio::time::Instant::now();
    let mut open: Option<(Client, Statement)> = None;
    let (mut acknowledged, mut broken) = (0_u64, 0_u64);
    for id in 1_i64.. {
        let stopped = options.stop_file.as_deref().is_some_and(Path::exists);
        if stopped
            || (options.seconds > 0 && begin.elapsed() >= Duration::from_secs(options.seconds))
        {
            break;
        }
        let Some((client, statement)) = &open else {
            open = session(&options.dsn).await.ok();
            if open.is_none() {
                tokio::time::sleep(RECONNECT).await;
            }
            continue;
        };
        match tokio::time::timeout(INSERT_LIMIT, client.execute(statement, &[&id])).await {
            Ok(Ok(_)) => {
                writeln!(ledger, "{id} {}", now_ms())?;
                acknowledged += 1;
                tokio::time::sleep(PACE).await;
            }
            // Broken, refused or too late: the outcome is unknown, so the id is never used again.
            Ok(Err(_)) | Err(_) => {
                broken += 1;
                open = None;
            }
        }
    }
    println!("{acknowledged} rows acknowledged, {broken} sessions broken");
    Ok(())
}

async fn check(options: &Options) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&options.file)
        .with_context(|| format!("read {}", options.file.display()))?;
    let mut acknowledged = Vec::new();
    for line in text.lines() {
        let (id, at) = line.split_once(' ').context("a line of the ledger")?;
        acknowledged.push((id.parse::<i64>()?, at.parse::<u64>()?));
    }
    let client = connect(&options.dsn).await.context("connect")?;
    let rows = client
        .query("SELECT id FROM understudy_ledger", &[])
        .await?;
    let there: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    let missing: Vec<i64> = acknowledged
        .iter()
        .map(|(id, _)| *id)
        .filter(|id| !there.contains(id))
        .collect();
    let pause = acknowledged
        .windows(2)
        .map(|pair| (pair[1].1 - pair[0].1, pair[0].1, pair[1].1))
        .max()
        .unwrap_or_default();
    println!("acknowledged={}", acknowledged.len());
    println!("missing={}", missing.len());
    println!("longest_pause_ms={}", pause.0);
    println!("pause_from_ms={}", pause.1);
    println!("pause_until_ms={}", pause.2);
    if !missing.is_empty() {
        bail!("acknowledged rows are missing: {missing:?}");
    }
    if acknowledged.is_empty() {
        bail!("nothing was acknowledged");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_found_by_key_and_by_name() {
        let text = r#"{"status":{"term":3,"instances":[{"name":"a-1","pid":7},{"name":"a-2","pid":9}],"x":null}}"#;
        let get = |path: &str| field(text, path).expect("JSON");
        assert_eq!(get("status.term"), "3");
        assert_eq!(get("status.instances.name=a-2.pid"), "9");
        assert_eq!(
            (
                get("status.x").as_str(),
                get("status.nothing.more").as_str()
            ),
            ("", "")
        );
    }
}
