//! COPY into a table with a primary key, and out of it.

use std::time::Instant;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, pin_mut};
use tokio_postgres::{Client, NoTls};

use super::Effort;
use super::engine::Engine;
use super::pair::{Pair, Rounds, turns};
use super::profile;
use super::table::{Better, Report};

/// What a message carries, as psql and drivers do.
const CHUNK: usize = 64 << 10;

fn rows(count: u32) -> Vec<Bytes> {
    use std::fmt::Write as _;
    let mut chunks = Vec::new();
    let mut text = String::new();
    for aid in 1..=count {
        let _ = writeln!(text, "{aid}\t{}\t0\t{:84}", aid % 100 + 1, "");
        if text.len() >= CHUNK {
            chunks.push(Bytes::from(std::mem::take(&mut text)));
        }
    }
    chunks.push(Bytes::from(text));
    chunks
}

async fn connect(engine: &Engine) -> Client {
    let dsn = format!(
        "host=127.0.0.1 port={} user=postgres dbname=postgres",
        engine.port
    );
    let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.expect("it runs");
    tokio::spawn(connection);
    client
}

/// Seconds for COPY in and COPY out.
async fn once(engine: &Engine, chunks: &[Bytes]) -> (f64, f64) {
    let client = connect(engine).await;
    let setup = "DROP TABLE IF EXISTS copied; \
        CREATE TABLE copied (aid int PRIMARY KEY, bid int, abalance int, filler char(84)); CHECKPOINT";
    for statement in setup.split(';') {
        client.batch_execute(statement).await.expect(statement);
    }
    let begin = Instant::now();
    let sink = client
        .copy_in("COPY copied FROM STDIN")
        .await
        .expect("COPY begins");
    pin_mut!(sink);
    for chunk in chunks {
        sink.feed(chunk.clone()).await.expect("COPY goes on");
    }
    sink.close().await.expect("COPY ends");
    let copied_in = begin.elapsed();
    let begin = Instant::now();
    let stream = client
        .copy_out("COPY copied TO STDOUT")
        .await
        .expect("COPY begins");
    pin_mut!(stream);
    let mut bytes = 0;
    while let Some(chunk) = stream.next().await {
        bytes += chunk.expect("COPY goes on").len();
    }
    assert_eq!(
        bytes,
        chunks.iter().map(Bytes::len).sum::<usize>(),
        "what went in comes out"
    );
    (copied_in.as_secs_f64(), begin.elapsed().as_secs_f64())
}

pub fn run(effort: &Effort, report: &mut Report) {
    let pair = Pair::started();
    let chunks = rows(if effort.short { 100_000 } else { 1_000_000 });
    let megabytes = chunks.iter().map(Bytes::len).sum::<usize>() as f64 / 1e6;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (mut inward, mut outward) = (Rounds::default(), Rounds::default());
    for round in 0..effort.rounds {
        for kind in turns(round) {
            let (copied_in, copied_out) = runtime.block_on(once(pair.of(kind), &chunks));
            inward.push(kind, megabytes / copied_in);
            outward.push(kind, megabytes / copied_out);
        }
    }
    let what = "COPY in, with primary key";
    let slow = report.compare(what, "MB/s", Better::Higher, &inward, Some(1.0));
    if report.compare("COPY out", "MB/s", Better::Higher, &outward, Some(1.0)) || slow {
        let engine = &pair.understudy;
        let profile = profile::of(engine, || {
            runtime.block_on(once(engine, &chunks));
        });
        report.profile("COPY in and out", profile);
    }
}
