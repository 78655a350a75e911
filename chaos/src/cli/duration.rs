//! Lengths of time on the command line.

use std::time::Duration;

/// Parses `60s`, `1500ms`, `2m`, `5h` or `1h30m`; a bare number is seconds.
///
/// # Errors
/// A sentence that shows how it is written.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is not a duration such as 60s, 1500ms or 1h30m");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let (digits, unit_and_rest) = rest.split_at(end);
        let end = unit_and_rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(unit_and_rest.len());
        let (unit, after) = unit_and_rest.split_at(end);
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        let part = match unit {
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3600).map(Duration::from_secs),
            _ => None,
        };
        sum = part.and_then(|part| sum.checked_add(part)).ok_or_else(wrong)?;
        rest = after;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_units() {
        for (text, seconds) in
            [("60s", 60), ("2m", 120), ("5h", 18_000), ("1h30m", 5400), ("7", 7), ("1m5s", 65)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        for text in ["", "soon", "5d", "h", "1h30x", "m5", "99999999999999999h", "-1s", "1.5s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
