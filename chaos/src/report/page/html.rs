//! Text as HTML.

use crate::report::recorded::Mark;

/// Escapes what a reader, a client or a store has said: none of it is markup.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Escapes JSON for a `script` element: no text in it can end the element.
pub(crate) fn escape_json(text: &str) -> String {
    text.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// Shortens a text to what people read.
pub(crate) fn shorten(text: &str, letters_max: usize) -> String {
    match text.char_indices().nth(letters_max) {
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A number with its thousands apart.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push('\u{202f}');
        }
        shown.push(digit);
    }
    shown
}

/// A length of time in the unit that suits it.
pub(crate) fn duration(nanoseconds: u64) -> String {
    let seconds = std::time::Duration::from_nanos(nanoseconds).as_secs_f64();
    match seconds {
        seconds if seconds >= 3600.0 => format!("{:.1} h", seconds / 3600.0),
        seconds if seconds >= 100.0 => format!("{:.0} s", seconds),
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds if seconds >= 0.1 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{:.1} ms", seconds * 1e3),
    }
}

/// The verdict as a small coloured word.
pub(crate) fn badge(mark: Mark) -> String {
    format!("<span class=\"badge {0}\">{0}</span>", mark.word())
}

/// A whole page: nothing in it comes from elsewhere.
pub(crate) fn document(title: &str, body: &str, script: &str) -> String {
    let style = include_str!("style.css");
    let script = if script.is_empty() { String::new() } else { format!("<script>\n{script}</script>\n") };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:\">\n\
         <title>{}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n{script}</body>\n</html>\n",
        escape(title),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_said_is_markup() {
        assert_eq!(escape("<a b='c' d=\"e\">&"), "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;");
        assert_eq!(escape_json(r#"["</script>"]"#), r#"["\u003c/script>"]"#);
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(thousands(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(thousands(123), "123");
        let shown: Vec<String> = [1_500_000, 250_000_000, 61_200_000_000].map(duration).into();
        assert_eq!(shown, ["1.5 ms", "250 ms", "61.2 s"]);
        assert_eq!(shorten("größer", 3), "grö …");
        assert_eq!(shorten("größer", 6), "größer");
    }
}
