//! CRC-32C, which etcd's tools show as the hash of a snapshot; the library at hand has the other polynomial only.

/// The polynomial, reversed.
const CASTAGNOLI: u32 = 0x82f6_3b78;
const TABLE: [u32; 256] = table();

/// A checksum of the bytes so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crc32c(u32);

impl Crc32c {
    pub(super) const fn new() -> Self {
        Self(u32::MAX)
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let [low, ..] = self.0.to_le_bytes();
            let entry = TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default();
            self.0 = entry ^ (self.0 >> 8);
        }
    }

    pub(super) const fn value(self) -> u32 {
        !self.0
    }
}

#[expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "computed by the compiler, where conversions are not"
)]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ CASTAGNOLI } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::Crc32c;

    #[test]
    fn the_check_value_is_that_of_the_definition() {
        let mut checksum = Crc32c::new();
        checksum.update(b"1234");
        checksum.update(b"56789");
        assert_eq!(checksum.value(), 0xe306_9283);
    }
}
