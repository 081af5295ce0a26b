//! `cargo xtask image`: container images (docs/spec/kubernetes.md 3) as archives, without an engine or a registry.
//!
//! The same sources, packages and compiler give the same bytes: entries are sorted, owners are numbers, and every time
//! is that of the commit, or `SOURCE_DATE_EPOCH`.

mod archive;
mod binary;
mod contents;
mod debian;
mod tree;

use std::fs;
use std::path::PathBuf;

use clap::Args;

use self::archive::{Archive, Parts};
use self::contents::{Contents, Image};
use self::tree::Node;
use crate::tools::{Failure, Outcome, command, output, root, target_dir};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// In the tutorial image: what of Debian is in it.
const PACKAGES: &str = "/usr/share/oxkeeper/packages.txt";

#[derive(Args)]
pub struct ImageArgs {
    /// Which image
    image: Image,
    /// Where to write the archive; by default `images` in the target directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Cargo's profile for the binary
    #[arg(long, default_value = "release")]
    profile: String,
}

/// The chore.
pub fn run(args: &ImageArgs) -> Outcome {
    build(args.image, args.out.clone().unwrap_or_else(images), &args.profile)
}

/// Both images, where the tests find them.
pub fn run_both() -> Outcome {
    build(Image::Production, images(), "release")?;
    build(Image::Tutorial, images(), "release")
}

/// Where archives are written.
pub fn images() -> PathBuf {
    target_dir().join("images")
}

fn build(image: Image, directory: PathBuf, profile: &str) -> Outcome {
    let time = time()?;
    let contents = Contents::read(&table(), image)?;
    let binary = fs::read(binary::build(profile)?)?;
    let mut own = contents.tree(&table(), &binary)?;
    let mut layers = Vec::new();
    if !contents.packages.is_empty() {
        let (base, packages) = debian::tree(&contents.packages, &images().join("debian"))?;
        let list = debian::list(&packages);
        print!("{list}");
        own.insert(PACKAGES, Node::file(0o644, list.into_bytes()))?;
        layers.push(("Debian packages", base));
    }
    layers.push(("oxkeeper", own));

    let revision = revision();
    let mut parts = Parts {
        name: &format!("oxkeeper:{}", if image == Image::Tutorial { "tutorial" } else { VERSION }),
        version: VERSION,
        revision: revision.as_deref(),
        time,
        contents: &contents,
        layers: Vec::new(),
    };
    let mut sizes = Vec::new();
    for (kind, tree) in layers {
        let mut bytes = Vec::new();
        tree.write(&mut bytes, time)?;
        sizes.push((kind, bytes.len() as u64, archive::compressed_size(&bytes)?));
        parts.layers.push((kind, bytes));
    }
    let name = parts.name.to_owned();
    let Archive { bytes, id, digest } = archive::write(parts)?;
    fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{}.tar", name.replace(':', "-")));
    fs::write(&path, bytes).map_err(|error| Failure(format!("{}: {error}", path.display())))?;

    println!("image    {name}\nid       {id}\ndigest   {digest}");
    println!("{:<20} {:>14} {:>14}", "layer", "bytes", "gzip");
    let mut total = (0, 0);
    for (kind, plain, compressed) in sizes {
        println!("{kind:<20} {plain:>14} {compressed:>14}");
        total = (total.0 + plain, total.1 + compressed);
    }
    println!("{:<20} {:>14} {:>14}", "total", total.0, total.1);
    println!("written  {}", path.display());
    Ok(())
}

/// Folder of the image's sources.
fn deploy() -> PathBuf {
    root().join("deploy/image")
}

fn table() -> PathBuf {
    deploy().join("contents")
}

/// Time of everything in the image, in seconds of 1970: `SOURCE_DATE_EPOCH`, or that of the commit.
fn time() -> Outcome<u64> {
    let (said, by) = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(time) => (time, "SOURCE_DATE_EPOCH"),
        Err(_) => {
            let log = output(&mut command("git", &["log", "-1", "--format=%ct"]));
            (log.map_err(|Failure(why)| format!("{why}; set SOURCE_DATE_EPOCH"))?, "the commit")
        }
    };
    said.trim()
        .parse()
        .map_err(|_| Failure(format!("{by} says {said:?}, which is no time in seconds")))
}

fn revision() -> Option<String> {
    let said = output(&mut command("git", &["rev-parse", "HEAD"])).ok()?;
    Some(said.trim().to_owned())
}
