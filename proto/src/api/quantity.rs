//! Resource quantities: exact decimal arithmetic with upstream's text forms.
//!
//! A quantity is a whole number of billionths, so sums and comparisons are exact and cheap. Parsing rounds away from zero to
//! billionths and caps magnitudes at 2^63-1, as upstream documents. The text form remembers which suffix family it was
//! written in and is canonical: no fraction, the largest exponent that loses nothing.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Billionths in one unit.
const NANOS: i128 = 1_000_000_000;
/// Largest magnitude of a quantity, in billionths.
const NANOS_MAX: i128 = 9_223_372_036_854_775_807 * NANOS;
/// More digits than this cannot be a sensible quantity.
const TEXT_LENGTH_MAX: usize = 64;

const BINARY_SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Decimal suffixes by exponent, from -9 in steps of three.
const DECIMAL_SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

/// A resource amount such as `250m`, `1.5Gi` or `2e3`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Suffix family that a quantity was written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

/// Why a text is no quantity; the texts are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Number,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// The amount of nothing.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// Returns a whole amount.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nanos: i128::from(units) * NANOS, format }
    }

    /// Returns an amount of thousandths, as CPU is counted.
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * (NANOS / 1000), format: Format::DecimalSi }
    }

    /// Returns the amount in whole units, rounded away from zero.
    pub fn units(self) -> i64 {
        saturate(divide_up(self.nanos, NANOS))
    }

    /// Returns the amount in thousandths, rounded away from zero.
    pub fn millis(self) -> i64 {
        saturate(divide_up(self.nanos, NANOS / 1000))
    }

    /// Returns the amount in billionths.
    pub fn nanos(self) -> i128 {
        self.nanos
    }

    /// Returns the suffix family used for the text form.
    pub fn format(self) -> Format {
        self.format
    }

    /// Reports whether the amount is a whole number of units.
    pub fn is_whole(self) -> bool {
        self.nanos % NANOS == 0
    }

    /// Reports whether the amount is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Reports whether the amount is below nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Returns the sum; the text form follows `self` unless that is zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: cap(self.nanos.saturating_add(other.nanos)), format }
    }

    /// Returns the difference; the text form follows `self` unless that is zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: cap(self.nanos.saturating_sub(other.nanos)), format }
    }

    fn write_decimal(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut mantissa, mut exponent) = (self.nanos, -9_i32);
        while mantissa % 1000 == 0 && exponent < 18 {
            mantissa /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return if exponent == 0 { write!(f, "{mantissa}") } else { write!(f, "{mantissa}e{exponent}") };
        }
        let suffix = usize::try_from((exponent + 9) / 3).ok().and_then(|index| DECIMAL_SUFFIXES.get(index));
        write!(f, "{mantissa}{}", suffix.copied().unwrap_or_default())
    }

    fn write_binary(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut mantissa = self.nanos / NANOS;
        let mut suffixes = BINARY_SUFFIXES.iter();
        let mut suffix = suffixes.next().copied().unwrap_or_default();
        while mantissa % 1024 == 0
            && let Some(next) = suffixes.next()
        {
            mantissa /= 1024;
            suffix = next;
        }
        write!(f, "{mantissa}{suffix}")
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return write!(f, "0");
        }
        // Small and broken amounts lose nothing in decimal, whatever family they came from.
        let small = self.nanos.abs() < 1024 * NANOS;
        if self.format == Format::BinarySi && !small && self.is_whole() {
            self.write_binary(f)
        } else if self.format == Format::BinarySi {
            Self { format: Format::DecimalSi, ..*self }.write_decimal(f)
        } else {
            self.write_decimal(f)
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > TEXT_LENGTH_MAX {
            return Err(QuantityError::Format);
        }
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        let digits_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(digits_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let (scale, format) = suffix_scale(suffix)?;
        let nanos = scaled_nanos(whole, fraction, scale)?;
        Ok(Self { nanos: cap(if negative { -nanos } else { nanos }), format })
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// What a suffix multiplies by.
enum Scale {
    /// A power of ten.
    Ten(i32),
    /// A power of 1024.
    Binary(u32),
}

fn suffix_scale(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    if !suffix.chars().all(|c| c.is_ascii_digit() || "eEinumkKMGTP+-".contains(c)) {
        return Err(QuantityError::Format);
    }
    if let Some(index) = DECIMAL_SUFFIXES.iter().position(|known| *known == suffix) {
        let exponent = i32::try_from(index).unwrap_or(i32::MAX).saturating_mul(3).saturating_sub(9);
        return Ok((Scale::Ten(exponent), Format::DecimalSi));
    }
    if let Some(index) = BINARY_SUFFIXES.iter().position(|known| *known == suffix) {
        return Ok((Scale::Binary(u32::try_from(index).unwrap_or(u32::MAX)), Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
    let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
    Ok((Scale::Ten(exponent), Format::DecimalExponent))
}

/// Returns `whole.fraction × scale` in billionths, rounded up, saturating at the cap.
fn scaled_nanos(whole: &str, fraction: &str, scale: Scale) -> Result<i128, QuantityError> {
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    let fraction_length = i32::try_from(fraction.len()).map_err(|_| QuantityError::Number)?;
    // Beyond 29 digits only the leading ones can matter; what is cut off still rounds up.
    const DIGITS_MAX: usize = 29;
    let (kept, cut) = digits.split_at(digits.len().min(DIGITS_MAX));
    let mut mantissa: i128 = kept.parse().map_err(|_| QuantityError::Number)?;
    if cut.bytes().any(|digit| digit != b'0') {
        mantissa += 1;
    }
    let cut_length = i32::try_from(cut.len()).map_err(|_| QuantityError::Number)?;
    let mut exponent = 9 - fraction_length + cut_length;
    match scale {
        Scale::Ten(power) => exponent = exponent.saturating_add(power),
        Scale::Binary(power) => {
            match 1024_i128.checked_pow(power).and_then(|factor| mantissa.checked_mul(factor)) {
                Some(product) => mantissa = product,
                None => return Ok(NANOS_MAX),
            }
        }
    }
    Ok(shift_decimal(mantissa, exponent))
}

/// Returns `mantissa × 10^exponent` for a positive mantissa, rounded up and capped.
fn shift_decimal(mantissa: i128, exponent: i32) -> i128 {
    let factor = 10_i128.checked_pow(exponent.unsigned_abs());
    if exponent < 0 {
        factor.map_or(1, |factor| divide_up(mantissa, factor))
    } else {
        factor.and_then(|factor| mantissa.checked_mul(factor)).unwrap_or(NANOS_MAX)
    }
}

fn cap(nanos: i128) -> i128 {
    nanos.clamp(-NANOS_MAX, NANOS_MAX)
}

/// Divides, rounding away from zero.
fn divide_up(value: i128, divisor: i128) -> i128 {
    let quotient = value / divisor;
    if value % divisor == 0 { quotient } else { quotient + value.signum() }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>()
            .map_or_else(|error| format!("error: {error}"), |quantity| quantity.to_string())
    }

    #[test]
    fn canonical_forms_are_upstreams() {
        for (text, expected) in [
            ("0", "0"),
            ("0Ki", "0"),
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("0.1", "100m"),
            ("0.5Gi", "512Mi"),
            ("1000m", "1"),
            ("1000Ki", "1000Ki"),
            ("1024Ki", "1Mi"),
            ("1023", "1023"),
            ("1000", "1k"),
            ("100", "100"),
            ("2e3", "2e3"),
            ("1E", "1E"),
            ("1E3", "1e3"),
            ("1e0", "1"),
            ("0.0000000001", "1n"),
            (".5", "500m"),
            ("5.", "5"),
            ("+1", "1"),
            ("-1", "-1"),
            ("1Ki", "1Ki"),
            ("512Ki", "512Ki"),
            ("0.3Ki", "307200m"),
            ("0.1Mi", "104857600m"),
            ("9999999999E", "9223372036854775807"),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn malformed_texts_say_why() {
        for text in ["", ".", "-", "m", "1.2.3", "1x", "1mi", "1e", "1 ", "1Kii", "--1"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
        assert_eq!("1mi".parse::<Quantity>(), Err(QuantityError::Suffix));
        assert_eq!("1x".parse::<Quantity>(), Err(QuantityError::Format));
        assert_eq!("x".parse::<Quantity>(), Err(QuantityError::Format));
    }

    #[test]
    fn rounding_is_away_from_zero() {
        let quantity: Quantity = "1500m".parse().unwrap();
        assert_eq!((quantity.units(), quantity.millis()), (2, 1500));
        let quantity: Quantity = "-1500m".parse().unwrap();
        assert_eq!(quantity.units(), -2);
    }

    proptest! {
        #[test]
        fn canonical_form_is_stable(mantissa in -1_000_000_000_i64..1_000_000_000, suffix in 0_usize..16) {
            let suffixes = ["", "m", "u", "n", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "e-3", "E2", "Ti", "T", "e-9"];
            let quantity: Quantity = format!("{mantissa}{}", suffixes[suffix]).parse().unwrap();
            let text = quantity.to_string();
            let again: Quantity = text.parse().unwrap();
            prop_assert_eq!(quantity, again);
            prop_assert_eq!(text, again.to_string());
        }

        #[test]
        fn any_text_is_accepted_or_refused(text in "\\PC*") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn sums_are_exact(left in any::<i32>(), right in any::<i32>()) {
            let (a, b) = (Quantity::from_millis(left.into()), Quantity::from_millis(right.into()));
            prop_assert_eq!(a.plus(b).millis(), i64::from(left) + i64::from(right));
            prop_assert_eq!(a.plus(b).minus(b), a);
        }
    }
}
