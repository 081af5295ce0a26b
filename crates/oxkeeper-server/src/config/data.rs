//! The data directories: made and checked before anything is opened in them.
//!
//! Source: `docs/spec/operations.md` 1.8.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::LoadError;
use super::settings::Settings;

/// Subdirectory of both data directories that holds the files of this format.
const VERSION_DIR: &str = "version-2";

/// Where data are kept. Files lie in `version-2` below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataConfig {
    /// Snapshots, epochs, `myid`.
    pub data_dir: PathBuf,
    /// Transaction logs.
    pub log_dir: PathBuf,
    /// Create missing directories (`datadir.autocreate`).
    pub create: bool,
    /// Start with an empty database if there is none (`db.autocreate`).
    pub create_database: bool,
}

/// The directories that the settings name; neither made nor looked at.
pub(super) fn read(settings: &Settings) -> Result<DataConfig, LoadError> {
    let dir = |key| {
        let text = &settings.get(key).filter(|setting| !setting.text.is_empty())?.text;
        super::warn_if_relative(settings, text);
        Some(PathBuf::from(text))
    };
    let hint = "Name the directory for the data, for example dataDir=/var/lib/zookeeper";
    let data_dir =
        dir("dataDir").ok_or_else(|| settings.about("dataDir", "dataDir is not set", hint))?;
    Ok(DataConfig {
        log_dir: dir("dataLogDir").unwrap_or_else(|| data_dir.clone()),
        data_dir,
        create: settings.flag("datadir.autocreate", true),
        create_database: settings.flag("db.autocreate", true),
    })
}

impl DataConfig {
    /// Directory of snapshots and epoch files.
    pub fn snapshot_dir(&self) -> PathBuf {
        self.data_dir.join(VERSION_DIR)
    }

    /// Directory of transaction logs.
    pub fn txn_log_dir(&self) -> PathBuf {
        self.log_dir.join(VERSION_DIR)
    }

    /// Makes the directories (if allowed) and checks that they can be used.
    pub fn prepare(&self) -> Result<(), LoadError> {
        for dir in [self.snapshot_dir(), self.txn_log_dir()] {
            self.prepare_one(&dir)?;
        }
        Ok(())
    }

    fn prepare_one(&self, dir: &Path) -> Result<(), LoadError> {
        match fs::metadata(dir) {
            Ok(found) if !found.is_dir() => {
                return Err(wrong(dir, "it is not a directory", "Move that file away"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.create => {
                let hint = "Create it, or remove datadir.autocreate=false";
                return Err(wrong(dir, "Missing data directory", hint));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(dir).map_err(|error| {
                    let reason = format!("Unable to create data directory: {error}");
                    wrong(dir, reason, "Create it for the user that runs this server")
                })?;
            }
            Err(error) => {
                let hint = "Check dataDir and dataLogDir and who owns them";
                return Err(wrong(dir, error.to_string(), hint));
            }
        }
        access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
            let hint = "Give it to the user that runs this server";
            wrong(dir, format!("Cannot write to data directory: {error}"), hint)
        })
    }
}

fn wrong(path: &Path, reason: impl Into<String>, hint: &'static str) -> LoadError {
    LoadError::DataDir { path: path.display().to_string(), reason: reason.into(), hint }
}
