//! Fields that hold a number or a percentage (`maxSurge`, `maxUnavailable`).

use serde_json::Value;

/// A count, or a share of a total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntOrPercent {
    Count(i64),
    Percent(i64),
}

/// Which way a share of a total is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    Up,
    Down,
}

impl IntOrPercent {
    /// Reads `3` or `"25%"`; anything else is `None`.
    pub fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.as_i64().map(Self::Count),
            Value::String(text) => Self::from_percentage(text),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Reads `25%`.
    pub fn from_percentage(text: &str) -> Option<Self> {
        let digits = text.strip_suffix('%')?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok().map(Self::Percent)
    }

    /// Returns the count that this stands for out of `total`.
    pub fn resolve(self, total: i64, rounding: Rounding) -> i64 {
        match (self, rounding) {
            (Self::Count(count), _) => count,
            (Self::Percent(percent), Rounding::Up) => {
                (percent.saturating_mul(total).saturating_add(99)).div_euclid(100)
            }
            (Self::Percent(percent), Rounding::Down) => percent.saturating_mul(total).div_euclid(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_numbers_and_percentages() {
        assert_eq!(IntOrPercent::from_value(&json!(3)), Some(IntOrPercent::Count(3)));
        assert_eq!(IntOrPercent::from_value(&json!("25%")), Some(IntOrPercent::Percent(25)));
        for bad in [json!("25"), json!("%"), json!("-1%"), json!("2.5%"), json!(true), json!(null)] {
            assert_eq!(IntOrPercent::from_value(&bad), None, "{bad}");
        }
    }

    #[test]
    fn shares_round_as_asked() {
        let quarter = IntOrPercent::Percent(25);
        assert_eq!((quarter.resolve(3, Rounding::Up), quarter.resolve(3, Rounding::Down)), (1, 0));
        assert_eq!((quarter.resolve(4, Rounding::Up), quarter.resolve(4, Rounding::Down)), (1, 1));
        assert_eq!(quarter.resolve(0, Rounding::Up), 0);
    }
}
