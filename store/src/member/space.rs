//! The quota: what rows may take on this member. It refuses what would exceed it, tells the cluster by an alarm, and lifts the
//! alarm by itself once compaction or deletes have made room.
//!
//! Each member measures its own rows, because each collects old ones on its own time; the alarm goes through the log, so
//! from there on all members refuse the same requests. Requests that were under way when it was raised may exceed the quota by
//! what they hold. Deletes, compaction and ends of leases are never refused. The leader lifts the alarms of members that were removed.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::mvcc::{Alarm, AlarmKind, Command, RowBytes};
use crate::raft::node::Node;
use crate::raft::state_machine::Machine;
use crate::wire::encode_command;

/// How often a member measures; a refused request makes it look at once.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);
/// Share of the quota from which a person is warned.
const WARN_PERCENT: u64 = 80;
/// Share of the quota below which the alarm is lifted, so that it does not come and go with every request.
const LIFT_PERCENT: u64 = 90;

/// The quota of one member.
pub(crate) struct Space {
    quota: Option<NonZeroU64>,
    refused: Notify,
}

/// What a measurement asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Warn,
    Raise,
    Lift,
}

impl Space {
    /// `quota_bytes` of 0 is no quota.
    pub(crate) fn new(quota_bytes: u64) -> Self {
        Self { quota: NonZeroU64::new(quota_bytes), refused: Notify::new() }
    }

    /// Returns the quota in bytes, 0 without one.
    pub(crate) fn quota_bytes(&self) -> u64 {
        self.quota.map_or(0, NonZeroU64::get)
    }

    /// Returns whether there is room for a command of `size` bytes.
    pub(crate) fn admits(&self, machine: &Machine, command: &Command, size: usize) -> bool {
        let Some(quota) = self.quota.filter(|_| command.adds()) else { return true };
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        let fits = machine.store().row_bytes().all.saturating_add(size) <= quota.get();
        if !fits {
            self.refused.notify_one();
        }
        fits
    }

    /// Measures until the member ends.
    pub(crate) async fn run(self: Arc<Self>, node: Arc<Node>, stop: CancellationToken) {
        let mut is_warned = false;
        let mut was_refused = false;
        loop {
            let step = self.measure(&node, was_refused, is_warned);
            is_warned =
                stop.run_until_cancelled(self.take(&node, step, is_warned)).await.unwrap_or(is_warned);
            stop.run_until_cancelled(lift_left_behind(&node)).await;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.refused.notified() => was_refused = true,
                () = tokio::time::sleep(MEASURE_INTERVAL) => was_refused = false,
            }
        }
    }

    fn measure(&self, node: &Node, was_refused: bool, is_warned: bool) -> Step {
        let own = own_alarm(node);
        let store = node.machine().store();
        let is_raised = store.alarms().any(|alarm| alarm == own);
        step(self.quota, store.row_bytes(), State { is_raised, is_warned, was_refused })
    }

    /// Does what was asked for and returns whether a person has been warned.
    async fn take(&self, node: &Node, step: Step, is_warned: bool) -> bool {
        let RowBytes { all, live } = node.machine().store().row_bytes();
        let quota = self.quota_bytes();
        match step {
            Step::Nothing => is_warned,
            Step::Warn => {
                tracing::warn!(
                    row_bytes = all,
                    live_bytes = live,
                    quota,
                    "rows have taken most of the quota"
                );
                true
            }
            Step::Raise => {
                tracing::error!(
                    row_bytes = all,
                    live_bytes = live,
                    quota,
                    "no space: puts are refused until compaction or deletes make room, or the quota is raised"
                );
                propose(node, &Command::AlarmRaise(own_alarm(node))).await;
                true
            }
            Step::Lift => {
                tracing::info!(row_bytes = all, quota, "there is space again");
                propose(node, &Command::AlarmClear(own_alarm(node))).await;
                false
            }
        }
    }
}

/// What is known beside the sizes.
#[derive(Clone, Copy, Debug)]
struct State {
    is_raised: bool,
    is_warned: bool,
    /// A request found no room just now, although others of a smaller size might.
    was_refused: bool,
}

fn step(quota: Option<NonZeroU64>, used: RowBytes, state: State) -> Step {
    let share = |percent: u64| quota.map_or(u64::MAX, |quota| quota.get() / 100 * percent);
    let is_full = quota.is_some_and(|quota| used.all >= quota.get()) || state.was_refused;
    if state.is_raised {
        return if used.all < share(LIFT_PERCENT) { Step::Lift } else { Step::Nothing };
    }
    if is_full && used.all >= share(LIFT_PERCENT) {
        return Step::Raise;
    }
    if used.all >= share(WARN_PERCENT) && !state.is_warned { Step::Warn } else { Step::Nothing }
}

/// A member that was removed cannot lift its own alarm any more, so the leader does.
async fn lift_left_behind(node: &Node) {
    if !node.is_leader() {
        return;
    }
    let machine = node.machine();
    let is_left_behind =
        |alarm: &Alarm| alarm.kind == AlarmKind::NoSpace && machine.has_removed(alarm.member);
    let left_behind: Vec<Alarm> = machine.store().alarms().filter(is_left_behind).collect();
    for alarm in left_behind {
        tracing::info!(member = format!("{:x}", alarm.member), "the alarm of a removed member is lifted");
        propose(node, &Command::AlarmClear(alarm)).await;
    }
}

fn own_alarm(node: &Node) -> Alarm {
    Alarm { kind: AlarmKind::NoSpace, member: node.identity().member_id }
}

/// A lost proposal is made again at the next measurement: both commands may be applied twice.
async fn propose(node: &Node, command: &Command) {
    if node.propose(encode_command(command), 0).await.is_err() {
        tracing::debug!("the alarm did not change for now");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: State = State { is_raised: false, is_warned: false, was_refused: false };
    const RAISED: State = State { is_raised: true, is_warned: true, was_refused: false };

    fn check(quota: u64, used: u64, state: State, expected: Step) {
        let used = RowBytes { all: used, live: used };
        assert_eq!(step(NonZeroU64::new(quota), used, state), expected, "{used:?} of {quota}, {state:?}");
    }

    #[test]
    fn a_quota_warns_then_raises_and_lifts_with_a_margin() {
        check(1000, 799, CALM, Step::Nothing);
        check(1000, 800, CALM, Step::Warn);
        check(1000, 950, State { is_warned: true, ..CALM }, Step::Nothing);
        check(1000, 1000, CALM, Step::Raise);
        check(1000, 1000, RAISED, Step::Nothing);
        check(1000, 900, RAISED, Step::Nothing);
        check(1000, 899, RAISED, Step::Lift);
    }

    #[test]
    fn a_refused_request_raises_the_alarm_only_where_little_is_left() {
        check(1000, 950, State { was_refused: true, ..CALM }, Step::Raise);
        // One request larger than a tenth of the quota must not stop all others.
        check(1000, 500, State { was_refused: true, ..CALM }, Step::Nothing);
    }

    #[test]
    fn without_a_quota_an_old_alarm_is_lifted() {
        check(0, u64::MAX - 1, CALM, Step::Nothing);
        check(0, 1 << 40, RAISED, Step::Lift);
    }
}
