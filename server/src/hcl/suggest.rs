//! "Did you mean": the known word that is nearest to a misspelt one.

/// The nearest of `known`, when it is near enough that it was probably meant: one edit in four letters, at most
/// three. A swap of two neighbours counts as one edit.
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|&(edits, candidate)| edits <= (candidate.len() / 4).clamp(1, 3))
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, remove, replace, swap neighbours) between two words; long words are far from everything.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (
        a.chars().take(LONGEST).collect(),
        b.chars().take(LONGEST).collect(),
    );
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
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
