//! Folds typed text to the form in which it is compared, so that keyboards do not matter.

use crate::number;

/// The characters of `text` as they are compared: separators dropped, wide forms and foreign digits
/// to ASCII, upper-case, look-alikes of other scripts and outside the alphabet to the character that
/// they look like.
pub(crate) fn fold(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars()
        .map(number::to_ascii)
        .filter(|character| !is_separator(*character))
        .map(before_case)
        .flat_map(char::to_uppercase)
        .map(after_case)
}

/// Whether people put `character` between others without meaning anything by it.
fn is_separator(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || matches!(
            character,
            '-' | '.' | ',' | '_' | '\'' | '"' | ';' | ':' | '/' | '|' | '+'
                | '\u{b7}' | '\u{2010}'..='\u{2015}' | '\u{2018}'..='\u{201d}'
                | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}'
        )
}

/// Small letters that look like another character than their capital does.
fn before_case(character: char) -> char {
    match character {
        // Cyrillic be: its small form is a six.
        '\u{431}' => '6',
        other => other,
    }
}

/// Capitals that look like a character of the alphabet.
///
/// Other scripts: only letters of the same shape. Within Latin, only look-alikes outside the
/// alphabet that stand for exactly one character of it: O and 0 are what D is mistaken for, 1 is
/// what 7 is mistaken for. Left alone, because two or more characters could have been meant: B (3,
/// 6, R), G (6, C), I (J, L, T), Q (9, D), S (3, 6), Z (7, 2), 2, 5 and 8.
fn after_case(character: char) -> char {
    match character {
        'O' | '0' | '\u{41e}' | '\u{39f}' => 'D',
        '1' => '7',
        // Cyrillic
        '\u{410}' => 'A',
        '\u{421}' => 'C',
        '\u{415}' | '\u{401}' => 'E',
        '\u{41d}' => 'H',
        '\u{408}' => 'J',
        '\u{41a}' => 'K',
        '\u{41c}' => 'M',
        '\u{420}' => 'P',
        '\u{422}' => 'T',
        '\u{423}' | '\u{4ae}' => 'Y',
        '\u{425}' => 'X',
        '\u{417}' => '3',
        '\u{427}' => '4',
        // Greek
        '\u{391}' => 'A',
        '\u{395}' => 'E',
        '\u{397}' => 'H',
        '\u{39a}' => 'K',
        '\u{39c}' => 'M',
        '\u{39d}' => 'N',
        '\u{3a1}' => 'P',
        '\u{3a4}' => 'T',
        '\u{3a5}' => 'Y',
        '\u{3a7}' => 'X',
        '\u{3f9}' => 'C',
        other => other,
    }
}
