//! What a million znodes cost: bytes per node, and time per load, lookup, walk and transaction.
//!
//! ```text
//! cargo run --release -p oxkeeper-state --example million [nodes] [data bytes] [children per parent] [load]
//! ```
//!
//! 0 children per parent: all nodes below one. `load`: nothing but loads.

#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::borrow::Cow;
use std::hint::black_box;

use oxkeeper_proto::snapshot::{BodyDecoder, StatPersisted, put_node, put_nodes_end, put_tables};
use oxkeeper_proto::txn::{CreateMode, CreateTxn, Payload, Txn, TxnHeader};
use oxkeeper_proto::{Acl, OpCode, Zxid};
use oxkeeper_state::{Options, State, StateLoader, Walk};

/// Resident memory of this process, in bytes.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or_default() * 4096.0
}

/// Time this thread has run, in ms: unlike the clock, not that of others on the machine.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or_default() / 1e6
}

fn timed<T>(what: &str, count: usize, run: impl FnOnce() -> T) -> T {
    let start = cpu_ms();
    let result = run();
    let elapsed = cpu_ms() - start;
    println!("{what:<40} {elapsed:>9.1} ms {:>8.0} ns each", elapsed * 1e6 / count as f64);
    result
}

/// A random order of `0..count`, by a multiplication modulo a power of two.
fn shuffled(count: usize) -> impl Iterator<Item = usize> {
    let size = count.next_power_of_two();
    (0..size)
        .map(move |i| (i.wrapping_mul(0x9e37_79b1) + 7) & (size - 1))
        .filter(move |i| *i < count)
}

fn snapshot(paths: &[String], parents: usize, data: &[u8]) -> Vec<u8> {
    let (mut body, acl) = (Vec::new(), Acl::open_unsafe());
    put_tables(&mut body, [].into_iter(), [(1, &acl[..])].into_iter());
    let zero = StatPersisted::default();
    for path in ["", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
        put_node(&mut body, path, Some(b""), -1, &zero);
    }
    let mut czxid = 0x1_0000_0000;
    let mut next = |pzxid: i64| {
        czxid += 1;
        let time = 1_700_000_000_000 + czxid;
        StatPersisted {
            czxid,
            mzxid: czxid,
            pzxid: czxid + pzxid,
            ctime: time,
            mtime: time,
            ..zero
        }
    };
    let each = paths.len().div_ceil(parents);
    for (index, path) in paths.iter().enumerate() {
        if index % each == 0 {
            let parent = &path[..path.rfind('/').unwrap_or_default()];
            put_node(&mut body, parent, Some(b""), 1, &next(9));
        }
        put_node(&mut body, path, Some(data), 1, &next(0));
    }
    put_nodes_end(&mut body);
    body
}

fn load(body: &[u8], digests: bool) -> State {
    let mut loader = StateLoader::new(42, Options { digests, ..Options::default() });
    let (mut at, mut decoder) = (0, BodyDecoder::new(1 << 20));
    while let Ok(Some((item, len))) = decoder.next(&body[at..]) {
        at += len;
        if item.give(&mut loader).expect("a good snapshot") {
            break;
        }
    }
    loader.finish(Zxid(0x2_0000_0000)).expect("a good snapshot")
}

fn apply_all<'a>(state: &mut State, txns: impl Iterator<Item = Txn<'a>>) {
    let mut zxid = state.last_zxid().0;
    for txn in txns {
        zxid += 1;
        let header = TxnHeader {
            client_id: 1,
            cxid: 1,
            zxid,
            time_ms: 1_800_000_000_000 + zxid,
            kind: txn.kind(),
        };
        black_box(state.apply(&Payload { header, txn, digest: None }, &mut (), true));
    }
}

fn create<'a>(path: Cow<'a, str>, data: &'a [u8], acl: &[Acl]) -> Txn<'a> {
    let (op, mode) = (OpCode::Create, CreateMode::Persistent);
    Txn::Create(CreateTxn {
        op,
        path,
        data: Some(data),
        acl: acl.to_vec(),
        mode,
        parent_cversion: -1,
    })
}

fn main() {
    let args: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let nodes = args.first().copied().unwrap_or(1_000_000);
    let data = vec![b'x'; args.get(1).copied().unwrap_or(100)];
    let per_parent = args.get(2).copied().unwrap_or(0);
    let each = if per_parent == 0 { nodes } else { per_parent };
    let parents = nodes.div_ceil(each);
    let path = |index: usize| format!("/p{}/n{index:09}", index / each);
    let paths: Vec<String> = (0..nodes).map(path).collect();
    let body = snapshot(&paths, parents, &data);
    println!("{nodes} nodes of {} bytes, {parents} parents", data.len());

    let before = resident();
    let mut state = timed("load", nodes, || load(&body, true));
    let bytes = (resident() - before) / nodes as f64;
    println!("{:<40} {bytes:>9.1} bytes each (names of 10 bytes)", "memory");
    timed("load without digests, and drop", nodes, || drop(load(&body, false)));
    if std::env::args().any(|arg| arg == "load") {
        return;
    }
    drop(body);

    // Allocated one after the other: only the tree's memory is visited in random order.
    let mixed: Vec<String> = shuffled(nodes).map(|index| paths[index].clone()).collect();
    timed("lookup, random", nodes, || {
        for path in &mixed {
            black_box(state.tree.lookup(path));
        }
    });
    timed("lookup, data and stat, random", nodes, || {
        for path in &mixed {
            let node = state.tree.lookup(path).expect("it is there");
            black_box((state.tree.data(node), state.tree.stat(node)));
        }
    });
    timed("list children", nodes, || {
        let top = state.tree.lookup("/p0").expect("it is there");
        black_box(state.tree.children(top).map(|(_, name)| name.len()).sum::<usize>());
    });

    let (mut out, mut written, mut longest) = (Vec::new(), 0, 0.0f64);
    let mut walk = Walk::begin(&state);
    timed("walk, in steps of 1000 nodes", nodes, || {
        loop {
            let start = cpu_ms();
            let done = walk.step(&state, 1000, usize::MAX, &mut out);
            longest = longest.max(cpu_ms() - start);
            written += out.len();
            out.clear();
            if done {
                break;
            }
        }
    });
    println!("{:<40} {:>9.3} ms, {written} bytes in all", "  longest step", longest);

    let few = nodes.min(200_000);
    let set = |path: &'_ String| Txn::SetData {
        op: OpCode::SetData,
        path: path.clone().into(),
        data: Some(&data),
        version: 1,
    };
    timed("setData, random, first", few, || apply_all(&mut state, mixed[..few].iter().map(set)));
    timed("setData, random, again", few, || apply_all(&mut state, mixed[..few].iter().map(set)));
    let fresh: Vec<String> = (0..few).map(|index| format!("/p0/f{index:09}")).collect();
    let open = Acl::open_unsafe();
    timed("create below one parent", few, || {
        apply_all(&mut state, fresh.iter().map(|path| create(path.as_str().into(), &data, &open)));
    });
    timed("delete them", few, || {
        let delete =
            |path: &'_ String| Txn::Delete { op: OpCode::Delete, path: path.clone().into() };
        apply_all(&mut state, fresh.iter().map(delete));
    });
    let mut empty = State::new(3);
    let top = ["/p0".to_owned()];
    apply_all(&mut empty, top.iter().map(|path| create(path.as_str().into(), &data, &open)));
    let below_first = paths[..each.min(nodes)].iter();
    timed("create all of the first parent, anew", below_first.len(), || {
        apply_all(&mut empty, below_first.map(|path| create(path.as_str().into(), &data, &open)));
    });
}
