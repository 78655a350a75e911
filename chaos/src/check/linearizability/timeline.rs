//! Invocations and returns in the order of time, as a linked list: taking an operation out and putting it back cost nothing.

use super::model::{Model, Timed};

/// Position before the first event.
const HEAD: usize = 0;

/// An event of the list. Numbers are those of the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Invocation(usize),
    Return(usize),
}

/// Where the events of one operation stand. An operation of unknown fate does not return.
#[derive(Clone, Copy, Debug)]
struct Place {
    invoked: usize,
    returned: Option<usize>,
}

/// The events that have not been taken out. Positions grow with time and do not change.
pub(super) struct Timeline {
    events: Vec<Option<Event>>,
    next: Vec<usize>,
    previous: Vec<usize>,
    places: Vec<Place>,
}

impl Timeline {
    pub(super) fn new<M: Model>(operations: &[Timed<M>]) -> Self {
        let mut order: Vec<(u64, bool, Event)> = Vec::with_capacity(operations.len() * 2);
        for (number, operation) in operations.iter().enumerate() {
            order.push((operation.invoked_at, false, Event::Invocation(number)));
            if let Some((returned_at, _)) = operation.returned {
                order.push((returned_at, true, Event::Return(number)));
            }
        }
        // At one time invocations come first: what cannot be told apart counts as concurrent.
        order.sort_by_key(|&(time, is_return, _)| (time, is_return));
        let count = order.len();
        let mut places = vec![Place { invoked: HEAD, returned: None }; operations.len()];
        let mut events = vec![None];
        for (position, (_, _, event)) in (1..).zip(order) {
            match event {
                Event::Invocation(number) => {
                    if let Some(place) = places.get_mut(number) {
                        place.invoked = position;
                    }
                }
                Event::Return(number) => {
                    if let Some(place) = places.get_mut(number) {
                        place.returned = Some(position);
                    }
                }
            }
            events.push(Some(event));
        }
        // The last event is followed by a position that holds none.
        events.push(None);
        let next = (1..=count + 2).collect();
        let previous = std::iter::once(HEAD).chain(0..=count).collect();
        Self { events, next, previous, places }
    }

    /// Returns the first position.
    pub(super) fn first(&self) -> usize {
        self.after(HEAD)
    }

    /// Returns the position behind another.
    pub(super) fn after(&self, position: usize) -> usize {
        self.next.get(position).copied().unwrap_or(position)
    }

    /// Returns the event at a position, `None` behind the last one.
    pub(super) fn event(&self, position: usize) -> Option<Event> {
        self.events.get(position).copied().flatten()
    }

    /// Returns where an operation was invoked.
    pub(super) fn invoked(&self, operation: usize) -> usize {
        self.places.get(operation).map_or(HEAD, |place| place.invoked)
    }

    /// Takes the events of an operation out.
    pub(super) fn take(&mut self, operation: usize) {
        let Some(place) = self.places.get(operation).copied() else { return };
        self.unlink(place.invoked);
        if let Some(returned) = place.returned {
            self.unlink(returned);
        }
    }

    /// Puts the events of the operation back that was taken last.
    pub(super) fn put_back(&mut self, operation: usize) {
        let Some(place) = self.places.get(operation).copied() else { return };
        if let Some(returned) = place.returned {
            self.link(returned);
        }
        self.link(place.invoked);
    }

    fn unlink(&mut self, position: usize) {
        let (before, behind) = self.neighbours(position);
        self.join(before, behind);
    }

    fn link(&mut self, position: usize) {
        let (before, behind) = self.neighbours(position);
        self.join(before, position);
        self.join(position, behind);
    }

    fn neighbours(&self, position: usize) -> (usize, usize) {
        (self.previous.get(position).copied().unwrap_or(HEAD), self.after(position))
    }

    fn join(&mut self, before: usize, behind: usize) {
        if let Some(next) = self.next.get_mut(before) {
            *next = behind;
        }
        if let Some(previous) = self.previous.get_mut(behind) {
            *previous = before;
        }
    }
}
