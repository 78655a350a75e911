//! What the load writes and reads: 48-byte keys over a million-key space, 256-byte values. Pure.

/// Keys that can occur.
const KEY_SPACE: u64 = 1_000_000;
/// Prime to the key space, so that counting up visits every key once before any twice.
const STRIDE: u64 = 736_187;
/// Before the number: kind, namespace and name as an API server would store them.
const PREFIX: &str = "/registry/benchmarks/namespace-0001/object-";
const VALUE_BYTES: usize = 256;

/// Returns the key of the nth put.
#[must_use]
pub(super) fn key(count: u64) -> String {
    let number = (count % KEY_SPACE) * STRIDE % KEY_SPACE;
    // Five digits of base 36 hold a million.
    let mut digits = [b'0'; 5];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        let value = u8::try_from(rest % 36).unwrap_or(0);
        *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        rest /= 36;
    }
    format!("{PREFIX}{}", String::from_utf8_lossy(&digits))
}

/// Returns the value of the nth put: not compressible to nothing, and never the same twice.
#[must_use]
pub(super) fn value(count: u64) -> String {
    let mut state = count.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut value = String::with_capacity(VALUE_BYTES + 16);
    while value.len() < VALUE_BYTES {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.push_str(&format!("{state:016x}"));
    }
    value
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_have_48_bytes_and_do_not_repeat() {
        let keys: BTreeSet<String> = (0..100_000).map(key).collect();
        assert_eq!(keys.len(), 100_000);
        assert!(keys.iter().all(|key| key.len() == 48));
        assert_eq!(key(0), key(KEY_SPACE));
    }

    #[test]
    fn values_have_256_bytes_and_differ() {
        assert_eq!((value(0).len(), value(1).len()), (256, 256));
        assert_ne!(value(2), value(4));
    }
}
