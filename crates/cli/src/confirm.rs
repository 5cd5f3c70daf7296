//! The yes that what cannot be undone needs: given as `--yes`, or asked for
//! where a person can answer.

use std::io::{IsTerminal, Write};

use crate::context::note;
use crate::failure::{Exit, Failure, Result};

/// Shows the plan and asks. Without anybody to ask it is refused.
pub(crate) fn confirmed(plan: &str, question: &str, refusal: &str) -> Result<bool> {
    note(plan);
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::bad_input(refusal).hint("add --yes"));
    }
    let failed = |e: std::io::Error| Failure::new(Exit::Failed, format!("the answer cannot be read: {e}"));
    let mut stderr = std::io::stderr();
    stderr.write_all(format!("{question} [y/N] ").as_bytes()).and_then(|()| stderr.flush()).map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !yes {
        note("nothing was changed");
    }
    Ok(yes)
}
