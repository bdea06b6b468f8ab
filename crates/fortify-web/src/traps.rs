//! Fields that no person sees, and that programs fill in.
//!
//! They are out of sight, out of the order of the tabulator key and hidden from screen readers, and have
//! other names on every page. Whoever fills one is a program, and gets what a wrong answer gets.

use sha2::{Digest, Sha256};

use crate::form::Fields;

/// What the names begin with: what programs that fill in whatever is there like to fill in, and no
/// browser completes by itself.
const WORDS: [&str; 2] = ["website", "comment"];

/// The names of the fields on the page of the challenge `token`.
#[must_use]
pub fn names(token: &str) -> [String; WORDS.len()] {
    WORDS.map(|word| {
        let digest = Sha256::new().chain_update(word).chain_update(token).finalize();
        let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("{word}-{digits}")
    })
}

/// Whether one of them was filled in.
#[must_use]
pub fn is_caught(token: &str, fields: &Fields) -> bool {
    let names = names(token);
    fields.iter().any(|(name, value)| !value.is_empty() && names.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_has_names_of_its_own_and_only_a_filled_field_catches() {
        let [own, other] = ["a", "b"].map(names);
        assert!(own.iter().all(|name| !other.contains(name)));
        let fields = |value: &str| vec![(own[1].clone(), value.to_owned())];
        assert!(is_caught("a", &fields("http://x")));
        assert!(!is_caught("a", &fields("")));
        assert!(!is_caught("b", &fields("http://x")), "of another page");
    }
}
