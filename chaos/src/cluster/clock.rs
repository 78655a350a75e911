//! The wall clock of one member, by Debian's libfaketime: an offset in a file that the library reads once a second. The host's
//! clock is never touched, and neither is monotonic time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

/// Where the library is.
const FOLDERS: [&str; 3] =
    ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
/// For programs with threads.
const LIBRARY: &str = "libfaketimeMT.so.1";
/// The library looks once a second.
const READ_TIMEOUT: Duration = Duration::from_secs(4);
const READ_POLL: Duration = Duration::from_millis(50);

/// A member's clock.
#[derive(Clone, Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Finds the library.
    ///
    /// # Errors
    /// One line saying what is missing.
    pub fn library() -> Result<PathBuf, String> {
        let mut places = FOLDERS.iter().map(|folder| Path::new(folder).join(LIBRARY));
        places
            .find(|place| place.exists())
            .ok_or_else(|| format!("{LIBRARY} is not installed (package faketime)"))
    }

    /// Makes a clock that goes right; returns also the environment of the program that is to have it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(file: &Path, library: &Path) -> anyhow::Result<(Self, Vec<(String, String)>)> {
        let clock = Self { file: file.to_owned() };
        clock.write(0)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let environment = [
            ("LD_PRELOAD", text(library)),
            ("FAKETIME_TIMESTAMP_FILE", text(file)),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        Ok((clock, environment.map(|(name, value)| (name.to_owned(), value)).to_vec()))
    }

    /// Sets the clock this far from the right time. Returns whether the process has read it, with the library at work in it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn set(&self, seconds: i64, pid: u32) -> anyhow::Result<bool> {
        self.write(seconds)?;
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        if !maps.contains(LIBRARY) {
            return Ok(false);
        }
        let reading = async {
            while !self.is_read()? {
                tokio::time::sleep(READ_POLL).await;
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(READ_TIMEOUT, reading).await {
            Ok(read) => read.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Writes the file beside its place and moves it there, so that nobody reads half of it.
    fn write(&self, seconds: i64) -> anyhow::Result<()> {
        let new = self.file.with_extension("clock-new");
        std::fs::write(&new, format!("{seconds:+}\n")).with_context(|| new.display().to_string())?;
        let written = std::fs::metadata(&new)?.modified()?;
        // Any read from now on makes the time of access newer than this.
        std::fs::File::open(&new)?
            .set_times(std::fs::FileTimes::new().set_accessed(written - Duration::from_secs(1)))?;
        std::fs::rename(&new, &self.file)?;
        Ok(())
    }

    /// Whether somebody has read the file since it was written: nobody but the member does.
    fn is_read(&self) -> anyhow::Result<bool> {
        let state = std::fs::metadata(&self.file)?;
        Ok(state.accessed()? >= state.modified()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_read_only_when_somebody_has_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("n1.clock");
        let (clock, _) = Clock::create(&file, Path::new("library")).unwrap();
        clock.write(-90).unwrap();
        assert!(!clock.is_read().unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "-90\n");
        assert!(clock.is_read().unwrap());
    }
}
