//! What the commands do.

use std::time::Duration;

use oxkeeper_proto::ensemble::EnsembleConfig;
use zookeeper_client::{Acl, Acls, AddWatchMode, Client, CreateMode, Error, Stat};

use super::session::{Printer, Session, Settings, print};
use super::spec::{self, Parsed};
use super::text;
use super::watches::{Kind, Watches};

/// How long `sync` may take.
const SYNC_LIMIT: Duration = Duration::from_secs(30);
/// Lines that `history` shows.
const HISTORY: usize = 11;

/// What a command leaves behind.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For stdout.
    pub out: Vec<u8>,
    /// For stderr.
    pub err: String,
    /// Exit code, if it is the last command.
    pub code: u8,
    /// Leave the shell?
    pub quit: bool,
}

impl Outcome {
    fn out(text: impl Into<Vec<u8>>) -> Outcome {
        Outcome { out: text.into(), ..Outcome::default() }
    }

    fn err(text: String) -> Outcome {
        Outcome { err: text, ..Outcome::default() }
    }

    fn failed(text: String, code: u8) -> Outcome {
        Outcome { err: format!("{text}\n"), code, ..Outcome::default() }
    }
}

/// The shell between commands.
pub struct Shell {
    /// Its session.
    pub session: Session,
    watches: Watches,
    printer: Printer,
    history: Vec<String>,
    single: bool,
}

type Done = Result<Outcome, String>;

impl Shell {
    /// A shell for many commands, or for a `single` one.
    pub fn new(settings: Settings, printer: Printer, single: bool) -> Shell {
        Shell {
            session: Session::new(settings),
            watches: Watches::new(printer.clone()),
            printer,
            history: Vec::new(),
            single,
        }
    }

    /// Number of the next command.
    pub fn number(&self) -> usize {
        self.history.len()
    }

    /// Runs a typed line.
    pub async fn line(&mut self, line: &str) -> Outcome {
        let words = spec::words(line);
        if words.is_empty() {
            return Outcome::default();
        }
        let line = match self.redo(&words, line) {
            Ok(line) => line,
            Err(text) => return Outcome::failed(text, 1),
        };
        self.history.push(line.clone());
        self.words(&spec::words(&line)).await
    }

    /// The line itself, or the earlier one that its `redo n` asks for.
    fn redo(&self, words: &[String], line: &str) -> Result<String, String> {
        if !words[0].eq_ignore_ascii_case("redo") {
            return Ok(line.trim().to_owned());
        }
        let number = words.get(1).and_then(|number| number.parse().ok());
        let earlier = number.and_then(|number: usize| self.history.get(number));
        earlier.cloned().ok_or_else(|| "Command index out of range".to_owned())
    }

    /// Runs a command that is split into words already.
    pub async fn words(&mut self, words: &[String]) -> Outcome {
        let Some((name, rest)) = words.split_first() else { return Outcome::default() };
        let Some(spec) = spec::find(name) else { return unknown(name) };
        let parsed = match spec.parse(rest) {
            Ok(parsed) => parsed,
            Err(text) => return Outcome::failed(text, 1),
        };
        let done = self.dispatch(spec.name, &parsed).await;
        let mut outcome = done.unwrap_or_else(|text| Outcome::failed(text, 1));
        if let Some(note) = parsed.note {
            outcome.err.insert_str(0, &format!("{note}\n"));
        }
        outcome
    }

    async fn dispatch(&mut self, name: &str, p: &Parsed) -> Done {
        match name {
            "ls" => self.ls(p).await,
            "get" => self.get(p).await,
            "set" => self.set(p).await,
            "create" => self.create(p).await,
            "delete" => self.delete(p).await,
            "deleteall" => self.delete_all(p).await,
            "stat" => self.stat(p).await,
            "getAcl" => self.get_acl(p).await,
            "setAcl" => self.set_acl(p).await,
            "addauth" => self.add_auth(p).await,
            "whoami" => self.who_am_i().await,
            "sync" => self.sync(p).await,
            "addWatch" => self.add_watch(p).await,
            "watch" if self.single => self.watch_until_interrupted(p).await,
            "watch" => self.add_watch(p).await,
            "removewatches" => self.remove_watches(p).await,
            "getEphemerals" => self.ephemerals(p).await,
            "getAllChildrenNumber" => self.count(p).await,
            "config" => self.config(p).await,
            "printwatches" => self.print_watches(p),
            "history" => Ok(Outcome::out(self.shown_history())),
            "connect" => self.connect(p).await,
            "close" => self.close().await,
            "quit" => {
                self.close().await?;
                Ok(Outcome { quit: true, ..Outcome::default() })
            }
            "version" => Ok(Outcome::out(concat!("oxkeeper ", env!("CARGO_PKG_VERSION"), "\n"))),
            "help" => help(p),
            other => Err(format!("{other} cannot be used here")),
        }
    }

    /// The client, for a command on a path that has been checked.
    async fn client_for(&mut self, path: &str) -> Result<Client, String> {
        text::check_path(path)?;
        self.session.client().await
    }

    async fn ls(&mut self, p: &Parsed) -> Done {
        let path = p.path();
        let client = self.client_for(path).await?;
        if p.has('R') {
            return self.ls_recursive(&client, path, p.has('w')).await;
        }
        let (children, stat) = if p.has('w') {
            let answer = client.get_and_watch_children(path).await;
            let (children, stat, watcher) = answer.map_err(|error| text::error(&error, path))?;
            self.watches.once(path, Kind::Children, watcher);
            (children, stat)
        } else {
            client.get_children(path).await.map_err(|error| text::error(&error, path))?
        };
        Ok(Outcome::out(text::list(children) + &stat_if(p, &stat)))
    }

    /// Depth first; a znode that goes away meanwhile is no error, except the first.
    async fn ls_recursive(&mut self, client: &Client, top: &str, watch: bool) -> Done {
        let mut out = String::new();
        let mut stack = vec![top.to_owned()];
        while let Some(path) = stack.pop() {
            let answer = if watch {
                match client.list_and_watch_children(&path).await {
                    Ok((children, watcher)) => {
                        self.watches.once(&path, Kind::Children, watcher);
                        Ok(children)
                    }
                    Err(error) => Err(error),
                }
            } else {
                client.list_children(&path).await
            };
            let mut children = match answer {
                Ok(children) => children,
                Err(Error::NoNode) if path != top => continue,
                Err(error) => return Err(text::error(&error, &path)),
            };
            out.push_str(&path);
            out.push('\n');
            children.sort_unstable_by(|a, b| b.cmp(a));
            stack.extend(children.iter().map(|child| join(&path, child)));
        }
        Ok(Outcome::out(out))
    }

    async fn get(&mut self, p: &Parsed) -> Done {
        let path = p.path();
        let client = self.client_for(path).await?;
        let (data, stat) = if p.has('w') {
            let answer = client.get_and_watch_data(path).await;
            let (data, stat, watcher) = answer.map_err(|error| text::error(&error, path))?;
            self.watches.once(path, Kind::Data, watcher);
            (data, stat)
        } else {
            client.get_data(path).await.map_err(|error| text::error(&error, path))?
        };
        let mut out = match (p.has('b'), p.has('x')) {
            (true, _) => super::base64::encode(&data).into_bytes(),
            (_, true) => text::hex_dump(&data).trim_end().as_bytes().to_vec(),
            _ => data,
        };
        out.push(b'\n');
        out.extend(stat_if(p, &stat).into_bytes());
        Ok(Outcome::out(out))
    }

    async fn set(&mut self, p: &Parsed) -> Done {
        let path = p.path();
        let version = version(p)?;
        let data = match p.has('b') {
            true => super::base64::decode(&p.args[1])?,
            false => p.args[1].clone().into_bytes(),
        };
        let client = self.client_for(path).await?;
        let stat = client.set_data(path, &data, version).await;
        let stat = stat.map_err(|error| text::error(&error, path))?;
        Ok(Outcome::out(stat_if(p, &stat)))
    }

    async fn create(&mut self, p: &Parsed) -> Done {
        let path = p.path();
        let (mode, ttl) = create_mode(p)?;
        let data = p.args.get(1).map_or("", String::as_str);
        let (acl, complaints) = match p.args.get(2) {
            Some(acl) => text::parse_acl(acl),
            None => text::parse_acl("world:anyone:cdrwa"),
        };
        // The name of a sequential znode may be empty: the number is its name.
        let named = if p.has('s') && path.len() > 1 { path.trim_end_matches('/') } else { path };
        text::check_path(named)?;
        if named == "/" {
            return Err(text::error(&Error::NodeExists, "/"));
        }
        let client = self.session.client().await?;
        let mut options = mode.with_acls(Acls::new(&acl));
        if let Some(ttl) = ttl {
            options = options.with_ttl(ttl);
        }
        let created = client.create(path, data.as_bytes(), &options).await;
        let (_, sequence) =
            created.map_err(|error| format!("{complaints}{}", text::error(&error, path)))?;
        let suffix = if p.has('s') { sequence.to_string() } else { String::new() };
        Ok(Outcome::err(format!("{complaints}Created {path}{suffix}\n")))
    }

    async fn delete(&mut self, p: &Parsed) -> Done {
        let path = p.path();
        let version = version(p)?;
        let client = self.client_for(path).await?;
        client.delete(path, version).await.map_err(|error| text::error(&error, path))?;
        Ok(Outcome::default())
    }

    async fn delete_all(&mut self, p: &Parsed) -> Done {
        let top = p.path();
        let batch = match p.value('b') {
            None => 1000,
            Some(text) => match text.parse() {
                Ok(n @ 1..) => n,
                _ => return Err("-b argument must be a positive integer value".to_owned()),
            },
        };
        let client = self.client_for(top).await?;
        let paths = subtree(&client, top).await?;
        let mut failures = String::new();
        for chunk in paths.rchunks(batch) {
            // Requests leave when the calls are made, in this order: children before parents.
            let pending: Vec<_> = chunk
                .iter()
                .rev()
                .filter(|path| *path != "/")
                .map(|path| (path, client.delete(path, None)))
                .collect();
            for (path, answer) in pending {
                match answer.await {
                    Ok(()) | Err(Error::NoNode) => {}
                    Err(error) => failures.push_str(&format!("{}\n", text::error(&error, path))),
                }
            }
        }
        if failures.is_empty() {
            return Ok(Outcome::default());
        }
        // The reference ends with success here; a script would go on with what it wanted gone.
        Err(format!("{failures}Failed to delete some node(s) in the subtree!"))
    }

    async fn stat(&mut self, p: &Parsed) -> Done {
        let path = p.path();
        let client = self.client_for(path).await?;
        let stat = if p.has('w') {
            let answer = client.check_and_watch_stat(path).await;
            let (stat, watcher) = answer.map_err(|error| text::error(&error, path))?;
            self.watches.once(path, Kind::Data, watcher);
            stat
        } else {
            client.check_stat(path).await.map_err(|error| text::error(&error, path))?
        };
        let stat = stat.ok_or_else(|| text::error(&Error::NoNode, path))?;
        Ok(Outcome::out(text::stat(&stat)))
    }

    async fn get_acl(&mut self, p: &Parsed) -> Done {
        let path = p.path();
        let client = self.client_for(path).await?;
        let answer = client.get_acl(path).await;
        let (acl, stat) = answer.map_err(|error| text::error(&error, path))?;
        Ok(Outcome::out(text::acl(&acl) + &stat_if(p, &stat)))
    }

    async fn set_acl(&mut self, p: &Parsed) -> Done {
        let path = p.path();
        let version = version(p)?;
        let (acl, complaints) = text::parse_acl(&p.args[1]);
        let client = self.client_for(path).await?;
        let paths = match p.has('R') {
            true => subtree(&client, path).await?,
            false => vec![path.to_owned()],
        };
        let mut out = String::new();
        for path in &paths {
            let stat = set_one_acl(&client, path, &acl, version).await;
            let stat =
                stat.map_err(|error| format!("{complaints}{}", text::error(&error, path)))?;
            out.push_str(&stat_if(p, &stat));
        }
        Ok(Outcome { err: complaints, ..Outcome::out(out) })
    }

    async fn add_auth(&mut self, p: &Parsed) -> Done {
        let proof = p.args.get(1).map_or("", String::as_str);
        let client = self.session.client().await?;
        let answer = client.auth(&p.args[0], proof.as_bytes()).await;
        answer.map_err(|error| {
            format!("{}: the server refuses scheme '{}'", text::error(&error, "/"), p.args[0])
        })?;
        self.session.settings.auths.push((p.args[0].clone(), proof.to_owned()));
        Ok(Outcome::default())
    }

    async fn who_am_i(&mut self) -> Done {
        let client = self.session.client().await?;
        let users = client.list_auth_users().await.map_err(|error| text::error(&error, "/"))?;
        let mut rows: Vec<_> =
            users.iter().map(|user| format!("{}: {}\n", user.scheme(), user.user())).collect();
        rows.sort_unstable();
        Ok(Outcome::out(format!("Auth scheme: User\n{}", rows.concat())))
    }

    async fn sync(&mut self, p: &Parsed) -> Done {
        let client = self.client_for(p.path()).await?;
        match tokio::time::timeout(SYNC_LIMIT, client.sync(p.path())).await {
            Ok(Ok(())) => Ok(Outcome::out("Sync is OK\n")),
            Ok(Err(error)) => Err(text::error(&error, p.path())),
            Err(_) => Err(text::error(&Error::Timeout, p.path())),
        }
    }

    async fn add_watch(&mut self, p: &Parsed) -> Done {
        let (mode, kind) = watch_mode(p)?;
        let client = self.client_for(p.path()).await?;
        let watcher = client.watch(p.path(), mode).await;
        let watcher = watcher.map_err(|error| text::error(&error, p.path()))?;
        self.watches.each(p.path(), kind, watcher);
        Ok(Outcome::default())
    }

    /// Prints one line per change until Ctrl-C or the end of the session.
    async fn watch_until_interrupted(&mut self, p: &Parsed) -> Done {
        let (mode, _) = watch_mode(p)?;
        let client = self.client_for(p.path()).await?;
        let watcher = client.watch(p.path(), mode).await;
        let mut watcher = watcher.map_err(|error| text::error(&error, p.path()))?;
        loop {
            let event = tokio::select! {
                event = watcher.changed() => event,
                _ = tokio::signal::ctrl_c() => return Ok(Outcome::default()),
            };
            print(&text::event_line(&event));
            if event.session_state.is_terminated() {
                return Err(text::error(&Error::SessionExpired, p.path()));
            }
        }
    }

    async fn remove_watches(&mut self, p: &Parsed) -> Done {
        text::check_path(p.path())?;
        let kinds: &[Kind] = match () {
            () if p.has('c') => &[Kind::Children],
            () if p.has('d') => &[Kind::Data],
            () if p.has('p') => &[Kind::Persistent],
            () if p.has('r') => &[Kind::Recursive],
            () => &[Kind::Data, Kind::Children, Kind::Persistent, Kind::Recursive],
        };
        match self.watches.remove(p.path(), kinds).await {
            0 => Err(text::error(&Error::NoWatcher, p.path())),
            _ => Ok(Outcome::default()),
        }
    }

    async fn ephemerals(&mut self, p: &Parsed) -> Done {
        let path = if p.args.is_empty() { "/" } else { p.path() };
        let client = self.client_for(path).await?;
        let found = client.list_ephemerals(path).await;
        Ok(Outcome::out(text::list(found.map_err(|error| text::error(&error, path))?)))
    }

    async fn count(&mut self, p: &Parsed) -> Done {
        let client = self.client_for(p.path()).await?;
        let count = client.count_descendants_number(p.path()).await;
        let count = count.map_err(|error| text::error(&error, p.path()))?;
        Ok(Outcome::out(format!("{count}\n")))
    }

    async fn config(&mut self, p: &Parsed) -> Done {
        const NODE: &str = "/zookeeper/config";
        let client = self.session.client().await?;
        let (data, stat) = if p.has('w') {
            let answer = client.get_and_watch_config().await;
            let (data, stat, watcher) = answer.map_err(|error| text::error(&error, NODE))?;
            self.watches.once(NODE, Kind::Data, watcher);
            (data, stat)
        } else {
            client.get_config().await.map_err(|error| text::error(&error, NODE))?
        };
        let members = String::from_utf8_lossy(&data).into_owned();
        let shown = if p.has('c') { connect_string(&members)? } else { members };
        Ok(Outcome::out(format!("{shown}\n{}", stat_if(p, &stat))))
    }

    fn print_watches(&self, p: &Parsed) -> Done {
        match p.args.first().map(String::as_str) {
            None => {}
            Some("on") => self.printer.switch(true),
            Some("off") => self.printer.switch(false),
            Some(_) => return Err("printwatches [on|off]".to_owned()),
        }
        let state = if self.printer.is_on() { "on" } else { "off" };
        Ok(Outcome::out(format!("printwatches is {state}\n")))
    }

    fn shown_history(&self) -> String {
        let from = self.history.len().saturating_sub(HISTORY);
        let numbered = self.history.iter().enumerate().skip(from);
        numbered.map(|(n, line)| format!("{n} - {line}\n")).collect()
    }

    async fn connect(&mut self, p: &Parsed) -> Done {
        self.close().await?;
        if let Some(server) = p.args.first() {
            self.session.settings.server = server.clone();
        }
        self.session.client().await?;
        Ok(Outcome::default())
    }

    async fn close(&mut self) -> Done {
        self.watches.clear().await;
        self.session.close().await;
        Ok(Outcome::default())
    }
}

fn unknown(name: &str) -> Outcome {
    let suggestion = match spec::nearest(name) {
        Some(nearest) => format!("did you mean '{nearest}'? "),
        None => String::new(),
    };
    Outcome::failed(
        format!("Command not found: {name}\n  {suggestion}`help` lists all commands"),
        127,
    )
}

fn help(p: &Parsed) -> Done {
    if let Some(name) = p.args.first() {
        let Some(spec) = spec::find(name) else { return Ok(unknown(name)) };
        return Ok(Outcome::out(spec.help()));
    }
    let mut text = String::new();
    for spec in spec::ALL {
        text.push_str(&format!("{:<46}{}\n", spec.usage_line(), spec.about));
    }
    text.push_str("\n`help command` shows its options and an example.\n");
    Ok(Outcome::out(text))
}

fn join(parent: &str, child: &str) -> String {
    if parent == "/" { format!("/{child}") } else { format!("{parent}/{child}") }
}

fn stat_if(p: &Parsed, stat: &Stat) -> String {
    if p.has('s') { text::stat(stat) } else { String::new() }
}

/// The version of `-v`; -1 and none mean any.
fn version(p: &Parsed) -> Result<Option<i32>, String> {
    match p.value('v').map(str::parse) {
        None | Some(Ok(-1)) => Ok(None),
        Some(Ok(version)) => Ok(Some(version)),
        Some(Err(_)) => Err("-v argument must be a whole number".to_owned()),
    }
}

fn create_mode(p: &Parsed) -> Result<(CreateMode, Option<Duration>), String> {
    let (sequential, ephemeral, container) = (p.has('s'), p.has('e'), p.has('c'));
    if container && (sequential || ephemeral) {
        return Err("-c cannot be combined with -s or -e. Containers cannot be ephemeral or \
                    sequential."
            .to_owned());
    }
    let ttl = match p.value('t').map(str::parse) {
        None => None,
        Some(Ok(ms)) => Some(Duration::from_millis(ms)),
        Some(Err(_)) => return Err("-t argument must be a long value".to_owned()),
    };
    if ttl.is_some() && ephemeral {
        return Err("TTLs cannot be used with Ephemeral znodes".to_owned());
    }
    if ttl.is_some() && container {
        return Err("TTLs cannot be used with Container znodes".to_owned());
    }
    let mode = match (container, ephemeral, sequential) {
        (true, ..) => CreateMode::Container,
        (_, true, true) => CreateMode::EphemeralSequential,
        (_, true, false) => CreateMode::Ephemeral,
        (_, false, true) => CreateMode::PersistentSequential,
        (_, false, false) => CreateMode::Persistent,
    };
    Ok((mode, ttl))
}

fn watch_mode(p: &Parsed) -> Result<(AddWatchMode, Kind), String> {
    match p.value('m').unwrap_or("PERSISTENT_RECURSIVE").to_ascii_uppercase().as_str() {
        "PERSISTENT" => Ok((AddWatchMode::Persistent, Kind::Persistent)),
        "PERSISTENT_RECURSIVE" => Ok((AddWatchMode::PersistentRecursive, Kind::Recursive)),
        other => Err(format!("unknown mode {other}: use PERSISTENT or PERSISTENT_RECURSIVE")),
    }
}

async fn set_one_acl(
    client: &Client,
    path: &str,
    acl: &[Acl],
    version: Option<i32>,
) -> Result<Stat, Error> {
    client.set_acl(path, acl, version).await
}

/// All paths of a subtree, parents first.
async fn subtree(client: &Client, top: &str) -> Result<Vec<String>, String> {
    let mut paths = vec![top.to_owned()];
    let mut at = 0;
    while at < paths.len() {
        match client.list_children(&paths[at]).await {
            Ok(children) => {
                let below: Vec<_> = children.iter().map(|child| join(&paths[at], child)).collect();
                // The server's own znodes cannot go and need not be tried.
                paths.extend(below.into_iter().filter(|path| path != "/zookeeper"));
            }
            Err(Error::NoNode) if at > 0 => {}
            Err(error) => return Err(text::error(&error, &paths[at])),
        }
        at += 1;
    }
    Ok(paths)
}

/// `<version hex> h:p,h:p` of a configuration text.
fn connect_string(members: &str) -> Result<String, String> {
    let config = EnsembleConfig::parse(members).map_err(|error| error.to_string())?;
    let clients: Vec<_> = config
        .servers
        .values()
        .filter_map(|server| server.client.as_ref().map(ToString::to_string))
        .collect();
    Ok(format!("{:x} {}", config.version, clients.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell() -> Shell {
        let settings = Settings {
            server: "127.0.0.1:1".to_owned(),
            timeout: Duration::from_millis(500),
            read_only: false,
            wait: false,
            detached: true,
            auths: Vec::new(),
        };
        Shell::new(settings, Printer::new(None), false)
    }

    /// Runs lines without a server; checks what the last one leaves.
    fn check(lines: &[&str], out: &str, err: &str, code: u8) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut shell = shell();
        let mut outcome = Outcome::default();
        for line in lines {
            outcome = runtime.block_on(shell.line(line));
        }
        assert_eq!(String::from_utf8(outcome.out).unwrap(), out, "{lines:?}");
        assert_eq!((outcome.err.as_str(), outcome.code), (err, code), "{lines:?}");
    }

    #[test]
    fn wrong_commands_need_no_server_to_be_refused() {
        check(
            &["gte /a"],
            "",
            "Command not found: gte\n  did you mean 'get'? `help` lists all commands\n",
            127,
        );
        check(&["get a"], "", "Path must start with / character\n", 1);
        check(&["set /a"], "", "set [-s] [-v version] [-b] path data\n", 1);
        check(
            &["create -c -e /a"],
            "",
            "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.\n",
            1,
        );
        check(&["create -t 5 -e /a"], "", "TTLs cannot be used with Ephemeral znodes\n", 1);
        check(&["create -t x /a"], "", "-t argument must be a long value\n", 1);
        check(&["set -v x /a b"], "", "-v argument must be a whole number\n", 1);
        check(
            &["addWatch -m often /a"],
            "",
            "unknown mode OFTEN: use PERSISTENT or PERSISTENT_RECURSIVE\n",
            1,
        );
        check(&["removewatches /a"], "", "KeeperErrorCode = No such watcher for /a\n", 1);
    }

    #[test]
    fn an_absent_server_is_named() {
        check(
            &["ls /"],
            "",
            "KeeperErrorCode = ConnectionLoss for /: no session (no available hosts)\n  \
             127.0.0.1:1 refuses connections: no server runs there\n",
            1,
        );
    }

    #[test]
    fn the_history_can_be_shown_and_run_again() {
        check(&["printwatches off", "history"], "0 - printwatches off\n1 - history\n", "", 0);
        check(&["printwatches off", "printwatches", "redo 1"], "printwatches is off\n", "", 0);
        check(&["redo 7"], "", "Command index out of range\n", 1);
    }

    #[test]
    fn quotes_survive_a_redo() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut shell = shell();
        runtime.block_on(shell.line("set a 'x y'"));
        let outcome = runtime.block_on(shell.line("redo 0"));
        assert_eq!(outcome.err, "Path must start with / character\n");
    }

    #[test]
    fn a_configuration_becomes_a_connect_string() {
        let members = "server.1=a:2888:3888:participant;0.0.0.0:2181\n\
                       server.2=b:2888:3888:participant;b:2182\nversion=100000000";
        assert_eq!(connect_string(members).unwrap(), "100000000 0.0.0.0:2181,b:2182");
    }
}
