//! Uploads in parts: create, upload the parts on several connections, complete.

use std::cell::Cell;
use std::fmt::Write as _;
use std::time::Instant;

use futures_util::future::try_join_all;
use http::Method;

use crate::body::{Source, Stamped};
use crate::connection::Target;
use crate::list::element;
use crate::report::{Report, Tally};
use crate::sign::encode;
use crate::{Error, MultipartArgs};

/// An operation is a whole upload, and its time counts from before create to after complete.
pub async fn run(target: &Target, args: &MultipartArgs) -> Result<Report, Error> {
    let source = Source::new(args.part_size, args.seed);
    let mut tally = Tally::default();
    let mut completes = Vec::new();
    for n in 0..args.count {
        let began = Instant::now();
        completes.push(upload(target, args, &source, n).await?);
        tally.success(began, (args.parts * args.part_size) as u64);
    }
    completes.sort_by(f64::total_cmp);
    Ok(Report { complete_ms: completes.get(completes.len() / 2).copied(), ..tally.report() })
}

/// Answers the milliseconds that complete took.
async fn upload(target: &Target, args: &MultipartArgs, source: &Source, n: usize) -> Result<f64, Error> {
    let key = format!("{}{n:08}", args.prefix);
    let mut connection = target.connect().await?;
    let create = target.prepare(Method::POST, &key, "uploads=", None)?;
    let (_, answer) = connection.answer("CreateMultipartUpload", &create, Stamped::default()).await?;
    let id = element(&answer, "UploadId").ok_or(Error::Answer("CreateMultipartUpload", "an UploadId"))?;
    let id = encode(&id, false);

    let next = Cell::new(0);
    let sent =
        try_join_all((0..args.connections.max(1)).map(|_| parts(target, args, source, &key, &id, n, &next))).await?;
    let mut etags: Vec<(usize, String)> = sent.into_iter().flatten().collect();
    etags.sort_unstable();

    let mut list = String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (number, etag) in &etags {
        let etag = etag.replace('"', "&quot;");
        // Writing to a String cannot fail.
        let _ = write!(list, "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
    }
    list.push_str("</CompleteMultipartUpload>");
    let body = Stamped::whole(list);
    let complete = target.prepare(Method::POST, &key, &format!("uploadId={id}"), Some(&body))?;
    let began = Instant::now();
    let (_, answer) = connection.answer("CompleteMultipartUpload", &complete, body).await?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    // It may answer 200 and then say that it failed.
    element(&answer, "ETag").ok_or(Error::Answer("CompleteMultipartUpload", "an ETag"))?;
    Ok(took)
}

/// One connection's share of the parts: numbers and ETags.
async fn parts(
    target: &Target,
    args: &MultipartArgs,
    source: &Source,
    key: &str,
    id: &str,
    upload: usize,
    next: &Cell<usize>,
) -> Result<Vec<(usize, String)>, Error> {
    let mut connection = target.connect().await?;
    let mut sent = Vec::new();
    loop {
        let number = next.get() + 1;
        if number > args.parts {
            return Ok(sent);
        }
        next.set(number);
        let request = target.prepare(Method::PUT, key, &format!("partNumber={number}&uploadId={id}"), None)?;
        let body = source.body((upload * args.parts + number) as u64);
        let (etag, _) = connection.answer("UploadPart", &request, body).await?;
        sent.push((number, etag.ok_or(Error::Answer("UploadPart", "an ETag"))?));
    }
}
