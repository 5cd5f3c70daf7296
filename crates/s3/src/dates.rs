//! Times between jiff, which is ours, and s3s.

use std::time::{Duration, UNIX_EPOCH};

use muonic_types::Timestamp;
use s3s::dto;
use s3s::{S3Result, s3_error};

pub(crate) fn to_dto(at: Timestamp) -> dto::Timestamp {
    // Nothing of ours is older than 1970.
    let micros = u64::try_from(at.as_microsecond()).unwrap_or_default();
    dto::Timestamp::from(UNIX_EPOCH + Duration::from_micros(micros))
}

/// To the millisecond.
pub(crate) fn from_dto(at: &dto::Timestamp) -> S3Result<Timestamp> {
    let mut text = Vec::new();
    let bad = || s3_error!(InvalidArgument, "a date of the request is out of range");
    at.format(dto::TimestampFormat::DateTime, &mut text).map_err(|_| bad())?;
    std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).ok_or_else(bad)
}

pub(crate) fn http_date(at: Timestamp) -> String {
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default()
}

/// The forms of dates that signatures of version 2 and conditions use.
pub(crate) fn parse_http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_they_went() {
        let at: Timestamp = "2026-03-04T05:06:07.089Z".parse().unwrap();
        assert_eq!(from_dto(&to_dto(at)).unwrap(), at);
        assert_eq!(http_date(at), "Wed, 04 Mar 2026 05:06:07 GMT");
        assert_eq!(parse_http_date("Wed, 04 Mar 2026 05:06:07 GMT").unwrap().as_second(), at.as_second());
        assert_eq!(parse_http_date("Tue, 27 Mar 2007 19:36:42 +0000").unwrap().as_second(), 1_175_024_202);
        assert!(parse_http_date("yesterday").is_none());
    }
}
