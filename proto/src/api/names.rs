//! Name rules of the API, each answering with upstream's texts.
//!
//! Every rule returns its findings; an empty list means the value is valid. The texts are part of the API: they reach users
//! in `metav1.Status` messages.

/// Longest DNS label (RFC 1123).
pub const LABEL_LENGTH_MAX: usize = 63;
/// Longest DNS subdomain that the API accepts.
pub const SUBDOMAIN_LENGTH_MAX: usize = 253;
/// Longest port name (RFC 6335).
const PORT_NAME_LENGTH_MAX: usize = 15;

const LABEL_FORMAT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_1035_FORMAT: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FORMAT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_NAME_FORMAT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE_FORMAT: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const CONFIG_KEY_FORMAT: &str = "[-._a-zA-Z0-9]+";

/// Checks a lower case RFC 1123 label (namespaces, container names).
pub fn dns_label(value: &str) -> Vec<String> {
    let mut findings = too_long(value, LABEL_LENGTH_MAX, "characters");
    if !is_dns_label(value) {
        if is_dns_subdomain(value) {
            findings.push("must not contain dots".to_owned());
        } else {
            findings.push(pattern(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
                 end with an alphanumeric character",
                LABEL_FORMAT,
                &["my-name", "123-abc"],
            ));
        }
    }
    findings
}

/// Checks a label that begins with a letter (RFC 1035).
pub fn dns_1035_label(value: &str) -> Vec<String> {
    let mut findings = too_long(value, LABEL_LENGTH_MAX, "characters");
    if !is_dns_label(value) || !value.starts_with(|first: char| first.is_ascii_lowercase()) {
        findings.push(pattern(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            LABEL_1035_FORMAT,
            &["my-name", "abc-123"],
        ));
    }
    findings
}

/// Checks a lower case RFC 1123 subdomain (the name of most kinds).
pub fn dns_subdomain(value: &str) -> Vec<String> {
    subdomain_findings(value, "characters")
}

fn subdomain_findings(value: &str, unit: &str) -> Vec<String> {
    let mut findings = too_long(value, SUBDOMAIN_LENGTH_MAX, unit);
    if !is_dns_subdomain(value) {
        findings.push(pattern(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
             and end with an alphanumeric character",
            SUBDOMAIN_FORMAT,
            &["example.com"],
        ));
    }
    findings
}

/// Checks a name that only has to fit into a path (roles and their bindings).
pub fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|illegal| value.contains(**illegal))
        .map(|illegal| format!("may not contain '{illegal}'"))
        .collect()
}

/// Checks a label or annotation key: a name with an optional DNS subdomain before a slash.
pub fn qualified_name(value: &str) -> Vec<String> {
    const MUST: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                        alphanumeric character";
    const EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];
    let mut findings = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                findings.push("prefix part must be non-empty".to_owned());
            } else {
                let texts = subdomain_findings(prefix, "bytes");
                findings.extend(texts.into_iter().map(|text| format!("prefix part {text}")));
            }
            *name
        }
        _ => {
            return vec![format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                pattern(MUST, QUALIFIED_NAME_FORMAT, EXAMPLES)
            )];
        }
    };
    if name.is_empty() {
        findings.push("name part must be non-empty".to_owned());
    } else {
        findings.extend(
            too_long(name, LABEL_LENGTH_MAX, "bytes").into_iter().map(|text| format!("name part {text}")),
        );
    }
    if !is_qualified_name_part(name) {
        findings.push(format!("name part {}", pattern(MUST, QUALIFIED_NAME_FORMAT, EXAMPLES)));
    }
    findings
}

/// Checks the value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut findings = too_long(value, LABEL_LENGTH_MAX, "bytes");
    if !value.is_empty() && !is_qualified_name_part(value) {
        findings.push(pattern(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
             and end with an alphanumeric character",
            LABEL_VALUE_FORMAT,
            &["MyValue", "my_value", "12345"],
        ));
    }
    findings
}

/// Checks a key of a ConfigMap or Secret, which becomes a file name.
pub fn config_key(value: &str) -> Vec<String> {
    let mut findings = too_long(value, SUBDOMAIN_LENGTH_MAX, "characters");
    let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_');
    if value.is_empty() || !value.chars().all(allowed) {
        findings.push(pattern(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            CONFIG_KEY_FORMAT,
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match value {
        "." => findings.push("must not be '.'".to_owned()),
        ".." => findings.push("must not be '..'".to_owned()),
        _ if value.starts_with("..") => findings.push("must not start with '..'".to_owned()),
        _ => {}
    }
    findings
}

/// Checks the name of an environment variable.
pub fn environment_name(value: &str) -> Vec<String> {
    if value.is_empty() || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        return vec![
            "a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned(),
        ];
    }
    Vec::new()
}

/// Checks the name of a port (IANA_SVC_NAME of RFC 6335).
pub fn port_name(value: &str) -> Vec<String> {
    let mut findings = too_long(value, PORT_NAME_LENGTH_MAX, "characters");
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !value.bytes().all(allowed) {
        findings.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|byte| byte.is_ascii_lowercase()) {
        findings.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        findings.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        findings.push("must not begin or end with a hyphen".to_owned());
    }
    findings
}

/// Checks a port number.
pub fn port_number(value: i64) -> Vec<String> {
    if (1..=65535).contains(&value) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

/// Checks an IP address; leading zeros are refused as `std` does.
pub fn ip_address(value: &str) -> Vec<String> {
    if value.parse::<std::net::IpAddr>().is_ok() {
        Vec::new()
    } else {
        vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()]
    }
}

/// Reports whether `value` has the form of a lower case DNS label, of any length.
pub fn is_dns_label(value: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !value.is_empty() && value.bytes().all(allowed) && !value.starts_with('-') && !value.ends_with('-')
}

/// Reports whether `value` has the form of a lower case DNS subdomain, of any length.
pub fn is_dns_subdomain(value: &str) -> bool {
    value.split('.').all(is_dns_label)
}

fn is_qualified_name_part(value: &str) -> bool {
    let edge = |character: char| character.is_ascii_alphanumeric();
    let allowed = |character: char| edge(character) || matches!(character, '-' | '_' | '.');
    value.starts_with(edge) && value.ends_with(edge) && value.chars().all(allowed)
}

fn too_long(value: &str, limit: usize, unit: &str) -> Vec<String> {
    if value.len() > limit { vec![format!("must be no more than {limit} {unit}")] } else { Vec::new() }
}

/// Formats the text of a failed pattern the way upstream does, doubled spaces included.
fn pattern(must: &str, format: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{must} (e.g. {}regex used for validation is '{format}')", examples.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_subdomains() {
        for valid in ["a", "a-b", "0", "a1-2b"] {
            assert!(dns_label(valid).is_empty(), "{valid}");
        }
        for invalid in ["", "-a", "a-", "A", "a_b", "é"] {
            assert_eq!(dns_label(invalid).len(), 1, "{invalid}");
        }
        assert_eq!(dns_label("a.b"), ["must not contain dots"]);
        assert_eq!(dns_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
        assert!(dns_subdomain("a.b-c.d").is_empty());
        assert_eq!(dns_subdomain("a..b").len(), 1);
        assert_eq!(dns_1035_label("1a").len(), 1);
    }

    #[test]
    fn qualified_names_have_an_optional_prefix() {
        assert!(qualified_name("example.com/My_Name.x").is_empty());
        assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"]);
        assert_eq!(qualified_name("x/").len(), 2);
        assert_eq!(qualified_name("a/b/c").len(), 1);
    }

    #[test]
    fn keys_that_become_file_names_stay_in_their_folder() {
        assert!(config_key(".a").is_empty());
        assert_eq!(config_key(".."), ["must not be '..'"]);
        assert_eq!(config_key("..a"), ["must not start with '..'"]);
        assert_eq!(config_key("a/b").len(), 1);
    }

    #[test]
    fn port_names() {
        assert!(port_name("http-1").is_empty());
        assert_eq!(port_name("1").len(), 1);
        assert_eq!(port_name("a--b-").len(), 2);
    }
}
