//! Values in conditions: numbers, dates, networks, ARNs.

use core::net::IpAddr;

use muonic_types::Timestamp;

use crate::wildcard::{Token, matches};

pub(super) fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|n| n.is_finite())
}

/// ISO 8601, a day alone being its begin in UTC, or seconds since 1970.
pub(super) fn date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) && text.len() > 4 {
        return Timestamp::from_second(text.parse().ok()?).ok();
    }
    let civil = text.parse::<jiff::civil::DateTime>().ok()?;
    jiff::tz::Offset::UTC.to_timestamp(civil).ok()
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        t if t.eq_ignore_ascii_case("true") => Some(true),
        t if t.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) if bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit()) => {
                (address, Some(bits.parse::<u8>().ok()?))
            }
            Some(_) => return None,
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        // A v4 client on a v6 socket is a v4 client.
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            _ => false,
        }
    }

    /// So wide that S3 takes it for everybody: v4 below /8, v6 below /32, but
    /// not private ranges.
    pub fn is_broad(&self) -> bool {
        match self.address {
            IpAddr::V4(_) => self.bits < 8,
            IpAddr::V6(ip) => self.bits < 32 && !(ip.is_unique_local() && self.bits >= 7),
        }
    }
}

/// The six parts of an ARN, each for itself, so that a `*` does not reach
/// over a colon; the last part may hold colons.
pub(super) fn arn_like(pattern: &[Token], text: &str) -> bool {
    let mut parts: Vec<&[Token]> = pattern.splitn(6, |t| *t == Token::Char(':')).collect();
    let texts: Vec<&str> = text.splitn(6, ':').collect();
    // A lone `*` means any ARN.
    if parts.len() == 1 && parts[0] == [Token::Any] {
        parts = vec![parts[0]; texts.len()];
    }
    texts.len() == 6 && parts.len() == texts.len() && parts.iter().zip(texts).all(|(p, t)| matches(p, t))
}
