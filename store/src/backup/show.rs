//! What `snapshot status` shows, in etcdctl's forms.

use super::read::SnapshotStatus;

/// Forms of what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    Simple,
    Table,
    Json,
}

/// Returns the text of one form.
pub(super) fn shown(status: &SnapshotStatus, output: Output) -> String {
    let size = human(status.total_size);
    let fields =
        [format!("{:x}", status.hash), status.revision.to_string(), status.total_keys.to_string(), size];
    match output {
        Output::Simple => fields.join(", "),
        Output::Json => serde_json::to_string(status).expect("numbers and text are JSON"),
        Output::Table => table(["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"], &fields),
    }
}

/// Draws a table of one row as etcdctl does: heads in the middle, fields to the right.
fn table(heads: [&str; 4], fields: &[String; 4]) -> String {
    let (mut line, mut head_line, mut row) = (String::new(), String::new(), String::new());
    for (head, field) in heads.iter().zip(fields) {
        let width = head.len().max(field.len());
        line += &format!("+-{:-<width$}-", "");
        head_line += &format!("| {head:^width$} ");
        row += &format!("| {field:>width$} ");
    }
    format!("{line}+\n{head_line}|\n{line}+\n{row}|\n{line}+")
}

/// Returns a size as etcdctl shows it: two digits, in powers of a thousand.
fn human(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 1_u64;
    let mut index = 0;
    while bytes / unit >= 1000 && index + 1 < units.len() {
        unit = unit.saturating_mul(1000);
        index += 1;
    }
    let name = units.get(index).copied().unwrap_or_default();
    let tenths = (u128::from(bytes) * 10 + u128::from(unit) / 2) / u128::from(unit);
    if tenths < 100 {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        format!("{} {name}", (tenths + 5) / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_as_etcdctl_shows_them() {
        let cases = [(9, "9 B"), (10, "10 B"), (999, "999 B"), (1000, "1.0 kB"), (24_576, "25 kB")];
        let larger =
            [(81_920, "82 kB"), (1_234_567, "1.2 MB"), (94_000_000, "94 MB"), (5_000_000_000, "5.0 GB")];
        for (bytes, shown) in cases.into_iter().chain(larger) {
            assert_eq!(human(bytes), shown);
        }
    }

    #[test]
    fn the_three_forms_are_etcdctls() {
        let status = SnapshotStatus {
            hash: 0xfe01_cf57,
            revision: 10,
            total_keys: 7,
            total_size: 2_105_344,
            version: "3.6.0".to_owned(),
        };
        assert_eq!(shown(&status, Output::Simple), "fe01cf57, 10, 7, 2.1 MB");
        let json = r#"{"hash":4261531479,"revision":10,"totalKey":7,"totalSize":2105344,"version":"3.6.0"}"#;
        assert_eq!(shown(&status, Output::Json), json);
        let table = "+----------+----------+------------+------------+\n\
                     |   HASH   | REVISION | TOTAL KEYS | TOTAL SIZE |\n\
                     +----------+----------+------------+------------+\n\
                     | fe01cf57 |       10 |          7 |     2.1 MB |\n\
                     +----------+----------+------------+------------+";
        assert_eq!(shown(&status, Output::Table), table);
    }
}
