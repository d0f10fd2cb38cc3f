//! How far something has come that takes a while: a bar on a terminal, and nothing anywhere else.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is shorter than this needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar with rate and time left, on standard error.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    is_shown: bool,
}

impl Progress {
    /// `what` is being done to so many bytes.
    #[must_use]
    pub fn new(what: &str, total_bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::hidden());
        let style = "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        Self {
            bar,
            began: Instant::now(),
            is_shown: false,
        }
    }

    /// So many bytes are done.
    pub fn at(&mut self, done_bytes: u64) {
        if !self.is_shown && self.began.elapsed() >= PATIENCE {
            self.is_shown = true;
            // Hidden by itself where standard error is no terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        let total = self.bar.length().unwrap_or(done_bytes);
        self.bar.set_position(done_bytes.min(total));
    }

    /// It is over: the bar goes.
    pub fn done(self) {
        self.bar.finish_and_clear();
    }
}
