//! Fields of pages. All numbers are little endian: bbolt writes them as the machine has them, and etcd supports no other kind.

/// Length of a page's header, and of each element behind it.
pub(super) const HEADER_BYTES: usize = 16;
pub(super) const ELEMENT_BYTES: usize = 16;
/// Length of what a meta page holds behind its header; the last eight bytes are the checksum of the others.
pub(super) const META_BYTES: usize = 64;
/// Length of a bucket's own header, in the value that names it.
pub(super) const BUCKET_BYTES: usize = 16;

/// Marks an element of a leaf whose value is a bucket.
pub(super) const BUCKET_FLAG: u32 = 1;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Sizes of pages that bbolt may have taken from a machine.
pub(super) const PAGE_BYTES_MIN: u64 = 1 << 10;
pub(super) const PAGE_BYTES_MAX: u64 = 1 << 16;

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Branch,
    Leaf,
    Meta,
    Freelist,
}

impl Kind {
    pub(super) const fn flag(self) -> u16 {
        match self {
            Self::Branch => 0x01,
            Self::Leaf => 0x02,
            Self::Meta => 0x04,
            Self::Freelist => 0x10,
        }
    }
}

/// The first bytes of every page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) page: u64,
    pub(super) flags: u16,
    pub(super) count: u16,
    /// Pages behind this one that belong to it.
    pub(super) overflow: u32,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let (page, rest) = bytes.split_at_mut(8);
        page.copy_from_slice(&self.page.to_le_bytes());
        let (flags, rest) = rest.split_at_mut(2);
        flags.copy_from_slice(&self.flags.to_le_bytes());
        let (count, overflow) = rest.split_at_mut(2);
        count.copy_from_slice(&self.count.to_le_bytes());
        overflow.copy_from_slice(&self.overflow.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            page: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }
}

/// What a whole file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_bytes: u32,
    /// Page of the bucket that holds all others.
    pub(super) root: u64,
    pub(super) freelist: u64,
    /// Pages in use or free; the file may be longer.
    pub(super) pages: u64,
    pub(super) transaction: u64,
}

impl Meta {
    /// Returns the fields with their checksum, as they stand behind a page's header.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(META_BYTES);
        for number in [MAGIC, VERSION, self.page_bytes, 0] {
            bytes.extend(number.to_le_bytes());
        }
        // The second is a counter of the root bucket, which nobody uses.
        for number in [self.root, 0, self.freelist, self.pages, self.transaction] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(checksum(&bytes).to_le_bytes());
        bytes
    }

    /// Reads the fields; `None` when they are not intact.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let fields = bytes.get(..META_BYTES - 8)?;
        let is_known = u32_at(fields, 0)? == MAGIC && u32_at(fields, 4)? == VERSION;
        if !is_known || u64_at(bytes, META_BYTES - 8)? != checksum(fields) {
            return None;
        }
        Some(Self {
            page_bytes: u32_at(fields, 8)?,
            root: u64_at(fields, 16)?,
            freelist: u64_at(fields, 32)?,
            pages: u64_at(fields, 40)?,
            transaction: u64_at(fields, 48)?,
        })
    }
}

/// FNV-1a of 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}
