//! The characters that a text is made of.

/// Letters and digits that people do not take for each other when turned by up to 30 degrees.
///
/// Left out because they are mistaken for each other: B and 8, G and 6 or C, I and 1 and L, O and 0
/// and Q and D, S and 5, Z and 2. 24 characters remain, 4.58 bits each.
pub const ALPHABET: &[u8; 24] = b"ACDEFHJKLMNPRTUVWXY34679";

/// Every character that a task may ask a carrier to draw: the alphabet, all digits for numbers,
/// small letters for number words, the question mark, and the other capitals of colour words.
pub(crate) const DRAWN: &str = "ACDEFHJKLMNPRTUVWXY0123456789abcdefghijklmnopqrstuvwxyz?BGIO";

/// The last of them, which only colour words need.
pub(crate) const COLOUR_WORDS: &str = "BGIO";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_has_no_look_alikes() {
        for byte in b"BGIOQSZ012580" {
            assert!(!ALPHABET.contains(byte), "{}", char::from(*byte));
        }
        assert!(DRAWN.ends_with(COLOUR_WORDS));
        assert!(ALPHABET.iter().all(|byte| DRAWN.contains(char::from(*byte))));
    }
}
