//! The CRI log format: `<RFC 3339 time> <stream> <tags> <text>`. Tag `P` marks a part of a longer line, `F` its end.

use jiff::Timestamp;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) time: Timestamp,
    /// The time as written, so that it is shown unchanged.
    pub(super) time_text: &'a str,
    pub(super) ends_line: bool,
    pub(super) text: &'a [u8],
}

/// Reads a record without its newline; `None` for anything else, which a crash can leave at the end of a file.
pub(super) fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time_text = std::str::from_utf8(fields.next()?).ok()?;
    let _stream = fields.next()?;
    let tags = fields.next()?;
    let text = fields.next().unwrap_or_default();
    let time = time_text.parse().ok()?;
    Some(Record { time, time_text, ends_line: tags.split(|byte| *byte == b':').next() != Some(b"P"), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_understood() {
        let record = parse(b"2026-01-02T03:04:05.123456789Z stdout F hello  world").unwrap();
        assert_eq!((record.text, record.ends_line), (&b"hello  world"[..], true));
        assert!(!parse(b"2026-01-02T03:04:05Z stderr P part").unwrap().ends_line);
        assert_eq!(parse(b"2026-01-02T03:04:05Z stderr F").unwrap().text, b"");
        for bad in [&b"x stdout F a"[..], b"", b"2026-01-02T03:04:05Z"] {
            assert_eq!(parse(bad), None);
        }
    }
}
