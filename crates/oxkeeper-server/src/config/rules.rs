//! What requests may do.
//!
//! Source: `docs/spec/operations.md` 1.5.

use super::settings::{Setting, Settings};

/// Rules of requests, with the reference's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleConfig {
    /// `skipACL=yes`.
    pub skip_acl: bool,
    /// `DigestAuthenticationProvider.superDigest`.
    pub super_digest: Option<String>,
    /// `DigestAuthenticationProvider.enabled`.
    pub digest_scheme: bool,
    /// `enforceQuota`.
    pub enforce_quota: bool,
    /// `reconfigEnabled`.
    pub reconfig: bool,
    /// `extendedTypesEnabled`.
    pub extended_types: bool,
    /// `emulate353TTLNodes`.
    pub emulate_353_ttl: bool,
    /// `znode.container.checkIntervalMs`.
    pub container_check_ms: u64,
    /// `znode.container.maxPerMinute`.
    pub container_max_per_minute: u32,
    /// `znode.container.maxNeverUsedIntervalMs`; 0: never.
    pub container_never_used_ms: i64,
}

/// Settings of requests.
pub(super) fn read(settings: &Settings) -> RuleConfig {
    let text = |key| settings.property(key).map(|setting| setting.text.clone());
    RuleConfig {
        skip_acl: text("skipACL").as_deref() == Some("yes"),
        super_digest: text("DigestAuthenticationProvider.superDigest"),
        digest_scheme: settings.flag("DigestAuthenticationProvider.enabled", true),
        enforce_quota: settings.flag("enforceQuota", false),
        reconfig: settings.get("reconfigEnabled").is_some_and(Setting::is_true),
        extended_types: settings.flag("extendedTypesEnabled", false),
        emulate_353_ttl: settings.flag("emulate353TTLNodes", false),
        container_check_ms: settings.process_integer("znode.container.checkIntervalMs", 60_000),
        container_max_per_minute: settings.process_integer("znode.container.maxPerMinute", 10_000),
        container_never_used_ms: settings.process_long("znode.container.maxNeverUsedIntervalMs", 0),
    }
}
