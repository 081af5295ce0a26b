//! Texts in the shape of the reference shell: stats, ACLs, lists, dumps, errors.
//!
//! Source: `docs/spec/operations.md` 5.2 to 5.5.

use zookeeper_client::{Acl, AuthId, Error, Permission, Stat, WatchedEvent};

use crate::time::date;

/// The stat block of `docs/spec/operations.md` 5.3. Dates are in UTC.
pub fn stat(stat: &Stat) -> String {
    format!(
        "cZxid = {:#x}\nctime = {}\nmZxid = {:#x}\nmtime = {}\npZxid = {:#x}\ncversion = {}\n\
         dataVersion = {}\naclVersion = {}\nephemeralOwner = {:#x}\ndataLength = {}\n\
         numChildren = {}\n",
        stat.czxid,
        date(stat.ctime),
        stat.mzxid,
        date(stat.mtime),
        stat.pzxid,
        stat.cversion,
        stat.version,
        stat.aversion,
        stat.ephemeral_owner,
        stat.data_length,
        stat.num_children
    )
}

/// `[a, b, c]`, sorted.
pub fn list(mut names: Vec<String>) -> String {
    names.sort_unstable();
    format!("[{}]\n", names.join(", "))
}

const LETTERS: [(char, Permission); 5] = [
    ('c', Permission::CREATE),
    ('d', Permission::DELETE),
    ('r', Permission::READ),
    ('w', Permission::WRITE),
    ('a', Permission::ADMIN),
];

/// Two lines for each entry.
pub fn acl(entries: &[Acl]) -> String {
    let mut text = String::new();
    for entry in entries {
        let letters: String = LETTERS
            .iter()
            .filter(|(_, permission)| entry.permission().has(*permission))
            .map(|(letter, _)| *letter)
            .collect();
        text.push_str(&format!("'{},'{}\n: {letters}\n", entry.scheme(), entry.id()));
    }
    text
}

/// Reads `scheme:id:perms,…`. What cannot be read is left out and told, as in the reference.
pub fn parse_acl(text: &str) -> (Vec<Acl>, String) {
    let mut entries = Vec::new();
    let mut complaints = String::new();
    for entry in text.split(',') {
        let parts = entry.split_once(':').and_then(|(scheme, rest)| {
            let (id, letters) = rest.rsplit_once(':')?;
            Some((scheme, id, letters))
        });
        let Some((scheme, id, letters)) = parts else {
            complaints.push_str(&format!("{entry} does not have the form scheme:id:perm\n"));
            continue;
        };
        let mut permission = Permission::NONE;
        for letter in letters.chars() {
            match LETTERS.iter().find(|(known, _)| *known == letter) {
                Some((_, bit)) => permission = permission | *bit,
                None => complaints.push_str(&format!("Unknown perm type: {letter}\n")),
            }
        }
        entries.push(Acl::new(permission, AuthId::new(scheme, id)));
    }
    (entries, complaints)
}

/// A hex dump.
pub fn hex_dump(data: &[u8]) -> String {
    let rule = "+--------+-------------------------------------------------+----------------+\n";
    let mut text = String::from(
        "         +-------------------------------------------------+\n         \
         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |\n",
    );
    text.push_str(rule);
    for (row, bytes) in data.chunks(16).enumerate() {
        let hex: String = bytes.iter().map(|byte| format!(" {byte:02x}")).collect();
        let printable = |byte: &u8| match byte {
            0x20..=0x7e => char::from(*byte),
            _ => '.',
        };
        let chars: String = bytes.iter().map(printable).collect();
        text.push_str(&format!("|{:08x}|{hex:<48} |{chars:<16}|\n", row * 16));
    }
    text.push_str(rule);
    text
}

/// A notification.
pub fn event(event: &WatchedEvent) -> String {
    use zookeeper_client::EventType;
    let (kind, path) = match event.event_type {
        EventType::Session => ("None".to_owned(), "null"),
        kind => (kind.to_string(), event.path.as_str()),
    };
    format!(
        "\nWATCHER::\n\nWatchedEvent state:{} type:{kind} path:{path} zxid: {}\n",
        event.session_state, event.zxid
    )
}

/// A notification in one line, for programs.
pub fn event_line(event: &WatchedEvent) -> String {
    use zookeeper_client::EventType;
    match event.event_type {
        EventType::Session => format!("Session {}\n", event.session_state),
        kind => format!("{kind} {} {:#x}\n", event.path, event.zxid),
    }
}

/// What went wrong with an operation on `path`.
pub fn error(error: &Error, path: &str) -> String {
    let code = |name: &str| format!("KeeperErrorCode = {name} for {path}");
    match error {
        Error::NoNode => format!("Node does not exist: {path}"),
        Error::NodeExists => format!("Node already exists: {path}"),
        Error::NotEmpty => format!("Node not empty: {path}"),
        Error::BadVersion => format!("version No is not valid : {path}"),
        Error::NoAuth => format!("Insufficient permission : {path}"),
        Error::InvalidAcl => format!("Acl is not valid : {path}"),
        Error::NoChildrenForEphemerals => format!("Ephemerals cannot have children: {path}"),
        Error::NotReadOnly => format!("Not a read-only call: {path}"),
        Error::QuotaExceeded => format!("Quota has exceeded : {path}"),
        Error::NoWatcher => code("No such watcher"),
        Error::AuthFailed => code("AuthFailed"),
        Error::ConnectionLoss | Error::Timeout => code("ConnectionLoss"),
        Error::SessionExpired => code("Session expired"),
        Error::SessionMoved => code("Session moved"),
        Error::Unimplemented => code("Unimplemented"),
        Error::MarshallingError => code("MarshallingError"),
        Error::Throttled => code("Op throttled due to high load"),
        Error::UnexpectedErrorCode(-8) => format!("Arguments are not valid : {path}"),
        Error::UnexpectedErrorCode(-124) => {
            code("Session closed because client failed to authenticate")
        }
        other => format!("{other} : {path}"),
    }
}

/// What is wrong with a path, if anything.
pub fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("Path length must be > 0".to_owned());
    }
    if !path.starts_with('/') {
        return Err("Path must start with / character".to_owned());
    }
    if path.len() == 1 {
        return Ok(());
    }
    if path.ends_with('/') {
        return Err("Path must not end with / character".to_owned());
    }
    let bad = |reason: &str, at: usize| {
        Err(format!("Invalid path string \"{path}\" caused by {reason} @{at}"))
    };
    if let Some(at) = path.chars().position(|c| c == '\0') {
        return bad("null character not allowed", at);
    }
    // Positions count characters; they point at the end of the component that is wrong.
    let mut at = 0;
    for name in path.split('/').skip(1) {
        at += 1;
        if name.is_empty() {
            return bad("empty node name specified", at);
        }
        at += name.chars().count();
        if name == "." || name == ".." {
            return bad("relative paths not allowed", at - 1);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_is_shown_as_in_the_reference() {
        let shown = stat(&Stat {
            czxid: 0x1_0000_0002,
            mzxid: 0x1_0000_0002,
            pzxid: 0x1_0000_0002,
            ctime: 1_795_451_825_000,
            mtime: 1_795_451_825_000,
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: 0,
            data_length: 5,
            num_children: 0,
        });
        let expected = "\
cZxid = 0x100000002
ctime = Mon Nov 23 16:37:05 UTC 2026
mZxid = 0x100000002
mtime = Mon Nov 23 16:37:05 UTC 2026
pZxid = 0x100000002
cversion = 0
dataVersion = 0
aclVersion = 0
ephemeralOwner = 0x0
dataLength = 5
numChildren = 0
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_acl_is_read_and_shown() {
        let (entries, complaints) = parse_acl("world:anyone:r,digest:bob:x=y:z=:cdrwa,ip:::1:rw");
        assert_eq!(complaints, "");
        assert_eq!(
            acl(&entries),
            "'world,'anyone\n: r\n'digest,'bob:x=y:z=\n: cdrwa\n'ip,'::1\n: rw\n"
        );
        let (entries, complaints) = parse_acl("nonsense,world:anyone:rz");
        assert_eq!(entries.len(), 1);
        assert_eq!(
            complaints,
            "nonsense does not have the form scheme:id:perm\nUnknown perm type: z\n"
        );
    }

    #[test]
    fn a_hex_dump_has_sixteen_bytes_a_row() {
        let expected = "
         +-------------------------------------------------+
         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |
+--------+-------------------------------------------------+----------------+
|00000000| 77 6f 72 6c 64                                  |world           |
+--------+-------------------------------------------------+----------------+
";
        assert_eq!(hex_dump(b"world"), expected[1..]);
        assert_eq!(hex_dump(&[0; 17]).lines().count(), 6);
    }

    #[test]
    fn lists_are_sorted() {
        assert_eq!(list(vec!["b".to_owned(), "a".to_owned()]), "[a, b]\n");
        assert_eq!(list(Vec::new()), "[]\n");
    }

    #[test]
    fn bad_paths_are_refused_in_the_words_of_the_reference() {
        let check = |path, expected: &str| assert_eq!(check_path(path).unwrap_err(), expected);
        check("a", "Path must start with / character");
        check("/a/", "Path must not end with / character");
        check(
            "/bad//path",
            "Invalid path string \"/bad//path\" caused by empty node name specified @5",
        );
        check("/a/../b", "Invalid path string \"/a/../b\" caused by relative paths not allowed @4");
        assert_eq!(check_path("/"), Ok(()));
        assert_eq!(check_path("/a/b.c/..d"), Ok(()));
    }

    #[test]
    fn errors_name_the_path() {
        assert_eq!(error(&Error::NoNode, "/a"), "Node does not exist: /a");
        assert_eq!(error(&Error::NoWatcher, "/a"), "KeeperErrorCode = No such watcher for /a");
        assert_eq!(error(&Error::ConnectionLoss, "/"), "KeeperErrorCode = ConnectionLoss for /");
    }

    #[test]
    fn a_notification_has_a_long_and_a_short_form() {
        use zookeeper_client::EventType;
        let changed = WatchedEvent::new(EventType::NodeDataChanged, "/a").with_zxid(18);
        assert_eq!(
            event(&changed),
            "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:NodeDataChanged path:/a zxid: 18\n"
        );
        assert_eq!(event_line(&changed), "NodeDataChanged /a 0x12\n");
    }
}
