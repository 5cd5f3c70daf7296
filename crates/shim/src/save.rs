//! After the command: its last metrics and what it left in its folders.

use std::fs;
use std::path::Path;

use muonic_client::UploadRules;
use muonic_types::Digest;
use muonic_types::job::{Exit, METRIC_NAME_BYTES_MAX, Phase};
use muonic_unit::remove_tree;

use crate::attempt::{Early, Stage};
use crate::link::{About, Fault};
use crate::metrics::Found;
use crate::report::{Outcome, Saved};

const METRICS_FILE_BYTES_MAX: u64 = 1 << 20;
/// Of a name that cannot be one.
const NAME_CHARS_SHOWN: usize = 60;

impl Stage<'_> {
    /// `output/metrics.json`: an object of names and numbers.
    pub fn final_metrics(&self, work: &Path) {
        let path = work.join("output").join("metrics.json");
        let is_small = fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && m.len() <= METRICS_FILE_BYTES_MAX);
        let Some(bytes) = is_small.then(|| fs::read(&path).ok()).flatten() else { return };
        let Ok(values) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes) else {
            self.log.note("metrics.json is not a JSON object of names and numbers and is not read");
            return;
        };
        let (mut left_out, mut first) = (0, String::new());
        for (name, value) in values {
            match value.as_f64().and_then(|value| Found::new(&name, None, value)) {
                Some(found) => self.outbox.metric(found),
                None => {
                    left_out += 1;
                    first = if left_out == 1 { name } else { first };
                }
            }
        }
        if left_out > 0 {
            let first: String = first.escape_debug().take(NAME_CHARS_SHOWN).collect();
            self.log.note(&format!(
                "{left_out} entries of metrics.json are no metrics, such as '{first}': a name has 1 to {METRIC_NAME_BYTES_MAX} bytes without control characters, a value is a finite number"
            ));
        }
    }

    /// Stores what was left in the folders of model and output.
    pub fn save(&mut self, outcome: Outcome) -> (Outcome, Saved) {
        let ran = outcome.started.is_some() && outcome.exit != Exit::Cancelled;
        if !ran {
            return (outcome, Saved::default());
        }
        self.tell(Phase::Saving, outcome.environment);
        // Saving is not part of what the limit limits.
        self.deadline = None;
        let mut saved = Saved::default();
        for (what, slot) in [("model", &mut saved.model), ("output", &mut saved.output)] {
            match self.upload(&self.folder.work().join(what)) {
                Ok(digest) => *slot = digest,
                Err(Early::Ended(early)) if early.exit == Exit::Cancelled => {
                    return (
                        Outcome {
                            exit: Exit::Cancelled,
                            message: Some("cancelled while its outputs were saved".into()),
                            ..outcome
                        },
                        Saved::default(),
                    );
                }
                Err(Early::Closed) => return (outcome, Saved::default()),
                Err(Early::Ended(early)) => {
                    let why = format!("its {what} could not be saved: {}", early.message.unwrap_or_default());
                    self.log.note(&why);
                    // It is lost, and may be what fills the disk.
                    let _ = remove_tree(&self.folder.work().join(what));
                    // How it failed says more than what followed.
                    if outcome.exit == (Exit::Code { code: 0 }) {
                        return (Outcome { exit: Exit::SetupFailed, message: Some(why), ..outcome }, Saved::default());
                    }
                }
            }
        }
        (outcome, saved)
    }

    fn upload(&mut self, folder: &Path) -> Result<Option<Digest>, Early> {
        if fs::symlink_metadata(folder).is_ok_and(|m| m.is_symlink()) {
            let why = "the command put a link in the place of its folder, and only what lies in the folder is kept";
            return Err(Early::failed(Exit::SetupFailed, why));
        }
        if !holds_a_file(folder) {
            return Ok(None);
        }
        let (link, folder) = (self.link.clone(), folder.to_owned());
        let sent = self.aside(move |unwanted| {
            link.call(About::Content, unwanted, |c| c.tree_upload(&folder, UploadRules::Everything, &()))
        })?;
        match sent {
            Ok(uploaded) => Ok(Some(uploaded.tree.digest)),
            Err(Fault::Stopped) => Err(self.stopped()),
            Err(Fault::Refused(e)) => Err(Early::failed(Exit::SetupFailed, e.to_string())),
        }
    }

    /// What the task had on the disk is of no use now.
    pub fn tidy(&self) {
        if let Err(e) = remove_tree(&self.folder.work()) {
            crate::say(format_args!("{} could not be removed: {e}", self.folder.work().display()));
        }
    }
}

/// Whether there is any file below the folder.
fn holds_a_file(folder: &Path) -> bool {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => return true,
            }
        }
    }
    false
}
