//! Space: what rows may take on this member, and what its disk has left. Who exceeds the quota is refused; the cluster is told by an
//! alarm, which lifts itself once compaction or deletes have made room. What a disk that runs full means is in [`super::room`].
//!
//! Each member measures its own rows, because each collects old ones on its own time; the alarm goes through the log, so
//! from there on all members refuse the same requests. Requests that were under way when it was raised may exceed the quota by
//! what they hold. Deletes, compaction and ends of leases are never refused. The leader lifts the alarms of members that were removed.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use proto::raft as wire;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::room::{Limits, Room, due_alarms};
use crate::mvcc::{Alarm, AlarmKind, Command, RowBytes};
use crate::raft::node::Node;
use crate::raft::request::Request;
use crate::raft::state_machine::Machine;

/// How often a member measures; a refused request makes it look at once.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);
/// The same while the disk has little room: far less than it takes to write a reserve full.
const MEASURE_INTERVAL_LOW: Duration = Duration::from_millis(200);
/// How long another member may take to say what room it has.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// Share of the quota from which a person is warned.
const WARN_PERCENT: u64 = 80;
/// Share of the quota below which the alarm is lifted, so that it does not come and go with every request.
const LIFT_PERCENT: u64 = 90;

/// The quota and the disk of one member.
pub(crate) struct Space {
    quota: Option<NonZeroU64>,
    limits: Limits,
    refused: Notify,
}

/// What a member remembers from one measurement to the next.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    is_warned_of_quota: bool,
    is_warned_of_disk: bool,
    is_short: bool,
    /// A request found no room just now.
    was_refused: bool,
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
    pub(crate) fn new(quota_bytes: u64, limits: Limits) -> Self {
        Self { quota: NonZeroU64::new(quota_bytes), limits, refused: Notify::new() }
    }

    /// Returns how many free bytes of the disk are a reserve.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.limits.reserve
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
        let mut memory = Memory::default();
        loop {
            if stop.run_until_cancelled(self.round(&node, &mut memory)).await.is_none() {
                return;
            }
            let pause = if memory.is_warned_of_disk { MEASURE_INTERVAL_LOW } else { MEASURE_INTERVAL };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.refused.notified() => memory.was_refused = true,
                () = tokio::time::sleep(pause) => memory.was_refused = false,
            }
        }
    }

    async fn round(&self, node: &Arc<Node>, memory: &mut Memory) {
        self.look_at_disk(node, memory).await;
        let is_over_quota = self.is_above(node.machine().store().row_bytes(), LIFT_PERCENT);
        node.note_room(Room { is_disk_short: memory.is_short, is_over_quota });
        let step = self.measure(node, *memory);
        memory.is_warned_of_quota = self.take(node, step, memory.is_warned_of_quota).await;
        if node.is_leader() {
            lift_left_behind(node).await;
            for command in due_alarms(&rooms(node).await, |id| has_alarm(node, id)) {
                tell(&command);
                propose(node, &command).await;
            }
        }
    }

    /// Sees what room is left, and takes or gives up the ballast.
    async fn look_at_disk(&self, node: &Node, memory: &mut Memory) {
        let (limits, disk) = (self.limits, Arc::clone(&node.env().disk));
        let space = disk.free_space();
        let (free, reserve) = (space.free_bytes, limits.reserve);
        if limits.needs_ballast(free) {
            disk.give_up_ballast();
        } else if limits.can_take_ballast(free) {
            // Without it all goes on; it is tried again.
            let _ = node.env().blocking(move || disk.take_ballast(limits.ballast)).await;
        }
        let (is_short, is_low) = (limits.is_short(free, memory.is_short), limits.is_low(free));
        if is_short && !memory.is_short {
            tracing::error!(
                path = space.path,
                free,
                reserve,
                "the disk is nearly full: its reserve is in use"
            );
        } else if is_low && !memory.is_warned_of_disk {
            tracing::warn!(path = space.path, free, reserve, "the disk has little room left");
        } else if !is_short && memory.is_short {
            tracing::info!(path = space.path, free, reserve, "the disk has room again");
        }
        (memory.is_short, memory.is_warned_of_disk) = (is_short, is_low);
    }

    fn is_above(&self, used: RowBytes, percent: u64) -> bool {
        used.all >= share(self.quota, percent)
    }

    fn measure(&self, node: &Node, memory: Memory) -> Step {
        let store = node.machine().store();
        let state = State { is_raised: has_alarm(node, node.identity().member_id), memory };
        step(self.quota, store.row_bytes(), state)
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
    memory: Memory,
}

fn share(quota: Option<NonZeroU64>, percent: u64) -> u64 {
    quota.map_or(u64::MAX, |quota| quota.get() / 100 * percent)
}

/// What the quota asks for. The alarm stays while the disk is short: that one is the leader's to lift.
fn step(quota: Option<NonZeroU64>, used: RowBytes, state: State) -> Step {
    let State { is_raised, memory } = state;
    let is_full = quota.is_some_and(|quota| used.all >= quota.get()) || memory.was_refused;
    if is_raised {
        let has_room = used.all < share(quota, LIFT_PERCENT) && !memory.is_short;
        return if has_room { Step::Lift } else { Step::Nothing };
    }
    if is_full && used.all >= share(quota, LIFT_PERCENT) {
        return Step::Raise;
    }
    let warns = used.all >= share(quota, WARN_PERCENT) && !memory.is_warned_of_quota;
    if warns { Step::Warn } else { Step::Nothing }
}

/// As leader: asks every voter what room it has. Nobody is waited for longer than a moment.
async fn rooms(node: &Arc<Node>) -> Vec<(u64, Option<Room>)> {
    let own = node.identity().member_id;
    let voters = node.members().into_keys().filter(|id| node.machine().is_voter(*id) == Some(true));
    let ask = |id| async move {
        if id == own {
            return (id, Some(node.room()));
        }
        let Some(peer) = node.peer(id) else { return (id, None) };
        let told = peer.cluster_info(ASK_TIMEOUT).await.ok();
        let room = |info: wire::ClusterInfoResponse| Room {
            is_disk_short: info.short_of_disk,
            is_over_quota: info.over_quota,
        };
        (id, told.filter(|info| info.member_id == id).map(room))
    };
    futures::future::join_all(voters.map(ask)).await
}

fn tell(command: &Command) {
    match command {
        Command::AlarmRaise(alarm) => {
            let member = format!("{:x}", alarm.member);
            tracing::error!(member, "no majority has room on its disks: puts are refused until one has");
        }
        Command::AlarmClear(alarm) => {
            tracing::info!(member = format!("{:x}", alarm.member), "a majority has room on its disks again");
        }
        _ => {}
    }
}

/// A member that was removed cannot lift its own alarm any more, so the leader does.
async fn lift_left_behind(node: &Node) {
    let machine = node.machine();
    let is_left_behind =
        |alarm: &Alarm| alarm.kind == AlarmKind::NoSpace && machine.has_removed(alarm.member);
    let left_behind: Vec<Alarm> = machine.store().alarms().filter(is_left_behind).collect();
    for alarm in left_behind {
        tracing::info!(member = format!("{:x}", alarm.member), "the alarm of a removed member is lifted");
        propose(node, &Command::AlarmClear(alarm)).await;
    }
}

fn has_alarm(node: &Node, member: u64) -> bool {
    node.machine().store().alarms().any(|alarm| alarm == Alarm { kind: AlarmKind::NoSpace, member })
}

fn own_alarm(node: &Node) -> Alarm {
    Alarm { kind: AlarmKind::NoSpace, member: node.identity().member_id }
}

/// A lost proposal is made again at the next measurement: both commands may be applied twice.
async fn propose(node: &Node, command: &Command) {
    if node.propose(Request::of(command), 0).await.is_err() {
        tracing::debug!("the alarm did not change for now");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Memory =
        Memory { is_warned_of_quota: false, is_warned_of_disk: false, is_short: false, was_refused: false };
    const CALM: State = State { is_raised: false, memory: FRESH };
    const WARNED: State = State { is_raised: false, memory: Memory { is_warned_of_quota: true, ..FRESH } };
    const REFUSED: State = State { is_raised: false, memory: Memory { was_refused: true, ..FRESH } };
    const RAISED: State = State { is_raised: true, ..WARNED };

    fn check(quota: u64, used: u64, state: State, expected: Step) {
        let used = RowBytes { all: used, live: used };
        assert_eq!(step(NonZeroU64::new(quota), used, state), expected, "{used:?} of {quota}, {state:?}");
    }

    #[test]
    fn a_quota_warns_then_raises_and_lifts_with_a_margin() {
        check(1000, 799, CALM, Step::Nothing);
        check(1000, 800, CALM, Step::Warn);
        check(1000, 950, WARNED, Step::Nothing);
        check(1000, 1000, CALM, Step::Raise);
        check(1000, 1000, RAISED, Step::Nothing);
        check(1000, 900, RAISED, Step::Nothing);
        check(1000, 899, RAISED, Step::Lift);
        let short = State { is_raised: true, memory: Memory { is_short: true, ..FRESH } };
        check(1000, 899, short, Step::Nothing);
        check(0, 0, short, Step::Nothing);
    }

    #[test]
    fn a_refused_request_raises_the_alarm_only_where_little_is_left() {
        check(1000, 950, REFUSED, Step::Raise);
        // One request larger than a tenth of the quota must not stop all others.
        check(1000, 500, REFUSED, Step::Nothing);
    }

    #[test]
    fn without_a_quota_an_old_alarm_is_lifted() {
        check(0, u64::MAX - 1, CALM, Step::Nothing);
        check(0, 1 << 40, RAISED, Step::Lift);
    }
}
