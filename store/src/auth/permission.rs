//! Permissions on sets of keys, and the union of many.

use bytes::{BufMut, Bytes, BytesMut};

use crate::mvcc::{KeyRange, RangeEnd};

/// What may be done with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionKind {
    Read,
    Write,
    ReadWrite,
}

impl PermissionKind {
    fn reads(self) -> bool {
        match self {
            Self::Read | Self::ReadWrite => true,
            Self::Write => false,
        }
    }

    fn writes(self) -> bool {
        match self {
            Self::Write | Self::ReadWrite => true,
            Self::Read => false,
        }
    }
}

/// What may be done with the keys of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    pub kind: PermissionKind,
    pub range: KeyRange,
}

impl Permission {
    /// Returns whether the range holds any key and has a start.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let holds_a_key = match &self.range.end {
            RangeEnd::Single | RangeEnd::Unbounded => true,
            RangeEnd::Before(end) => self.range.start < *end,
        };
        holds_a_key && !self.range.start.is_empty()
    }
}

/// What one user may do, over all its roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    read: Coverage,
    write: Coverage,
}

impl Rights {
    pub(super) fn of<'a>(permissions: impl Iterator<Item = (&'a KeyRange, PermissionKind)>) -> Self {
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for (range, kind) in permissions {
            if kind.reads() {
                read.push(Span::of(range));
            }
            if kind.writes() {
                write.push(Span::of(range));
            }
        }
        Self { read: Coverage::of(read), write: Coverage::of(write) }
    }

    pub(super) fn may_read(&self, range: &KeyRange) -> bool {
        self.read.covers(range)
    }

    pub(super) fn may_write(&self, range: &KeyRange) -> bool {
        self.write.covers(range)
    }
}

/// The keys from `start` on, up to but without `end`; `None` means all of them. One key is the span up to its successor, so a
/// permission on a key covers this key and nothing behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    start: Bytes,
    end: Option<Bytes>,
}

impl Span {
    fn of(range: &KeyRange) -> Self {
        let end = match &range.end {
            RangeEnd::Single => Some(successor(&range.start)),
            // A range without keys is asked for by whoever may ask for its start.
            RangeEnd::Before(end) if *end <= range.start => Some(successor(&range.start)),
            RangeEnd::Before(end) => Some(end.clone()),
            RangeEnd::Unbounded => None,
        };
        Self { start: range.start.clone(), end }
    }

    /// Whether nothing lies between this span and one that starts at `start` or later.
    fn reaches(&self, start: &Bytes) -> bool {
        self.end.as_ref().is_none_or(|end| start <= end)
    }

    fn ends_before(&self, other: &Self) -> bool {
        match (&self.end, &other.end) {
            (Some(end), Some(other)) => end < other,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

/// A set of keys as spans in order, with a gap between any two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Coverage {
    spans: Vec<Span>,
}

impl Coverage {
    fn of(mut spans: Vec<Span>) -> Self {
        spans.sort_by(|first, second| first.start.cmp(&second.start));
        let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            match merged.last_mut().filter(|last| last.reaches(&span.start)) {
                Some(last) if last.ends_before(&span) => last.end = span.end,
                Some(_) => {}
                None => merged.push(span),
            }
        }
        Self { spans: merged }
    }

    fn covers(&self, range: &KeyRange) -> bool {
        let asked = Span::of(range);
        let after = self.spans.partition_point(|span| span.start <= asked.start);
        let last = after.checked_sub(1).and_then(|index| self.spans.get(index));
        last.is_some_and(|span| !span.ends_before(&asked))
    }
}

/// The first key behind `key`.
fn successor(key: &Bytes) -> Bytes {
    let mut successor = BytesMut::with_capacity(key.len() + 1);
    successor.put_slice(key);
    successor.put_u8(0);
    successor.freeze()
}
