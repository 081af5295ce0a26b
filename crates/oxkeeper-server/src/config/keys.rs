//! Which keys exist, and what this release makes of those it does not honour.
//!
//! A key that would make the server safer than it is without it is refused: running open is worse
//! than not running. Every other key is warned of once and ignored.
//!
//! Source: `docs/spec/operations.md` 1.4, 1.5.

use super::settings::{Setting, Settings};
use super::{LoadError, Warning};

/// Keys that this release honours.
const HONOURED: &[&str] = &[
    // Parsed directly.
    "dataDir",
    "dataLogDir",
    "clientPort",
    "clientPortAddress",
    "clientPortListenBacklog",
    "tickTime",
    "initLimit",
    "syncLimit",
    "connectToLearnerMasterLimit",
    "minSessionTimeout",
    "maxSessionTimeout",
    "maxClientCnxns",
    "peerType",
    "electionAlg",
    "quorumListenOnAllIPs",
    "standaloneEnabled",
    "dynamicConfigFile",
    "version",
    "autopurge.snapRetainCount",
    "autopurge.purgeInterval",
    "multiAddress.enabled",
    // Properties.
    "globalOutstandingLimit",
    "preAllocSize",
    "snapCount",
    "snapSizeLimitInKb",
    "txnLogSizeLimitInKb",
    "commitLogCount",
    "snapshotSizeFactor",
    "snapshot.compression.method",
    "snapshot.trust.empty",
    "digest.enabled",
    "forceSync",
    "fsync.warningthresholdms",
    "enforceQuota",
    "skipACL",
    "extendedTypesEnabled",
    "emulate353TTLNodes",
    "maxCnxns",
    "clientTcpKeepAlive",
    "tcpKeepAlive",
    "nio.sessionlessCnxnTimeout",
    "largeRequestMaxBytes",
    "largeRequestThreshold",
    "jute.maxbuffer.extrasize",
    "request_throttle_max_requests",
    "throttled_op_wait_time",
    "connection_throttle_tokens",
    "connection_throttle_fill_time",
    "connection_throttle_fill_count",
    "connection_throttle_weight_enabled",
    "connection_throttle_global_session_weight",
    "connection_throttle_renew_session_weight",
    "leaderServes",
    "forceSnapshotSync",
    "cnxTimeout",
    "quorumCnxnTimeoutMs",
    "electionPortBindRetry",
    "datadir.autocreate",
    "db.autocreate",
    "4lw.commands.whitelist",
    "admin.enableServer",
    "admin.serverAddress",
    "admin.serverPort",
    "metricsProvider.className",
    "metricsProvider.httpHost",
    "metricsProvider.httpPort",
    "metricsProvider.exportJvmInfo",
    "DigestAuthenticationProvider.superDigest",
    "DigestAuthenticationProvider.enabled",
    "DigestAuthenticationProvider.digestAlg",
    // Process properties without prefix.
    "jute.maxbuffer",
    "znode.container.checkIntervalMs",
    "znode.container.maxPerMinute",
    "znode.container.maxNeverUsedIntervalMs",
    // Ours.
    "oxkeeper.skipLoneChecks",
    "oxkeeper.acceptLostTail",
];

/// Keys that the reference parses itself as booleans: other values are fatal, used or not.
const BOOLEANS: &[&str] = &[
    "localSessionsEnabled",
    "localSessionsUpgradingEnabled",
    "syncEnabled",
    "quorumListenOnAllIPs",
    "standaloneEnabled",
    "reconfigEnabled",
    "sslQuorum",
    "portUnification",
    "sslQuorumReloadCertFiles",
    "quorum.auth.enableSasl",
    "quorum.auth.learnerRequireSasl",
    "quorum.auth.serverRequireSasl",
    "multiAddress.enabled",
    "multiAddress.reachabilityCheckEnabled",
    "jvm.pause.monitor",
];

/// Keys that the reference parses itself as numbers.
const NUMBERS: &[&str] = &[
    "clientPort",
    "secureClientPort",
    "clientPortListenBacklog",
    "tickTime",
    "initLimit",
    "syncLimit",
    "connectToLearnerMasterLimit",
    "minSessionTimeout",
    "maxSessionTimeout",
    "maxClientCnxns",
    "observerMasterPort",
    "electionAlg",
    "quorum.cnxn.threads.size",
    "autopurge.snapRetainCount",
    "autopurge.purgeInterval",
    "multiAddress.reachabilityCheckTimeoutMs",
    "jvm.pause.sleep.time.ms",
    "jvm.pause.info-threshold.ms",
    "jvm.pause.warn-threshold.ms",
];

/// Keys that tune parts which this server does not have; without them nothing is missing.
const WITHOUT_EFFECT: &[&str] = &[
    "quorum.cnxn.threads.size",
    "serverCnxnFactory",
    "nio.numSelectorThreads",
    "nio.numWorkerThreads",
    "nio.directBufferBytes",
    "nio.shutdownTimeout",
    "netty.*",
    "intBufferStartingSizeBytes",
    "flushDelay",
    "maxWriteQueuePollTime",
    "maxBatchSize",
    "maxResponseCacheSize",
    "maxGetChildrenResponseCacheSize",
    "commitProcessor.*",
    "request_throttler.shutdownTimeout",
    "leader.closeSocketAsync",
    "learner.closeSocketAsync",
    "learner.asyncSending",
    "metricsProvider.numWorkerThreads",
    "metricsProvider.maxQueueSize",
    "metricsProvider.workerShutdownTimeoutMs",
    "leader.ackLoggingFrequency",
    "leader.nodelay",
    "follower.nodelay",
    "watchManagerName",
    "watcherCleanThreshold",
    "watcherCleanIntervalInSeconds",
    "watcherCleanThreadsNum",
    "maxInProcessingDeadWatchers",
    "bitHashCacheSize",
    "messageTracker.*",
    "fips-mode",
    "forward_learner_requests_to_commit_processor_disabled",
    "follower.skipLearnerRequestToNextProcessor",
    "jmx.*",
];

/// Keys of clients: `JVMFLAGS` is shared with them.
const OF_CLIENTS: &[&str] = &[
    "client.secure",
    "clientCnxnSocket",
    "disableAutoWatchReset",
    "request.timeout",
    "sasl.client*",
    "server.principal",
    "server.realm",
];

/// Keys of the reference that this release does not honour.
const NOT_YET: &[&str] = &[
    "localSessionsEnabled",
    "localSessionsUpgradingEnabled",
    "syncEnabled",
    "observer.*",
    "observerMasterPort",
    "observerMaster.*",
    "reconfigEnabled",
    "oraclePath",
    "multiAddress.reachabilityCheckEnabled",
    "multiAddress.reachabilityCheckTimeoutMs",
    "jvm.pause.*",
    "metricsProvider.*",
    "admin.*",
    "audit.*",
    "pathStats.*",
    "serializeLastProcessedZxid.enabled",
    "closeSessionTxn.enabled",
    "enableEagerACLCheck",
    "request_throttle_stall_time",
    "request_throttle_drop_stale",
    "request_stale_latency_check",
    "request_stale_connection_check",
    "connection_throttle_*",
    "leader.maxTimeToWaitForEpoch",
    "leader.maxConcurrentSnapSyncs",
    "leader.maxConcurrentDiffSyncs",
    "leaderConnectDelayDuringRetryMs",
    "fastleader.*",
    "readonlymode.enabled",
    "secureClientPortAddress",
    "sslQuorumReloadCertFiles",
    "client.certReload",
    "quorum.auth.*",
    "kerberos.*",
    "letAnySaslUserDoX",
    "allowSaslFailedClients",
    "sasl.serverconfig",
    "superUser*",
    "ensembleAuthName",
    "X509AuthenticationProvider.*",
    "IPAuthenticationProvider.*",
    "java.security.auth.login.config",
    "security.auth_to_local",
    "requireKerberosConfig",
    "kinit",
];

/// Keys of the last list that warn only when they are on.
const NOT_YET_SWITCHES: &[&str] = &[
    "localSessionsEnabled",
    "localSessionsUpgradingEnabled",
    "reconfigEnabled",
    "jvm.pause.monitor",
    "audit.enable",
    "pathStats.enabled",
    "enableEagerACLCheck",
    "request_stale_latency_check",
    "readonlymode.enabled",
    "admin.portUnification",
    "admin.forceHttps",
    "admin.needClientAuth",
    "admin.snapshot.enabled",
    "admin.restore.enabled",
    "sslQuorumReloadCertFiles",
    "client.certReload",
    "quorum.auth.enableSasl",
    "quorum.auth.learnerRequireSasl",
    "quorum.auth.serverRequireSasl",
];

/// Switches that demand protection; refused when on.
const REFUSED_SWITCHES: &[&str] = &[
    "sslQuorum",
    "portUnification",
    "client.portUnification",
    "quorum.auth.enableSasl",
    "quorum.auth.learnerRequireSasl",
    "quorum.auth.serverRequireSasl",
    "sessionRequireClientSASLAuth",
    "enforce.auth.enabled",
];

/// Keys that demand protection by being there.
const REFUSED: &[&str] = &["enforce.auth.*"];

/// Keys that offer clients another, protected way in. Without it they find a closed door, not an open
/// one.
const OFFERS: &[&str] =
    &["secureClientPort", "ssl.*", "authProvider*", "SASLAuthenticationProvider.*"];

/// Keys of guides to SASL. No release of the reference reads them, so they are no reason to stop; but
/// one looks like protection.
const OF_GUIDES: &[&str] = &["requireClientAuthScheme", "jaasLoginRenew"];

/// Properties that start scripts set for the reference's logging.
const OF_SCRIPTS: &[&str] = &["log.*", "root.logger", "console.threshold", "tracelog.*"];

fn is_in(list: &[&str], key: &str) -> bool {
    list.iter().any(|entry| match entry.strip_suffix('*') {
        Some(prefix) => key.starts_with(prefix),
        None => key == *entry,
    })
}

fn is_membership(key: &str) -> bool {
    key.starts_with("server.") || key.starts_with("group") || key.starts_with("weight")
}

/// Looks at every key once: refuses to run without demanded protection, warns of what is ignored.
pub(super) fn check(settings: &Settings) -> Result<(), LoadError> {
    for key in BOOLEANS {
        settings.boolean(key, false)?;
    }
    for key in NUMBERS {
        settings.number(key, 0i32)?;
    }
    check_flags_of_quorum_sasl(settings)?;
    let properties = settings.properties.iter().filter_map(|(name, setting)| {
        let bare = name.strip_prefix("zookeeper.");
        let ours = name.starts_with("oxkeeper.") || is_known(name);
        let key = bare.or_else(|| ours.then_some(name.as_str()))?;
        // Covered by the file's entry, which wins.
        (!settings.entries.contains_key(key)).then_some((key, setting))
    });
    let entries = settings.entries.iter().map(|(key, setting)| (key.as_str(), setting));
    let has_plain_port = settings.get("clientPort").is_some_and(|port| port.text != "0");
    for (key, setting) in entries.chain(properties) {
        refuse(key, setting, has_plain_port)?;
        if let Some(warning) = comment(key, setting) {
            settings.warn(warning);
        }
    }
    Ok(())
}

fn is_known(key: &str) -> bool {
    [HONOURED, WITHOUT_EFFECT, OF_CLIENTS, OF_GUIDES, NOT_YET, REFUSED_SWITCHES, REFUSED, OFFERS]
        .iter()
        .any(|list| is_in(list, key))
}

/// The reference's own check, which comes before the question whether SASL is there.
fn check_flags_of_quorum_sasl(settings: &Settings) -> Result<(), LoadError> {
    let enabled = settings.boolean("quorum.auth.enableSasl", false)?;
    for flag in ["quorum.auth.learnerRequireSasl", "quorum.auth.serverRequireSasl"] {
        if settings.boolean(flag, false)?
            && !enabled
            && let Some(setting) = settings.get(flag)
        {
            return Err(setting.wrong(
                format!("quorum.auth.enableSasl is disabled, so cannot enable {flag}"),
                format!("Remove {flag}"),
            ));
        }
    }
    Ok(())
}

fn refuse(key: &str, setting: &Setting, has_plain_port: bool) -> Result<(), LoadError> {
    let demands = if key == "secureClientPort" {
        // Who wants the secure port alone must not get an open one, nor a server without any.
        setting.text != "0" && !has_plain_port
    } else if is_in(REFUSED_SWITCHES, key) {
        setting.is_true()
    } else if key == "DigestAuthenticationProvider.digestAlg" {
        !setting.text.eq_ignore_ascii_case("SHA1")
    } else {
        is_in(REFUSED, key)
    };
    if !demands {
        return Ok(());
    }
    Err(LoadError::NotSupported { place: setting.place.clone(), key: key.to_owned() })
}

/// What to say about a key that was not refused.
fn comment(key: &str, setting: &Setting) -> Option<Warning> {
    let place = &setting.place;
    if is_membership(key) || is_in(HONOURED, key) || is_in(REFUSED_SWITCHES, key) {
        return None;
    }
    if is_in(OF_SCRIPTS, key) || (key == "secureClientPort" && setting.text == "0") {
        return None;
    }
    if is_in(OFFERS, key) {
        let consequence = match key {
            "secureClientPort" => "nobody listens there",
            _ if key.starts_with("ssl.") => "no client can use TLS",
            _ => "no client can authenticate by it, and ACLs that name its ids let nobody in",
        };
        return Some(Warning::error(format!(
            "{place}: not supported yet: {key} is ignored; {consequence}"
        )));
    }
    if is_in(OF_GUIDES, key) {
        let ignored = format!("{place}: {key} is ignored, as by Apache ZooKeeper itself");
        return Some(match key {
            "requireClientAuthScheme" => Warning::error(format!(
                "{ignored}; clients are let in without authentication, and ACLs alone protect"
            )),
            _ => Warning::warn(format!("{ignored}; it belongs to SASL, not supported yet")),
        });
    }
    if is_in(OF_CLIENTS, key) {
        return Some(Warning::info(format!("{place}: {key} is for clients, not for a server")));
    }
    if is_in(WITHOUT_EFFECT, key) {
        return Some(Warning::info(format!("{place}: {key} has no effect on this server")));
    }
    if is_in(NOT_YET_SWITCHES, key) && !setting.is_true() {
        return None;
    }
    if is_in(NOT_YET, key) {
        return Some(Warning::warn(format!("{place}: not supported yet: {key} is ignored")));
    }
    let hint = match key.strip_prefix("zookeeper.") {
        Some(bare) => format!("in a file the key is written {bare}"),
        None => "check its spelling".to_owned(),
    };
    Some(Warning::warn(format!("{place}: unknown key {key} is ignored; {hint}")))
}
