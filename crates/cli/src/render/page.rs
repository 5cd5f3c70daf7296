//! A page about one thing: a title, lines `label  value`, and sections.

use std::fmt::Write;

use super::clean::{clean, one_line};
use super::screen::{Screen, hanging};

/// Labels are shorter than this; values begin in one column.
const LABEL: usize = 13;

/// Below a heading.
pub(crate) const INDENT: usize = 2;

pub(crate) struct Page(String, Screen);

impl Page {
    pub(crate) fn new(screen: Screen, title: impl std::fmt::Display) -> Self {
        Self(format!("{title}\n"), screen)
    }

    pub(crate) fn line(mut self, label: &str, value: impl std::fmt::Display) -> Self {
        let value = one_line(&value.to_string());
        let value = hanging(self.1, INDENT + LABEL + 1, &value);
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "  {label:<LABEL$} {value}");
        self
    }

    pub(crate) fn maybe(self, label: &str, value: Option<impl std::fmt::Display>) -> Self {
        match value {
            Some(value) => self.line(label, value),
            None => self,
        }
    }

    /// Text below a heading, indented; nothing where it is empty.
    pub(crate) fn section(mut self, heading: &str, text: &str) -> Self {
        if !text.trim().is_empty() {
            let _ = writeln!(self.0, "\n{heading}");
            for line in clean(text).lines() {
                let _ = writeln!(self.0, "{}", format!("  {line}").trim_end());
            }
        }
        self
    }

    pub(crate) fn text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page() {
        let page = Page::new(Screen::PIPE, "train-1")
            .line("state", "running")
            .maybe("reason", None::<&str>)
            .maybe("cost", Some("$0.01"))
            .section("attempts", "1  running\n")
            .section("nothing", "");
        assert_eq!(page.text(), "train-1\n  state         running\n  cost          $0.01\n\nattempts\n  1  running\n");
    }

    #[test]
    fn long_values_are_folded_for_a_terminal() {
        let page = Page::new(Screen::terminal(40), "t").line("reason", "it waits for two cores and a half");
        assert_eq!(page.text(), "t\n  reason        it waits for two cores\n                and a half\n");
    }
}
