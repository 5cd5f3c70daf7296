//! What text is written to: a terminal, which has a width, or a pipe, which
//! has none and gets everything whole.

use muonic_types::Digest;

/// Narrower, folded text is worse than text that the terminal breaks.
const WIDTH_MIN: usize = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Screen {
    width: Option<usize>,
}

impl Screen {
    pub(crate) const PIPE: Self = Self { width: None };

    pub(crate) fn terminal(columns: usize) -> Self {
        Self { width: Some(columns.max(WIDTH_MIN)) }
    }

    pub(crate) fn width(self) -> Option<usize> {
        self.width
    }

    /// The screen right of so many columns.
    pub(crate) fn indented(self, by: usize) -> Self {
        Self { width: self.width.map(|width| width.saturating_sub(by)) }
    }

    /// For people the digits that tell digests apart; in a pipe all of them.
    pub(crate) fn digest(self, digest: &Digest) -> String {
        match self.width {
            Some(_) => digest.short(),
            None => digest.to_string(),
        }
    }
}

/// Lines of at most `width` characters, broken between words. A word is never
/// broken: what people copy must be whole.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Text that begins in column `before` and stays right of it.
pub(crate) fn hanging(screen: Screen, before: usize, text: &str) -> String {
    match screen.indented(before).width() {
        Some(width) => wrap(text, width).join(&format!("\n{:before$}", "")),
        None => text.to_owned(),
    }
}

/// A line of words, those below the first indented.
pub(crate) fn folded(screen: Screen, line: &str) -> String {
    const INDENT: usize = 4;
    match screen.width() {
        Some(width) if line.chars().count() > width => {
            wrap(line, width.saturating_sub(INDENT)).join(&format!("\n{:INDENT$}", ""))
        }
        _ => line.to_owned(),
    }
}

/// At most `width` characters; where some are left out, `…` says so.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_folded_and_cut() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a /very/long/path b", 4), ["a", "/very/long/path", "b"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(hanging(Screen::terminal(40), 30, "it waits for cpu"), format!("it waits\n{:30}for cpu", ""));
        assert_eq!(hanging(Screen::PIPE, 30, "it waits for cpu"), "it waits for cpu");
        let note = "[train-1] queued, next in line: waits for cpu=2";
        assert_eq!(folded(Screen::terminal(40), note), "[train-1] queued, next in line:\n    waits for cpu=2");
        assert_eq!(folded(Screen::terminal(47), note), note);
        assert_eq!(folded(Screen::PIPE, note), note);
        assert_eq!(cut("déjà vu", 5), "déjà…");
        assert_eq!(cut("déjà", 4), "déjà");
    }

    #[test]
    fn digests_are_short_for_people_only() {
        let digest = Digest::of(b"");
        assert_eq!(Screen::terminal(80).digest(&digest), "e3b0c44298fc");
        assert_eq!(Screen::PIPE.digest(&digest), digest.to_string());
    }

    proptest! {
        #[test]
        fn folding_loses_nothing(text in "[a-z ]{0,60}", width in 1usize..30) {
            let lines = wrap(&text, width);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width || !line.trim().contains(' ')));
            let words = |s: &str| s.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(words(&lines.join(" ")), words(&text));
        }
    }
}
