use proptest::prelude::*;

use crate::iam::Context;
use crate::wildcard::Pattern;

/// Tries everything.
fn naive(pattern: &[char], text: &[char]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some('*'), _) => naive(&pattern[1..], text) || (!text.is_empty() && naive(pattern, &text[1..])),
        (Some('?'), Some(_)) => naive(&pattern[1..], &text[1..]),
        (Some(p), Some(t)) if p == t => naive(&pattern[1..], &text[1..]),
        _ => false,
    }
}

proptest! {
    #[test]
    fn it_agrees_with_a_naive_matcher(pattern in "[ab*?é]{0,8}", text in "[abé]{0,10}") {
        let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
        prop_assert_eq!(Pattern::plain(&pattern).matches_plain(&text), naive(&p, &t));
        // Without anything to expand, variables change nothing.
        prop_assert_eq!(Pattern::with_variables(&pattern, true).matches(&text, &Context::new()), naive(&p, &t));
    }

    #[test]
    fn any_text_can_be_a_pattern(pattern in ".{0,60}", text in ".{0,60}") {
        Pattern::with_variables(&pattern, true).matches(&text, &Context::new());
        let literal = Pattern::literal(&text);
        prop_assert!(literal.matches_plain(&text));
    }
}

#[test]
fn many_stars_take_no_time() {
    // A matcher that goes back to every star would not end.
    let pattern = Pattern::plain(&"a*".repeat(200));
    assert!(!pattern.matches_plain(&format!("{}b", "a".repeat(150))));
    assert!(pattern.matches_plain(&"a".repeat(1000)));
}

#[test]
fn variables_stand_for_their_value_letter_by_letter() {
    let context = Context::new().with("aws:username", "a*b");
    let cases = [
        ("home/${aws:username}/*", "home/a*b/x", true),
        ("home/${aws:username}/*", "home/axb/x", false),
        ("home/${AWS:UserName}/x", "home/a*b/x", true),
        ("home/${aws:userid}/*", "home//x", false),
        ("home/${aws:userid, 'all'}/*", "home/all/x", true),
        ("100${*}", "100*", true),
        ("100${*}", "1000", false),
        ("${?}${$}", "?$", true),
        ("open ${aws:username", "open ${aws:username", true),
    ];
    for (pattern, text, expected) in cases {
        assert_eq!(Pattern::with_variables(pattern, true).matches(text, &context), expected, "{pattern} on {text}");
    }
}
