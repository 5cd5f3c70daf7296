//! A log for a terminal: bytes as they come, without what would steer it. An
//! owner's log is shown, but a job's code must not retitle the window, move
//! the cursor or hide lines.

/// What the byte before was part of.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// 0xC2 was held back: it begins U+0080 to U+00BF, of which half are controls.
    Lead,
    /// After ESC, and bytes of it that are not the last.
    Escape,
    /// After `ESC [`, until a final byte.
    Sequence,
    /// A string for the terminal (a title, a clipboard), until BEL or ST.
    String,
    /// ESC within a string: with `\` its end.
    StringEscape,
    /// 0xC2 within a string: with 0x9C its end.
    StringLead,
}

/// Takes a log in pieces that may break anywhere.
#[derive(Debug, Default)]
pub(crate) struct Strip(State);

impl Strip {
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            self.0 = step(self.0, *byte, &mut out);
        }
        out
    }
}

fn step(state: State, byte: u8, out: &mut Vec<u8>) -> State {
    match (state, byte) {
        // However it is left open, a sequence ends with its line.
        (_, b'\n') => text(byte, out),
        (State::Text, _) => text(byte, out),
        (State::Lead, 0x80..=0x9f) => control(byte),
        (State::Lead, _) => {
            out.push(0xc2);
            text(byte, out)
        }
        (State::Escape, 0x20..=0x2f) => State::Escape,
        // 7-bit forms of U+0080 to U+009F.
        (State::Escape, 0x40..=0x5f) => control(byte + 0x40),
        (State::Escape, 0x30..=0x7e) => State::Text,
        (State::Escape, _) => text(byte, out),
        (State::Sequence, 0x20..=0x3f) => State::Sequence,
        (State::Sequence, 0x40..=0x7e) => State::Text,
        (State::Sequence, _) => text(byte, out),
        (State::String | State::StringEscape | State::StringLead, 0x07) => State::Text,
        (State::StringEscape, b'\\') | (State::StringLead, 0x9c) => State::Text,
        (_, 0x1b) => State::StringEscape,
        (_, 0xc2) => State::StringLead,
        _ => State::String,
    }
}

/// A byte outside of any sequence. A carriage return stays: progress bars
/// draw over their own line with it.
fn text(byte: u8, out: &mut Vec<u8>) -> State {
    match byte {
        0x1b => return State::Escape,
        0xc2 => return State::Lead,
        b'\n' | b'\r' | b'\t' => out.push(byte),
        0x00..=0x1f | 0x7f => {}
        _ => out.push(byte),
    }
    State::Text
}

/// What a control of the second set begins.
fn control(byte: u8) -> State {
    match byte {
        0x9b => State::Sequence,
        0x90 | 0x98 | 0x9d | 0x9e | 0x9f => State::String,
        _ => State::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stripped(text: &str) -> String {
        String::from_utf8(Strip::default().pass(text.as_bytes())).unwrap()
    }

    #[test]
    fn what_steers_a_terminal_is_left_out() {
        let cases = [
            ("plain\ttext\r\n", "plain\ttext\r\n"),
            ("10%\r20%\n", "10%\r20%\n"),
            ("\x1b[1;31mred\x1b[0m naïve 数字 £\n", "red naïve 数字 £\n"),
            ("a\x1b[2J\x1b[?25lb\x1b(Bc\x1b7d", "abcd"),
            ("a\x1b]0;title\x07b\x1b]52;c;x\x1b\\c", "abc"),
            ("a\u{9b}31mb\u{9d}title\u{9c}c\u{85}d", "abcd"),
            ("a\x07\x08\x0b\x7fb", "ab"),
            ("a\x1b]0;left open\nb\x1b[3\nc", "a\nb\nc"),
        ];
        for (text, clean) in cases {
            assert_eq!(stripped(text), clean, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_the_whole(text in "[\\x00-\\x9f\u{c0}数a\\[\\]\n]{0,60}", at in 0usize..200) {
            let bytes = text.as_bytes();
            let (first, rest) = bytes.split_at(at.min(bytes.len()));
            let mut strip = Strip::default();
            let mut pieces = strip.pass(first);
            pieces.extend(strip.pass(rest));
            prop_assert_eq!(&pieces, &Strip::default().pass(bytes));
            let shown = String::from_utf8(pieces).unwrap();
            prop_assert!(!shown.chars().any(|c| c.is_control() && !"\n\r\t".contains(c)));
        }
    }
}
