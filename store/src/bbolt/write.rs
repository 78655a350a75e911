//! Writes a new file whole. Keys come in order, so each level of a tree holds one page that is filled, and full pages never change.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use super::format::{BUCKET_FLAG, ELEMENT_BYTES, HEADER_BYTES, Header, Kind, Meta};

/// Size of the pages of our files: that of nearly all machines, and readers take any.
const PAGE_BYTES: usize = 4096;
/// Longest key, and longest value (bbolt's bounds).
const KEY_BYTES_MAX: usize = 32_768;
const VALUE_BYTES_MAX: usize = (1 << 31) - 2;
/// Fewest children of a branch. bbolt panics when it takes the last page but one out of a smaller one.
const CHILDREN_MIN: usize = 2;
/// Free pages are listed here; there are none.
const FREELIST_PAGE: u64 = 2;

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("cannot write the file")]
    Io(#[from] io::Error),
    #[error("a key of {bytes} bytes does not fit in etcd's file, which takes {}", KEY_BYTES_MAX)]
    KeyTooLong { bytes: usize },
    #[error("a value of {bytes} bytes does not fit in etcd's file")]
    ValueTooLong { bytes: usize },
}

/// A file while it is written. What is there before [`Writer::finish`] has no meta page and is nothing.
pub(crate) struct Writer {
    out: BufWriter<File>,
    next_page: u64,
    buckets: Vec<Item>,
}

impl Writer {
    /// Starts to write an empty file.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn new(file: File) -> Result<Self, WriteError> {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        // Meta pages come last: until then the file is none.
        out.write_all(&[0; 2 * PAGE_BYTES])?;
        let mut writer = Self { out, next_page: FREELIST_PAGE, buckets: Vec::new() };
        writer.write_page(Kind::Freelist, &[])?;
        Ok(writer)
    }

    /// Adds a bucket that is filled. Names come in any order.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn add(&mut self, name: &str, tree: Tree) -> Result<(), WriteError> {
        let mut value = Vec::new();
        let root = if tree.is_empty() { 0 } else { tree.finish(self)? };
        value.extend(root.to_le_bytes());
        // A counter that etcd does not use.
        value.extend(0_u64.to_le_bytes());
        if root == 0 {
            let empty = Header { page: 0, flags: Kind::Leaf.flag(), count: 0, overflow: 0 };
            value.extend(empty.encode());
        }
        self.buckets.push(Item {
            flags: BUCKET_FLAG,
            key: name.as_bytes().to_vec(),
            body: Body::Value(value),
        });
        Ok(())
    }

    /// Writes what leads to the buckets and returns the file, which is not synced.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn finish(mut self) -> Result<File, WriteError> {
        let mut buckets = std::mem::take(&mut self.buckets);
        buckets.sort_by(|one, two| one.key.cmp(&two.key));
        let mut tree = Tree::default();
        for bucket in buckets {
            tree.push(&mut self, 0, bucket)?;
        }
        let root = tree.finish(&mut self)?;
        self.out.seek(SeekFrom::Start(0))?;
        for page in 0..2 {
            // The page of a transaction is its number's remainder, and the higher one counts.
            let meta = Meta {
                page_bytes: u32::try_from(PAGE_BYTES).expect("it is 4096"),
                root,
                freelist: FREELIST_PAGE,
                pages: self.next_page,
                transaction: 2 - page,
            };
            let header = Header { page, flags: Kind::Meta.flag(), count: 0, overflow: 0 };
            let mut bytes = header.encode().to_vec();
            bytes.extend(meta.encode());
            bytes.resize(PAGE_BYTES, 0);
            self.out.write_all(&bytes)?;
        }
        Ok(self.out.into_inner().map_err(io::IntoInnerError::into_error)?)
    }

    /// Writes a page, with as many behind it as it needs, and returns its number.
    fn write_page(&mut self, kind: Kind, items: &[Item]) -> Result<u64, WriteError> {
        let size = HEADER_BYTES + items.iter().map(Item::size).sum::<usize>();
        let run = size.div_ceil(PAGE_BYTES);
        let page = self.next_page;
        let header = Header {
            page,
            flags: kind.flag(),
            count: u16::try_from(items.len()).expect("a page of 4096 bytes has at most 256 elements"),
            overflow: u32::try_from(run - 1).expect("keys and values are bounded"),
        };
        self.out.write_all(&header.encode())?;
        let mut position = items.len() * ELEMENT_BYTES;
        for item in items {
            self.out.write_all(&item.element(position))?;
            // Positions count from the element that holds them.
            position = position + item.size() - 2 * ELEMENT_BYTES;
        }
        for item in items {
            self.out.write_all(&item.key)?;
            if let Body::Value(value) = &item.body {
                self.out.write_all(value)?;
            }
        }
        io::copy(&mut io::Read::take(io::repeat(0), padding(size)), &mut self.out)?;
        self.next_page += u64::try_from(run).expect("usize fits in u64");
        Ok(page)
    }
}

/// Returns how many bytes are missing to a whole page.
fn padding(size: usize) -> u64 {
    u64::try_from(size.next_multiple_of(PAGE_BYTES) - size).expect("usize fits in u64")
}

/// An element of a page, with its key and what it leads to.
#[derive(Clone, Debug)]
struct Item {
    flags: u32,
    key: Vec<u8>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Value(Vec<u8>),
    Child(u64),
}

impl Item {
    fn size(&self) -> usize {
        let value = match &self.body {
            Body::Value(value) => value.len(),
            Body::Child(_) => 0,
        };
        ELEMENT_BYTES + self.key.len() + value
    }

    fn element(&self, position: usize) -> Vec<u8> {
        let number =
            |length: usize| u32::try_from(length).expect("keys and values are bounded").to_le_bytes();
        let mut bytes = Vec::with_capacity(ELEMENT_BYTES);
        match &self.body {
            Body::Value(value) => {
                bytes.extend(self.flags.to_le_bytes());
                bytes.extend(number(position));
                bytes.extend(number(self.key.len()));
                bytes.extend(number(value.len()));
            }
            Body::Child(page) => {
                bytes.extend(number(position));
                bytes.extend(number(self.key.len()));
                bytes.extend(page.to_le_bytes());
            }
        }
        bytes
    }
}

/// The tree of one bucket while it is filled: the unfinished page of each level, leaves first.
#[derive(Default)]
pub(crate) struct Tree {
    levels: Vec<Level>,
}

#[derive(Default)]
struct Level {
    items: Vec<Item>,
    size: usize,
}

impl Tree {
    /// Adds a key, which must come behind all before it.
    ///
    /// # Errors
    /// When key or value are too long for the format, or the disk fails.
    pub(crate) fn put(&mut self, writer: &mut Writer, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(WriteError::KeyTooLong { bytes: key.len() });
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(WriteError::ValueTooLong { bytes: value.len() });
        }
        self.push(writer, 0, Item { flags: 0, key: key.to_vec(), body: Body::Value(value.to_vec()) })
    }

    fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    fn push(&mut self, writer: &mut Writer, height: usize, item: Item) -> Result<(), WriteError> {
        if self.levels.len() == height {
            self.levels.push(Level::default());
        }
        let level = self.levels.get_mut(height).expect("it was just made");
        level.size += item.size();
        level.items.push(item);
        match level.take_full(items_min(height)) {
            Some(full) => self.write(writer, height, &full),
            None => Ok(()),
        }
    }

    /// Writes a page of one level and names it in the level above.
    fn write(&mut self, writer: &mut Writer, height: usize, items: &[Item]) -> Result<(), WriteError> {
        let key = items.first().map(|item| item.key.clone()).unwrap_or_default();
        let page = writer.write_page(kind(height), items)?;
        self.push(writer, height + 1, Item { flags: 0, key, body: Body::Child(page) })
    }

    /// Writes all that is left and returns the root.
    fn finish(mut self, writer: &mut Writer) -> Result<u64, WriteError> {
        let mut height = 0;
        loop {
            let level = self.levels.get_mut(height).map(std::mem::take).unwrap_or_default();
            if self.levels.len() <= height + 1 {
                return writer.write_page(kind(height), &level.items);
            }
            self.write(writer, height, &level.items)?;
            height += 1;
        }
    }
}

impl Level {
    /// Returns the items of a page that is full, as soon as enough others are there for the next one.
    fn take_full(&mut self, items_min: usize) -> Option<Vec<Item>> {
        if HEADER_BYTES + self.size <= PAGE_BYTES {
            return None;
        }
        let mut size = HEADER_BYTES;
        let fits = self.items.iter().take_while(|item| {
            size += item.size();
            size <= PAGE_BYTES
        });
        let count = fits.count().max(items_min);
        if self.items.len() < count + items_min {
            return None;
        }
        let rest = self.items.split_off(count);
        self.size = rest.iter().map(Item::size).sum();
        Some(std::mem::replace(&mut self.items, rest))
    }
}

fn kind(height: usize) -> Kind {
    if height == 0 { Kind::Leaf } else { Kind::Branch }
}

fn items_min(height: usize) -> usize {
    if height == 0 { 1 } else { CHILDREN_MIN }
}
