//! What the commands do and say. Source: `docs/spec/operations.md` 5.4 and 5.5.

mod message;
mod quota;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use oxkeeper_proto::client::{
    AclEntry, CreateRequest, CreateTtlRequest, DeleteRequest, PathRequest, ReadRequest,
    SetAclRequest, SetDataRequest, perms,
};
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_proto::jute::{put_int, put_long};
use oxkeeper_proto::{Acl, Decode, Encode, OpCode, Reader, Stat};

use self::message::message;
use super::link::{CONNECTION_LOSS, Link, REQUEST_TIMEOUT, Settings, State, WatchKind};
use super::options::{self, Parsed};
use super::output::Output;
use crate::shell::{base64, text};

const CONFIG: &str = "/zookeeper/config";
/// Lines that `history` shows.
const HISTORY: usize = 11;
/// Kinds that tell once.
const ONE_TIME: [WatchKind; 3] = [WatchKind::Data, WatchKind::Exists, WatchKind::Children];

/// Why a command failed.
#[derive(Debug)]
enum Fail {
    /// For stderr.
    Text(String),
    /// All has been told; the exit code.
    Told(u8),
    /// The server, or the connection, said no; about this path.
    Code(i32, String),
}

impl From<String> for Fail {
    fn from(text: String) -> Fail {
        Fail::Text(text)
    }
}

impl From<&str> for Fail {
    fn from(text: &str) -> Fail {
        Fail::Text(text.to_owned())
    }
}

type Done = Result<(), Fail>;

/// The shell between commands.
pub struct Shell {
    settings: Settings,
    output: Arc<Output>,
    link: Option<Link>,
    lazy: bool,
    history: Vec<String>,
    /// Was `quit` typed?
    pub quit: bool,
}

impl Shell {
    /// A shell that is connecting; a `lazy` one does so when a command first needs it, so that a wrong one opens no
    /// session. Fails with what is wrong with the connect string.
    pub fn open(settings: Settings, output: Arc<Output>, lazy: bool) -> Result<Shell, String> {
        let mut shell =
            Shell { settings, output, link: None, lazy, history: Vec::new(), quit: false };
        if !shell.output.old {
            shell.say(&format!("Connecting to {}", shell.settings.server));
        }
        if !lazy {
            shell.connect()?;
        }
        Ok(shell)
    }

    fn connect(&mut self) -> Result<(), String> {
        let link = Link::open(self.settings.clone(), self.output.clone())?;
        link.wait_round();
        self.link = Some(link);
        self.lazy = false;
        Ok(())
    }

    /// The session, unless it was closed.
    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// Runs a typed line and gives its exit code, or none if it changes nothing: it is blank, or `quit`.
    pub fn line(&mut self, line: &str) -> Option<u8> {
        let line = line.trim();
        let words = crate::shell::spec::words(line);
        if words.is_empty() {
            return None;
        }
        self.history.push(line.to_owned());
        let code = self.words(&words);
        (!self.quit).then_some(code)
    }

    /// What stands before a typed line: server, state, and the line's number.
    pub fn prompt(&self) -> String {
        let state = match self.link.as_ref().map(Link::state) {
            Some(State::Connecting) => "CONNECTING",
            Some(State::Connected { read_only: false }) => "CONNECTED",
            Some(State::Connected { read_only: true }) => "CONNECTEDREADONLY",
            Some(State::AuthFailed) => "AUTH_FAILED",
            Some(State::Closed) | None => "CLOSED",
        };
        format!("[zk: {}({state}) {}] ", self.settings.server, self.history.len())
    }

    /// Runs a command that is split into words already and gives its exit code.
    pub fn words(&mut self, words: &[String]) -> u8 {
        let Some((name, rest)) = words.split_first() else { return 0 };
        let Some(spec) = options::find(name) else {
            self.output.err(&options::usage());
            self.output.err(&format!("Command not found: Command not found {name}"));
            return 127;
        };
        let rest = self.modernize(name, rest);
        match spec.parse(&rest).map_err(Fail::Text).and_then(|p| self.dispatch(spec.name, &p)) {
            Ok(()) => 0,
            Err(Fail::Text(text)) => {
                self.output.err(&text);
                1
            }
            Err(Fail::Told(code)) => code,
            Err(Fail::Code(code, path)) => {
                self.output.err(&message(code, &path));
                1
            }
        }
    }

    /// Understands `get path watch` and its like, with a note.
    fn modernize(&self, name: &str, rest: &[String]) -> Vec<String> {
        let (old, new) = match name {
            "get" => ("[watch]", "get [-s] [-w] path"),
            "ls" => ("[watch]", "ls [-w] path"),
            "stat" => ("[watch]", "stat [-w] path"),
            "delete" => ("[version]", "delete [-v version] path"),
            _ => return rest.to_vec(),
        };
        match rest {
            [path, more] if !path.starts_with('-') && !more.starts_with('-') => {
                self.output.err(&format!(
                    "'{name} path {old}' has been deprecated. Please use '{new}' instead."
                ));
                match name {
                    "delete" => vec!["-v".to_owned(), more.clone(), path.clone()],
                    _ => vec!["-w".to_owned(), path.clone()],
                }
            }
            _ => rest.to_vec(),
        }
    }

    fn dispatch(&mut self, name: &str, p: &Parsed) -> Done {
        match name {
            "quit" => {
                self.close();
                self.quit = true;
                return Ok(());
            }
            // The one command of a call has no history: the reference shows this.
            "history" if self.history.is_empty() => {
                self.say("0 - null");
                return Ok(());
            }
            "redo" => return self.redo(p),
            "history" => return self.show_history(),
            "printwatches" => return self.print_watches(p),
            "connect" => {
                if let Some(server) = p.args.first() {
                    self.settings.server = server.clone();
                }
                self.close();
                return self.connect().map_err(Fail::Text);
            }
            "version" => {
                self.say(&super::version_line());
                return Ok(());
            }
            _ => {}
        }
        if self.lazy {
            self.connect()?;
        }
        let Some(link) = &self.link else {
            self.say("Not connected");
            return Ok(());
        };
        let run = Run { link, output: &self.output, p };
        match name {
            "close" => {
                self.close();
                Ok(())
            }
            "addWatch" => run.add_watch(),
            "addauth" => run.add_auth(),
            "config" => run.config(),
            "create" => run.create(),
            "delete" => run.delete(),
            "deleteall" => run.delete_all(),
            "delquota" => run.delete_quota(),
            "get" => run.get(),
            "getAcl" => run.get_acl(),
            "getAllChildrenNumber" => run.count(),
            "getEphemerals" => run.ephemerals(),
            "listquota" => run.list_quota(),
            "ls" => run.ls(),
            "reconfig" => run.reconfig(),
            "removewatches" => run.remove_watches(),
            "set" => run.set(),
            "setAcl" => run.set_acl(),
            "setquota" => run.set_quota(),
            "stat" => run.stat(),
            "sync" => run.sync(),
            "whoami" => run.who_am_i(),
            other => Err(Fail::Text(format!("{other} cannot be used here"))),
        }
    }

    fn say(&self, line: &str) {
        self.output.out(format!("{line}\n").as_bytes());
    }

    /// Ends the session at once.
    fn close(&mut self) {
        let Some(link) = self.link.take() else { return };
        let ended = matches!(link.state(), State::Closed | State::AuthFailed);
        link.close();
        if !ended {
            self.output.event("Closed", "None", None, -1);
        }
    }

    fn redo(&mut self, p: &Parsed) -> Done {
        if p.args.is_empty() {
            return Ok(());
        }
        let wanted = p.path().parse().ok().and_then(|at: usize| self.history.get(at));
        let Some(line) = wanted.cloned() else { return Err("Command index out of range".into()) };
        let words = crate::shell::spec::words(&line);
        if words.first().is_some_and(|word| word == "redo") {
            return Err("No redoing redos".into());
        }
        if let Some(last) = self.history.last_mut() {
            *last = line;
        }
        match self.words(&words) {
            0 => Ok(()),
            code => Err(Fail::Told(code)),
        }
    }

    fn show_history(&self) -> Done {
        let from = self.history.len().saturating_sub(HISTORY);
        for (at, line) in self.history.iter().enumerate().skip(from) {
            self.say(&format!("{at} - {line}"));
        }
        Ok(())
    }

    fn print_watches(&self, p: &Parsed) -> Done {
        match p.args.first() {
            None => {
                let state = if self.output.shows_watches() { "on" } else { "off" };
                self.say(&format!("printwatches is {state}"));
            }
            Some(word) => self.output.switch(word == "on"),
        }
        Ok(())
    }
}

/// A command with a session.
struct Run<'a> {
    link: &'a Link,
    output: &'a Output,
    p: &'a Parsed,
}

/// Body of a request without one.
struct Nothing;
impl Encode for Nothing {
    fn encode(&self, _: &mut Vec<u8>) {}
}

struct PathAndNumber<'a>(Cow<'a, str>, i32);
impl Encode for PathAndNumber<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        put_int(out, self.1);
    }
}

struct ReconfigRequest {
    joining: Option<String>,
    leaving: Option<String>,
    members: Option<String>,
    version: i64,
}
impl Encode for ReconfigRequest {
    fn encode(&self, out: &mut Vec<u8>) {
        for text in [&self.joining, &self.leaving, &self.members] {
            text.as_deref().map(str::as_bytes).encode(out);
        }
        put_long(out, self.version);
    }
}

/// Data, null or not, with the stat.
type Node = (Option<Vec<u8>>, Stat);

impl Run<'_> {
    fn say(&self, line: &str) {
        self.output.out(format!("{line}\n").as_bytes());
    }

    fn complain(&self, line: &str) {
        self.output.err(line);
    }

    /// Calls for a path, and reads the reply with `read`.
    fn call<T>(
        &self,
        op: OpCode,
        path: &str,
        body: &impl Encode,
        read: impl FnOnce(&mut Reader) -> Result<T, oxkeeper_proto::DecodeError>,
    ) -> Result<T, Fail> {
        let reply = self.link.call(op, body).map_err(|code| Fail::Code(code, path.to_owned()))?;
        read(&mut Reader::new(&reply))
            .map_err(|error| Fail::Text(format!("not a valid reply for {path}: {error}")))
    }

    /// The path to send, once it has been checked.
    fn checked(&self, path: &str) -> Result<String, Fail> {
        text::check_path(path)?;
        Ok(self.link.server_path(path))
    }

    fn stat_if_wanted(&self, stat: &Stat) {
        if self.p.has("s") {
            self.output.out(shown_stat(stat).as_bytes());
        }
    }

    fn version(&self) -> Result<i32, Fail> {
        let Some(value) = self.p.value("v") else { return Ok(-1) };
        value.parse().map_err(|_| Fail::Text(format!("-v argument must be an int value: {value}")))
    }

    fn data_of(&self, path: &str, watch: bool) -> Result<Node, Fail> {
        let sent = self.checked(path)?;
        self.data_at(&sent, path, watch)
    }

    fn data_at(&self, sent: &str, path: &str, watch: bool) -> Result<Node, Fail> {
        let body = ReadRequest { path: sent.into(), watch };
        let node = self.call(OpCode::GetData, path, &body, |reply| {
            let data = reply.buffer()?.map(<[u8]>::to_vec);
            Ok((data, Stat::decode(reply)?))
        })?;
        if watch {
            self.link.add_watch(path, WatchKind::Data);
        }
        Ok(node)
    }

    fn children_of(&self, path: &str, watch: bool) -> Result<(Vec<String>, Stat), Fail> {
        let body = ReadRequest { path: self.checked(path)?.into(), watch };
        let (mut children, stat) = self.call(OpCode::GetChildren2, path, &body, |reply| {
            let children: Vec<Cow<str>> = reply.vec()?;
            let children: Vec<String> = children.into_iter().map(Cow::into_owned).collect();
            Ok((children, Stat::decode(reply)?))
        })?;
        if watch {
            self.link.add_watch(path, WatchKind::Children);
        }
        children.sort_unstable();
        Ok((children, stat))
    }

    /// The stat; `None` if there is no such znode.
    fn stat_of(&self, path: &str, watch: bool) -> Result<Option<Stat>, Fail> {
        let body = ReadRequest { path: self.checked(path)?.into(), watch };
        let stat = match self.call(OpCode::Exists, path, &body, read_stat) {
            Ok(stat) => Some(stat),
            Err(Fail::Code(-101, _)) => None,
            Err(fail) => return Err(fail),
        };
        if watch {
            let kind = if stat.is_some() { WatchKind::Data } else { WatchKind::Exists };
            self.link.add_watch(path, kind);
        }
        Ok(stat)
    }

    fn write_data(&self, path: &str, data: &[u8], version: i32) -> Result<Stat, Fail> {
        let body = SetDataRequest { path: self.checked(path)?.into(), data: Some(data), version };
        self.call(OpCode::SetData, path, &body, read_stat)
    }

    fn remove(&self, path: &str, version: i32) -> Done {
        let body = DeleteRequest { path: self.checked(path)?.into(), version };
        self.call(OpCode::Delete, path, &body, |_| Ok(()))
    }

    fn get(&self) -> Done {
        let (data, stat) = self.data_of(self.p.path(), self.p.has("w"))?;
        let data = data.unwrap_or_else(|| b"null".to_vec());
        let mut shown = match (self.p.has("b"), self.p.has("x")) {
            (true, _) => base64::encode(&data).into_bytes(),
            (_, true) if data.is_empty() => Vec::new(),
            (_, true) => text::hex_dump(&data).trim_end().as_bytes().to_vec(),
            _ => String::from_utf8_lossy(&data).into_owned().into_bytes(),
        };
        shown.push(b'\n');
        if self.p.has("s") || self.output.old {
            shown.extend(shown_stat(&stat).into_bytes());
        }
        self.output.out(&shown);
        Ok(())
    }

    fn set(&self) -> Done {
        let version = self.version()?;
        let data = match self.p.has("b") {
            true => base64::decode(&self.p.args[1])?,
            false => self.p.args[1].clone().into_bytes(),
        };
        let stat = self.write_data(self.p.path(), &data, version)?;
        self.stat_if_wanted(&stat);
        Ok(())
    }

    fn ls(&self) -> Done {
        let path = self.p.path();
        if !self.p.has("R") {
            let (children, stat) = self.children_of(path, self.p.has("w"))?;
            self.say(&format!("[{}]", children.join(", ")));
            self.stat_if_wanted(&stat);
            return Ok(());
        }
        let mut stack = vec![path.to_owned()];
        while let Some(at) = stack.pop() {
            let children = match self.children_of(&at, false) {
                Ok((children, _)) => children,
                // Gone meanwhile.
                Err(Fail::Code(-101, _)) if at != path => continue,
                Err(fail) => return Err(fail),
            };
            self.say(&at);
            stack.extend(children.iter().rev().map(|child| join(&at, child)));
        }
        Ok(())
    }

    fn stat(&self) -> Done {
        let path = self.p.path();
        let stat = self.stat_of(path, self.p.has("w"))?;
        let stat = stat.ok_or_else(|| Fail::Code(-101, path.to_owned()))?;
        self.output.out(shown_stat(&stat).as_bytes());
        Ok(())
    }

    fn create(&self) -> Done {
        let p = self.p;
        let path = p.path();
        let (sequential, ephemeral, container) = (p.has("s"), p.has("e"), p.has("c"));
        if container && (sequential || ephemeral) {
            return Err("-c cannot be combined with -s or -e. Containers cannot be ephemeral or \
                        sequential."
                .into());
        }
        let ttl: Option<i64> = match p.value("t").map(str::parse) {
            None => None,
            Some(Ok(ttl)) => Some(ttl),
            Some(Err(_)) => return Err("-t argument must be a long value".into()),
        };
        if ttl.is_some() && ephemeral {
            return Err("TTLs cannot be used with Ephemeral znodes".into());
        }
        if ttl.is_some() && container {
            return Err("TTLs cannot be used with Container znodes".into());
        }
        let (op, flags) = match (ttl, container) {
            (Some(_), _) => (OpCode::CreateTtl, if sequential { 6 } else { 5 }),
            (_, true) => (OpCode::CreateContainer, 4),
            _ => (OpCode::Create2, i32::from(ephemeral) + 2 * i32::from(sequential)),
        };
        let acl = match p.args.get(2) {
            Some(acl) => self.parse_acl(acl),
            None => Acl::open_unsafe(),
        };
        // The number of a sequential znode is part of its name.
        match sequential {
            true => text::check_path(&format!("{path}1"))?,
            false => text::check_path(path)?,
        }
        if acl.is_empty() {
            self.complain("KeeperErrorCode = InvalidACL");
            return Err(Fail::Code(-114, "null".to_owned()));
        }
        let data = p.args.get(1).map(|data| data.as_bytes());
        let acl = Some(entries(&acl));
        let sent = self.link.server_path(path);
        let created = match ttl {
            Some(ttl) => {
                let body = CreateTtlRequest { path: sent.into(), data, acl, flags, ttl };
                self.call(op, path, &body, |reply| reply.string().map(Cow::into_owned))
            }
            None => {
                let body = CreateRequest { path: sent.into(), data, acl, flags };
                self.call(op, path, &body, |reply| reply.string().map(Cow::into_owned))
            }
        };
        match created {
            Ok(created) => {
                self.complain(&format!("Created {}", self.link.client_path(&created)));
                Ok(())
            }
            Err(Fail::Code(-114, path)) => {
                self.complain(&format!("KeeperErrorCode = InvalidACL for {path}"));
                Err(Fail::Code(-114, path))
            }
            Err(fail) => Err(fail),
        }
    }

    fn delete(&self) -> Done {
        self.remove(self.p.path(), self.version()?)
    }

    fn delete_all(&self) -> Done {
        if self.p.value("b").is_some_and(|size| size.parse::<i32>().is_err()) {
            return Err("-b argument must be an int value".into());
        }
        let mut failed = false;
        for path in self.subtree(self.p.path())?.iter().rev() {
            match self.remove(path, -1) {
                Ok(()) | Err(Fail::Code(-101, _)) => {}
                Err(Fail::Code(code @ (CONNECTION_LOSS | REQUEST_TIMEOUT), path)) => {
                    return Err(Fail::Code(code, path));
                }
                Err(_) => failed = true,
            }
        }
        if failed {
            self.complain("Failed to delete some node(s) in the subtree!");
        }
        Ok(())
    }

    /// All paths of a subtree, parents first.
    fn subtree(&self, top: &str) -> Result<Vec<String>, Fail> {
        let mut paths = vec![top.to_owned()];
        let mut queue = VecDeque::from([top.to_owned()]);
        while let Some(path) = queue.pop_front() {
            let children = match self.children_of(&path, false) {
                Ok((children, _)) => children,
                Err(Fail::Code(-101, _)) if path != top => continue,
                Err(fail) => return Err(fail),
            };
            for child in children {
                paths.push(join(&path, &child));
                queue.push_back(join(&path, &child));
            }
        }
        Ok(paths)
    }

    fn get_acl(&self) -> Done {
        let path = self.p.path();
        let body = PathRequest { path: self.checked(path)?.into() };
        let (acl, stat) = self.call(OpCode::GetAcl, path, &body, |reply| {
            let acl: Vec<Acl> = reply.vec()?;
            Ok((acl, Stat::decode(reply)?))
        })?;
        for entry in acl {
            self.say(&format!("'{},'{}\n: {}", entry.id.scheme, entry.id.id, letters(entry.perms)));
        }
        self.stat_if_wanted(&stat);
        Ok(())
    }

    fn set_acl(&self) -> Done {
        let path = self.p.path();
        let acl = self.parse_acl(&self.p.args[1]);
        let version = self.version()?;
        text::check_path(path)?;
        if acl.is_empty() {
            return Err(Fail::Code(-114, "null".to_owned()));
        }
        let paths = match self.p.has("R") {
            true => self.subtree(path)?,
            false => vec![path.to_owned()],
        };
        for path in &paths {
            let sent = self.link.server_path(path).into();
            let body = SetAclRequest { path: sent, acl: Some(entries(&acl)), version };
            let stat = self.call(OpCode::SetAcl, path, &body, read_stat)?;
            self.stat_if_wanted(&stat);
        }
        Ok(())
    }

    /// Reads `scheme:id:perms,…`; what cannot be read is told and left out.
    fn parse_acl(&self, text: &str) -> Vec<Acl> {
        let mut acl = Vec::new();
        for entry in text.split(',') {
            let parts = entry.split_once(':').and_then(|(scheme, rest)| {
                rest.rsplit_once(':').map(|(id, letters)| (scheme, id, letters))
            });
            let Some((scheme, id, letters)) = parts else {
                self.complain(&format!("{entry} does not have the form scheme:id:perm"));
                continue;
            };
            let mut bits = 0;
            for letter in letters.chars() {
                match LETTERS.iter().find(|(known, _)| *known == letter) {
                    Some((_, bit)) => bits |= bit,
                    None => self.complain(&format!("Unknown perm type: {letter}")),
                }
            }
            acl.push(Acl::new(bits, scheme, id));
        }
        acl
    }

    fn add_auth(&self) -> Done {
        let auth = self.p.args.get(1).map_or(&b""[..], |auth| auth.as_bytes());
        let done = self.link.authenticate(self.p.path(), auth);
        // The reference does not wait for an answer; without a connection there will be none.
        done.or_else(|code| match code {
            CONNECTION_LOSS => Err(Fail::Code(code, String::new())),
            _ => Ok(()),
        })
    }

    fn who_am_i(&self) -> Done {
        let mut users = self.call(OpCode::WhoAmI, "", &Nothing, |reply| {
            let count = reply.count(8)?.unwrap_or_default();
            let mut users = Vec::new();
            for _ in 0..count {
                users.push(format!(
                    "{}: {}",
                    reply.string()?,
                    reply.opt_string()?.unwrap_or_default()
                ));
            }
            Ok(users)
        })?;
        users.sort_unstable();
        self.say("Auth scheme: User");
        for user in users {
            self.say(&user);
        }
        Ok(())
    }

    fn config(&self) -> Done {
        // The configuration is above every chroot.
        let (data, stat) = self.data_at(CONFIG, CONFIG, self.p.has("w"))?;
        let members = String::from_utf8_lossy(&data.unwrap_or_default()).into_owned();
        match self.p.has("c") {
            true => self.say(&connect_string(&members)?),
            false => self.say(&members),
        }
        self.stat_if_wanted(&stat);
        Ok(())
    }

    fn reconfig(&self) -> Done {
        let p = self.p;
        let all = |name: &str| {
            let values = p.values(name);
            (!values.is_empty()).then(|| values.join(",").to_lowercase())
        };
        let (joining, leaving) = (all("add"), all("remove"));
        let whole = p.has("file") || p.has("members");
        let parts = joining.is_some() || leaving.is_some();
        if p.has("file") && p.has("members") {
            return Err("Can't use -file and -members together (conflicting)".into());
        }
        if whole && parts {
            return Err("Can't use -file or -members together with -add or -remove (mixing \
                        incremental and non-incremental modes is not allowed)"
                .into());
        }
        let version = match p.value("v") {
            None => -1,
            Some(hex) => i64::from_str_radix(hex, 16)
                .map_err(|_| "-v must be followed by a long (configuration version)")?,
        };
        if !whole && !parts {
            let spec = options::find("reconfig").map(options::Spec::usage_text);
            return Err(Fail::Text(spec.unwrap_or_default()));
        }
        let members = match p.value("file") {
            Some(file) => Some(members_of(file)?),
            None => all("members"),
        };
        let body = ReconfigRequest { joining, leaving, members, version };
        let (data, stat) = self.call(OpCode::Reconfig, "", &body, |reply| {
            let data = reply.buffer()?.map(<[u8]>::to_vec);
            Ok((data.unwrap_or_default(), Stat::decode(reply)?))
        })?;
        self.say(&format!("Committed new configuration:\n{}", String::from_utf8_lossy(&data)));
        self.stat_if_wanted(&stat);
        Ok(())
    }

    fn sync(&self) -> Done {
        let path = self.p.path();
        let body = PathRequest { path: self.checked(path)?.into() };
        match self.link.call(OpCode::Sync, &body) {
            Ok(_) => self.say("Sync is OK"),
            Err(code) => self.say(&format!("Sync has failed. rc={code}")),
        }
        Ok(())
    }

    fn add_watch(&self) -> Done {
        let path = self.p.path();
        let mode = self.p.value("m").unwrap_or("PERSISTENT_RECURSIVE").to_ascii_uppercase();
        let (mode, kind) = match mode.as_str() {
            "PERSISTENT" => (0, WatchKind::Persistent),
            "PERSISTENT_RECURSIVE" => (1, WatchKind::Recursive),
            _ => {
                let spec = options::find("addWatch").map(options::Spec::usage_text);
                return Err(Fail::Text(spec.unwrap_or_default()));
            }
        };
        let body = PathAndNumber(self.checked(path)?.into(), mode);
        self.call(OpCode::AddWatch, path, &body, |_| Ok(()))?;
        self.link.add_watch(path, kind);
        Ok(())
    }

    fn remove_watches(&self) -> Done {
        let path = self.p.path();
        let data = [WatchKind::Data, WatchKind::Exists];
        let any = [&ONE_TIME[..], &[WatchKind::Persistent, WatchKind::Recursive]].concat();
        let (number, kinds) = match () {
            () if self.p.has("c") => (1, &[WatchKind::Children][..]),
            () if self.p.has("d") => (2, &data[..]),
            () if self.p.has("p") => (4, &[WatchKind::Persistent][..]),
            () if self.p.has("r") => (5, &[WatchKind::Recursive][..]),
            () => (3, &any[..]),
        };
        let sent = self.checked(path)?;
        if !self.link.watches(path, kinds) {
            return Err(Fail::Code(-121, path.to_owned()));
        }
        let body = PathAndNumber(sent.into(), number);
        let done = self.call(OpCode::RemoveWatches, path, &body, |_| Ok(()));
        match done {
            Err(Fail::Code(CONNECTION_LOSS, _)) if self.p.has("l") => {}
            done => done?,
        }
        self.link.forget_watches(path, kinds);
        Ok(())
    }

    fn ephemerals(&self) -> Done {
        let path = self.p.args.first().map_or("/", String::as_str);
        let body = PathRequest { path: self.checked(path)?.into() };
        let mut found = self.call(OpCode::GetEphemerals, path, &body, |reply| {
            let found: Vec<Cow<str>> = reply.vec()?;
            Ok(found.iter().map(|path| self.link.client_path(path)).collect::<Vec<_>>())
        })?;
        found.sort_unstable();
        self.say(&format!("[{}]", found.join(", ")));
        Ok(())
    }

    fn count(&self) -> Done {
        let path = self.p.path();
        let body = PathRequest { path: self.checked(path)?.into() };
        let count = self.call(OpCode::GetAllChildrenNumber, path, &body, |reply| reply.int())?;
        self.say(&count.to_string());
        Ok(())
    }
}

fn read_stat(reply: &mut Reader<'_>) -> Result<Stat, oxkeeper_proto::DecodeError> {
    Stat::decode(reply)
}

const LETTERS: [(char, i32); 5] = [
    ('c', perms::CREATE),
    ('d', perms::DELETE),
    ('r', perms::READ),
    ('w', perms::WRITE),
    ('a', perms::ADMIN),
];

fn letters(bits: i32) -> String {
    LETTERS.iter().filter(|(_, bit)| bits & bit != 0).map(|(letter, _)| *letter).collect()
}

fn entries(acl: &[Acl]) -> Vec<AclEntry<'_>> {
    acl.iter()
        .map(|entry| AclEntry {
            perms: entry.perms,
            scheme: Some(entry.id.scheme.as_str().into()),
            id: Some(entry.id.id.as_str().into()),
        })
        .collect()
}

fn join(parent: &str, child: &str) -> String {
    if parent == "/" { format!("/{child}") } else { format!("{parent}/{child}") }
}

fn shown_stat(stat: &Stat) -> String {
    text::stat(&zookeeper_client::Stat {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        pzxid: stat.pzxid,
        ctime: stat.ctime,
        mtime: stat.mtime,
        version: stat.version,
        cversion: stat.cversion,
        aversion: stat.aversion,
        ephemeral_owner: stat.ephemeral_owner,
        data_length: stat.data_length,
        num_children: stat.num_children,
    })
}

/// `<version hex> h:p,h:p` of a configuration text; of an empty one, a blank.
fn connect_string(members: &str) -> Result<String, Fail> {
    if members.is_empty() {
        return Ok(" ".to_owned());
    }
    let config = EnsembleConfig::parse(members).map_err(|error| error.to_string())?;
    let clients: Vec<_> = config
        .servers
        .values()
        .filter_map(|server| server.client.as_ref().map(ToString::to_string))
        .collect();
    Ok(format!("{:x} {}", config.version, clients.join(",")))
}

/// The members that a configuration file names.
fn members_of(file: &str) -> Result<String, Fail> {
    let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("Error processing {file}{file} (No such file or directory)")
        }
        _ => format!("Error processing {file}{file} ({error})"),
    })?;
    let members = text.lines().map(str::trim).filter(|line| line.starts_with("server."));
    Ok(members.collect::<Vec<_>>().join(",").to_lowercase())
}
