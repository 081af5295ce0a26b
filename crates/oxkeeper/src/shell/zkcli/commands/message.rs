//! Error codes in the words of the reference. Source: `docs/spec/operations.md` 5.5.

use crate::shell::zkcli::link::{CONNECTION_LOSS, REQUEST_TIMEOUT};

/// What an error code means to the user.
pub(super) fn message(code: i32, path: &str) -> String {
    let named = |name: &str| match path {
        "" => format!("KeeperErrorCode = {name}"),
        path => format!("KeeperErrorCode = {name} for {path}"),
    };
    match code {
        -1 => named("SystemError"),
        -2 => named("RuntimeInconsistency"),
        CONNECTION_LOSS => named("ConnectionLoss"),
        -5 => named("MarshallingError"),
        -6 => named("Unimplemented"),
        -7 => named("OperationTimeout"),
        -8 => format!("Arguments are not valid : {path}"),
        -13 => "No quorum of new config is connected and up-to-date with the leader of last \
                commmitted config - try invoking reconfiguration after new servers are connected \
                and synced"
            .to_owned(),
        -14 => "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)"
            .to_owned(),
        -101 => format!("Node does not exist: {path}"),
        -102 => format!("Insufficient permission : {path}"),
        -103 => format!("version No is not valid : {path}"),
        -108 => format!("Ephemerals cannot have children: {path}"),
        -110 => format!("Node already exists: {path}"),
        -111 => format!("Node not empty: {path}"),
        -112 => named("Session expired"),
        -114 => format!("Acl is not valid : {path}"),
        -115 => named("AuthFailed"),
        -118 => named("Session moved"),
        -119 => format!("Not a read-only call: {path}"),
        -120 => named("Ephemeral node on local session"),
        -121 => named("No such watcher"),
        REQUEST_TIMEOUT => named("Request timeout"),
        -123 => named("Reconfig is disabled"),
        -124 => named("Session closed because client failed to authenticate"),
        -125 => format!("Quota has exceeded : {path}"),
        -127 => named("Op throttled due to high load"),
        other => named(&format!("Unknown error {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_words_of_the_reference() {
        assert_eq!(message(-101, "/a"), "Node does not exist: /a");
        assert_eq!(message(CONNECTION_LOSS, "/"), "KeeperErrorCode = ConnectionLoss for /");
        assert_eq!(message(-123, ""), "KeeperErrorCode = Reconfig is disabled");
    }
}
