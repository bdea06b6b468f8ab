//! 32 bytes as hexadecimal digits.

/// 64 digits of either case; `None` for any other length or character.
pub(crate) fn decode(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16)?;
            *byte = (*byte << 4) | value as u8;
        }
    }
    Some(bytes)
}

/// Two lower-case digits for each byte.
pub(crate) fn encode(bytes: &[u8; 32]) -> String {
    let nibble = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [nibble(byte >> 4), nibble(byte & 15)]).collect()
}
