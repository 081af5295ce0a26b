//! The shell's session: opened when a command first needs it, opened again when it is gone.

use std::io::Write;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use zookeeper_client::{Client, SessionState, WatchedEvent};

use super::text;
use crate::{four_letter, servers};

/// Where notifications go while no command runs.
#[derive(Clone)]
pub struct Printer {
    /// To the line editor, which keeps its prompt whole; without one, to stdout.
    editor: Option<SyncSender<String>>,
    on: Arc<Mutex<bool>>,
}

impl Printer {
    /// Prints to the line editor, if there is one.
    pub fn new(editor: Option<SyncSender<String>>) -> Printer {
        Printer { editor, on: Arc::new(Mutex::new(true)) }
    }

    /// Shows notifications, or not.
    pub fn switch(&self, on: bool) {
        *self.on.lock().unwrap_or_else(PoisonError::into_inner) = on;
    }

    /// Are notifications shown?
    pub fn is_on(&self) -> bool {
        *self.on.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a notification.
    pub fn event(&self, event: &WatchedEvent) {
        if !self.is_on() {
            return;
        }
        let shown = text::event(event);
        match &self.editor {
            // Line by line: the terminal is in raw mode, where a line feed does not return. An
            // editor that is swamped loses notifications rather than stop the session.
            Some(editor) => {
                let _ = shown.lines().try_for_each(|line| editor.try_send(line.to_owned()));
            }
            None => print(&shown),
        }
    }
}

/// Writes to stdout; a reader that has gone away is not our concern.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// How sessions are opened.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connect string, perhaps with a chroot.
    pub server: String,
    /// Session timeout, and limit of the first connect.
    pub timeout: Duration,
    /// Accept a server without a quorum.
    pub read_only: bool,
    /// Keep trying until the timeout instead of failing once every server has refused.
    pub wait: bool,
    /// Leave the session to its timeout at the end, as the reference does for single commands:
    /// an ephemeral znode made by one stays for that long.
    pub detached: bool,
    /// Identities proven at once: scheme and proof.
    pub auths: Vec<(String, String)>,
}

/// A session, or none.
pub struct Session {
    /// How the next one is opened.
    pub settings: Settings,
    client: Option<Client>,
}

impl Session {
    /// No session yet.
    pub fn new(settings: Settings) -> Session {
        Session { settings, client: None }
    }

    /// The state in the words of the reference's prompt.
    pub fn state(&self) -> &'static str {
        match self.client.as_ref().map(Client::state) {
            None => "CLOSED",
            Some(SessionState::SyncConnected) => "CONNECTED",
            Some(SessionState::ConnectedReadOnly) => "CONNECTEDREADONLY",
            Some(SessionState::Disconnected) => "CONNECTING",
            Some(SessionState::AuthFailed) => "AUTH_FAILED",
            Some(_) => "CLOSED",
        }
    }

    /// The client of the session, which is opened if there is none or it has ended.
    pub async fn client(&mut self) -> Result<Client, String> {
        if let Some(client) = &self.client {
            if !client.state().is_terminated() {
                return Ok(client.clone());
            }
            self.client = None;
        }
        let client = self.open().await?;
        self.client = Some(client.clone());
        Ok(client)
    }

    /// The client, if there is a session.
    pub fn current(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    async fn open(&self) -> Result<Client, String> {
        let settings = &self.settings;
        // Says what is wrong with the connect string better than the client would.
        let (names, chroot) =
            servers::split(&settings.server).map_err(|failure| failure.to_string())?;
        let mut connector = Client::connector()
            .with_session_timeout(settings.timeout)
            .with_readonly(settings.read_only);
        if settings.detached {
            connector = connector.with_detached();
        }
        if !settings.wait {
            connector = connector.with_fail_eagerly();
        }
        for (scheme, proof) in &settings.auths {
            connector = connector.with_auth(scheme, proof.as_bytes());
        }
        let connect = format!("{}{chroot}", names.join(","));
        let limit = settings.timeout + Duration::from_secs(1);
        match tokio::time::timeout(limit, connector.connect(&connect)).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(zookeeper_client::Error::AuthFailed)) => {
                Err("KeeperErrorCode = AuthFailed for /: the server refuses the identity"
                    .to_owned())
            }
            Ok(Err(error)) => Err(why_no_session(&names, &error.to_string()).await),
            Err(_) => Err(why_no_session(&names, "timeout").await),
        }
    }

    /// Closes the session and waits a moment for the server to know.
    pub async fn close(&mut self) {
        let Some(client) = self.client.take() else { return };
        let mut watcher = client.state_watcher();
        drop(client);
        let closed = async { while !watcher.changed().await.is_terminated() {} };
        let _ = tokio::time::timeout(Duration::from_secs(1), closed).await;
    }
}

/// Asks each server for the reason.
async fn why_no_session(names: &[String], error: &str) -> String {
    let mut text = format!("KeeperErrorCode = ConnectionLoss for /: no session ({error})");
    for name in names {
        let asked = name.clone();
        let reason = tokio::task::spawn_blocking(move || reason(&asked)).await;
        text.push_str(&format!("\n  {name} {}", reason.unwrap_or_else(|error| error.to_string())));
    }
    text
}

fn reason(name: &str) -> String {
    let address = match servers::resolve(&[name.to_owned()]) {
        Ok(addresses) => addresses[0],
        Err(failure) => return failure.what,
    };
    match four_letter::ask(address, "srvr", Duration::from_secs(2)) {
        Ok(answer) => match four_letter::mode(&answer) {
            Some(mode) => format!("serves ({mode}), but gave no session"),
            None => "runs but does not serve: it has no quorum, or is still starting".to_owned(),
        },
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "refuses connections: no server runs there".to_owned()
        }
        Err(error) => format!("cannot be asked: {error}"),
    }
}
