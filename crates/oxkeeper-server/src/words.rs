//! Four-letter words: the text that a client port answers to `ruok`, `srvr`, `mntr` and the like.
//!
//! Pure formatting. The driver shows the server through [`ServerView`], whose methods gather just what
//! one word needs. Source: `docs/spec/operations.md` 2, `docs/spec/client-protocol.md` 2.2.

use std::collections::BTreeSet;

mod format;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use view::MemoryLimit;
pub use view::{
    Bucket, Conf, Connection, ConnectionSession, DirectorySizes, Dump, Member, Metric, MetricValue,
    Mode, ServerView, Sessions, Summary, WatchSummary, Watches,
};

/// What the server says it is: a compatible version first, for tools that compare it, then ours.
pub const VERSION: &str =
    concat!("3.9.5-oxkeeper-", env!("CARGO_PKG_VERSION"), ", built on ", "2026-11-24 00:00 UTC");

/// What `gtmk` tells until `stmk` says otherwise.
pub const DEFAULT_TRACE_MASK: i64 = 306;

/// Answer to nearly every word while the server cannot serve.
pub const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";

macro_rules! words {
    ($($(#[$meta:meta])* $name:ident = $text:literal,)*) => {
        /// A four-letter word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Word { $($(#[$meta])* $name,)* }

        impl Word {
            /// The word with these first four bytes of a connection.
            pub fn from_bytes(bytes: [u8; 4]) -> Option<Word> {
                $(if bytes == *$text { return Some(Word::$name); })*
                None
            }

            /// Its four letters.
            pub fn name(self) -> &'static str {
                let bytes: &[u8; 4] = match self { $(Word::$name => $text,)* };
                std::str::from_utf8(bytes).unwrap_or("telnet close")
            }
        }
    };
}

words! {
    /// Configuration.
    Conf = b"conf",
    /// Connections, in full.
    Cons = b"cons",
    /// Resets statistics of connections.
    Crst = b"crst",
    /// Bytes in the data directories.
    Dirs = b"dirs",
    /// Sessions and ephemeral nodes.
    Dump = b"dump",
    /// Environment.
    Envi = b"envi",
    /// Trace mask.
    Gtmk = b"gtmk",
    /// Digest history.
    Hash = b"hash",
    /// Read-only or not.
    Isro = b"isro",
    /// Metrics.
    Mntr = b"mntr",
    /// Is the process alive?
    Ruok = b"ruok",
    /// Resets statistics of the server.
    Srst = b"srst",
    /// Summary.
    Srvr = b"srvr",
    /// Summary and connections.
    Stat = b"stat",
    /// Sets the trace mask, eight bytes behind the word.
    Stmk = b"stmk",
    /// Watches by session.
    Wchc = b"wchc",
    /// Watches by path.
    Wchp = b"wchp",
    /// Watches, summed up.
    Wchs = b"wchs",
    /// The interrupt of a telnet client: if it is allowed, the connection is closed without a reply.
    TelnetClose = b"\xff\xf4\xff\xfd",
}

/// Which words are answered (`4lw.commands.whitelist`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whitelist {
    all: bool,
    names: BTreeSet<String>,
}

impl Whitelist {
    /// Reads the setting: names with commas between them, or `*`. Without setting only `srvr` is
    /// answered, which always is.
    pub fn parse(setting: Option<&str>) -> Whitelist {
        let names: BTreeSet<String> =
            setting.unwrap_or("").split(',').map(|name| name.trim().to_owned()).collect();
        Whitelist { all: names.contains("*"), names }
    }

    /// May this word be answered?
    pub fn allows(&self, word: Word) -> bool {
        self.all || word == Word::Srvr || self.names.contains(word.name())
    }
}

/// The reply to `word`; `None`: close without a byte. After a reply the connection is closed too.
///
/// `mask` is what [`Word::Stmk`] has behind it, if eight bytes came along.
pub fn answer(
    word: Word,
    mask: Option<i64>,
    whitelist: &Whitelist,
    view: &dyn ServerView,
) -> Option<String> {
    if !whitelist.allows(word) {
        let name = word.name();
        return Some(format!("{name} is not executed because it is not in the whitelist.\n"));
    }
    match word {
        Word::TelnetClose => return None,
        Word::Ruok => return Some("imok".to_owned()),
        Word::Envi => return Some(format::environment(&view.environment())),
        Word::Gtmk => return Some(view.trace_mask().to_string()),
        Word::Stmk => {
            let mask = mask?;
            view.set_trace_mask(mask);
            return Some(mask.to_string());
        }
        _ => {}
    }
    if !view.serving() {
        return Some(match word {
            Word::Isro => "null".to_owned(),
            Word::Hash => NOT_SERVING.to_owned(),
            _ => format!("{NOT_SERVING}\n"),
        });
    }
    Some(answer_serving(word, view))
}

fn answer_serving(word: Word, view: &dyn ServerView) -> String {
    match word {
        Word::Conf => format::conf(&view.conf()),
        Word::Cons => format::connections(&view.connections()),
        Word::Crst => {
            view.reset_connection_statistics();
            "Connection stats reset.\n".to_owned()
        }
        Word::Dirs => {
            let DirectorySizes { data, log } = view.directory_sizes();
            format!("datadir_size: {data}\nlogdir_size: {log}\n")
        }
        Word::Dump => format::dump(&view.dump()),
        Word::Hash => view
            .digests()
            .iter()
            // Signed, as the reference's.
            .map(|(zxid, digest)| format!("{:x}: {}\n", zxid.0, *digest as i64))
            .collect(),
        Word::Isro => match view.summary().mode {
            Mode::ReadOnly => "ro".to_owned(),
            _ => "rw".to_owned(),
        },
        Word::Mntr => format::metrics(&view.summary(), &view.metrics(), view.prometheus()),
        Word::Srst => {
            view.reset_server_statistics();
            "Server stats reset.\n".to_owned()
        }
        Word::Srvr => format::summary(&view.summary(), None),
        Word::Stat => format::summary(&view.summary(), Some(&view.connections())),
        Word::Wchc => format::watches_by_session(&view.watches()),
        Word::Wchp => format::watches_by_path(&view.watches()),
        Word::Wchs => format::watch_summary(&view.watch_summary()),
        Word::Ruok | Word::Envi | Word::Gtmk | Word::Stmk | Word::TelnetClose => {
            unreachable!("answered whether serving or not")
        }
    }
}
