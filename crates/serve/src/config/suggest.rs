//! "Did you mean": the known name that is nearest to a mistyped one.

/// What to tell about `name` where only `known` names are right.
pub(super) fn unknown_key(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("unknown key; did you mean `{near}`?"),
        None => format!("unknown key; known here: {}", known.join(", ")),
    }
}

/// The nearest of `known`, if no more than a third of the longer name is to be edited.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|known| (distance(name, known), *known))
        .filter(|(distance, known)| *distance <= name.len().max(known.len()).div_ceil(3))
        .min()
        .map(|(_, known)| known)
}

/// Levenshtein's distance in characters, one row at a time (Wagner and Fischer 1974).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, want) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("lsiten", "listen", 2),
            ("ü", "u", 1),
        ] {
            assert_eq!(distance(a, b), want, "{a} {b}");
            assert_eq!(distance(b, a), want, "{b} {a}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let known = ["listen", "batch_len_max", "timeout"];
        assert_eq!(nearest("lsiten", &known), Some("listen"));
        assert_eq!(nearest("batch_len", &known), Some("batch_len_max"));
        assert_eq!(nearest("batch", &known), None);
        assert_eq!(nearest("batch_lenmax", &known), Some("batch_len_max"));
        assert_eq!(nearest("zz", &known), None);
    }
}
