//! Paging through keys with ListObjectsV2, on one connection.

use std::time::{Duration, Instant};

use http::Method;
use memchr::memmem;

use crate::body::Stamped;
use crate::connection::Target;
use crate::report::{Report, Tally};
use crate::sign::encode;
use crate::{Error, ListArgs};

/// Lists from the beginning until the time is over; the round under way is ended. An operation is a page.
pub async fn run(target: &Target, args: &ListArgs) -> Result<Report, Error> {
    let mut connection = target.connect().await?;
    let mut tally = Tally::default();
    let mut keys = 0;
    let until = Instant::now() + Duration::from_secs_f64(args.seconds.max(0.0));
    while Instant::now() < until {
        let mut token: Option<String> = None;
        let mut pages = 0;
        loop {
            let began = Instant::now();
            let request = target.prepare(Method::GET, "", &query(args, token.as_deref()), None)?;
            let (_, body) = connection.answer("ListObjectsV2", &request, Stamped::default()).await?;
            tally.success(began, body.len() as u64);
            keys += memmem::find_iter(&body, b"<Key>").count() as u64;
            pages += 1;
            token = element(&body, "NextContinuationToken");
            if token.is_none() || args.pages.is_some_and(|most| pages >= most) {
                break;
            }
        }
    }
    Ok(Report { keys: Some(keys), ..tally.report() })
}

/// Sorted by name, as the signature wants it.
fn query(args: &ListArgs, token: Option<&str>) -> String {
    let mut query = String::new();
    if let Some(token) = token {
        query += &format!("continuation-token={}&", encode(token, false));
    }
    query += &format!("list-type=2&max-keys={}&prefix={}", args.page, encode(&args.prefix, false));
    if let Some(after) = &args.start_after {
        query += &format!("&start-after={}", encode(after, false));
    }
    query
}

/// The text of the first element of that name. Tokens hold no characters that XML escapes, but for `&amp;`.
pub fn element(xml: &[u8], name: &str) -> Option<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let start = memmem::find(xml, open.as_bytes())? + open.len();
    let length = memmem::find(&xml[start..], close.as_bytes())?;
    let text = String::from_utf8_lossy(&xml[start..start + length]);
    (!text.is_empty()).then(|| text.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_an_elements_text() {
        assert_eq!(element(b"<A><B>x&amp;y</B></A>", "B").as_deref(), Some("x&y"));
        assert_eq!(element(b"<A><B></B></A>", "B"), None);
        assert_eq!(element(b"<A><B>cut", "B"), None);
    }
}
