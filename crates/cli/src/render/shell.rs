//! Words as a shell reads them.

/// One word, in quotes where it needs them.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A command of these words.
pub(crate) fn command<T: AsRef<str>>(words: &[T]) -> String {
    words.iter().map(|word| quoted(word.as_ref())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        assert_eq!(["it's", "[0]", "", "@a/b_c.json"].map(quoted), ["'it'\\''s'", "'[0]'", "''", "@a/b_c.json"]);
        assert_eq!(command(&["sh", "-c", "exit 3"]), "sh -c 'exit 3'");
    }
}
