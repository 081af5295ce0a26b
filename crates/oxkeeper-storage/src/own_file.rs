//! Small text files of our own: a title, lines, and a checksum as the last line.

use crate::disk::{Disk, DiskError, DiskFile, Place, read_small};
use crate::names::TEMPORARY;

/// Longer files are damaged. A line is some thirty bytes long.
const LIMIT: usize = 4 << 20;
const CHECKSUM: &str = "crc32 ";

/// What such a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// There is no such file.
    Missing,
    /// It was not written like this.
    Damaged,
    /// The lines between title and checksum.
    Lines(Vec<String>),
}

/// Writes the file and gives it its name. The name is durable after the next
/// [`Disk::sync_dir`]; until then the file is the old one or the new one.
pub fn write<D: Disk>(
    disk: &D,
    place: Place,
    name: &str,
    title: &str,
    lines: &[String],
) -> Result<(), DiskError> {
    let mut text = format!("{title}\n");
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    let crc = crc32fast::hash(text.as_bytes());
    text.push_str(&format!("{CHECKSUM}{crc:08x}\n"));
    let temporary = format!("{TEMPORARY}{name}");
    let file = disk.create(place, &temporary)?;
    file.write_at(text.as_bytes(), 0)?;
    file.sync()?;
    disk.rename(place, &temporary, name)
}

/// Reads the file. A read error is an error, never "damaged".
pub fn read<D: Disk>(
    disk: &D,
    place: Place,
    name: &str,
    title: &str,
) -> Result<Content, DiskError> {
    let bytes = match disk.open(place, name).and_then(|file| file.len()) {
        Ok(len) if len > LIMIT as u64 => return Ok(Content::Damaged),
        Ok(len) => read_small(disk, place, name, len as usize)?,
        Err(error) if error.is_not_found() => return Ok(Content::Missing),
        Err(error) => return Err(error),
    };
    Ok(parse(&bytes, title).map_or(Content::Damaged, Content::Lines))
}

fn parse(bytes: &[u8], title: &str) -> Option<Vec<String>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let sealed = text.rfind(CHECKSUM)?;
    let crc = text[sealed..].strip_prefix(CHECKSUM)?.strip_suffix('\n')?;
    if u32::from_str_radix(crc, 16).ok()? != crc32fast::hash(&bytes[..sealed]) {
        return None;
    }
    let mut lines = text[..sealed].lines();
    (lines.next()? == title).then(|| lines.map(str::to_owned).collect())
}
