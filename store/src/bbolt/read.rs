//! Reads buckets in key order. What a page says is checked before it is followed; the file may be anybody's.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::{
    BUCKET_BYTES, BUCKET_FLAG, ELEMENT_BYTES, HEADER_BYTES, Header, Kind, META_BYTES, Meta, PAGE_BYTES_MAX,
    PAGE_BYTES_MIN, u32_at, u64_at,
};

/// Levels of a tree. With two children to a branch this is more than any disk holds.
const DEPTH_MAX: usize = 48;
/// Longest run of pages that is read at once: a leaf with one value. Far above the largest request that etcd can be set to take.
const RUN_BYTES_MAX: u64 = 512 << 20;
/// Longest branch: bbolt splits one at a few keys of the longest kind. The way from the root to a leaf is in memory at once.
const BRANCH_BYTES_MAX: u64 = 1 << 20;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read the file")]
    Io(#[from] io::Error),
    #[error("this is no bbolt file: neither of its first two pages is an intact meta page")]
    NoMeta,
    #[error("the file ends after {length} bytes, and its {pages} pages of {page_bytes} do not fit")]
    Short { length: u64, pages: u64, page_bytes: u64 },
    #[error("page {page} at offset {offset} is damaged: {reason}")]
    Page { page: u64, offset: u64, reason: &'static str },
}

/// Is shown each key with its value.
pub(crate) type Visitor<'a, E> = dyn FnMut(&[u8], &[u8]) -> Result<(), E> + 'a;

/// Where a bucket's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bucket {
    Tree {
        root: u64,
    },
    /// A page inside the value that names the bucket, which stands in `page`.
    Inline {
        page: u64,
        bytes: Vec<u8>,
    },
}

/// A file whose meta pages were checked.
pub(crate) struct Reader {
    file: File,
    page_bytes: u64,
    pages: u64,
    root: u64,
}

impl Reader {
    /// Opens a database that takes the first `length` bytes of a file.
    ///
    /// # Errors
    /// When the file cannot be read or is no such database.
    pub(crate) fn open(file: File, length: u64) -> Result<Self, ReadError> {
        let meta = newest_meta(&file, length)?;
        let (page_bytes, pages) = (u64::from(meta.page_bytes), meta.pages);
        let fits = pages.checked_mul(page_bytes).is_some_and(|bytes| bytes <= length);
        if !fits {
            return Err(ReadError::Short { length, pages, page_bytes });
        }
        Ok(Self { file, page_bytes, pages, root: meta.root })
    }

    /// Returns how many bytes the database takes.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.pages * self.page_bytes
    }

    /// Returns the buckets by name, in order.
    ///
    /// # Errors
    /// When the file is damaged.
    pub(crate) fn buckets(&self) -> Result<Vec<(Vec<u8>, Bucket)>, ReadError> {
        let mut buckets = Vec::new();
        let root = Bucket::Tree { root: self.root };
        self.walk(&root, &mut |page, element| {
            if element.flags != BUCKET_FLAG {
                return Err(self.damaged(page, "a key beside the buckets"));
            }
            buckets.push((element.key.to_vec(), self.bucket(page, element.value)?));
            Ok(())
        })?;
        Ok(buckets)
    }

    /// Visits all keys of a bucket in order; ends with the first error.
    ///
    /// # Errors
    /// When the file is damaged, or the visitor's.
    pub(crate) fn visit<E: From<ReadError>>(
        &self,
        bucket: &Bucket,
        visit: &mut Visitor<'_, E>,
    ) -> Result<(), E> {
        self.walk(bucket, &mut |page, element| {
            if element.flags != 0 {
                return Err(self.damaged(page, "a bucket or unknown element inside a bucket").into());
            }
            visit(element.key, element.value)
        })
    }

    fn bucket(&self, page: u64, value: &[u8]) -> Result<Bucket, ReadError> {
        let root = u64_at(value, 0).filter(|_| value.len() >= BUCKET_BYTES);
        match (root, value.get(BUCKET_BYTES..)) {
            (Some(0), Some(inline)) => Ok(Bucket::Inline { page, bytes: inline.to_vec() }),
            (Some(root), Some([])) => Ok(Bucket::Tree { root }),
            _ => Err(self.damaged(page, "a bucket's header has a wrong length")),
        }
    }

    fn walk<E: From<ReadError>>(
        &self,
        bucket: &Bucket,
        visit: &mut dyn FnMut(u64, Element<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut walk = Walk { reader: self, last: None, visit };
        match bucket {
            Bucket::Tree { root } => walk.page(*root, Bounds::default(), 0),
            Bucket::Inline { page, bytes } => {
                let header = Header::decode(bytes).filter(|header| header.flags == Kind::Leaf.flag());
                let header = header.ok_or_else(|| self.damaged(*page, "an inline bucket is no leaf"))?;
                walk.leaf(*page, header, bytes, Bounds::default())
            }
        }
    }

    /// Reads a page with those that belong to it.
    fn read_run(&self, page: u64) -> Result<(Header, Vec<u8>), ReadError> {
        let damaged = |reason| self.damaged(page, reason);
        // The first two are meta pages, which no tree may lead to.
        if page < 2 || page >= self.pages {
            return Err(damaged("it is not among the pages of the file"));
        }
        let offset = page * self.page_bytes;
        let mut header = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut header, offset)?;
        let header = Header::decode(&header).ok_or_else(|| damaged("it has no header"))?;
        if header.page != page {
            return Err(damaged("it says that it is another page"));
        }
        let run = u64::from(header.overflow) + 1;
        let length = run * self.page_bytes;
        let length_max = if header.flags == Kind::Branch.flag() { BRANCH_BYTES_MAX } else { RUN_BYTES_MAX };
        if run > self.pages - page || length > length_max {
            return Err(damaged("it is longer than the file or than any value"));
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| damaged("it does not fit in memory"))?];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok((header, bytes))
    }

    fn damaged(&self, page: u64, reason: &'static str) -> ReadError {
        ReadError::Page { page, offset: page.saturating_mul(self.page_bytes), reason }
    }
}

/// Returns the meta of the last finished transaction. Where the second page is depends on the size of pages, which only a meta page tells.
fn newest_meta(file: &File, length: u64) -> Result<Meta, ReadError> {
    let first = read_meta(file, 0, length)?;
    let mut found = first;
    let mut page_bytes = PAGE_BYTES_MIN;
    while page_bytes <= PAGE_BYTES_MAX {
        let second = read_meta(file, page_bytes, length)?;
        let fits = |meta: &Meta| u64::from(meta.page_bytes) == page_bytes;
        let agrees = first.is_none_or(|first| u64::from(first.page_bytes) == page_bytes);
        if let Some(second) = second.filter(|second| fits(second) && agrees)
            && found.is_none_or(|found| found.transaction < second.transaction)
        {
            found = Some(second);
        }
        page_bytes *= 2;
    }
    let is_size = |size: u64| size.is_power_of_two() && (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&size);
    found.filter(|meta| is_size(u64::from(meta.page_bytes))).ok_or(ReadError::NoMeta)
}

fn read_meta(file: &File, offset: u64, length: u64) -> Result<Option<Meta>, ReadError> {
    let mut bytes = [0; HEADER_BYTES + META_BYTES];
    let Ok(wanted) = u64::try_from(bytes.len()) else { return Ok(None) };
    if offset + wanted > length {
        return Ok(None);
    }
    file.read_exact_at(&mut bytes, offset)?;
    let is_meta = Header::decode(&bytes).is_some_and(|header| header.flags == Kind::Meta.flag());
    Ok(bytes.get(HEADER_BYTES..).filter(|_| is_meta).and_then(Meta::decode))
}

/// One element of a leaf.
struct Element<'a> {
    flags: u32,
    key: &'a [u8],
    value: &'a [u8],
}

/// The keys that a page may hold: from `first` on, below `before`.
#[derive(Clone, Copy, Default)]
struct Bounds<'a> {
    first: Option<&'a [u8]>,
    before: Option<&'a [u8]>,
}

impl Bounds<'_> {
    fn hold(&self, key: &[u8]) -> bool {
        self.first.is_none_or(|first| first <= key) && self.before.is_none_or(|before| key < before)
    }
}

/// One way through a bucket.
struct Walk<'a, E> {
    reader: &'a Reader,
    last: Option<Vec<u8>>,
    visit: &'a mut dyn FnMut(u64, Element<'_>) -> Result<(), E>,
}

impl<E: From<ReadError>> Walk<'_, E> {
    fn page(&mut self, page: u64, bounds: Bounds<'_>, depth: usize) -> Result<(), E> {
        if depth > DEPTH_MAX {
            return Err(self.reader.damaged(page, "its tree is too deep").into());
        }
        let (header, bytes) = self.reader.read_run(page)?;
        if header.flags == Kind::Leaf.flag() {
            // Every leaf must bring a key that is behind all others: so no page counts twice, and every walk ends.
            if depth > 0 && header.count == 0 {
                return Err(self.reader.damaged(page, "it is empty").into());
            }
            self.leaf(page, header, &bytes, bounds)
        } else if header.flags == Kind::Branch.flag() {
            self.branch(page, header, &bytes, bounds, depth)
        } else {
            Err(self.reader.damaged(page, "it is neither branch nor leaf").into())
        }
    }

    fn branch(
        &mut self,
        page: u64,
        header: Header,
        bytes: &[u8],
        bounds: Bounds<'_>,
        depth: usize,
    ) -> Result<(), E> {
        let count = usize::from(header.count);
        let element = |index| branch_element(bytes, index);
        if count == 0 {
            return Err(self.reader.damaged(page, "it is empty").into());
        }
        for index in 0..count {
            let Some((key, child)) = element(index) else {
                return Err(self.reader.damaged(page, "an element of it lies outside").into());
            };
            let before =
                if index + 1 < count { element(index + 1).map(|(next, _)| next) } else { bounds.before };
            let child_bounds = Bounds { first: Some(key), before };
            if !bounds.hold(key) || !child_bounds.hold(key) {
                return Err(self.reader.damaged(page, "its children are not in order").into());
            }
            self.page(child, child_bounds, depth + 1)?;
        }
        Ok(())
    }

    fn leaf(&mut self, page: u64, header: Header, bytes: &[u8], bounds: Bounds<'_>) -> Result<(), E> {
        for index in 0..usize::from(header.count) {
            let element = leaf_element(bytes, index);
            let element =
                element.ok_or_else(|| self.reader.damaged(page, "an element of it lies outside"))?;
            let is_behind = self.last.as_ref().is_none_or(|last| last.as_slice() < element.key);
            if !is_behind || !bounds.hold(element.key) {
                return Err(self.reader.damaged(page, "its keys are not in order").into());
            }
            self.last = Some(element.key.to_vec());
            (self.visit)(page, element)?;
        }
        Ok(())
    }
}

/// Returns the first key below a child, and the child.
fn branch_element(bytes: &[u8], index: usize) -> Option<(&[u8], u64)> {
    let at = HEADER_BYTES + index * ELEMENT_BYTES;
    let key = slice(bytes, at, u32_at(bytes, at)?, u32_at(bytes, at + 4)?)?;
    Some((key, u64_at(bytes, at + 8)?))
}

fn leaf_element(bytes: &[u8], index: usize) -> Option<Element<'_>> {
    let at = HEADER_BYTES + index * ELEMENT_BYTES;
    let position = u32_at(bytes, at + 4)?;
    let (key_length, value_length) = (u32_at(bytes, at + 8)?, u32_at(bytes, at + 12)?);
    let key = slice(bytes, at, position, key_length)?;
    let value = slice(bytes, at, position.checked_add(key_length)?, value_length)?;
    Some(Element { flags: u32_at(bytes, at)?, key, value })
}

/// Positions count from the element that holds them.
fn slice(bytes: &[u8], element: usize, position: u32, length: u32) -> Option<&[u8]> {
    let start = element.checked_add(usize::try_from(position).ok()?)?;
    bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
}
