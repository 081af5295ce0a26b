//! How long a transaction takes to apply while its nodes are in the processor's cache.
//!
//! ```text
//! cargo run --release -p oxkeeper-state --example apply
//! ```

#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::hint::black_box;

use oxkeeper_proto::txn::{CreateMode, CreateTxn, Payload, Txn, TxnHeader};
use oxkeeper_proto::{Acl, OpCode};
use oxkeeper_state::{Options, State};

/// Time this thread has run, in ms: unlike the clock, not that of others on the machine.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or_default() / 1e6
}

fn run(what: &str, state: &mut State, rounds: i64, want_reply: bool, txns: &[Txn<'_>]) {
    let start = cpu_ms();
    for _ in 0..rounds {
        for txn in txns {
            let zxid = state.last_zxid().0 + 1;
            let header = TxnHeader { client_id: 1, cxid: 1, zxid, time_ms: zxid, kind: txn.kind() };
            let payload = Payload { header, txn: txn.clone(), digest: None };
            black_box(state.apply(&payload, &mut (), want_reply));
        }
    }
    let each = (cpu_ms() - start) * 1e6 / (rounds * txns.len() as i64) as f64;
    println!("{what:<46} {each:>6.0} ns each");
}

fn main() {
    const NODES: usize = 2000;
    let data = [b'x'; 100];
    let paths: Vec<String> = (0..NODES).map(|index| format!("/bench/node-{index:08}")).collect();
    let create = |path: &str| {
        Txn::Create(CreateTxn {
            op: OpCode::Create,
            path: path.to_owned().into(),
            data: Some(&data),
            acl: Acl::open_unsafe(),
            mode: CreateMode::Persistent,
            parent_cversion: -1,
        })
    };
    let creates: Vec<Txn<'_>> = paths.iter().map(|path| create(path)).collect();
    let delete = |path: &String| Txn::Delete { op: OpCode::Delete, path: path.clone().into() };
    let deletes: Vec<Txn<'_>> = paths.iter().map(delete).collect();
    let both: Vec<Txn<'_>> =
        creates.iter().zip(&deletes).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    let set = |path: &String| Txn::SetData {
        op: OpCode::SetData,
        path: path.as_str().to_owned().into(),
        data: Some(&data),
        version: 1,
    };
    let sets: Vec<Txn<'_>> = paths.iter().map(set).collect();
    let nothing: Vec<Txn<'_>> = paths.iter().map(|_| Txn::Error(-101)).collect();
    for digests in [true, false] {
        println!("digests {digests}");
        let mut state = State::with_options(1, Options { digests, ..Options::default() });
        run("the parent", &mut state, 1, false, &[create("/bench")]);
        run("an error (cost of the measurement)", &mut state, 500, false, &nothing);
        run("create and delete, of both", &mut state, 200, false, &both);
        run("create and delete, with replies", &mut state, 200, true, &both);
        run("the nodes", &mut state, 1, false, &creates);
        run("setData", &mut state, 200, false, &sets);
        run("setData, with replies", &mut state, 200, true, &sets);
    }
}
