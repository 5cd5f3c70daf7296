//! What is being read now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(super) struct Pins {
    contents: Mutex<HashMap<u64, usize>>,
}

impl Pins {
    // Every change is one step of the map: a panic leaves nothing half done.
    fn contents(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pin(self: &Arc<Self>, content: u64) -> Pin {
        *self.contents().entry(content).or_default() += 1;
        Pin { pins: self.clone(), content }
    }

    pub(super) fn holds(&self, content: u64) -> bool {
        self.contents().contains_key(&content)
    }
}

pub(super) struct Pin {
    pins: Arc<Pins>,
    content: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut contents = self.pins.contents();
        if let Some(count) = contents.get_mut(&self.content) {
            *count -= 1;
            if *count == 0 {
                contents.remove(&self.content);
            }
        }
    }
}
