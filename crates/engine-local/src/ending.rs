//! What happens to a unit whose supervisor is gone.

use std::io;
use std::time::Duration;

use muonic_unit::{Folder, end_leftovers};

/// Longest wait for killed processes to disappear; the caller tries again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends every process that a dead supervisor left and marks the folder
/// `done`. False where some supervisor lives. A folder that is marked
/// already costs one look.
pub fn end(folder: &Folder) -> io::Result<bool> {
    let Some(_lock) = folder.try_lock()? else { return Ok(false) };
    if folder.is_done() {
        return Ok(true);
    }
    if let Some(left) = end_leftovers(folder, || (), PATIENCE)? {
        let unit = folder.path().display();
        tracing::warn!(%unit, error = %left, "an empty control group of a dead supervisor is left");
    }
    folder.write_done()?;
    Ok(true)
}
