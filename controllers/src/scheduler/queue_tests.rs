//! The queue against a naive model that searches a plain list.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::scheduler::fixtures::pod_from;

const SECOND: Duration = Duration::from_secs(1);

fn waiting(name: &str, priority: i32) -> Arc<PodInfo> {
    Arc::new(pod_from(
        json!({ "metadata": { "name": name }, "spec": { "containers": [], "priority": priority } }),
    ))
}

fn pop(queue: &mut Queue, now: Instant) -> Option<String> {
    queue.pop(now).map(|pod| pod.key.name.clone())
}

fn rejected() -> BTreeSet<PluginName> {
    BTreeSet::from(["NodeResourcesFit"])
}

/// Returns a queue whose only pod, `a`, is being tried.
fn in_flight(now: Instant) -> (Queue, Arc<PodInfo>) {
    let mut queue = Queue::default();
    let pod = waiting("a", 0);
    queue.set(pod.clone(), Gate::Open, now);
    queue.pop(now);
    (queue, pod)
}

#[test]
fn higher_priority_goes_first_then_age() {
    let start = Instant::now();
    let mut queue = Queue::default();
    queue.set(waiting("old", 0), Gate::Open, start);
    queue.set(waiting("new", 0), Gate::Open, start + SECOND);
    queue.set(waiting("urgent", 9), Gate::Open, start + 2 * SECOND);
    let order: Vec<String> = std::iter::from_fn(|| pop(&mut queue, start + 3 * SECOND)).collect();
    assert_eq!(order, ["urgent", "old", "new"]);
}

#[test]
fn backoff_doubles_from_one_to_ten_seconds() {
    let mut now = Instant::now();
    let mut queue = Queue::default();
    let pod = waiting("a", 0);
    queue.set(pod.clone(), Gate::Open, now);
    for seconds in [1, 2, 4, 8, 10, 10] {
        assert!(queue.pop(now).is_some());
        queue.return_failed(&pod.key, now);
        let until = now + seconds * SECOND;
        assert_eq!(queue.next_wakeup(), Some(until));
        assert!(queue.pop(until - Duration::from_millis(1)).is_none());
        now = until;
    }
}

#[test]
fn an_unschedulable_pod_waits_for_its_event_and_its_backoff() {
    let start = Instant::now();
    let (mut queue, pod) = in_flight(start);
    queue.return_unschedulable(&pod.key, rejected(), start);
    queue.on_event(start, |_, plugins| plugins.contains("NodeAffinity"));
    assert_eq!(queue.counts().unschedulable, 1);
    queue.on_event(start, |_, plugins| plugins.contains("NodeResourcesFit"));
    assert_eq!(queue.counts().backoff, 1);
    assert!(queue.pop(start).is_none());
    assert!(queue.pop(start + SECOND).is_some());
}

#[test]
fn without_any_event_a_pod_is_tried_after_five_minutes() {
    let start = Instant::now();
    let (mut queue, pod) = in_flight(start);
    queue.return_unschedulable(&pod.key, rejected(), start);
    assert!(queue.pop(start + UNSCHEDULABLE_MAX - SECOND).is_none());
    assert!(queue.pop(start + UNSCHEDULABLE_MAX).is_some());
}

#[test]
fn only_changes_that_matter_wake_a_pod() {
    let start = Instant::now();
    let (mut queue, pod) = in_flight(start);
    queue.return_unschedulable(&pod.key, rejected(), start);
    let told = json!({
        "metadata": { "name": "a" }, "spec": { "containers": [], "priority": 0 }, "status": { "phase": "Pending" },
    });
    queue.set(Arc::new(pod_from(told)), Gate::Open, start + SECOND);
    assert_eq!(queue.counts().unschedulable, 1);
    queue.set(waiting("a", 1), Gate::Open, start + SECOND);
    assert_eq!(queue.counts().active, 1);
}

#[test]
fn gates_hold_a_pod_back_until_they_open() {
    let start = Instant::now();
    let mut queue = Queue::default();
    queue.set(waiting("a", 0), Gate::Closed, start);
    assert_eq!((queue.counts().gated, pop(&mut queue, start)), (1, None));
    queue.set(waiting("a", 0), Gate::Open, start);
    assert_eq!(pop(&mut queue, start).as_deref(), Some("a"));
}

#[test]
fn a_pod_removed_in_flight_does_not_come_back() {
    let start = Instant::now();
    let (mut queue, pod) = in_flight(start);
    queue.remove(&pod.key);
    queue.return_failed(&pod.key, start);
    assert_eq!(queue.counts(), PendingCounts::default());
}

#[derive(Clone, Debug)]
enum Step {
    Set { pod: u8, priority: i32 },
    Remove { pod: u8 },
    Pop,
    Fail { pod: u8 },
    Reject { pod: u8 },
    Event,
    Pass { seconds: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let pod = || 0..4_u8;
    prop_oneof![
        (pod(), 0..2_i32).prop_map(|(pod, priority)| Step::Set { pod, priority }),
        pod().prop_map(|pod| Step::Remove { pod }),
        Just(Step::Pop),
        Just(Step::Pop),
        pod().prop_map(|pod| Step::Fail { pod }),
        pod().prop_map(|pod| Step::Reject { pod }),
        Just(Step::Event),
        (0..200_u8).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

/// One pod of the model, its times in seconds since the start.
#[derive(Clone, Debug)]
struct Waiting {
    priority: i32,
    attempts: u32,
    backoff_until: u64,
    place: Spot,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Spot {
    Active { since: u64, sequence: u64 },
    Backoff { until: u64 },
    Unschedulable { since: u64 },
    InFlight,
}

#[derive(Default)]
struct Model {
    pods: BTreeMap<u8, Waiting>,
    now: u64,
    sequence: u64,
}

impl Model {
    fn activate(&mut self, pod: u8) {
        self.sequence += 1;
        let place = Spot::Active { since: self.now, sequence: self.sequence };
        self.pods.get_mut(&pod).unwrap().place = place;
    }

    fn wake(&mut self, pod: u8) {
        let until = self.pods[&pod].backoff_until;
        if until > self.now {
            self.pods.get_mut(&pod).unwrap().place = Spot::Backoff { until };
        } else {
            self.activate(pod);
        }
    }

    fn set(&mut self, pod: u8, priority: i32) {
        let Some(known) = self.pods.get_mut(&pod) else {
            self.pods.insert(pod, Waiting { priority, attempts: 0, backoff_until: 0, place: Spot::InFlight });
            return self.activate(pod);
        };
        let differs = std::mem::replace(&mut known.priority, priority) != priority;
        match known.place {
            Spot::Active { .. } if differs => self.activate(pod),
            Spot::Unschedulable { .. } if differs => self.wake(pod),
            _ => {}
        }
    }

    fn pop(&mut self) -> Option<u8> {
        let mut due: Vec<(u64, u8)> = Vec::new();
        for (pod, waiting) in &self.pods {
            match waiting.place {
                Spot::Backoff { until } if until <= self.now => due.push((until, *pod)),
                Spot::Unschedulable { since } if since + 300 <= self.now => {
                    due.push((u64::MAX / 2 + since, *pod))
                }
                _ => {}
            }
        }
        due.sort_unstable();
        due.into_iter().for_each(|(_, pod)| self.activate(pod));
        let next = self.pods.iter().filter_map(|(pod, waiting)| match waiting.place {
            Spot::Active { since, sequence } => Some(((-waiting.priority, since, sequence), *pod)),
            _ => None,
        });
        let (_, pod) = next.min()?;
        let waiting = self.pods.get_mut(&pod).unwrap();
        waiting.attempts += 1;
        waiting.place = Spot::InFlight;
        Some(pod)
    }

    fn give_back(&mut self, pod: u8, to: impl Fn(u64, u64) -> Spot) {
        let now = self.now;
        if let Some(waiting) = self.pods.get_mut(&pod).filter(|waiting| waiting.place == Spot::InFlight) {
            waiting.backoff_until =
                now + [1, 2, 4, 8, 10][usize::try_from(waiting.attempts - 1).unwrap().min(4)];
            waiting.place = to(now, waiting.backoff_until);
        }
    }
}

proptest! {
    #[test]
    fn the_queue_agrees_with_a_plain_list(steps in proptest::collection::vec(step(), 0..120)) {
        let start = Instant::now();
        let mut queue = Queue::default();
        let mut model = Model::default();
        let name = |pod: u8| format!("p{pod}");
        let key = |pod: u8| PodKey { namespace: "default".to_owned(), name: name(pod) };
        for step in steps {
            let now = start + Duration::from_secs(model.now);
            match step {
                Step::Set { pod, priority } => {
                    queue.set(waiting(&name(pod), priority), Gate::Open, now);
                    model.set(pod, priority);
                }
                Step::Remove { pod } => {
                    queue.remove(&key(pod));
                    model.pods.remove(&pod);
                }
                Step::Pop => prop_assert_eq!(pop(&mut queue, now), model.pop().map(name)),
                Step::Fail { pod } => {
                    queue.return_failed(&key(pod), now);
                    model.give_back(pod, |_, until| Spot::Backoff { until });
                }
                Step::Reject { pod } => {
                    queue.return_unschedulable(&key(pod), rejected(), now);
                    model.give_back(pod, |since, _| Spot::Unschedulable { since });
                }
                Step::Event => {
                    queue.on_event(now, |_, _| true);
                    let waiting = |waiting: &Waiting| matches!(waiting.place, Spot::Unschedulable { .. });
                    let mut woken: Vec<(Spot, u8)> =
                        model.pods.iter().filter(|(_, pod)| waiting(pod)).map(|(pod, entry)| (entry.place, *pod)).collect();
                    woken.sort_by_key(|(place, pod)| match place {
                        Spot::Unschedulable { since } => (*since, *pod),
                        _ => (0, *pod),
                    });
                    woken.into_iter().for_each(|(_, pod)| model.wake(pod));
                }
                Step::Pass { seconds } => model.now += u64::from(seconds),
            }
            let in_flight = model.pods.values().filter(|pod| pod.place == Spot::InFlight).count();
            prop_assert_eq!(queue.counts().in_flight, in_flight);
        }
    }
}
