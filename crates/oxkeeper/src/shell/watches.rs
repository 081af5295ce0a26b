//! The watches this shell has set: each is a task that prints what comes.

use tokio::task::JoinHandle;
use zookeeper_client::{OneshotWatcher, PersistentWatcher};

use super::session::Printer;

/// What a watch looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Data and existence, once.
    Data,
    /// Children, once.
    Children,
    /// All of one znode, until removed.
    Persistent,
    /// All of a subtree, until removed.
    Recursive,
}

struct Watch {
    path: String,
    kind: Kind,
    task: JoinHandle<()>,
}

/// All of them.
pub struct Watches {
    list: Vec<Watch>,
    printer: Printer,
}

impl Watches {
    /// None yet.
    pub fn new(printer: Printer) -> Watches {
        Watches { list: Vec::new(), printer }
    }

    /// Prints the one notification of a watch.
    pub fn once(&mut self, path: &str, kind: Kind, watcher: OneshotWatcher) {
        let printer = self.printer.clone();
        let task = tokio::spawn(async move { printer.event(&watcher.changed().await) });
        self.add(path, kind, task);
    }

    /// Prints every notification of a watch until it is removed or the session ends.
    pub fn each(&mut self, path: &str, kind: Kind, mut watcher: PersistentWatcher) {
        let printer = self.printer.clone();
        let task = tokio::spawn(async move {
            loop {
                let event = watcher.changed().await;
                printer.event(&event);
                if event.session_state.is_terminated() {
                    return;
                }
            }
        });
        self.add(path, kind, task);
    }

    fn add(&mut self, path: &str, kind: Kind, task: JoinHandle<()>) {
        self.list.retain(|watch| !watch.task.is_finished());
        self.list.push(Watch { path: path.to_owned(), kind, task });
    }

    /// Forgets the watches of these kinds on `path`; the client then tells the server. How many?
    pub async fn remove(&mut self, path: &str, kinds: &[Kind]) -> usize {
        self.list.retain(|watch| !watch.task.is_finished());
        let hit = |watch: &Watch| watch.path == path && kinds.contains(&watch.kind);
        let (gone, stay): (Vec<_>, Vec<_>) = self.list.drain(..).partition(hit);
        self.list = stay;
        let count = gone.len();
        for watch in gone {
            watch.task.abort();
            // The watcher is dropped, and with it the watch, once the task has ended.
            let _ = watch.task.await;
        }
        count
    }

    /// Forgets all: the session is gone.
    pub async fn clear(&mut self) {
        for watch in self.list.drain(..) {
            watch.task.abort();
            let _ = watch.task.await;
        }
    }
}
