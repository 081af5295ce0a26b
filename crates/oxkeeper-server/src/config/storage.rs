//! How data are kept.
//!
//! Source: `docs/spec/operations.md` 1.5.

use oxkeeper_storage::Compression;

use super::numbers::Reading;
use super::settings::Settings;
use super::{LoadError, Warning};

/// How data are kept, with the reference's names.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageConfig {
    /// `preAllocSize` in KiB.
    pub preallocate_kib: i64,
    /// `forceSync`.
    pub force_sync: bool,
    /// `fsync.warningthresholdms`.
    pub fsync_warning_ms: u64,
    /// `snapCount`, at least 2.
    pub snap_count: u64,
    /// `snapSizeLimitInKb`; none: off.
    pub snap_size_limit_kib: Option<u64>,
    /// `txnLogSizeLimitInKb`; none: off.
    pub log_size_limit_kib: Option<u64>,
    /// `commitLogCount`, at least 500.
    pub commit_log_count: usize,
    /// `snapshotSizeFactor`; negative: no synchronization from the log.
    pub snapshot_size_factor: f64,
    /// `snapshot.compression.method`.
    pub compression: Compression,
    /// `snapshot.trust.empty`.
    pub trust_empty_snapshot: bool,
    /// `oxkeeper.skipLoneChecks`, a rescue setting: a record of the log that is a check outside of a
    /// multi is skipped.
    pub skip_lone_checks: bool,
    /// `oxkeeper.acceptLostTail`, a rescue setting: the server starts although transactions at the end
    /// of its log are known to be lost.
    pub accept_lost_tail: bool,
    /// `digest.enabled`.
    pub digests: bool,
    /// `autopurge.snapRetainCount`, at least 3.
    pub purge_retain: usize,
    /// `autopurge.purgeInterval` in hours; 0: off.
    pub purge_interval_hours: u64,
}

/// Settings of the log and the snapshots.
pub(super) fn read(settings: &Settings) -> Result<StorageConfig, LoadError> {
    let positive = |key, default: i64| u64::try_from(settings.long(key, default)).ok();
    let mut snap_count = settings.integer("snapCount", 100_000i64);
    if snap_count < 2 {
        settings.warn(Warning::warn("SnapCount should be 2 or more. Now, snapCount is reset to 2"));
        snap_count = 2;
    }
    let mut purge_retain = settings.number("autopurge.snapRetainCount", 3i32)?;
    if purge_retain < 3 {
        settings.warn(Warning::warn(format!(
            "Invalid autopurge.snapRetainCount: {purge_retain}. Defaulting to 3"
        )));
        purge_retain = 3;
    }
    let mut factor = settings.real("snapshotSizeFactor", 0.33);
    if factor > 1.0 || factor.is_nan() {
        settings.warn(Warning::warn(format!("snapshotSizeFactor {factor} is above 1: using 0.33")));
        factor = 0.33;
    }
    Ok(StorageConfig {
        preallocate_kib: settings.decimal("preAllocSize", 65536),
        force_sync: settings.unless_no("forceSync"),
        fsync_warning_ms: read_fsync_warning(settings),
        snap_count: snap_count.unsigned_abs(),
        snap_size_limit_kib: positive("snapSizeLimitInKb", 4_194_304).filter(|kib| *kib > 0),
        log_size_limit_kib: positive("txnLogSizeLimitInKb", -1).filter(|kib| *kib > 0),
        commit_log_count: settings.decimal("commitLogCount", 500usize).max(500),
        snapshot_size_factor: factor,
        compression: read_compression(settings),
        trust_empty_snapshot: settings.flag("snapshot.trust.empty", false),
        skip_lone_checks: settings
            .rescue("oxkeeper.skipLoneChecks", "checks that stand alone in the log are skipped"),
        accept_lost_tail: settings.rescue(
            "oxkeeper.acceptLostTail",
            "a log whose end is lost is accepted, and what was acknowledged there is gone",
        ),
        digests: settings.flag("digest.enabled", true),
        purge_retain: purge_retain.unsigned_abs() as usize,
        purge_interval_hours: settings
            .number("autopurge.purgeInterval", 0i32)?
            .max(0)
            .unsigned_abs()
            .into(),
    })
}

/// The one number that is heard with and without the prefix, which wins.
fn read_fsync_warning(settings: &Settings) -> u64 {
    const KEY: &str = "fsync.warningthresholdms";
    let setting = settings.property(KEY).or_else(|| settings.process(KEY));
    settings.lenient(setting, KEY, 1000, Reading::Long)
}

fn read_compression(settings: &Settings) -> Compression {
    let Some(setting) = settings.property("snapshot.compression.method") else {
        return Compression::None;
    };
    Compression::of_setting(&setting.text).unwrap_or_else(|| {
        settings.warn(Warning::warn(format!(
            "{}: unknown snapshot.compression.method \"{}\"; snapshots stay uncompressed",
            setting.place, setting.text
        )));
        Compression::None
    })
}
