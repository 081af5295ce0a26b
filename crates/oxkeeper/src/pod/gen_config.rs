//! `oxkeeper gen-config`, `zkGenConfig.sh`: the configuration of a pod from environment variables
//! alone, for manifests that then run `zkServer.sh start-foreground`.
//!
//! Source: `docs/spec/kubernetes.md` 4.2, 4.3.

use std::path::Path;

use clap::Args;

use super::start::files;
use super::start::identity::Host;
use super::start::options::{self, Options, Request};
use crate::failure::Failure;

const AFTER_HELP: &str = "\
ZK_REPLICAS (or ZK_ENSEMBLE=\"zk-0;zk-1;zk-2\") must be set, and the host name must be
<name>-<ordinal>. Also heard: ZK_DATA_DIR, ZK_DATA_LOG_DIR, ZK_LOG_DIR, ZK_CONF_DIR, ZK_CLIENT_PORT,
ZK_SERVER_PORT, ZK_ELECTION_PORT, ZK_TICK_TIME, ZK_INIT_LIMIT, ZK_SYNC_LIMIT, ZK_HEAP_SIZE,
ZK_MAX_CLIENT_CNXNS, ZK_MIN_SESSION_TIMEOUT, ZK_MAX_SESSION_TIMEOUT, ZK_SNAP_RETAIN_COUNT,
ZK_PURGE_INTERVAL, ZK_LOG_LEVEL. `oxkeeper start` does the same and runs the server too.

Examples:
  ZK_REPLICAS=3 oxkeeper gen-config
  ZK_REPLICAS=1 ZK_DATA_DIR=/tmp/zk ZK_DATA_LOG_DIR=/tmp/zk ZK_CONF_DIR=/tmp/zk oxkeeper gen-config";

/// Write zoo.cfg, log4j.properties, java.env and myid from ZK_… variables
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct GenConfigArgs {}

/// Generates the files, and prints the values that went into them.
pub fn run() -> Result<(), Failure> {
    if super::variable("ZK_REPLICAS").or_else(|| super::variable("ZK_ENSEMBLE")).is_none() {
        return Err(Failure::new("neither ZK_REPLICAS nor ZK_ENSEMBLE is set")
            .hint("set ZK_REPLICAS to the number of servers, for example ZK_REPLICAS=3"));
    }
    let options = match options::parse(&[], super::variable) {
        Ok(Request::Start(options)) => *options,
        Ok(_) => return Err(Failure::new("the variables ask for nothing to generate")),
        Err(text) => return Err(Failure::new(text)),
    };
    let member = files::membership(&options, &Host::this()).map_err(Failure::new)?;
    print!("{}", values(&options, member.as_ref()));
    let conf_dir = Path::new(&options.conf_dir);
    let generated = [
        ("zoo.cfg", files::zoo_cfg(&options, member.as_ref())),
        ("log4j.properties", files::log4j_properties(&options.log_level)),
        ("java.env", files::java_env(&options)),
    ];
    std::fs::create_dir_all(conf_dir).map_err(|error| cannot(conf_dir, &error))?;
    for (name, text) in &generated {
        let path = conf_dir.join(name);
        files::write(&path, text).map_err(|error| cannot(&path, &error))?;
    }
    super::start::make_directories(&options, member.as_ref())
        .map_err(|(text, code)| Failure { code, ..Failure::new(text) })
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot write {}: {error}", path.display()))
        .hint("ZK_CONF_DIR names another directory; zkServer.sh finds it there")
}

/// One line `NAME=value` each, as the variables are called.
fn values(options: &Options, member: Option<&files::Member>) -> String {
    let mut lines = vec![("ZK_REPLICAS", options.servers.to_string())];
    if let Some(member) = member {
        lines.push(("MY_ID", member.myid.to_string()));
    }
    let text = |text: &String| text.clone();
    lines.extend([
        ("ZK_LOG_LEVEL", text(&options.log_level)),
        ("ZK_DATA_DIR", text(&options.data_dir)),
        ("ZK_DATA_LOG_DIR", text(&options.data_log_dir)),
        ("ZK_LOG_DIR", text(&options.log_dir)),
        ("ZK_CONF_DIR", text(&options.conf_dir)),
        ("ZK_CLIENT_PORT", options.client_port.to_string()),
        ("ZK_SERVER_PORT", options.server_port.to_string()),
        ("ZK_ELECTION_PORT", options.election_port.to_string()),
        ("ZK_TICK_TIME", options.tick_time.to_string()),
        ("ZK_INIT_LIMIT", options.init_limit.to_string()),
        ("ZK_SYNC_LIMIT", options.sync_limit.to_string()),
        ("ZK_HEAP_SIZE", text(&options.heap)),
        ("ZK_MAX_CLIENT_CNXNS", options.max_client_cnxns.to_string()),
        ("ZK_MIN_SESSION_TIMEOUT", options.min_session_timeout.to_string()),
        ("ZK_MAX_SESSION_TIMEOUT", options.max_session_timeout.to_string()),
        ("ZK_SNAP_RETAIN_COUNT", options.snap_retain_count.to_string()),
        ("ZK_PURGE_INTERVAL", options.purge_interval.to_string()),
    ]);
    let mut text: String = lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    for (id, host) in member.iter().flat_map(|member| &member.servers) {
        let (peers, election) = (options.server_port, options.election_port);
        text.push_str(&format!("server.{id}={host}:{peers}:{election}\n"));
    }
    text
}
