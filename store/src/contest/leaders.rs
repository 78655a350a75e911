//! Who led a name, from what happened to its entries: each leader, and each value it proclaimed, once and in order.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::mvcc::{Event, EventKind, KeyValue, Revision};

/// The entries for a name, as far as its changes are known.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    entries: BTreeMap<Bytes, KeyValue>,
    /// Mod revision of the last leader that was told: no two values have the same.
    told: Option<Revision>,
}

/// A leader with the revision at which it came to lead or proclaimed its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LedAt {
    pub(crate) revision: Revision,
    pub(crate) leader: KeyValue,
}

impl Leaders {
    /// Starts over from all entries as they are at `revision`. Returns the leader, unless it was told already.
    pub(crate) fn read(&mut self, revision: Revision, entries: Vec<KeyValue>) -> Option<LedAt> {
        self.entries = entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        self.news(revision)
    }

    /// Follows events in order. A revision counts as a whole: of two entries that end with one lease, the second never led.
    pub(crate) fn follow(&mut self, events: Vec<Event>) -> Vec<LedAt> {
        let mut news = Vec::new();
        let mut events = events.into_iter().peekable();
        while let Some(event) = events.next() {
            let revision = event.kv.mod_revision;
            match event.kind {
                EventKind::Put => self.entries.insert(event.kv.key.clone(), event.kv),
                EventKind::Delete => self.entries.remove(&event.kv.key),
            };
            if events.peek().is_none_or(|next| next.kv.mod_revision != revision) {
                news.extend(self.news(revision));
            }
        }
        news
    }

    fn news(&mut self, revision: Revision) -> Option<LedAt> {
        let leader = self.entries.values().min_by_key(|entry| entry.create_revision)?;
        if self.told == Some(leader.mod_revision) {
            return None;
        }
        self.told = Some(leader.mod_revision);
        Some(LedAt { revision, leader: leader.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &'static str, created: i64, modified: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            create_revision: Revision(created),
            mod_revision: Revision(modified),
            ..KeyValue::default()
        }
    }

    fn put(key: &'static str, created: i64, modified: i64) -> Event {
        Event { kind: EventKind::Put, kv: entry(key, created, modified), prev: None }
    }

    fn delete(key: &'static str, revision: i64) -> Event {
        Event { kind: EventKind::Delete, kv: entry(key, 0, revision), prev: None }
    }

    fn shown(news: &[LedAt]) -> Vec<(i64, String)> {
        let name = |led: &LedAt| String::from_utf8(led.leader.key.to_vec()).unwrap();
        news.iter().map(|led| (led.revision.0, name(led))).collect()
    }

    fn check(events: Vec<Event>, expected: &[(i64, &str)]) {
        let expected: Vec<_> = expected.iter().map(|&(revision, key)| (revision, key.to_owned())).collect();
        let (mut whole, mut single) = (Leaders::default(), Leaders::default());
        assert_eq!(shown(&whole.follow(events.clone())), expected);
        // However the events arrive, as long as a revision stays whole.
        let mut found = Vec::new();
        for events in events.chunk_by(|one, two| one.kv.mod_revision == two.kv.mod_revision) {
            found.extend(single.follow(events.to_vec()));
        }
        assert_eq!(shown(&found), expected);
    }

    #[test]
    fn each_leader_and_each_of_its_values_is_told_once() {
        check(
            vec![
                put("a", 2, 2),
                put("b", 3, 3),
                put("a", 2, 4),
                delete("a", 5),
                put("a", 6, 6),
                delete("b", 7),
            ],
            &[(2, "a"), (4, "a"), (5, "b"), (7, "a")],
        );
    }

    #[test]
    fn who_goes_together_with_the_leader_never_led() {
        let events = vec![put("a", 2, 2), put("b", 3, 3), put("c", 4, 4), delete("a", 5), delete("b", 5)];
        check(events, &[(2, "a"), (5, "c")]);
    }

    #[test]
    fn reading_again_tells_only_what_is_new() {
        let mut leaders = Leaders::default();
        assert!(leaders.read(Revision(5), Vec::new()).is_none());
        let first = leaders.read(Revision(6), vec![entry("b", 6, 6), entry("a", 4, 5)]).unwrap();
        assert_eq!(first.leader.key, "a");
        assert_eq!(leaders.read(Revision(8), vec![entry("a", 4, 5)]), None);
        assert_eq!(leaders.read(Revision(9), vec![entry("a", 4, 9)]).unwrap().revision, Revision(9));
    }
}
