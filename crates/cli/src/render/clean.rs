//! Text that others wrote (a server's sentence, the end of a job's log) as
//! text alone: a control sequence in it would steer the reader's terminal.

/// Without control characters, in one line: they would break columns too.
pub(crate) fn one_line(text: &str) -> String {
    without(text, char::is_control)
}

/// Without control characters but line ends and tabs.
pub(crate) fn clean(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| without(line, |c| c.is_control() && c != '\t')).collect();
    lines.join("\n")
}

fn without(line: &str, unwanted: impl Fn(char) -> bool) -> String {
    line.split(unwanted).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_tabs_stay() {
        assert_eq!(clean("a\r\n\tb\u{9b}31mc\n\n  d\u{1b}\n"), "a\n\tb 31mc\n\n  d\n");
        assert_eq!(clean("10%\r20%\u{7f}"), "10% 20%");
        assert_eq!(clean("naïve 数字\n"), "naïve 数字\n");
        assert_eq!(one_line("a\n\tb\u{1b}[1m"), "a b [1m");
    }
}
