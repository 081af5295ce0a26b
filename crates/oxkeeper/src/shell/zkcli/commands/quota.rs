//! Quotas: limits and usage as the server stores them below `/zookeeper/quota`.
//!
//! Source: `docs/spec/operations.md` 5.4 and 5.5.

use oxkeeper_proto::client::CreateRequest;
use oxkeeper_proto::{Acl, OpCode};

use super::{Done, Fail, Run, entries, join};
use crate::shell::text;

const QUOTA: &str = "/zookeeper/quota";

impl Run<'_> {
    pub(super) fn list_quota(&self) -> Done {
        let path = self.p.path();
        text::check_path(path)?;
        let limits = format!("{}/zookeeper_limits", quota_node(path));
        self.complain(&format!("absolute path is {limits}"));
        let shown = self.data_of(&limits, false).and_then(|(limits, _)| {
            let stats = format!("{}/zookeeper_stats", quota_node(path));
            let read = |data: Option<Vec<u8>>| {
                String::from_utf8_lossy(&data.unwrap_or_default()).into_owned()
            };
            self.say(&format!("Output quota for {path} {}", read(limits)));
            let (stats, _) = self.data_of(&stats, false)?;
            self.say(&format!("Output stat for {path} {}", read(stats)));
            Ok(())
        });
        match shown {
            Err(Fail::Code(-101, _)) => {
                self.complain(&format!("quota for {path} does not exist."));
                Ok(())
            }
            shown => shown,
        }
    }

    pub(super) fn set_quota(&self) -> Done {
        let path = self.p.path();
        if path.starts_with(QUOTA) {
            self.complain("cannot set a quota under the path: /zookeeper/quota");
            return Ok(());
        }
        let mut wanted = Track::NONE;
        for (option, name, field) in [
            ("n", "num quota", 0),
            ("b", "bytes quota", 1),
            ("N", "count hard limit", 3),
            ("B", "byte hard limit", 2),
        ] {
            let Some(value) = self.p.value(option) else { continue };
            match value.parse::<i64>() {
                Ok(number @ 1..) => wanted.0[field] = number,
                Err(_) => {
                    self.complain("NumberFormatException happens when parsing the option value");
                    return Ok(());
                }
                Ok(_) => {
                    self.complain(&format!("the {name} must be greater than zero"));
                    return Ok(());
                }
            }
        }
        self.create_quota(path, wanted)
    }

    fn create_quota(&self, path: &str, wanted: Track) -> Done {
        if self.stat_of(path, false)?.is_none() {
            return Err(Fail::Text(format!("{path} does not exist.")));
        }
        let node = quota_node(path);
        self.check_child_quota(path, &node)?;
        self.check_parent_quota(path)?;
        let mut at = QUOTA.to_owned();
        self.create_missing("/zookeeper", None)?;
        self.create_missing(QUOTA, None)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = format!("{at}/{name}");
            self.create_missing(&at, None)?;
        }
        let (limits, stats) =
            (format!("{node}/zookeeper_limits"), format!("{node}/zookeeper_stats"));
        let mut now = wanted;
        if self.create_missing(&limits, Some(&now.text()))? {
            self.create_missing(&stats, Some("count=0,bytes=0"))?;
        } else {
            let (old, _) = self.data_of(&limits, false)?;
            let set = now.0;
            now = Track::parse(&old.unwrap_or_default());
            for (field, value) in set.iter().enumerate().filter(|(_, value)| **value > 0) {
                now.0[field] = *value;
            }
            self.write_data(&limits, now.text().as_bytes(), -1)?;
        }
        let (used, _) = self.data_of(&stats, false)?;
        let used = Track::parse(&used.unwrap_or_default());
        for (field, name, used) in [(0, "count", used.0[0]), (1, "bytes", used.0[1])] {
            if [now.0[field], now.0[3 - field]].iter().any(|limit| (0..used).contains(limit)) {
                self.say(&format!(
                    "[Warning]: the {name} quota you create is less than the existing {name}:{used}"
                ));
            }
        }
        Ok(())
    }

    /// Creates a znode if it is not there. Was it created?
    fn create_missing(&self, path: &str, data: Option<&str>) -> Result<bool, Fail> {
        let open = Acl::open_unsafe();
        let body = CreateRequest {
            path: self.link.server_path(path).into(),
            data: data.map(str::as_bytes),
            acl: Some(entries(&open)),
            flags: 0,
        };
        match self.call(OpCode::Create2, path, &body, |_| Ok(())) {
            Ok(()) => Ok(true),
            Err(Fail::Code(-110, _)) => Ok(false),
            // The server's own znodes cannot be made.
            Err(Fail::Code(..)) if QUOTA.starts_with(path) => Ok(false),
            Err(fail) => Err(fail),
        }
    }

    fn check_child_quota(&self, path: &str, node: &str) -> Done {
        let mut stack = match self.children_of(node, false) {
            Ok((children, _)) => {
                children.into_iter().map(|child| (join(node, &child), child)).collect::<Vec<_>>()
            }
            Err(Fail::Code(-101, _)) => return Ok(()),
            Err(fail) => return Err(fail),
        };
        while let Some((at, name)) = stack.pop() {
            if name.starts_with("zookeeper_") {
                let owner = at.rsplit_once('/').map_or("", |(owner, _)| owner);
                if owner == node {
                    continue;
                }
                let owner = owner.strip_prefix(QUOTA).unwrap_or(owner);
                return Err(Fail::Text(format!("{path} has a child {owner} which has a quota")));
            }
            if let Ok((children, _)) = self.children_of(&at, false) {
                stack.extend(children.into_iter().map(|child| (join(&at, &child), child)));
            }
        }
        Ok(())
    }

    fn check_parent_quota(&self, path: &str) -> Done {
        let mut at = path;
        while let Some((parent, _)) = at.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            let limits = format!("{}/zookeeper_limits", quota_node(parent));
            if self.stat_of(&limits, false)?.is_some() {
                return Err(Fail::Text(format!("{path} has a parent {parent} which has a quota")));
            }
            at = parent;
        }
        Ok(())
    }

    pub(super) fn delete_quota(&self) -> Done {
        let path = self.p.path();
        text::check_path(path)?;
        let node = quota_node(path);
        let limits = format!("{node}/zookeeper_limits");
        let mut track = match self.data_of(&limits, false) {
            Ok((data, _)) => Track::parse(&data.unwrap_or_default()),
            Err(Fail::Code(-101, _)) => {
                self.say(&format!("Quota does not exist for {path}"));
                return Ok(());
            }
            Err(fail) => return Err(fail),
        };
        let fields: Vec<usize> = [("n", 0), ("b", 1), ("B", 2), ("N", 3)]
            .iter()
            .filter(|(option, _)| self.p.has(option))
            .map(|(_, field)| *field)
            .collect();
        if !fields.is_empty() {
            for field in fields {
                track.0[field] = -1;
            }
            self.write_data(&limits, track.text().as_bytes(), -1)?;
            return Ok(());
        }
        self.remove(&limits, -1)?;
        let stats = format!("{node}/zookeeper_stats");
        match self.remove(&stats, -1) {
            Ok(()) | Err(Fail::Code(-101, _)) => {}
            Err(fail) => return Err(fail),
        }
        // Empty znodes above go too.
        let mut at = node.as_str();
        while at != QUOTA && self.children_of(at, false).is_ok_and(|(below, _)| below.is_empty()) {
            self.remove(at, -1)?;
            at = at.rsplit_once('/').map_or(QUOTA, |(parent, _)| parent);
        }
        Ok(())
    }
}

/// Limits or usage: count, bytes, hard limit of bytes, hard limit of the count; -1 for none.
struct Track([i64; 4]);

impl Track {
    const NONE: Track = Track([-1; 4]);
    const NAMES: [&'static str; 4] = ["count", "bytes", "byteHardLimit", "countHardLimit"];

    fn parse(data: &[u8]) -> Track {
        let mut track = Track::NONE;
        for pair in String::from_utf8_lossy(data).split([',', ';']) {
            let mut parts = pair.split('=');
            if let (Some(name), Some(value)) = (parts.next(), parts.next())
                && let Some(field) = Track::NAMES.iter().position(|known| *known == name)
                && let Ok(value) = value.parse()
            {
                track.0[field] = value;
            }
        }
        track
    }

    /// As stored; the `=;` is real.
    fn text(&self) -> String {
        let [count, bytes, byte_hard, count_hard] = self.0;
        format!(
            "count={count},bytes={bytes}=;byteHardLimit={byte_hard};countHardLimit={count_hard}"
        )
    }
}

fn quota_node(path: &str) -> String {
    if path == "/" { QUOTA.to_owned() } else { format!("{QUOTA}{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_written_as_stored() {
        let text = "count=5,bytes=-1=;byteHardLimit=-1;countHardLimit=7";
        assert_eq!(Track::parse(text.as_bytes()).text(), text);
        assert_eq!(Track::parse(b"count=1,bytes=2").0, [1, 2, -1, -1]);
        assert_eq!(Track::parse(b"junk").0, [-1; 4]);
    }
}
