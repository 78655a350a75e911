//! One measurement of every side that keeps data, one after the other, each on fresh members.

use std::path::Path;

use anyhow::Context;

use super::contestant::{Contestant, Role};
use super::figure::{Kind, Reading};
use super::{Folder, places};
use crate::cluster::Cluster;
use crate::run::say;

/// What one side has shown.
pub(super) type Shown = Vec<(&'static Kind, f64)>;

/// Measures every side but the empty service.
///
/// # Errors
/// When members cannot be started or measured.
pub(super) async fn measure(
    data: &Path,
    contestants: &[Contestant],
    one: impl AsyncFn(&mut Cluster) -> anyhow::Result<Shown>,
) -> anyhow::Result<Vec<Reading>> {
    let mut readings = Vec::new();
    for (side, contestant) in contestants.iter().enumerate().filter(|(_, side)| side.role != Role::Limit) {
        let folder = Folder::create(data)?;
        let mut cluster =
            Cluster::start(&contestant.program, &places::free()?, "keelson-bench", &folder.0).await?;
        let measured = one(&mut cluster).await;
        cluster.stop().await;
        for (kind, value) in measured.with_context(|| contestant.name.clone())? {
            say(&format!("{:<14} {}: {value:.*}", contestant.name, kind.name, kind.decimals));
            readings.push(Reading { side, kind, value });
        }
    }
    Ok(readings)
}
