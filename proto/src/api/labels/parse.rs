//! The text grammar: `a=b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`, `a>1`, `a<2`, joined by commas.
//!
//! Words such as `in` are operators only where an operator may stand, so a label may be called `in`.

use std::collections::BTreeSet;

use super::{LabelSelectorError, Operator, REQUIREMENTS_MAX, Requirement, check_key};

/// Longest selector text, far above what fits a request line.
const TEXT_LENGTH_MAX: usize = 64 * 1024;

/// Parses a selector's text into requirements, in the order they were written.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, LabelSelectorError> {
    if text.len() > TEXT_LENGTH_MAX {
        return Err(LabelSelectorError("selector is too long".to_owned()));
    }
    let mut parser = Parser { tokens: tokenize(text), position: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            Token::Word(_) | Token::Symbol("!") => {
                let requirement = parser
                    .requirement()
                    .map_err(|error| LabelSelectorError(format!("unable to parse requirement: {error}")))?;
                if requirements.len() == REQUIREMENTS_MAX {
                    return Err(LabelSelectorError(format!("more than {REQUIREMENTS_MAX} requirements")));
                }
                requirements.push(requirement);
                match parser.next() {
                    Token::End => return Ok(requirements),
                    Token::Symbol(",") => match parser.peek() {
                        Token::Word(_) | Token::Symbol("!") => {}
                        other => return Err(other.unexpected(", expected: identifier after ','")),
                    },
                    other => return Err(other.unexpected(", expected: ',' or 'end of string'")),
                }
            }
            Token::End => return Ok(requirements),
            other => return Err(other.unexpected(", expected: !, identifier, or 'end of string'")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Symbol(&'static str),
    End,
}

impl Token<'_> {
    fn unexpected(self, expected: &str) -> LabelSelectorError {
        let found = match self {
            Token::Word(word) => word,
            Token::Symbol(symbol) => symbol,
            Token::End => "",
        };
        LabelSelectorError(format!("found '{found}'{expected}"))
    }
}

/// Longer symbols first, so that `==` is not read as two.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

fn tokenize(text: &str) -> Vec<Token<'_>> {
    let is_space = |character: char| matches!(character, ' ' | '\t' | '\r' | '\n');
    let is_symbol = |character: char| matches!(character, '=' | '!' | '(' | ')' | ',' | '>' | '<');
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            tokens.push(Token::Symbol(symbol));
            rest = rest.strip_prefix(symbol).unwrap_or_default();
        } else {
            let end = rest.find(|c: char| is_space(c) || is_symbol(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            tokens.push(Token::Word(word));
            rest = behind;
        }
        rest = rest.trim_start_matches(is_space);
    }
    tokens
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    position: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.position).copied().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, LabelSelectorError> {
        let negated = self.peek() == Token::Symbol("!");
        if negated {
            self.position += 1;
        }
        let key = match self.next() {
            Token::Word(word) => word,
            other => return Err(other.unexpected(", expected: identifier")),
        };
        check_key(key)?;
        if negated {
            return Requirement::checked(key, Operator::DoesNotExist, BTreeSet::new());
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Requirement::checked(key, Operator::Exists, BTreeSet::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.value_list()?,
            Operator::Exists | Operator::DoesNotExist => BTreeSet::new(),
            Operator::Equals | Operator::NotEquals | Operator::GreaterThan | Operator::LessThan => {
                [self.exact_value()?].into()
            }
        };
        Requirement::checked(key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, LabelSelectorError> {
        match self.next() {
            Token::Word("in") => Ok(Operator::In),
            Token::Word("notin") => Ok(Operator::NotIn),
            Token::Symbol("=" | "==") => Ok(Operator::Equals),
            Token::Symbol("!=") => Ok(Operator::NotEquals),
            Token::Symbol(">") => Ok(Operator::GreaterThan),
            Token::Symbol("<") => Ok(Operator::LessThan),
            other => Err(other.unexpected(", expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn exact_value(&mut self) -> Result<String, LabelSelectorError> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(String::new());
        }
        match self.next() {
            Token::Word(word) => Ok(word.to_owned()),
            other => Err(other.unexpected(", expected: identifier")),
        }
    }

    /// Reads `(a,b)`; empty places between commas are empty values.
    fn value_list(&mut self) -> Result<BTreeSet<String>, LabelSelectorError> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(other.unexpected(" expected: '('")),
        }
        let mut values = BTreeSet::new();
        loop {
            match self.peek() {
                Token::Word(word) => {
                    values.insert(word.to_owned());
                    self.position += 1;
                }
                Token::Symbol("," | ")") => {
                    values.insert(String::new());
                }
                other => return Err(other.unexpected(", expected: ',', ')' or identifier")),
            }
            match self.next() {
                Token::Symbol(",") => {}
                Token::Symbol(")") => return Ok(values),
                other => return Err(other.unexpected(", expected: ',' or ')'")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Selector;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        Selector::parse(selector)
            .unwrap_or_else(|error| panic!("{selector}: {error}"))
            .matches_with(|key| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
    }

    #[test]
    fn every_operator() {
        let labels = [("a", "1"), ("in", "in"), ("n", "5")];
        for selector in [
            "",
            "a=1",
            "a==1",
            "a!=2",
            "b!=1",
            "a",
            "!b",
            "a in (1,2)",
            "b notin (1)",
            "a notin (2)",
            "in in (in)",
            "n>4",
            "n<6",
            "a = 1 , n = 5",
            "a in (,1)",
        ] {
            assert!(matches(selector, &labels), "{selector}");
        }
        for selector in ["a=2", "a=", "b", "!a", "a in ()", "a notin (1)", "n>5"] {
            assert!(!matches(selector, &labels), "{selector}");
        }
    }

    #[test]
    fn errors_are_upstreams() {
        for (selector, expected) in [
            ("a in 1", "unable to parse requirement: found '1' expected: '('"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            ("a>=3", "unable to parse requirement: found '=', expected: identifier"),
            ("=1", "found '=', expected: !, identifier, or 'end of string'"),
            ("a=1,", "found '', expected: identifier after ','"),
            ("a 1", "unable to parse requirement: found '1', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a in (1", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a!b", "unable to parse requirement: found '!', expected: in, notin, =, ==, !=, gt, lt"),
        ] {
            assert_eq!(Selector::parse(selector).unwrap_err().to_string(), expected, "{selector}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_accepted_or_refused(text in "[a-c=!(),<> in]{0,24}|\\PC*") {
            if let Ok(selector) = Selector::parse(&text) {
                prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
            }
        }
    }
}
