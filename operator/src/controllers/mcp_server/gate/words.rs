//! What pods said last, over several rounds of questions: pure.

use std::collections::HashMap;

use super::ready::{InForce, Said};

/// After how many rounds of silence the last word of a pod counts no more.
const PATIENCE: u32 = 10;

/// The last words of pods.
#[derive(Debug)]
pub(super) struct Words {
    said: Said,
    silent: HashMap<String, u32>,
}

impl Words {
    /// From what they said when they were asked before.
    pub(super) fn new(said: Said) -> Self {
        Self {
            said,
            silent: HashMap::new(),
        }
    }

    /// Takes in one round, in which these pods were asked, by their UIDs.
    pub(super) fn hear(&mut self, asked: &[String], mut heard: Said) {
        self.said.retain(|uid, _| asked.contains(uid));
        self.silent.retain(|uid, _| asked.contains(uid));
        for uid in asked {
            if let Some(word) = heard.remove(uid) {
                self.said.insert(uid.clone(), word);
                self.silent.remove(uid);
                continue;
            }
            let rounds = self.silent.entry(uid.clone()).or_default();
            *rounds += 1;
            if *rounds >= PATIENCE {
                self.said.remove(uid);
            }
        }
    }

    /// Whether all of these said in the last round that they have what is `wanted`.
    pub(super) fn all_have(&self, asked: &[String], wanted: &InForce) -> bool {
        self.silent.is_empty() && asked.iter().all(|uid| self.said.get(uid) == Some(wanted))
    }

    /// The last words.
    pub(super) const fn said(&self) -> &Said {
        &self.said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(policy: &str) -> InForce {
        InForce {
            policy: policy.into(),
            credentials: "c".into(),
            keys: true,
        }
    }

    fn heard(words: &[(&str, &str)]) -> Said {
        let word = |(uid, policy): &(&str, &str)| ((*uid).to_owned(), has(policy));
        words.iter().map(word).collect()
    }

    #[test]
    fn a_word_counts_until_another_comes_or_the_silence_is_long() {
        let asked = ["a", "b"].map(str::to_owned);
        let mut words = Words::new(heard(&[("a", "p"), ("b", "p"), ("gone", "p")]));
        words.hear(&asked, heard(&[("a", "p")]));
        assert_eq!(
            words.said(),
            &heard(&[("a", "p"), ("b", "p")]),
            "one failed question flips nothing"
        );
        assert!(!words.all_have(&asked, &has("p")), "it is asked again");
        words.hear(&asked, heard(&[("a", "p"), ("b", "old")]));
        assert_eq!(
            words.said(),
            &heard(&[("a", "p"), ("b", "old")]),
            "it said something else"
        );
        for round in 1..PATIENCE {
            words.hear(&asked, heard(&[("a", "p")]));
            assert!(words.said().contains_key("b"), "{round}");
        }
        words.hear(&asked, heard(&[("a", "p")]));
        assert_eq!(words.said(), &heard(&[("a", "p")]));
        words.hear(&asked, heard(&[("a", "p"), ("b", "p")]));
        assert!(words.all_have(&asked, &has("p")));
        assert!(words.all_have(&[], &has("p")), "nobody is left to be asked");
    }
}
