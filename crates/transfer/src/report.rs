//! How a transfer went, or goes.

use serde::Serialize;

/// Most entries that are kept of what was left out.
const LEFT_OUT_MAX: usize = 1000;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Copied now.
    pub objects: u64,
    pub bytes: u64,
    /// There already, from a run before.
    pub unchanged: u64,
    /// How many could not be copied, and the first thousand of them.
    pub left_out: u64,
    pub left_out_names: Vec<LeftOut>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// A key, or the path of a file.
    pub name: String,
    pub why: String,
}

impl Report {
    pub(crate) fn leave_out(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.left_out += 1;
        if self.left_out_names.len() < LEFT_OUT_MAX {
            self.left_out_names.push(LeftOut { name: name.into(), why: why.into() });
        }
    }
}
