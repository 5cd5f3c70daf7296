mod access;
mod acl;
mod conditions;
mod cors;
mod form;
mod iam;
mod lifecycle;
mod notification;
mod tags;
mod wildcard;

use muonic_types::Timestamp;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}
