//! Numbers as people write them: digits of any script, or English words.

/// Longest number read. Results of sums are far shorter; nine digits keep the arithmetic in 32 bits.
const MAX_DIGITS: usize = 9;

/// The ASCII form of full-width characters and of the decimal digits of scripts whose keyboards
/// type them (Arabic-Indic, Persian, Devanagari, Bengali, Thai); any other character as it is.
pub(crate) fn to_ascii(character: char) -> char {
    let code = u32::from(character);
    let digit_blocks = [0x0660, 0x06f0, 0x0966, 0x09e6, 0x0e50];
    if character == '\u{3000}' {
        return ' ';
    }
    if (0xff01..=0xff5e).contains(&code) {
        return char::from_u32(code - 0xfee0).unwrap_or(character);
    }
    digit_blocks
        .into_iter()
        .find_map(|zero| char::from_digit(code.checked_sub(zero)?, 10))
        .unwrap_or(character)
}

/// The number that `text` stands for.
pub(crate) fn parse(text: &str) -> Option<u32> {
    let text: String = text.chars().map(to_ascii).collect::<String>().to_lowercase();
    let text = text.trim();
    let text = text.strip_prefix('=').unwrap_or(text).trim_start();
    let text = text.strip_prefix('+').unwrap_or(text).trim_start();
    let text = text.strip_suffix('.').unwrap_or(text).trim_end();
    if text.starts_with(|character: char| character.is_ascii_digit()) {
        digits(text)
    } else {
        words(text)
    }
}

fn digits(text: &str) -> Option<u32> {
    let significant = text.trim_start_matches('0');
    let all_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits || significant.len() > MAX_DIGITS {
        return None;
    }
    if significant.is_empty() { Some(0) } else { significant.parse().ok() }
}

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] =
    ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

/// The English word for `number`; `None` from twenty up.
pub(crate) fn word(number: u32) -> Option<&'static str> {
    SMALL.get(usize::try_from(number).ok()?).copied()
}

/// English number words up to 999: "ten", "twenty-one", "one hundred and five", "a hundred".
fn words(text: &str) -> Option<u32> {
    let mut parts = text
        .split(|character: char| {
            character.is_whitespace() || matches!(character, '-' | '\u{2010}'..='\u{2015}')
        })
        .filter(|part| !part.is_empty())
        .peekable();
    let mut total = 0;
    let first = parts.next()?;
    let mut current = first;
    if parts.next_if_eq(&"hundred").is_some() {
        let hundreds =
            if first == "a" { 1 } else { small(first).filter(|n| (1..10).contains(n))? };
        total = hundreds * 100;
        let and = parts.next_if_eq(&"and").is_some();
        match parts.next() {
            Some(part) => current = part,
            None => return (!and).then_some(total),
        }
    }
    total += match TENS.iter().position(|tens| *tens == current) {
        Some(index) => {
            let tens = (index as u32 + 2) * 10;
            match parts.next() {
                Some(unit) => tens + small(unit).filter(|n| (1..10).contains(n))?,
                None => tens,
            }
        }
        None => small(current)?,
    };
    parts.next().is_none().then_some(total)
}

fn small(word: &str) -> Option<u32> {
    let index = match word {
        "nought" | "nil" | "null" => 0,
        _ => SMALL.iter().position(|small| *small == word)?,
    };
    u32::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The usual English spelling, written apart from the parser that it checks.
    fn spell(number: u32) -> String {
        match number {
            0..=19 => SMALL[number as usize].to_owned(),
            20..=99 if number.is_multiple_of(10) => TENS[number as usize / 10 - 2].to_owned(),
            20..=99 => format!("{}-{}", spell(number - number % 10), spell(number % 10)),
            _ if number.is_multiple_of(100) => format!("{} hundred", spell(number / 100)),
            _ => format!("{} hundred and {}", spell(number / 100), spell(number % 100)),
        }
    }

    #[test]
    fn every_spelling_is_read() {
        for number in 0..1000 {
            let spelled = spell(number);
            assert_eq!(parse(&spelled), Some(number), "{spelled}");
            assert_eq!(parse(&spelled.replace('-', " ").to_uppercase()), Some(number));
            assert_eq!(parse(&spelled.replace(" and", "")), Some(number));
            assert_eq!(parse(&number.to_string()), Some(number));
        }
        assert_eq!(parse("a hundred"), Some(100));
        assert_eq!(parse("٤٢"), Some(42));
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "",
            "-",
            "and",
            "hundred",
            "one hundred and",
            "twenty zero",
            "twenty ten",
            "-5",
            "minus five",
            "1e3",
            "0x10",
            "1 2",
            "one two",
            "++1",
            "9999999999",
            "a",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn leading_zeros_and_width_do_not_matter(number in 0_u32..1_000_000, zeros in 0_usize..5) {
            let narrow = format!("{}{number}", "0".repeat(zeros));
            let wide: String = narrow
                .chars()
                .map(|c| char::from_u32(u32::from(c) + 0xfee0).unwrap())
                .collect();
            prop_assert_eq!(parse(&narrow), Some(number));
            prop_assert_eq!(parse(&wide), Some(number));
        }
    }
}
