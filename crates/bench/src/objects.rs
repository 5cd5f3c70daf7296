//! PUT, GET, HEAD and DELETE of objects, again and again.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use http::Method;

use crate::body::{Source, Stamped};
use crate::connection::{Connection, Prepared, Target};
use crate::report::{Report, Tally};
use crate::{Error, ObjectArgs};

/// A phase with so many errors on one connection ends there.
const ERRORS_MAX: u64 = 20;

/// The work of all connections of one phase.
struct Plan {
    method: Method,
    requests: Vec<Prepared>,
    /// Where bodies come from; none without.
    source: Option<Source>,
    next: Cell<usize>,
    count: Option<usize>,
    counted_from: Instant,
    until: Instant,
}

pub async fn run(target: &Target, method: Method, args: ObjectArgs) -> Result<Report, Error> {
    let plan = prepare(target, method, &args)?;
    let work = async {
        // On one thread, so that they may share the plan; and each is polled for its own sake only.
        let workers: FuturesUnordered<_> = (0..args.connections.max(1)).map(|_| worker(target, &plan)).collect();
        workers.fold(Tally::default(), async |total, tally| total.merged(tally)).await
    };
    if args.cut {
        let span = plan.until.saturating_duration_since(Instant::now());
        // What is under way ends with its connection, uncounted.
        return Ok(tokio::time::timeout(span, work).await.unwrap_or_default().report());
    }
    Ok(work.await.report())
}

fn prepare(target: &Target, method: Method, args: &ObjectArgs) -> Result<Plan, Error> {
    let source = (method == Method::PUT).then(|| Source::new(args.size, args.seed));
    let keys = args.keys.max(1);
    let mut requests = Vec::with_capacity(keys);
    for n in 0..keys {
        let body = source.as_ref().filter(|_| args.signed).map(|s| s.body(n as u64));
        requests.push(target.prepare(
            method.clone(),
            &key(&args.prefix, order(n, keys, args.scatter)),
            "",
            body.as_ref(),
        )?);
    }
    let warmup = if args.count.is_some() { 0.0 } else { args.warmup };
    let counted_from = Instant::now() + Duration::from_secs_f64(warmup.max(0.0));
    let until = counted_from + Duration::from_secs_f64(args.seconds.max(0.0));
    Ok(Plan { method, requests, source, next: Cell::new(0), count: args.count, counted_from, until })
}

/// The name of the object numbered `n`.
fn key(prefix: &str, n: usize) -> String {
    format!("{prefix}{n:08}")
}

/// The number of the n-th key. Scattered, neighbours in time lie far apart in the
/// order of keys; every number comes once as long as `keys` does not divide by the prime.
fn order(n: usize, keys: usize, scatter: bool) -> usize {
    const PRIME: usize = 15_485_863;
    if scatter { (n * PRIME) % keys } else { n }
}

async fn worker(target: &Target, plan: &Plan) -> Tally {
    let mut tally = Tally::default();
    let mut connection: Option<Connection<'_>> = None;
    while tally.failures() < ERRORS_MAX {
        let n = plan.next.get();
        let began = Instant::now();
        if plan.count.map_or(began >= plan.until, |count| n >= count) {
            break;
        }
        plan.next.set(n + 1);
        match one(target, plan, &mut connection, n).await {
            Ok(bytes) if began >= plan.counted_from || plan.count.is_some() => tally.success(began, bytes),
            Ok(_) => {}
            Err(error) => {
                connection = None;
                tally.failure(error);
            }
        }
    }
    tally
}

async fn one<'a>(
    target: &'a Target,
    plan: &Plan,
    connection: &mut Option<Connection<'a>>,
    n: usize,
) -> Result<u64, Error> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(target.connect().await?),
    };
    let place = n % plan.requests.len();
    let body = plan.source.as_ref().map_or_else(Stamped::default, |s| s.body(place as u64));
    let sent = body.len() as u64;
    let what = match plan.method {
        Method::PUT => "PUT",
        Method::HEAD => "HEAD",
        Method::DELETE => "DELETE",
        _ => "GET",
    };
    Ok(sent + open.drop_answer(what, &plan.requests[place], body).await?)
}

pub async fn make_bucket(target: &Target) -> Result<Report, Error> {
    let request = target.prepare(Method::PUT, "", "", None)?;
    let mut tally = Tally::default();
    let began = Instant::now();
    let bytes = target.connect().await?.drop_answer("CreateBucket", &request, Stamped::default()).await?;
    tally.success(began, bytes);
    Ok(tally.report())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scattered_order_leaves_no_key_out() {
        let mut seen: Vec<usize> = (0..1000).map(|n| order(n, 1000, true)).collect();
        assert_ne!(seen[1], 1);
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    }
}
