//! Who this pod is: the ordinal in its host name, and the domain of its siblings.
//!
//! Source: `docs/spec/kubernetes.md` 1, 4.1.

use std::fs;

/// The host that a server runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// First label of its name.
    pub name: String,
    /// The rest; empty if it has none.
    pub domain: String,
}

/// A pod of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Name of the set.
    pub set: String,
    /// Number in the set, from 0.
    pub ordinal: u32,
}

impl Host {
    /// This host.
    pub fn this() -> Host {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        // Without the file there is no domain, as with a file that does not name this host.
        Host::new(&name, &fs::read_to_string("/etc/hosts").unwrap_or_default())
    }

    /// The host called `name` where `hosts` is the text of `/etc/hosts`: its domain is that of the
    /// first name in the first line that names it.
    fn new(name: &str, hosts: &str) -> Host {
        let full = match name.contains('.') {
            true => name,
            false => canonical(name, hosts).unwrap_or(name),
        };
        let domain = full.split_once('.').map_or("", |(_, domain)| domain);
        let short = name.split('.').next().unwrap_or(name);
        Host { name: short.to_owned(), domain: domain.trim_matches('.').to_owned() }
    }

    /// Which pod this is; an error if the name has no ordinal.
    pub fn pod(&self) -> Result<Pod, String> {
        let parts = self.name.rsplit_once('-');
        let pod = parts.and_then(|(set, ordinal)| {
            let digits = ordinal.bytes().all(|byte| byte.is_ascii_digit());
            Some(Pod { set: set.to_owned(), ordinal: ordinal.parse().ok().filter(|_| digits)? })
        });
        pod.ok_or_else(|| {
            format!(
                "the host name '{}' is not <name>-<ordinal>, so it does not tell which server of the \
                 ensemble this is. Run it in a StatefulSet, or give the container a host name such as \
                 zk-0; a single server (--servers=1) can have any name",
                self.name
            )
        })
    }

    /// Domain of the servers, where `cluster` (if given) takes the place of what follows `.svc.`.
    pub fn domain_in(&self, cluster: Option<&str>) -> String {
        match (cluster, self.domain.split_once(".svc.")) {
            (Some(cluster), Some((service, _))) => format!("{service}.svc.{cluster}"),
            (Some(cluster), None) if self.domain.ends_with(".svc") => {
                format!("{}.{cluster}", self.domain)
            }
            _ => self.domain.clone(),
        }
    }
}

fn canonical<'a>(name: &str, hosts: &'a str) -> Option<&'a str> {
    hosts.lines().find_map(|line| {
        let line = line.split('#').next()?;
        let mut names = line.split_whitespace().skip(1);
        let first = names.next()?;
        let is_named = first == name || names.any(|alias| alias == name);
        is_named.then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
                         10.1.0.7\tzk-1.zk-hs.default.svc.cluster.local\tzk-1\n\
                         10.1.0.7 other.example zk-1\n";

    #[test]
    fn the_domain_is_that_of_the_first_line_that_names_the_host() {
        let host = Host::new("zk-1", HOSTS);
        assert_eq!(host.domain, "zk-hs.default.svc.cluster.local");
        assert_eq!(Host::new("zk-2", HOSTS).domain, "");
        assert_eq!(Host::new("zk-1", "# 10.0.0.1 zk-1.a zk-1\n10.0.0.1 zk-1\n").domain, "");
        assert_eq!(
            Host::new("zk-1.zk-hs.x.svc.y", ""),
            Host { name: "zk-1".to_owned(), domain: "zk-hs.x.svc.y".to_owned() }
        );
    }

    #[test]
    fn the_domain_of_the_cluster_can_be_replaced() {
        let host = Host::new("zk-1", HOSTS);
        assert_eq!(host.domain_in(Some("corp.example")), "zk-hs.default.svc.corp.example");
        assert_eq!(host.domain_in(None), "zk-hs.default.svc.cluster.local");
        assert_eq!(Host::new("zk-1", "").domain_in(Some("corp.example")), "");
    }

    #[test]
    fn the_ordinal_is_the_number_at_the_end() {
        let pod = |name: &str| Host::new(name, "").pod();
        assert_eq!(pod("my-zk-12"), Ok(Pod { set: "my-zk".to_owned(), ordinal: 12 }));
        for name in ["zk", "zk-", "zk-a", "4f5e6a7b8c9d", "zk-+1", "zk-99999999999"] {
            assert!(pod(name).unwrap_err().contains(name), "{name}");
        }
    }
}
