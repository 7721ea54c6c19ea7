//! Journals written anew after a failed sync.
//!
//! When a sync fails, the kernel may count the pages as clean though the disk does not have them:
//! they are still read from memory, a later sync succeeds without writing them, and what is appended behind
//! them is cut off by the gap at the first replay after a power failure. So every byte that can be
//! read goes into a new file, which is synced and takes the old one's place. What was acknowledged
//! was synced before and is read in any case.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What fjall's journals end with.
const EXTENSION: &str = "jnl";
/// Bytes copied at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Writes every journal of the database in `dir` anew. Nothing may have it open.
///
/// # Errors
/// The first that the file system gives; what is done is done, and trying again is harmless.
pub(super) fn write_anew(dir: &Path) -> io::Result<()> {
    // Not a journal's name: what a crash leaves of it is passed over.
    let copy = dir.join("journal.copy");
    for journal in journals(dir)? {
        write_copy(&journal, &copy)?;
        fs::rename(&copy, &journal)?;
    }
    File::open(dir)?.sync_all()
}

fn journals(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
    let is_journal = |path: &PathBuf| path.extension().is_some_and(|e| e == EXTENSION);
    paths.filter(|path| path.as_ref().map_or(true, is_journal)).collect()
}

/// By hand: the system's own ways to copy may share the blocks of the old file, which are what is
/// in doubt. Zeros are left out, as most of a journal is room made in advance.
fn write_copy(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let length = from.metadata()?.len();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        let bytes = &chunk[..read];
        if bytes.iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(read as i64))?;
        } else {
            to.write_all(bytes)?;
        }
    }
    to.set_len(length)?;
    to.sync_all()
}
