//! Where the shell writes, in the shape of 3.9 or in that of 3.4.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Standard output and standard error of the shell.
pub struct Output {
    /// The shape of 3.4: all on stdout, so that the order survives, and no zxid in events.
    pub old: bool,
    watches: AtomicBool,
}

impl Output {
    /// In the shape of 3.4, if `old`.
    pub fn new(old: bool) -> Output {
        Output { old, watches: AtomicBool::new(true) }
    }

    /// Writes to stdout at once. A reader that has gone away is not our concern.
    pub fn out(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// A line for stderr.
    pub fn err(&self, line: &str) {
        if self.old {
            return self.out(format!("{line}\n").as_bytes());
        }
        let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
    }

    /// Shows events, or not.
    pub fn switch(&self, on: bool) {
        self.watches.store(on, Ordering::Relaxed);
    }

    /// Are events shown?
    pub fn shows_watches(&self) -> bool {
        self.watches.load(Ordering::Relaxed)
    }

    /// An event: of the session (kind `None`, no path), or of a znode.
    pub fn event(&self, state: &str, kind: &str, path: Option<&str>, zxid: i64) {
        if self.shows_watches() {
            self.out(event(state, kind, path, (!self.old).then_some(zxid)).as_bytes());
        }
    }
}

fn event(state: &str, kind: &str, path: Option<&str>, zxid: Option<i64>) -> String {
    let path = path.unwrap_or("null");
    let zxid = zxid.map(|zxid| format!(" zxid: {zxid}")).unwrap_or_default();
    format!("\nWATCHER::\n\nWatchedEvent state:{state} type:{kind} path:{path}{zxid}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_shape_of_an_event_has_no_zxid() {
        let old = "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:None path:null\n";
        assert_eq!(event("SyncConnected", "None", None, None), old);
        let new =
            "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:NodeDeleted path:/a zxid: 7\n";
        assert_eq!(event("SyncConnected", "NodeDeleted", Some("/a"), Some(7)), new);
    }
}
