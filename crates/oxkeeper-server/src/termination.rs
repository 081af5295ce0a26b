//! The last word of a process: one readable line where Kubernetes looks for it.
//!
//! Kubernetes shows the content of `/dev/termination-log` as the reason why a container ended. The
//! file is there only in a container; it is never created. `OXKEEPER_TERMINATION_LOG` names another
//! file. Source: `docs/spec/kubernetes.md` 8, `docs/spec/operations.md` 9.1.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where Kubernetes looks, unless a pod says otherwise.
const FILE: &str = "/dev/termination-log";
/// The environment's name for another file, which is created if it is missing.
const VARIABLE: &str = "OXKEEPER_TERMINATION_LOG";
/// Most bytes written, the line's end included.
const MAX: usize = 2048;

thread_local! {
    /// The last panic of this thread.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Says why the process ends. The first word counts: what follows is a consequence of it.
pub fn report(text: &str) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if SAID.swap(true, Ordering::Relaxed) {
        return;
    }
    // Nowhere to complain to; the log has the reason too.
    let _ = match std::env::var_os(VARIABLE) {
        Some(file) => write(Path::new(&file), true, text),
        None => write(Path::new(FILE), false, text),
    };
}

fn write(file: &Path, create: bool, text: &str) -> io::Result<()> {
    // Opening anything but a file could block.
    if file.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut file = OpenOptions::new().write(true).truncate(true).create(create).open(file)?;
    file.write_all(line(text).as_bytes())
}

/// One line of [`MAX`] bytes at most.
fn line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() >= MAX {
        line.truncate(line.floor_char_boundary(MAX - 1));
    }
    line.push('\n');
    line
}

/// Panics go to the log, and are remembered for [`report_panic`]: not every panic ends the process.
pub(crate) fn watch_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?").to_owned();
        let text = format!("Severe unrecoverable error, from thread : {name}: {info}");
        // Somebody may read stderr only.
        before(info);
        tracing::error!("{text}");
        PANIC.with_borrow_mut(|last| *last = Some(text));
    }));
}

/// The panic of this thread ends the process.
pub(crate) fn report_panic() {
    let text = PANIC.with_borrow_mut(Option::take);
    report(text.as_deref().unwrap_or("a broken invariant"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_replaces_what_was_there_and_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        std::fs::write(&file, "x".repeat(5000)).unwrap();
        write(&file, false, "cannot start:\n  no disk\n").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "cannot start: no disk\n");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = line(&"ä".repeat(3000));
        assert!(text.len() <= MAX && text.len() > MAX - 4, "{}", text.len());
        assert!(text.ends_with("ä\n"));
    }

    #[test]
    fn the_default_file_is_not_created_and_no_pipe_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        assert!(write(&file, false, "x").is_err());
        assert!(!file.exists());
        assert!(write(dir.path(), true, "x").is_err());
        write(&file, true, "x").unwrap();
        assert!(file.exists());
    }
}
