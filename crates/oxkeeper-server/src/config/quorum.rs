//! The ensemble that this server belongs to, and how it treats the other members.
//!
//! Source: `docs/spec/operations.md` 1.5, 1.7, `docs/spec/quorum-protocol.md` 3.4.

use oxkeeper_proto::ServerId;
use oxkeeper_proto::ensemble::{EnsembleConfig, Role};

use super::settings::Settings;
use super::{LoadError, ServerConfig, Warning, membership, properties};

/// An ensemble and this server's place in it.
#[derive(Clone, Debug)]
pub struct QuorumConfig {
    /// This server.
    pub me: ServerId,
    /// Its role.
    pub role: Role,
    /// Members.
    pub ensemble: EnsembleConfig,
    /// Ticks a learner may take to connect and synchronize.
    pub init_limit: u64,
    /// Ticks of silence after which a peer is given up.
    pub sync_limit: u64,
    /// Ticks a learner may take to connect; `init_limit` if not set.
    pub connect_limit: u64,
    /// Bind quorum and election ports on all addresses.
    pub listen_on_all: bool,
    /// Announce all addresses of a server to peers.
    pub multi_address: bool,
    /// The leader accepts clients.
    pub leader_serves: bool,
    /// Always synchronize learners by SNAP.
    pub force_snapshot_sync: bool,
    /// Limit of one attempt to connect on the election port, in ms.
    pub election_connect_ms: u64,
    /// Limit of the election handshake, in ms.
    pub election_handshake_ms: u64,
    /// Attempts to open the election port; 0 = forever.
    pub election_bind_retries: u32,
    /// TCP keepalive on the election port.
    pub election_keepalive: bool,
}

/// Fills in the ensemble, if there is one, and what the members' list says of the client port.
pub(super) fn read(
    settings: &Settings,
    entries: &[properties::Property],
    config: &mut ServerConfig,
) -> Result<(), LoadError> {
    if let Some(setting) = settings.get("electionAlg")
        && settings.number("electionAlg", 3)? != 3
    {
        let message = "Invalid electionAlg value. Only 3 is supported.";
        return Err(setting.wrong(message, "Remove electionAlg"));
    }
    membership::peer_type(settings)?;
    let membership = membership::read(settings, entries)?;
    let distributed = membership.is_distributed(settings)?;
    let me = membership::read_my_id(&config.data.data_dir)?;
    config.client = membership.client_address(me, config.client.take())?;
    if !distributed {
        let text = "Either no config or no quorum defined in config, running in standalone mode";
        settings.warn(Warning::warn(text));
        return Ok(());
    }
    let limit = |key: &str, fallback: Option<u64>| match settings.number(key, 0i32)? {
        ticks @ 1.. => Ok(u64::from(ticks.unsigned_abs())),
        _ => fallback.ok_or_else(|| {
            let hint = format!("Write a number of ticks, for example {key}=10");
            settings.about(key, &format!("{key} is not set"), &hint)
        }),
    };
    let init_limit = limit("initLimit", None)?;
    let sync_limit = limit("syncLimit", None)?;
    let me = own_id(settings, me, config, &membership.ensemble)?;
    let handshake_ms = settings.integer("quorumCnxnTimeoutMs", -1i64);
    config.quorum = Some(QuorumConfig {
        me,
        role: membership.role(me, settings)?,
        ensemble: membership.ensemble,
        init_limit,
        sync_limit,
        connect_limit: limit("connectToLearnerMasterLimit", Some(init_limit))?,
        listen_on_all: settings.boolean("quorumListenOnAllIPs", false)?,
        multi_address: settings.flag("multiAddress.enabled", false),
        leader_serves: settings.unless_no("leaderServes"),
        force_snapshot_sync: settings.flag("forceSnapshotSync", false),
        election_connect_ms: settings.decimal("cnxTimeout", 5000),
        election_handshake_ms: match u64::try_from(handshake_ms) {
            Ok(ms) if ms > 0 => ms,
            _ => config.tick_ms.saturating_mul(sync_limit),
        },
        election_bind_retries: settings.integer("electionPortBindRetry", 3),
        election_keepalive: settings.flag("tcpKeepAlive", false),
    });
    Ok(())
}

/// This server's id, which must be a member's.
fn own_id(
    settings: &Settings,
    me: Option<ServerId>,
    config: &ServerConfig,
    ensemble: &EnsembleConfig,
) -> Result<ServerId, LoadError> {
    let path = config.data.data_dir.join("myid").display().to_string();
    let me = me.ok_or_else(|| {
        let hint = "Create it with this server's number, the N of its server.N line: echo 1 > myid";
        LoadError::of_file(&path, "myid file is missing", hint)
    })?;
    if ensemble.servers.contains_key(&me) {
        return Ok(me);
    }
    let members: Vec<_> = ensemble.servers.keys().map(ServerId::to_string).collect();
    Err(LoadError::NotAMember {
        me,
        file: settings.file.clone(),
        members: members.join(", "),
        myid: path,
    })
}
