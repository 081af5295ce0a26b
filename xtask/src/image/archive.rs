//! An image as one file that `docker load`, `podman load` and `ctr images import` read: a docker archive that is an
//! OCI image layout as well, as Docker itself has written since version 25.

use std::io::Write;

use chrono::{DateTime, SecondsFormat};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::contents::Contents;
use super::tree::{Node, Tree};
use crate::tools::{Failure, Outcome};

/// What is inside and what it is called.
pub struct Parts<'a> {
    /// `repository:tag`.
    pub name: &'a str,
    pub version: &'a str,
    /// Commit of the sources, if known.
    pub revision: Option<&'a str>,
    /// Time of everything, in seconds of 1970.
    pub time: u64,
    pub contents: &'a Contents,
    /// Each with a word on what it is, the lowest first.
    pub layers: Vec<(&'static str, Vec<u8>)>,
}

/// A finished image.
pub struct Archive {
    pub bytes: Vec<u8>,
    /// Digest of the configuration, by which engines name an image.
    pub id: String,
    /// Digest of the manifest.
    pub digest: String,
}

/// Content of a file under `blobs/sha256`.
struct Blob {
    media_type: &'static str,
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Blob {
        let digest: String =
            Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Blob { media_type, digest, bytes }
    }

    fn json(media_type: &'static str, value: &Value) -> Blob {
        Blob::new(media_type, value.to_string().into_bytes())
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }

    fn named(&self) -> String {
        format!("sha256:{}", self.digest)
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.named(), "size": self.bytes.len()})
    }
}

/// Puts an image together.
pub fn write(parts: Parts<'_>) -> Outcome<Archive> {
    let architecture = architecture()?;
    let created = date(parts.time)?;
    let kinds: Vec<&str> = parts.layers.iter().map(|(kind, _)| *kind).collect();
    let mut layers = Vec::new();
    for (_, bytes) in parts.layers {
        layers.push(Blob::new("application/vnd.oci.image.layer.v1.tar", bytes));
    }
    let history: Vec<Value> =
        kinds.iter().map(|kind| json!({"created": created, "created_by": kind})).collect();
    let contents = parts.contents;
    let set = |names: Vec<String>| -> Value {
        names.into_iter().map(|name| (name, json!({}))).collect::<serde_json::Map<_, _>>().into()
    };
    let config = Blob::json(
        "application/vnd.oci.image.config.v1+json",
        &json!({
            "architecture": architecture,
            "os": "linux",
            "created": created,
            "config": {
                "User": contents.user,
                "Env": contents.env,
                "Cmd": contents.cmd,
                "WorkingDir": "/",
                "Volumes": set(contents.volumes.clone()),
                "ExposedPorts": set(contents.ports.iter().map(|port| format!("{port}/tcp")).collect()),
                "Labels": labels(parts.version, parts.revision),
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(Blob::named).collect::<Vec<_>>(),
            },
            "history": history,
        }),
    );
    let manifest = Blob::json(
        "application/vnd.oci.image.manifest.v1+json",
        &json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        }),
    );
    let mut listed = manifest.descriptor();
    listed["platform"] = json!({"architecture": architecture, "os": "linux"});
    listed["annotations"] = json!({
        "io.containerd.image.name": format!("docker.io/library/{}", parts.name),
        "org.opencontainers.image.ref.name": parts.name.rsplit(':').next(),
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [listed],
    });
    let docker = json!([{
        "Config": config.path(),
        "RepoTags": [parts.name],
        "Layers": layers.iter().map(Blob::path).collect::<Vec<_>>(),
    }]);

    let (id, digest) = (config.named(), manifest.named());
    let mut tree = Tree::default();
    for folder in ["blobs", "blobs/sha256"] {
        tree.insert(folder, Node::dir(0o755))?;
    }
    for blob in layers.into_iter().chain([config, manifest]) {
        tree.insert(&blob.path(), Node::file(0o644, blob.bytes))?;
    }
    let layout = json!({"imageLayoutVersion": "1.0.0"});
    for (name, value) in [("index.json", index), ("manifest.json", docker), ("oci-layout", layout)]
    {
        tree.insert(name, Node::file(0o644, value.to_string().into_bytes()))?;
    }
    let mut bytes = Vec::new();
    tree.write(&mut bytes, parts.time)?;
    Ok(Archive { bytes, id, digest })
}

/// The size of a layer as a registry sends it.
pub fn compressed_size(bytes: &[u8]) -> Outcome<u64> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?.len() as u64)
}

fn labels(version: &str, revision: Option<&str>) -> Value {
    let mut labels = json!({
        "org.opencontainers.image.title": "oxkeeper",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": "Apache-2.0",
    });
    if let Some(revision) = revision {
        labels["org.opencontainers.image.revision"] = revision.into();
    }
    labels
}

/// The name that images have for this machine's kind of processor.
fn architecture() -> Outcome<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(Failure(format!("no image for {other}"))),
    }
}

/// Seconds of 1970 as RFC 3339.
fn date(time: u64) -> Outcome<String> {
    let time = i64::try_from(time).ok().and_then(|time| DateTime::from_timestamp(time, 0));
    let time = time.ok_or("the time of the image is beyond all calendars")?;
    Ok(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn sample() -> Archive {
        let contents = Contents {
            cmd: vec!["oxkeeper".to_owned()],
            env: vec!["A=b".to_owned()],
            user: "1000:1000".to_owned(),
            ports: vec![2181],
            volumes: vec!["/data".to_owned()],
            ..Contents::default()
        };
        write(Parts {
            name: "oxkeeper:tutorial",
            version: "0.1.0",
            revision: None,
            time: 1_700_000_000,
            contents: &contents,
            layers: vec![("one", b"first".to_vec()), ("two", b"second".to_vec())],
        })
        .unwrap()
    }

    fn files(archive: &Archive) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive.bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(path, content);
        }
        files
    }

    #[test]
    fn every_blob_is_named_by_its_digest_and_both_manifests_lead_to_all_layers() {
        let archive = sample();
        let files = files(&archive);
        let read = |path: &str| serde_json::from_slice::<Value>(&files[path]).unwrap();
        for (path, content) in &files {
            if let Some(name) = path.strip_prefix("blobs/sha256/").filter(|name| !name.is_empty()) {
                assert_eq!(Blob::new("", content.clone()).digest, name);
            }
        }
        let docker = &read("manifest.json")[0];
        assert_eq!(docker["RepoTags"], json!(["oxkeeper:tutorial"]));
        let layer = |index: usize| &files[docker["Layers"][index].as_str().unwrap()];
        assert_eq!((layer(0).as_slice(), layer(1).as_slice()), (&b"first"[..], &b"second"[..]));

        let blob = |digest: &Value| digest.as_str().unwrap().replace("sha256:", "blobs/sha256/");
        let listed = &read("index.json")["manifests"][0];
        assert_eq!(listed["digest"], archive.digest.as_str());
        let manifest = read(&blob(&listed["digest"]));
        assert_eq!(manifest["config"]["digest"], archive.id.as_str());
        assert_eq!(blob(&manifest["layers"][1]["digest"]), docker["Layers"][1].as_str().unwrap());
        let config = read(docker["Config"].as_str().unwrap());
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!(config["config"]["User"], "1000:1000");
        assert_eq!(config["config"]["ExposedPorts"], json!({"2181/tcp": {}}));
    }

    #[test]
    fn two_runs_give_the_same_bytes() {
        assert!(sample().bytes == sample().bytes);
    }

    #[test]
    fn seconds_of_1970_are_written_as_dates() {
        assert_eq!(date(0).unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(date(951_827_696).unwrap(), "2000-02-29T12:34:56Z");
        assert_eq!(date(1_795_910_400).unwrap(), "2026-11-29T00:00:00Z");
        assert_eq!(date(4_102_444_799).unwrap(), "2099-12-31T23:59:59Z");
        assert!(date(u64::MAX).is_err());
    }
}
