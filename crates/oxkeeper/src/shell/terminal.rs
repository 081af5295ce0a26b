//! The shell in a terminal: line editor, history, completion, prompt.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use reedline::{
    ColumnarMenu, Completer, CompletionResult, Emacs, ExternalPrinter, FileBackedHistory, KeyCode,
    KeyModifiers, MenuBuilder, Prompt, PromptEditMode, PromptHistorySearch, Reedline,
    ReedlineEvent, ReedlineMenu, Signal, Span, Suggestion, default_emacs_keybindings,
};
use tokio::runtime::Handle;
use zookeeper_client::Client;

use super::spec;

/// Lines kept in the history file.
const HISTORY: usize = 1000;
/// A completion that takes longer is left out.
const LIMIT: Duration = Duration::from_millis(700);
const MENU: &str = "completion";

/// `[zk: server(STATE) number] `
pub struct ShellPrompt {
    /// Connect string.
    pub server: String,
    /// State of the session.
    pub state: &'static str,
    /// Number of the next command.
    pub number: usize,
}

impl Prompt for ShellPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        format!("[zk: {}({}) {}] ", self.server, self.state, self.number).into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        format!("(search: {}) ", search.term).into()
    }
}

/// What the completer knows: the session of the moment.
pub type SharedClient = std::sync::Arc<std::sync::Mutex<Option<Client>>>;

/// A line editor with all that belongs to it.
pub fn editor(printer: ExternalPrinter<String>, client: SharedClient, handle: Handle) -> Reedline {
    let mut keys = default_emacs_keybindings();
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![
            ReedlineEvent::Menu(MENU.to_owned()),
            ReedlineEvent::MenuNext,
        ]),
    );
    let menu = ColumnarMenu::default().with_name(MENU);
    let editor = Reedline::create()
        .with_external_printer(printer)
        .with_completer(Box::new(ShellCompleter { client, handle }))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_edit_mode(Box::new(Emacs::new(keys)));
    let history = history_file().and_then(|file| FileBackedHistory::with_file(HISTORY, file).ok());
    match history {
        Some(history) => editor.with_history(Box::new(history)),
        // Without a home, or with one that cannot be written, the history ends with the shell.
        None => editor,
    }
}

fn history_file() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
    Some(PathBuf::from(home).join(".oxkeeper_history"))
}

/// What a line of input comes to.
pub enum Input {
    /// A line to run.
    Line(String),
    /// Nothing: the line was given up.
    Nothing,
    /// No more lines.
    End,
}

/// Reads the next line.
pub fn read(editor: &mut Reedline, prompt: &ShellPrompt) -> std::io::Result<Input> {
    Ok(match editor.read_line(prompt)? {
        Signal::Success(line) => Input::Line(line),
        Signal::CtrlD => Input::End,
        _ => Input::Nothing,
    })
}

struct ShellCompleter {
    client: SharedClient,
    handle: Handle,
}

impl Completer for ShellCompleter {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let line = line.get(..pos).unwrap_or(line);
        let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let word = &line[start..];
        let found = if line[..start].trim().is_empty() || line[..start].trim() == "help" {
            commands(word)
        } else if word.starts_with('/') {
            self.paths(word)
        } else {
            Vec::new()
        };
        let suggestion = |(value, append_whitespace)| Suggestion {
            value,
            span: Span::new(start, pos),
            append_whitespace,
            ..Suggestion::default()
        };
        CompletionResult::fresh(found.into_iter().map(suggestion).collect::<Vec<_>>())
    }
}

/// Commands that begin with `word`, each to be followed by a blank.
fn commands(word: &str) -> Vec<(String, bool)> {
    let word = word.to_ascii_lowercase();
    let fits = |spec: &&spec::Spec| spec.name.to_ascii_lowercase().starts_with(&word);
    spec::ALL.iter().filter(fits).map(|spec| (spec.name.to_owned(), true)).collect()
}

impl ShellCompleter {
    fn paths(&self, word: &str) -> Vec<(String, bool)> {
        let client = self.client.lock().ok().and_then(|client| client.clone());
        let Some(client) = client else { return Vec::new() };
        let slash = word.rfind('/').unwrap_or(0);
        let (parent, begin) = (&word[..slash], &word[slash + 1..]);
        let parent = if parent.is_empty() { "/" } else { parent };
        let list = async { tokio::time::timeout(LIMIT, client.list_children(parent)).await };
        let Ok(Ok(mut children)) = self.handle.block_on(list) else { return Vec::new() };
        children.retain(|child| child.starts_with(begin));
        children.sort_unstable();
        let prefix = parent.trim_end_matches('/');
        children.into_iter().map(|child| (format!("{prefix}/{child}"), false)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_shows_server_state_and_number() {
        let prompt = ShellPrompt { server: "a:1".to_owned(), state: "CONNECTED", number: 3 };
        assert_eq!(prompt.render_prompt_left(), "[zk: a:1(CONNECTED) 3] ");
    }

    #[test]
    fn commands_complete_whatever_their_capitals() {
        let names: Vec<_> = commands("geta").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["getAcl", "getAllChildrenNumber"]);
        assert_eq!(commands("").len(), spec::ALL.len());
    }
}
