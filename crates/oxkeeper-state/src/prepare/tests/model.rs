//! The specification of writes, as naively as it can be said: one map from path to node, requests one
//! after another, a multi by copying everything. Shares no code with what it is compared to.

use std::collections::{BTreeMap, BTreeSet};

use oxkeeper_proto::{Acl, Stat};

/// A write as the generator makes it.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// `op` 1, 15, 19 or 21.
    Create {
        op: i32,
        path: String,
        data: Option<Vec<u8>>,
        acl: Acls,
        flags: i32,
        ttl: i64,
    },
    Delete {
        path: String,
        version: i32,
    },
    SetData {
        path: String,
        data: Option<Vec<u8>>,
        version: i32,
    },
    SetAcl {
        path: String,
        acl: Acls,
        version: i32,
    },
    Check {
        path: String,
        version: i32,
    },
    Reap {
        path: String,
    },
    Multi(Vec<Op>),
    OpenSession,
    CloseSession,
}

/// ACLs to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acls {
    Open,
    Read,
    /// `auth`, all permissions.
    Mine,
    /// Null.
    None,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Created(i32, String, Stat),
    Deleted,
    Data(Stat),
    Acl(Stat),
    Checked,
    Multi(Vec<Done>),
    MultiFailed(Vec<i32>),
    SessionOpened,
    SessionClosed,
    Failed(i32),
    /// No transaction was made.
    Dropped,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Plain,
    Ephemeral(i64),
    Container,
    Ttl(i64),
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) data: Option<Vec<u8>>,
    pub(super) acl: Vec<Acl>,
    kind: Kind,
    czxid: i64,
    mzxid: i64,
    pzxid: i64,
    ctime: i64,
    mtime: i64,
    version: i32,
    creates: i32,
    aversion: i32,
}

/// Who asks, and when.
pub(super) struct Who<'a> {
    pub(super) session: i64,
    /// A digest identity, if the connection has one.
    pub(super) user: Option<&'a str>,
    pub(super) zxid: i64,
    pub(super) time: i64,
}

#[derive(Clone)]
pub(super) struct Model {
    pub(super) nodes: BTreeMap<String, Node>,
    closing: BTreeSet<i64>,
}

const BUILT_IN: [&str; 4] = ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"];

fn world(perms: i32) -> Vec<Acl> {
    vec![Acl::new(perms, "world", "anyone")]
}

fn parent_of(path: &str) -> &str {
    let cut = &path[..path.rfind('/').unwrap()];
    if cut.is_empty() { "/" } else { cut }
}

fn legal(path: &str) -> bool {
    path == "/"
        || (path.starts_with('/')
            && !path.ends_with('/')
            && !path.contains("//")
            && !path.split('/').any(|part| part == "." || part == "..")
            && path.chars().all(|c| c as u32 >= 32 && c as u32 != 127 && (c as u32) < 0xe000))
}

impl Model {
    pub(super) fn new() -> Model {
        let mut nodes = BTreeMap::new();
        for path in BUILT_IN {
            let config = path == "/zookeeper/config";
            let node = Node {
                data: Some(vec![]),
                acl: world(if config { 1 } else { 31 }),
                kind: Kind::Plain,
                czxid: 0,
                mzxid: 0,
                pzxid: 0,
                ctime: 0,
                mtime: 0,
                version: 0,
                creates: 0,
                aversion: if config { -1 } else { 0 },
            };
            nodes.insert(path.to_owned(), node);
        }
        Model { nodes, closing: BTreeSet::new() }
    }

    fn children(&self, path: &str) -> i32 {
        let of = |child: &&String| child.as_str() != "/" && parent_of(child) == path;
        self.nodes.keys().filter(of).count() as i32
    }

    pub(super) fn stat(&self, path: &str) -> Stat {
        let node = &self.nodes[path];
        let children = self.children(path);
        Stat {
            czxid: node.czxid,
            mzxid: node.mzxid,
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            cversion: 2 * node.creates - children,
            aversion: node.aversion,
            ephemeral_owner: if let Kind::Ephemeral(session) = node.kind { session } else { 0 },
            data_length: node.data.as_ref().map_or(0, Vec::len) as i32,
            num_children: children,
            pzxid: node.pzxid,
        }
    }

    /// The tree digest, from nothing.
    pub(super) fn digest(&self) -> u64 {
        let mut sum = 0u64;
        for (path, node) in &self.nodes {
            if path.starts_with("/zookeeper/") {
                continue;
            }
            let mut bytes = if path == "/" { vec![] } else { path.clone().into_bytes() };
            bytes.extend(node.data.iter().flatten());
            for long in [node.czxid, node.mzxid, node.pzxid, node.ctime, node.mtime] {
                bytes.extend(long.to_be_bytes());
            }
            for int in [node.version, node.creates, node.aversion] {
                bytes.extend(int.to_be_bytes());
            }
            let owner = match node.kind {
                Kind::Plain => 0,
                Kind::Ephemeral(session) => session,
                Kind::Container => i64::MIN,
                Kind::Ttl(ttl) => 0xff00_0000_0000_0000_u64 as i64 + ttl,
            };
            bytes.extend(owner.to_be_bytes());
            sum = sum.wrapping_add(u64::from(crc32fast::hash(&bytes)));
        }
        sum
    }

    /// Does one request, and uses up its zxid.
    pub(super) fn step(&mut self, who: &Who<'_>, op: &Op) -> Done {
        match self.one(who, op) {
            Ok(done) => done,
            Err(_) if matches!(op, Op::Reap { .. }) => Done::Dropped,
            Err(code) => Done::Failed(code),
        }
    }

    fn one(&mut self, who: &Who<'_>, op: &Op) -> Result<Done, i32> {
        match op {
            Op::Create { .. } => self.create(who, op),
            Op::Delete { path, version } => {
                self.session(who)?;
                if BUILT_IN.contains(&path.as_str()) || !path.contains('/') || path.contains('\0') {
                    return Err(-8);
                }
                self.allowed(who, parent_of(path), 8)?;
                let node = self.nodes.get(path).ok_or(-101)?;
                if *version != -1 && *version != node.version {
                    return Err(-103);
                }
                if self.children(path) > 0 {
                    return Err(-111);
                }
                self.remove(who.zxid, path);
                Ok(Done::Deleted)
            }
            Op::SetData { path, data, version } => {
                self.checked(who, path, 2, *version)?;
                let node = self.nodes.get_mut(path).unwrap();
                node.data = data.clone();
                node.version += 1;
                node.mzxid = who.zxid;
                node.mtime = who.time;
                Ok(Done::Data(self.stat(path)))
            }
            Op::SetAcl { path, acl, version } => {
                self.session(who)?;
                if !legal(path) {
                    return Err(-8);
                }
                let acl = expand(who, *acl)?;
                self.allowed(who, path, 16)?;
                let node = self.nodes.get_mut(path).unwrap();
                if *version != -1 && *version != node.aversion {
                    return Err(-103);
                }
                node.acl = acl;
                node.aversion += 1;
                Ok(Done::Acl(self.stat(path)))
            }
            Op::Check { path, version } => {
                self.checked(who, path, 1, *version)?;
                Ok(Done::Checked)
            }
            Op::Reap { path } => {
                if BUILT_IN.contains(&path.as_str()) || !path.contains('/') {
                    return Err(-8);
                }
                let node = self.nodes.get(path).ok_or(-101)?;
                let due = match node.kind {
                    Kind::Container => node.creates > 0,
                    Kind::Ttl(ttl) => who.time - node.mtime > ttl,
                    _ => false,
                };
                if self.children(path) > 0 || !due {
                    return Err(-1);
                }
                self.remove(who.zxid, path);
                Ok(Done::Deleted)
            }
            Op::Multi(ops) => Ok(self.multi(who, ops)),
            Op::OpenSession => Ok(Done::SessionOpened),
            Op::CloseSession => {
                let owned = |node: &Node| node.kind == Kind::Ephemeral(who.session);
                let doomed: Vec<String> =
                    self.nodes.iter().filter(|(_, n)| owned(n)).map(|(p, _)| p.clone()).collect();
                doomed.iter().for_each(|path| self.remove(who.zxid, path));
                self.closing.insert(who.session);
                Ok(Done::SessionClosed)
            }
        }
    }

    fn create(&mut self, who: &Who<'_>, op: &Op) -> Result<Done, i32> {
        let Op::Create { op, path, data, acl, flags, ttl } = op else { unreachable!() };
        if !(0..=6).contains(flags) {
            return Err(-8);
        }
        // Time to live: flag 5 or 6, by operation 21, within bounds.
        let timed = *flags >= 5;
        let range = 1..1i64 << 40;
        if timed != (*op == 21) || (timed && !range.contains(ttl)) {
            return Err(-8);
        }
        self.session(who)?;
        if !path.contains('/') || path.contains('\0') {
            return Err(-8);
        }
        let acl = expand(who, *acl)?;
        let parent = parent_of(path).to_owned();
        self.allowed(who, &parent, 4)?;
        let mut path = path.clone();
        if [2, 3, 6].contains(flags) {
            path += &format!("{:010}", self.nodes[&parent].creates);
        }
        if !legal(&path) {
            return Err(-8);
        }
        if self.nodes.contains_key(&path) {
            return Err(-110);
        }
        if matches!(self.nodes[&parent].kind, Kind::Ephemeral(_)) {
            return Err(-108);
        }
        let kind = match (op, flags) {
            (19, _) => Kind::Container,
            (21, _) => Kind::Ttl(*ttl),
            (_, 1 | 3) => Kind::Ephemeral(who.session),
            _ => Kind::Plain,
        };
        let zxid = who.zxid;
        let node = Node {
            data: data.clone(),
            acl,
            kind,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: who.time,
            mtime: who.time,
            version: 0,
            creates: 0,
            aversion: 0,
        };
        self.nodes.insert(path.clone(), node);
        let parent = self.nodes.get_mut(&parent).unwrap();
        parent.creates += 1;
        parent.pzxid = zxid;
        Ok(Done::Created(*op, path.clone(), self.stat(&path)))
    }

    fn multi(&mut self, who: &Who<'_>, ops: &[Op]) -> Done {
        // In a create other than createTTL an unknown flag or that of a TTL spoils the request; a null ACL
        // stops the reference's decoder before a zxid is taken, if it is reached.
        for op in ops {
            match op {
                Op::Create { op: 21, .. } => {}
                Op::Create { flags, acl: Acls::None, .. } if (0..=6).contains(flags) => {
                    return Done::Dropped;
                }
                Op::Create { flags, .. } if !(0..=4).contains(flags) => return Done::Failed(-5),
                _ => {}
            }
        }
        let copy = self.clone();
        let mut done = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            match self.one(who, &in_multi(op)) {
                Ok(one) => done.push(one),
                Err(code) => {
                    *self = copy;
                    let mut codes = vec![-2; ops.len()];
                    codes[..index].fill(0);
                    codes[index] = code;
                    return Done::MultiFailed(codes);
                }
            }
        }
        Done::Multi(done)
    }

    fn session(&self, who: &Who<'_>) -> Result<(), i32> {
        if self.closing.contains(&who.session) { Err(-112) } else { Ok(()) }
    }

    fn allowed(&self, who: &Who<'_>, path: &str, wanted: i32) -> Result<(), i32> {
        let node = self.nodes.get(path).ok_or(-101)?;
        let grants = |entry: &Acl| {
            entry.perms & wanted != 0
                && (entry.id.scheme == "world" || Some(entry.id.id.as_str()) == who.user)
        };
        if node.acl.iter().any(grants) { Ok(()) } else { Err(-102) }
    }

    fn checked(&self, who: &Who<'_>, path: &str, wanted: i32, version: i32) -> Result<(), i32> {
        self.session(who)?;
        if !legal(path) {
            return Err(-8);
        }
        self.allowed(who, path, wanted)?;
        if version != -1 && version != self.nodes[path].version {
            return Err(-103);
        }
        Ok(())
    }

    fn remove(&mut self, zxid: i64, path: &str) {
        self.nodes.remove(path);
        self.nodes.get_mut(parent_of(path)).unwrap().pzxid = zxid;
    }
}

/// What an operation means inside a multi: there it is the flag that makes a container, and that tells
/// whether a createTTL is one.
fn in_multi(op: &Op) -> Op {
    let mut op = op.clone();
    if let Op::Create { op, flags, ttl, .. } = &mut op {
        *op = match (*op, *flags) {
            (_, 4) => 19,
            (21, 5 | 6) => 21,
            (21, _) => 1,
            (op, _) => op,
        };
        if *op != 21 {
            *ttl = -1;
        }
    }
    op
}

fn expand(who: &Who<'_>, acl: Acls) -> Result<Vec<Acl>, i32> {
    match acl {
        Acls::Open => Ok(world(31)),
        Acls::Read => Ok(world(1)),
        Acls::Mine => who.user.map(|user| vec![Acl::new(31, "digest", user)]).ok_or(-114),
        Acls::None => Err(-114),
    }
}
