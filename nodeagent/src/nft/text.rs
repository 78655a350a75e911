//! Renders tables and changes in the language of `nft`. Pure.

use std::fmt::Write as _;

use crate::nft::{Batch, Chain, Element, Table};

impl Table {
    /// Renders the transaction that puts this table in place of whatever has its name.
    pub(crate) fn replace_text(&self) -> String {
        let name = &self.name;
        let mut text = format!("add table ip {name}\ndelete table ip {name}\ntable ip {name} {{\n");
        for declaration in &self.declarations {
            let (kind, set, type_clause) = (declaration.kind, declaration.name, &declaration.type_clause);
            push(&mut text, format_args!("\t{kind} {set} {{ {type_clause}; }}\n"));
        }
        for chain in &self.chains {
            push_chain(&mut text, chain);
        }
        text.push_str("}\n");
        push_elements(
            &mut text,
            "add",
            name,
            self.rows.iter().map(|(element, value)| (element, value.as_deref())),
        );
        text
    }
}

impl Batch {
    /// Renders the transaction that makes this change to a table.
    pub(crate) fn text(&self, table: &str) -> String {
        let mut text = String::new();
        if !self.chains.is_empty() {
            push(&mut text, format_args!("table ip {table} {{\n"));
            self.chains.iter().for_each(|chain| push_chain(&mut text, chain));
            text.push_str("}\n");
        }
        push_elements(&mut text, "delete", table, self.deletes.iter().map(|element| (element, None)));
        push_elements(&mut text, "add", table, self.adds.iter().map(|(e, value)| (e, value.as_deref())));
        text
    }
}

fn push_chain(text: &mut String, chain: &Chain) {
    push(text, format_args!("\tchain {} {{\n", chain.name));
    for rule in chain.hook.into_iter().chain(chain.rules.iter().map(String::as_str)) {
        push(text, format_args!("\t\t{rule}\n"));
    }
    text.push_str("\t}\n");
}

/// One statement per set: `nft` handles long lists far better than many statements.
fn push_elements<'a>(
    text: &mut String,
    verb: &str,
    table: &str,
    elements: impl Iterator<Item = (&'a Element, Option<&'a str>)>,
) {
    let mut open: Option<&str> = None;
    for (Element { set, key }, value) in elements {
        if open == Some(set) {
            text.push_str(", ");
        } else {
            let end = if open.is_some() { " }\n" } else { "" };
            push(text, format_args!("{end}{verb} element ip {table} {set} {{ "));
            open = Some(set);
        }
        text.push_str(key);
        if let Some(value) = value {
            push(text, format_args!(" : {value}"));
        }
    }
    if open.is_some() {
        text.push_str(" }\n");
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{Declaration, Rows};

    fn table() -> Table {
        let mut rows = Rows::default();
        rows.map("svcs", "10.96.0.1 . tcp . 80".to_owned(), "goto lb-1".to_owned());
        rows.map("svcs", "10.96.0.2 . tcp . 80".to_owned(), "goto lb-1".to_owned());
        rows.member("vips", "10.96.0.10 . udp . 53".to_owned());
        let declaration =
            |kind, name, type_clause: &str| Declaration { kind, name, type_clause: type_clause.to_owned() };
        Table {
            name: "keelson-deadbeef".to_owned(),
            declarations: vec![
                declaration("map", "svcs", "type ipv4_addr . inet_proto . inet_service : verdict"),
                declaration("set", "vips", "type ipv4_addr . inet_proto . inet_service"),
            ],
            chains: vec![
                Chain { name: "lb-1".to_owned(), hook: None, rules: vec!["accept".to_owned()] },
                Chain {
                    name: "output".to_owned(),
                    hook: Some("type nat hook output priority -100;"),
                    rules: vec!["jump lb-1".to_owned()],
                },
            ],
            rows,
        }
    }

    #[test]
    fn a_table_is_replaced_in_one_transaction() {
        insta::assert_snapshot!(table().replace_text(), @r"
        add table ip keelson-deadbeef
        delete table ip keelson-deadbeef
        table ip keelson-deadbeef {
        	map svcs { type ipv4_addr . inet_proto . inet_service : verdict; }
        	set vips { type ipv4_addr . inet_proto . inet_service; }
        	chain lb-1 {
        		accept
        	}
        	chain output {
        		type nat hook output priority -100;
        		jump lb-1
        	}
        }
        add element ip keelson-deadbeef svcs { 10.96.0.1 . tcp . 80 : goto lb-1, 10.96.0.2 . tcp . 80 : goto lb-1 }
        add element ip keelson-deadbeef vips { 10.96.0.10 . udp . 53 }
        ");
    }

    #[test]
    fn a_change_makes_chains_then_deletes_then_adds() {
        let mut next = Rows::default();
        next.map("svcs", "10.96.0.1 . tcp . 80".to_owned(), "goto lb-2".to_owned());
        next.member("vips", "10.96.0.10 . udp . 53".to_owned());
        let mut batch = table().rows.diff(&next);
        batch.chains.push(Chain { name: "lb-2".to_owned(), hook: None, rules: vec!["accept".to_owned()] });
        insta::assert_snapshot!(batch.text("t"), @r"
        table ip t {
        	chain lb-2 {
        		accept
        	}
        }
        delete element ip t svcs { 10.96.0.1 . tcp . 80, 10.96.0.2 . tcp . 80 }
        add element ip t svcs { 10.96.0.1 . tcp . 80 : goto lb-2 }
        ");
    }
}
