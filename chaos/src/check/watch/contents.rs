//! What each event says: filter, prev-kv, is-create, and that the log has it just so.

use super::{Known, Shown, Violation, event_name, name, violation, wants_key, wants_kind};
use crate::history::{KeyState, Watch};

pub(super) fn check(watch: &Watch, shown: &[Shown<'_>], known: &Known<'_>, violations: &mut Vec<Violation>) {
    for event in shown {
        let broken = problem(watch, event, known);
        violations.extend(broken.map(|(rule, what)| {
            let sentence = format!("{} shows {}, {what}", name(watch), event_name(event));
            violation(rule, sentence, watch, &[event.noticed.index])
        }));
    }
}

/// What is wrong with an event, the worst first.
fn problem(watch: &Watch, shown: &Shown<'_>, known: &Known<'_>) -> Option<(&'static str, String)> {
    let (event, versions) = (shown.event, known.versions);
    if !wants_key(&watch.spec, &event.key) {
        return Some(("filter", "a key that it was not asked for".to_owned()));
    }
    if !wants_kind(&watch.spec, event.state.is_some()) {
        return Some(("filter", "a kind of event that it was not to show".to_owned()));
    }
    let before = versions.at(&event.key, event.revision - 1);
    if event.state.as_ref().is_some_and(is_create) && before.is_some() {
        return Some(("is-create", "as the creation of a key that was there".to_owned()));
    }
    if event.state.as_ref().is_some_and(|state| !is_create(state)) && before.is_none() {
        return Some(("is-create", "as the change of a key that was not there".to_owned()));
    }
    let logged = versions.change(&event.key, event.revision);
    if logged != Some(event.state.as_ref()) {
        let found = logged.map_or("nothing of the key".to_owned(), |state| told(state));
        let sentence = format!("as {}, where the log has {found}", told(event.state.as_ref()));
        return Some(("reliable", sentence));
    }
    let expected = if watch.spec.prev_kv { before } else { None };
    let may_be_forgotten = event.revision <= known.compactions.before(shown.noticed.index);
    if event.prev.as_ref() != expected && !(event.prev.is_none() && may_be_forgotten) {
        let sentence = format!("with {} before it instead of {}", told(event.prev.as_ref()), told(expected));
        return Some(("prev-kv", sentence));
    }
    None
}

/// What etcd's clients take for a creation.
fn is_create(state: &KeyState) -> bool {
    state.create_revision == state.mod_revision
}

fn told(state: Option<&KeyState>) -> String {
    match state {
        None => "nothing".to_owned(),
        Some(state) => format!("{:?} (version {} of {})", state.value, state.version, state.mod_revision),
    }
}
