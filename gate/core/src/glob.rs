//! Patterns of rules: literal text with `*` for any run of characters.

/// A pattern, split at its stars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    /// What stands between the stars; one more than there are stars.
    parts: Vec<String>,
}

impl Glob {
    /// Reads a pattern: any text is one.
    pub(crate) fn new(pattern: &str) -> Self {
        Self {
            parts: pattern.split('*').map(str::to_owned).collect(),
        }
    }

    /// Whether the whole of `text` matches, in time proportional to its length times that of the pattern at worst.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.parts.split_first() else {
            return false;
        };
        let Some((last, middle)) = rest.split_last() else {
            return text == first;
        };
        let Some(mut left) = text.strip_prefix(first.as_str()) else {
            return false;
        };
        for part in middle {
            // The leftmost place leaves the most for the rest, so that no other need be tried.
            let Some(at) = left.find(part.as_str()) else {
                return false;
            };
            left = &left[at + part.len()..];
        }
        left.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_stand_for_any_run_of_characters() {
        for (pattern, text, expected, why) in [
            ("read", "read", true, "the same"),
            ("read", "Read", false, "case matters"),
            ("read", "read2", false, "the whole text"),
            ("*", "", true, "an empty run"),
            ("*", "anything\nat all", true, "any character"),
            ("read_*", "read_", true, "an empty run at the end"),
            ("read_*", "unread_x", false, "from the beginning"),
            ("*_note", "write_note", true, "to the end"),
            ("a*a", "a", false, "both ends need their own"),
            ("a*b*c", "a-b-b-c", true, "the last c is the end"),
            ("a*b*b", "ab", false, "not twice the same b"),
            ("**", "x", true, "two stars are as good as one"),
            ("file:///*/x", "file:///a/b/x", true, "slashes are characters"),
            ("", "", true, "empty matches empty"),
            ("", "x", false, "and nothing else"),
            ("w?ite", "write", false, "only stars are special"),
        ] {
            assert_eq!(
                Glob::new(pattern).matches(text),
                expected,
                "{pattern} {text}: {why}"
            );
        }
    }

    /// By definition: a star takes nothing, or one character and goes on.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => slow(rest, text) || (!text.is_empty() && slow(pattern, &text[1..])),
            Some((c, rest)) => text.first() == Some(c) && slow(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_definition_says(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(Glob::new(&pattern).matches(&text), slow(&chars(&pattern), &chars(&text)));
        }
    }
}
