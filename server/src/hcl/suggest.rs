//! "Did you mean": the known word that is nearest to a misspelt one.

/// The nearest of `known`, when it is near enough that it was probably meant: one edit (a letter more, less or
/// other, or two swapped) in four letters, at most three.
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word, candidate), candidate))
        .filter(|&(edits, candidate)| edits <= (candidate.len() / 4).clamp(1, 3))
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_finds_the_word_that_was_meant() {
        let known = [
            "capabilities",
            "policy",
            "allowed_parameters",
            "denied_parameters",
        ];
        assert_eq!(suggest("capabilites", known), Some("capabilities"));
        assert_eq!(suggest("plicy", known), Some("policy"));
        assert_eq!(suggest("CAPABILITIES", known), Some("capabilities"));
        assert_eq!(
            suggest("allowed_paramters", known),
            Some("allowed_parameters")
        );
        assert_eq!(suggest("raed", ["read", "create"]), Some("read"));
    }

    #[test]
    fn an_unrelated_word_finds_nothing() {
        assert_eq!(suggest("banana", ["capabilities", "policy"]), None);
        assert_eq!(suggest("", ["ui"]), None);
    }
}
