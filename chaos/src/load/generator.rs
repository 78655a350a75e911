//! What the load writes and reads: 48-byte keys over a million-key space, 256-byte values; objects of a kilobyte; and a large store of
//! 64-byte keys and values. Pure.

/// Keys that can occur.
const KEY_SPACE: u64 = 1_000_000;
/// Prime to the key space, so that counting up visits every key once before any twice.
const STRIDE: u64 = 736_187;
/// Before the number: kind, namespace and name as an API server would store them.
const PREFIX: &str = "/registry/benchmarks/namespace-0001/object-";
const VALUE_BYTES: usize = 256;
/// Before the number of an object that is updated again and again.
pub(super) const OBJECTS: &str = "/registry/pods/namespace-0001/object-";
const OBJECT_BYTES: usize = 1024;
/// Before the number of a key of a large store.
pub(super) const LARGE: &str = "/registry/large/benchmarks/namespace-0001/object-named-";
const LARGE_VALUE_BYTES: usize = 64;

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

/// Returns the value of the nth put.
#[must_use]
pub(super) fn value(count: u64) -> String {
    text(count, VALUE_BYTES)
}

/// Returns the key of a client's own object.
#[must_use]
pub(super) fn object_key(client: u64) -> String {
    format!("{OBJECTS}{client:04}")
}

/// Returns the nth content of an object.
#[must_use]
pub(super) fn object(count: u64) -> String {
    text(count, OBJECT_BYTES)
}

/// Returns the nth key of a large store, in the order of their bytes.
#[must_use]
pub(super) fn large_key(number: u64) -> String {
    format!("{LARGE}{number:09}")
}

/// Returns a value of a large store.
#[must_use]
pub(super) fn large_value(count: u64) -> String {
    text(count, LARGE_VALUE_BYTES)
}

/// Not compressible to nothing, and never the same twice.
fn text(count: u64, length: usize) -> String {
    let mut state = count.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{state:016x}"));
    }
    text
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

    #[test]
    fn a_large_store_has_keys_and_values_of_64_bytes_in_order() {
        assert_eq!((large_key(0).len(), large_value(0).len(), object(0).len()), (64, 64, 1024));
        assert!((0..2000).map(large_key).is_sorted());
    }
}
