//! "Did you mean …?"

/// The candidate nearest to `word`, where one is near enough to be meant: alike
/// from the start, and a few letters away at most.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const NEAR: f64 = 0.8;
    let slips = (word.chars().count() / 3).max(2);
    let score = |candidate: &str| strsim::jaro_winkler(word, candidate);
    candidates
        .into_iter()
        .map(|candidate| (score(candidate), candidate))
        .filter(|(score, _)| *score >= NEAR)
        .filter(|(_, candidate)| strsim::osa_distance(word, candidate) <= slips)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_meant_and_others_are_not() {
        assert_eq!(closest("adress", ["address", "address6", "mac"]), Some("address"));
        assert_eq!(closest("vm11", ["vm1", "db"]), Some("vm1"));
        assert_eq!(closest("zebra", ["address", "mac"]), None);
        assert_eq!(closest("name", ["namespace", "network"]), None);
    }
}
