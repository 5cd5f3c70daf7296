//! What follows the end of an attempt.

use muonic_types::job::Exit;

/// Attempts lost through no fault of the job (its machine or its supervisor
/// died) are made good this often, beyond the retries that were asked for.
pub const LOST_RETRIES: u32 = 3;
const BACK_OFF_FIRST_S: u64 = 1;
const BACK_OFF_MAX_S: u64 = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Succeeded,
    Failed,
    Cancelled,
    /// Try again after this many seconds.
    Retry {
        after_s: u64,
    },
}

/// Decides from how this attempt and those before it ended.
///
/// `before`: exits of the earlier attempts, oldest first.
pub fn after_exit(exit: &Exit, before: &[Exit], retries: u32, cancel_requested: bool) -> Verdict {
    if *exit == (Exit::Code { code: 0 }) {
        return Verdict::Succeeded;
    }
    if cancel_requested {
        return Verdict::Cancelled;
    }
    let lost_before = before.iter().filter(|e| **e == Exit::Lost).count() as u32;
    let failed_before = before.len() as u32 - lost_before;
    let (made_before, allowed) =
        if *exit == Exit::Lost { (lost_before, LOST_RETRIES) } else { (failed_before, retries) };
    if made_before < allowed { Verdict::Retry { after_s: back_off_s(made_before) } } else { Verdict::Failed }
}

/// Whether a task that says it was cancelled is a loss: nobody here asked for
/// it, so it was told to stop by others, such as a machine that shuts down.
pub fn stopped_by_others(exit: &Exit, cancel_requested: bool) -> bool {
    *exit == Exit::Cancelled && !cancel_requested
}

/// 1, 2, 4 … seconds, at most five minutes.
pub fn back_off_s(made_before: u32) -> u64 {
    BACK_OFF_FIRST_S.checked_shl(made_before).unwrap_or(BACK_OFF_MAX_S).clamp(BACK_OFF_FIRST_S, BACK_OFF_MAX_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAIL: Exit = Exit::Code { code: 1 };

    #[test]
    fn success_ends_it_even_where_a_cancel_came_too_late() {
        assert_eq!(after_exit(&Exit::Code { code: 0 }, &[], 5, true), Verdict::Succeeded);
    }

    #[test]
    fn a_cancelled_job_is_not_tried_again() {
        assert_eq!(after_exit(&FAIL, &[], 5, true), Verdict::Cancelled);
        assert_eq!(after_exit(&Exit::Cancelled, &[], 5, true), Verdict::Cancelled);
    }

    #[test]
    fn a_stop_that_nobody_here_asked_for_is_a_loss() {
        assert!(stopped_by_others(&Exit::Cancelled, false));
        assert!(!stopped_by_others(&Exit::Cancelled, true) && !stopped_by_others(&FAIL, false));
    }

    #[test]
    fn failures_use_the_retries_up() {
        assert_eq!(after_exit(&FAIL, &[], 0, false), Verdict::Failed);
        assert_eq!(after_exit(&FAIL, &[], 2, false), Verdict::Retry { after_s: 1 });
        assert_eq!(after_exit(&FAIL, &[FAIL], 2, false), Verdict::Retry { after_s: 2 });
        assert_eq!(after_exit(&FAIL, &[FAIL, FAIL], 2, false), Verdict::Failed);
    }

    #[test]
    fn losses_and_failures_are_counted_apart() {
        assert_eq!(after_exit(&Exit::Lost, &[], 0, false), Verdict::Retry { after_s: 1 });
        assert_eq!(after_exit(&FAIL, &[Exit::Lost, Exit::Lost], 1, false), Verdict::Retry { after_s: 1 });
        let lost = vec![Exit::Lost; LOST_RETRIES as usize];
        assert_eq!(after_exit(&Exit::Lost, &lost, 9, false), Verdict::Failed);
    }

    #[test]
    fn back_off_grows_and_stays_bounded() {
        let mut last = 0;
        for n in 0..200 {
            let s = back_off_s(n);
            assert!(s >= last && s <= BACK_OFF_MAX_S);
            last = s;
        }
    }
}
