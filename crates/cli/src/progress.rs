//! Bars on a terminal, nothing in a pipe.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use muonic_client::{Progress, Stage};

use crate::context::{note, on_terminal};
use crate::render::clean;

/// Work below this size is over before a bar can be read.
const BYTES_MIN: u64 = 8 << 20;
const FILES_MIN: u64 = 500;

/// As wide as the terminal and never wider: a line that the terminal breaks
/// cannot be taken back.
const BAR: &str = "{msg:9} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta:>4}";
const SPINNER: &str = "{spinner} {wide_msg} {elapsed:>4}";

/// One bar at a time, for the stage under way.
pub(crate) struct Bar {
    bar: Mutex<Option<ProgressBar>>,
}

impl Bar {
    pub(crate) fn new() -> Self {
        Self { bar: Mutex::new(None) }
    }

    fn replace(&self, bar: Option<ProgressBar>) {
        if let Ok(mut slot) = self.bar.lock()
            && let Some(old) = std::mem::replace(&mut *slot, bar)
        {
            old.finish_and_clear();
        }
    }
}

impl Progress for Bar {
    fn begin(&self, stage: Stage, files: u64, bytes: u64) {
        if !on_terminal() || (bytes < BYTES_MIN && files < FILES_MIN) {
            return self.replace(None);
        }
        // The one before goes first: two at a time would draw over each other.
        self.replace(None);
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        bar.set_style(style(BAR));
        bar.set_message(match stage {
            Stage::Hashing => "hashing",
            Stage::Sending => "sending",
            Stage::Receiving => "receiving",
        });
        self.replace(Some(bar));
    }

    fn advance(&self, bytes: u64) {
        if let Ok(slot) = self.bar.lock()
            && let Some(bar) = &*slot
        {
            bar.inc(bytes);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.replace(None);
    }
}

/// A line that turns while something is waited for; silent in a pipe.
pub(crate) struct Spinner(Option<ProgressBar>);

/// The same, where the wait may be long: in a pipe each new state is a line.
pub(crate) struct Steps {
    spinner: Spinner,
    last: String,
}

impl Steps {
    pub(crate) fn new(text: &str) -> Self {
        Self { spinner: Spinner::new(text), last: String::new() }
    }

    pub(crate) fn say(&mut self, text: String) {
        if text == self.last {
            return;
        }
        match &self.spinner.0 {
            Some(_) => self.spinner.say(&text),
            None => note(&text),
        }
        self.last = text;
    }
}

impl Spinner {
    pub(crate) fn new(text: &str) -> Self {
        let bar = on_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style(SPINNER));
            bar.set_message(text.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self(bar)
    }

    pub(crate) fn say(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(clean(text));
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use indicatif::TermLike;

    use super::*;

    /// A terminal of 80 columns that keeps what is drawn on it.
    #[derive(Debug, Default, Clone)]
    struct Narrow(Arc<Mutex<Vec<String>>>);

    impl TermLike for Narrow {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push(text.to_owned());
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_no_wider_than_the_terminal() {
        for (template, message) in [(BAR, "receiving".to_owned()), (SPINNER, "waits for cpu ".repeat(20))] {
            let screen = Narrow::default();
            let bar = ProgressBar::with_draw_target(
                Some(1_023 << 30),
                ProgressDrawTarget::term_like(Box::new(screen.clone())),
            );
            bar.set_style(style(template));
            bar.set_message(message);
            bar.inc(1_000 << 30);
            bar.tick();
            let drawn = screen.0.lock().unwrap();
            assert!(drawn.iter().any(|text| text.contains("receiving") || text.contains("waits")), "{drawn:?}");
            assert!(drawn.iter().all(|text| text.chars().count() <= 80), "{drawn:?}");
        }
    }
}
