//! The files that `start-zookeeper` generates: their text, and how they are kept.
//!
//! Source: `docs/spec/kubernetes.md` 2 (T6, T17), 4.1.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::MemfdFlags;
use rustix::process::geteuid;

use super::identity::Host;
use super::options::Options;
use crate::pod::server_process::quote;

/// Name of the configuration file.
const ZOO_CFG: &str = "zoo.cfg";

/// The place of this server among those of the ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Number of this server.
    pub myid: u32,
    /// Number and host of every server.
    pub servers: Vec<(u32, String)>,
}

/// Finds out who is a member and who this is; `None` for a single server.
pub fn membership(options: &Options, host: &Host) -> Result<Option<Member>, String> {
    if options.servers == 1 {
        return Ok(None);
    }
    let pod = host.pod()?;
    if pod.ordinal >= options.servers {
        return Err(format!(
            "this is {}-{}, but --servers={} names {}-0 to {}-{}. Raise --servers on every server",
            pod.set,
            pod.ordinal,
            options.servers,
            pod.set,
            pod.set,
            options.servers - 1
        ));
    }
    let last = options.servers - 1 + options.myid_offset;
    if options.myid_offset == 0 || last > 255 {
        return Err(format!(
            "--myid_offset={} gives numbers from {} to {last}, and a server's is from 1 to 255",
            options.myid_offset, options.myid_offset
        ));
    }
    let domain = host.domain_in(options.cluster_domain.as_deref());
    let servers = (0..options.servers).map(|ordinal| {
        let named = options.names.as_ref().and_then(|names| names.get(ordinal as usize));
        let name = named.cloned().unwrap_or_else(|| format!("{}-{ordinal}", pod.set));
        let address = match domain.is_empty() || name.contains('.') {
            true => name,
            false => format!("{name}.{domain}"),
        };
        (ordinal + options.myid_offset, address)
    });
    Ok(Some(Member { myid: pod.ordinal + options.myid_offset, servers: servers.collect() }))
}

/// The text of zoo.cfg.
pub fn zoo_cfg(options: &Options, member: Option<&Member>) -> String {
    let mut text = "# Generated at each start: do not edit, change the flags instead.\n".to_owned();
    let mut set = |key: &str, value: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{key}={}", escape(value));
    };
    set("clientPort", &options.client_port.to_string());
    set("dataDir", &options.data_dir);
    set("dataLogDir", &options.data_log_dir);
    set("tickTime", &options.tick_time.to_string());
    set("initLimit", &options.init_limit.to_string());
    set("syncLimit", &options.sync_limit.to_string());
    set("maxClientCnxns", &options.max_client_cnxns.to_string());
    set("minSessionTimeout", &options.min_session_timeout.to_string());
    set("maxSessionTimeout", &options.max_session_timeout.to_string());
    set("autopurge.snapRetainCount", &options.snap_retain_count.to_string());
    set("autopurge.purgeInterval", &options.purge_interval.to_string());
    for (id, host) in member.iter().flat_map(|member| &member.servers) {
        let (peers, election) = (options.server_port, options.election_port);
        set(&format!("server.{id}"), &format!("{host}:{peers}:{election}"));
    }
    if !options.whitelist.is_empty() {
        set("4lw.commands.whitelist", &options.whitelist);
    }
    if options.admin_port != 0 {
        set("admin.enableServer", "true");
        set("admin.serverPort", &options.admin_port.to_string());
    }
    if options.metrics_port != 0 {
        let provider = "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider";
        set("metricsProvider.className", provider);
        set("metricsProvider.httpPort", &options.metrics_port.to_string());
    }
    if options.reconfig {
        set("reconfigEnabled", "true");
    }
    text
}

/// A value as the format of properties keeps it.
fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            ' '..='~' => text.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text
}

/// The text of log4j.properties: exactly the lines that the tutorial shows.
pub fn log4j_properties(level: &str) -> String {
    format!(
        "\
zookeeper.root.logger=CONSOLE
zookeeper.console.threshold={level}
log4j.rootLogger=${{zookeeper.root.logger}}
log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender
log4j.appender.CONSOLE.Threshold=${{zookeeper.console.threshold}}
log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout
log4j.appender.CONSOLE.layout.ConversionPattern=%d{{ISO8601}} [myid:%X{{myid}}] - %-5p [%t:%C{{1}}@%L] - %m%n
"
    )
}

/// The text of java.env.
pub fn java_env(options: &Options) -> String {
    let heap = &options.heap;
    format!("ZOO_LOG_DIR={}\nJVMFLAGS=\"-Xmx{heap} -Xms{heap}\"\n", quote(&options.log_dir))
}

/// Where the generated configuration is.
#[derive(Debug)]
pub struct Kept {
    /// Path of zoo.cfg, for the server.
    pub zoo_cfg: PathBuf,
    /// Why it is not where it should be.
    pub warning: Option<String>,
    /// Is it in memory alone? Then log4j.properties is nowhere.
    pub in_memory: bool,
    /// Holds the file that is in memory; open in the server too.
    pub memory: Option<OwnedFd>,
}

/// Keeps `files` (name and text; zoo.cfg among them) in `conf_dir`, or if that cannot be written in a
/// private directory below one of `fallbacks`, or zoo.cfg alone in memory.
pub fn keep(
    conf_dir: &Path,
    fallbacks: &[PathBuf],
    private_name: &str,
    files: &[(&str, String)],
) -> io::Result<Kept> {
    let Err(error) = write_all(conf_dir, files) else {
        let zoo_cfg = conf_dir.join(ZOO_CFG);
        return Ok(Kept { zoo_cfg, warning: None, in_memory: false, memory: None });
    };
    let because = format!("{} cannot be written ({error})", conf_dir.display());
    for parent in fallbacks {
        let dir = parent.join(private_name);
        if make_private(&dir).and_then(|()| write_all(&dir, files)).is_ok() {
            let warning = format!("{because}: the configuration is in {}", dir.display());
            let zoo_cfg = dir.join(ZOO_CFG);
            return Ok(Kept { zoo_cfg, warning: Some(warning), in_memory: false, memory: None });
        }
    }
    let text = files.iter().find(|(name, _)| *name == ZOO_CFG).map_or("", |(_, text)| text);
    // Without close-on-exec: the server reads it.
    let memory = rustix::fs::memfd_create(ZOO_CFG, MemfdFlags::empty())?;
    let mut file = fs::File::from(memory.try_clone()?);
    file.write_all(text.as_bytes())?;
    let warning = format!("{because}, nor any directory for temporary files: running from memory");
    let zoo_cfg = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    Ok(Kept { zoo_cfg, warning: Some(warning), in_memory: true, memory: Some(memory) })
}

fn write_all(dir: &Path, files: &[(&str, String)]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    files.iter().try_for_each(|(name, text)| write(&dir.join(name), text))
}

/// Gives `path` this text: a reader sees the old or the new, never a part. What is right already is
/// left alone.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let written = fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        // What cannot be written cannot be removed either, or is not there.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Makes a directory for this user alone; one that is there must be such a directory.
fn make_private(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(dir)?;
            let private =
                found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0;
            if private { Ok(()) } else { Err(error) }
        }
        made => made,
    }
}

/// Mode of the data directory: for its group too, which its files inherit.
const DATA_MODE: u32 = 0o2755;

/// Makes the data directory, and gives it its mode if it is ours: volumes without support for a group
/// come as open to all.
pub fn make_data_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let found = fs::metadata(dir)?;
    if found.uid() == geteuid().as_raw() && found.mode() & 0o7777 != DATA_MODE {
        fs::set_permissions(dir, Permissions::from_mode(DATA_MODE))?;
    }
    Ok(())
}

/// Writes `myid` if it is absent; an error if it is another number.
pub fn keep_myid(data_dir: &Path, myid: u32) -> Result<(), String> {
    let path = data_dir.join("myid");
    let shown = path.display();
    match fs::read_to_string(&path) {
        Ok(text) => {
            let found = text.lines().next().unwrap_or_default().trim();
            if found == myid.to_string() {
                return Ok(());
            }
            Err(format!(
                "{shown} says that these are the data of server {found}, but by its host name this \
                 is server {myid}: the volume may belong to another pod, so it must not vote. Attach \
                 the right volume, or remove the data"
            ))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => write(&path, &format!("{myid}\n"))
            .map_err(|error| format!("cannot write {shown}: {error}")),
        Err(error) => Err(format!("cannot read {shown}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::tests::options;
    use super::*;

    fn pod(name: &str, domain: &str) -> Host {
        Host { name: name.to_owned(), domain: domain.to_owned() }
    }

    const DOMAIN: &str = "zk-hs.default.svc.cluster.local";

    #[test]
    fn the_configuration_of_the_tutorial_has_its_keys_in_its_order() {
        let options = options(
            &[
                "--servers=3",
                "--data_log_dir=/var/lib/zookeeper/data/log",
                "--purge_interval=12",
                "--max_session_timeout=40000",
                "--min_session_timeout=4000",
            ],
            &[],
        );
        let member = membership(&options, &pod("zk-2", DOMAIN)).unwrap();
        assert_eq!(member.as_ref().unwrap().myid, 3);
        assert_eq!(
            zoo_cfg(&options, member.as_ref()),
            "\
# Generated at each start: do not edit, change the flags instead.
clientPort=2181
dataDir=/var/lib/zookeeper/data
dataLogDir=/var/lib/zookeeper/data/log
tickTime=2000
initLimit=10
syncLimit=5
maxClientCnxns=60
minSessionTimeout=4000
maxSessionTimeout=40000
autopurge.snapRetainCount=3
autopurge.purgeInterval=12
server.1=zk-0.zk-hs.default.svc.cluster.local:2888:3888
server.2=zk-1.zk-hs.default.svc.cluster.local:2888:3888
server.3=zk-2.zk-hs.default.svc.cluster.local:2888:3888
4lw.commands.whitelist=conf,cons,crst,dirs,dump,envi,gtmk,hash,isro,mntr,ruok,srst,srvr,stat,stmk,wchs
"
        );
    }

    #[test]
    fn our_own_keys_come_after_the_servers() {
        let words = ["--servers=3", "--admin_port=8080", "--metrics_port=7000", "--reconfig=true"];
        let options = options(&words, &[]);
        let member = membership(&options, &pod("zk-0", "")).unwrap();
        let text = zoo_cfg(&options, member.as_ref());
        let (_, ours) = text.split_once("server.3=zk-2:2888:3888\n").unwrap();
        assert_eq!(
            ours.split_once('\n').unwrap().1,
            "admin.enableServer=true\nadmin.serverPort=8080\nmetricsProvider.className=org.apache.\
             zookeeper.metrics.prometheus.PrometheusMetricsProvider\n\
             metricsProvider.httpPort=7000\nreconfigEnabled=true\n"
        );
    }

    #[test]
    fn a_value_survives_the_format_of_the_file() {
        let options = options(&["--data_dir=/d\u{e9}p\u{f4}t/😀\\x #1"], &[]);
        let text = zoo_cfg(&options, None);
        let parsed = oxkeeper_server::properties::parse(text.as_bytes()).unwrap();
        let found = parsed.iter().find(|property| property.key == "dataDir").unwrap();
        assert_eq!(found.value, options.data_dir);
    }

    #[test]
    fn a_single_server_needs_no_ordinal_and_is_no_member() {
        assert_eq!(membership(&options(&[], &[]), &pod("4f5e6a7b8c9d", "")), Ok(None));
        assert!(!zoo_cfg(&options(&[], &[]), None).contains("server."));
        assert!(membership(&options(&["--servers=3"], &[]), &pod("4f5e6a7b8c9d", "")).is_err());
    }

    #[test]
    fn a_pod_beyond_the_list_is_refused() {
        let error = membership(&options(&["--servers=3"], &[]), &pod("zk-3", "")).unwrap_err();
        assert!(error.contains("this is zk-3, but --servers=3 names zk-0 to zk-2"), "{error}");
    }

    #[test]
    fn the_offset_moves_every_number() {
        let options = options(&["--servers=3", "--myid_offset=10"], &[]);
        let member = membership(&options, &pod("zk-1", "d")).unwrap().unwrap();
        assert_eq!(member.myid, 11);
        let ids: Vec<_> = member.servers.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [10, 11, 12]);
        assert_eq!(member.servers[2].1, "zk-2.d");
    }

    #[test]
    fn log4j_properties_are_the_seven_lines_of_the_tutorial() {
        let text = log4j_properties("WARN");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 7);
        assert_eq!(lines[1], "zookeeper.console.threshold=WARN");
        assert_eq!(lines[2], "log4j.rootLogger=${zookeeper.root.logger}");
        assert_eq!(
            lines[6],
            "log4j.appender.CONSOLE.layout.ConversionPattern=%d{ISO8601} [myid:%X{myid}] - %-5p \
             [%t:%C{1}@%L] - %m%n"
        );
    }

    #[test]
    fn what_is_right_already_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, "a\n").unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        write(&path, "a\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
        write(&path, "b\n").unwrap();
        assert_ne!(fs::metadata(&path).unwrap().ino(), before);
        assert_eq!(fs::read_to_string(&path).unwrap(), "b\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// A path below a file can be made by nobody, root included.
    #[test]
    fn without_a_writable_directory_the_configuration_is_kept_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let files = [("zoo.cfg", "a=1\n".to_owned()), ("log4j.properties", "b=2\n".to_owned())];
        let fallbacks = [file.join("x"), dir.path().to_owned()];
        let kept = keep(&file.join("conf"), &fallbacks, "private", &files).unwrap();
        assert_eq!(kept.zoo_cfg, dir.path().join("private/zoo.cfg"));
        assert_eq!(fs::read_to_string(&kept.zoo_cfg).unwrap(), "a=1\n");
        assert!(dir.path().join("private/log4j.properties").exists());
        assert_eq!(fs::metadata(dir.path().join("private")).unwrap().mode() & 0o777, 0o700);
        assert!(kept.warning.unwrap().contains("cannot be written"));
        let kept = keep(&file.join("conf"), &fallbacks[..1], "private", &files).unwrap();
        assert!(kept.in_memory);
        assert_eq!(fs::read_to_string(&kept.zoo_cfg).unwrap(), "a=1\n");
    }

    #[test]
    fn a_directory_that_others_can_write_is_not_private() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        assert!(make_private(&open).is_err());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(make_private(&link).is_err());
    }

    #[test]
    fn the_data_directory_gets_its_mode_even_if_it_exists() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/data");
        make_data_dir(&data).unwrap();
        assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o2755);
        fs::set_permissions(&data, Permissions::from_mode(0o777)).unwrap();
        make_data_dir(&data).unwrap();
        assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o2755);
    }

    #[test]
    fn myid_is_written_once_and_never_changed() {
        let dir = tempfile::tempdir().unwrap();
        keep_myid(dir.path(), 2).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("myid")).unwrap(), "2\n");
        keep_myid(dir.path(), 2).unwrap();
        let error = keep_myid(dir.path(), 3).unwrap_err();
        assert!(error.contains("server 2") && error.contains("server 3"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("myid")).unwrap(), "2\n");
    }
}
