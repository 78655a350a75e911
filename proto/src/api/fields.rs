//! Field selectors: `metadata.name=a,status.phase!=Running`.
//!
//! Only equality exists, and a field that an object lacks reads as the empty string. Which fields a kind supports is the
//! registry's business.

use std::fmt;

/// More terms than this are refused: no client needs them and each costs per object.
const TERMS_MAX: usize = 64;

/// A conjunction of field terms; without terms it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    terms: Vec<Term>,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub field: String,
    pub operator: Operator,
    pub value: String,
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equals,
    NotEquals,
}

/// Why a text is no field selector; the texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term { selector: String, term: String },
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    #[error("invalid field selector: unescaped character in value: {0}")]
    Unescaped(char),
    #[error("invalid field selector: more than {TERMS_MAX} terms")]
    TooManyTerms,
}

impl Selector {
    /// Parses the text of a `fieldSelector` parameter.
    ///
    /// # Errors
    /// The caller's mistake, for a 400 answer.
    pub fn parse(text: &str) -> Result<Self, FieldSelectorError> {
        let mut terms = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            if terms.len() == TERMS_MAX {
                return Err(FieldSelectorError::TooManyTerms);
            }
            terms.push(parse_term(text, term)?);
        }
        Ok(Self { terms })
    }

    /// Returns the terms, in the order they were written.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Reports whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Returns the value that `field` must have, when the selector says so.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|term| term.field == field && term.operator == Operator::Equals)
            .map(|term| term.value.as_str())
    }

    /// Reports whether an object matches, given a look-up of its fields; an absent field is the empty string.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|term| {
            let equal = field(&term.field).unwrap_or_default() == term.value;
            match term.operator {
                Operator::Equals => equal,
                Operator::NotEquals => !equal,
            }
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operator = match term.operator {
                Operator::Equals => "=",
                Operator::NotEquals => "!=",
            };
            write!(f, "{comma}{}{operator}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

/// Splits at commas that are not escaped.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, character) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if character == ',' {
            terms.push(text.get(start..index).unwrap_or_default());
            start = index + 1;
        }
    }
    terms.push(text.get(start..).unwrap_or_default());
    terms
}

fn parse_term(selector: &str, term: &str) -> Result<Term, FieldSelectorError> {
    for (index, _) in term.char_indices() {
        let rest = term.get(index..).unwrap_or_default();
        for (text, operator) in
            [("!=", Operator::NotEquals), ("==", Operator::Equals), ("=", Operator::Equals)]
        {
            if let Some(value) = rest.strip_prefix(text) {
                let field = term.get(..index).unwrap_or_default().to_owned();
                return Ok(Term { field, operator, value: unescape(value)? });
            }
        }
    }
    Err(FieldSelectorError::Term { selector: selector.to_owned(), term: term.to_owned() })
}

fn unescape(value: &str) -> Result<String, FieldSelectorError> {
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => text.push(escaped),
                Some(other) => return Err(FieldSelectorError::Escape(format!("\\{other}"))),
                None => return Err(FieldSelectorError::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(character)),
            _ => text.push(character),
        }
    }
    Ok(text)
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, fields: &[(&str, &str)]) -> bool {
        Selector::parse(selector)
            .unwrap()
            .matches(|field| fields.iter().find(|(name, _)| *name == field).map(|(_, value)| *value))
    }

    #[test]
    fn terms_are_conjunctive_and_absent_is_empty() {
        let object = [("metadata.name", "a"), ("status.phase", "Running")];
        assert!(matches("metadata.name=a,status.phase==Running", &object));
        assert!(!matches("metadata.name=a,metadata.name=b", &object));
        assert!(matches("spec.nodeName=", &object));
        assert!(matches("spec.nodeName!=x,", &object));
        assert!(matches("", &object));
    }

    #[test]
    fn escapes_protect_commas() {
        assert!(matches(r"metadata.name=a\,b", &[("metadata.name", "a,b")]));
        assert_eq!(
            Selector::parse(r"a=b\x").unwrap_err().to_string(),
            r"invalid field selector: invalid escape sequence: \x"
        );
        let selector = Selector::parse(r"a=b\,c").unwrap();
        assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn a_term_without_operator_is_refused() {
        assert_eq!(
            Selector::parse("metadata.name").unwrap_err().to_string(),
            "invalid selector: 'metadata.name'; can't understand 'metadata.name'"
        );
    }
}
