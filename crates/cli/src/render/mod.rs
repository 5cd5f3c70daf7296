//! Values as text, without I/O and without a clock of its own.

mod clean;
pub(crate) mod human;
pub(crate) mod page;
pub(crate) mod screen;
pub(crate) mod shell;
mod strip;
pub(crate) mod table;

pub(crate) use clean::{clean, one_line};
pub(crate) use page::Page;
pub(crate) use screen::Screen;
pub(crate) use shell::quoted;
pub(crate) use strip::Strip;
pub(crate) use table::Table;

/// The word a state has in the API.
pub(crate) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => "?".to_owned(),
    }
}
