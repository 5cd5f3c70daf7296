//! One body to one URL, again and again: as fast as answers come, or at a rate.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::Error;
use crate::pace::Pace;
use crate::report::{Report, Tally};
use crate::wire::{Ask, Caller};

/// A phase in which so many connections of one worker broke ends there.
const BROKEN_MAX: u32 = 20;

#[derive(Debug, clap::Args, Clone)]
pub struct Args {
    /// As http://HOST:PORT/PATH
    #[arg(long)]
    url: String,
    /// File whose bytes are the body, or with --grpc the message
    #[arg(long)]
    body: PathBuf,
    /// As NAME:VALUE; may come again
    #[arg(long = "header")]
    headers: Vec<String>,
    /// Requests under way at most
    #[arg(long, default_value_t = 16)]
    connections: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds of the same work before, not counted
    #[arg(long, default_value_t = 0.3)]
    warmup: f64,
    /// Requests a second, however fast the answers are; a request's time then counts from when it was due
    #[arg(long)]
    rate: Option<f64>,
    /// Call a unary method of gRPC, over HTTP/2 without TLS
    #[arg(long)]
    grpc: bool,
    /// With --grpc: requests under way on one connection
    #[arg(long, default_value_t = 16)]
    streams: usize,
}

pub async fn run(args: &Args) -> Result<Report, Error> {
    let body = std::fs::read(&args.body).map_err(|e| Error::Body(args.body.clone(), e))?;
    let ask = Ask::new(&args.url, &args.headers, body, args.grpc)?;
    let callers = ask.connect(args.connections.max(1), args.streams).await?;
    let begin = Instant::now();
    let counted_from = begin + Duration::from_secs_f64(args.warmup.max(0.0));
    let until = counted_from + Duration::from_secs_f64(args.seconds.max(0.0));
    let pace = Pace::new(begin, until, args.rate);
    let success = if args.grpc { 0..1 } else { 200..300 };
    let workers: FuturesUnordered<_> =
        callers.into_iter().map(|caller| worker(&ask, &pace, caller, counted_from, &success)).collect();
    let tally = workers.fold(Tally::default(), async |total, tally| total.merged(tally)).await;
    Ok(tally.report())
}

async fn worker(
    ask: &Ask,
    pace: &Pace,
    caller: Caller,
    counted_from: Instant,
    success: &std::ops::Range<u16>,
) -> Tally {
    let mut tally = Tally::default();
    let mut open = Some(caller);
    let mut broken = 0;
    while broken < BROKEN_MAX {
        let Some(due) = pace.due().await else { break };
        let counts = due >= counted_from;
        let answer = async {
            let caller = match &mut open {
                Some(caller) => caller,
                None => {
                    let caller = ask.connect(1, 1).await?.pop();
                    open.insert(caller.ok_or(Error::Answer("the server", "a connection"))?)
                }
            };
            ask.call(caller).await
        };
        match answer.await {
            Ok(answer) => {
                if counts {
                    tally.answered(answer.status, answer.retry_after);
                }
                match success.contains(&answer.status) {
                    true if counts => tally.success(due, answer.bytes),
                    false if counts => tally.failure(format!("status {}: {}", answer.status, answer.refusal)),
                    _ => {}
                }
                if answer.closed {
                    open = None;
                }
            }
            Err(error) => {
                open = None;
                broken += 1;
                tally.failure(error);
            }
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Every third answer is a refusal, after which the connection is closed.
    async fn server(listener: tokio::net::TcpListener) {
        const HEAD: &str = "\r\ncontent-length: 2\r\n";
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                for n in 0.. {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\nbody") {
                        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let answer = match n % 3 {
                        2 => format!("HTTP/1.1 429 No{HEAD}retry-after: 1\r\nconnection: close\r\n\r\nno"),
                        _ => format!("HTTP/1.1 200 OK{HEAD}\r\nok"),
                    };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if n % 3 == 2 {
                        return;
                    }
                }
            });
        }
    }

    async fn report(rate: Option<f64>, connections: usize) -> Report {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(server(listener));
        let folder = tempfile();
        std::fs::write(&folder, "body").unwrap();
        let args = Args {
            url,
            body: folder.clone(),
            headers: vec![],
            connections,
            seconds: 0.1,
            warmup: 0.0,
            rate,
            grpc: false,
            streams: 1,
        };
        let report = run(&args).await.unwrap();
        std::fs::remove_file(folder).unwrap();
        report
    }

    fn tempfile() -> PathBuf {
        std::env::temp_dir().join(format!("muonic-bench-{:?}-{}", std::thread::current().id(), std::process::id()))
    }

    #[tokio::test]
    async fn an_open_loop_sends_as_often_as_it_says() {
        let report = report(Some(200.0), 3).await;
        assert_eq!(report.ops + report.errors, 20);
        assert_eq!(report.statuses.values().sum::<u64>(), 20);
        assert_eq!(report.statuses[&429], report.errors);
        assert_eq!(report.retry_after, Some(report.errors));
    }

    #[tokio::test]
    async fn a_closed_loop_goes_on_over_new_connections() {
        let report = report(None, 1).await;
        let (taken, refused) = (report.statuses[&200], report.statuses[&429]);
        assert_eq!((report.ops, report.errors), (taken, refused));
        assert!(refused > 0 && taken.abs_diff(2 * refused) <= 2, "{taken} taken, {refused} refused");
    }
}
