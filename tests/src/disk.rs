use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use rustix::io::Errno;

use crate::machine::{Machine, profile_dir};

const LIBRARY: &str = "revnoxa-tests-disk.so";
/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// A disk under a machine's SQLite file: it fails when the test says so, and knows what a power cut leaves. `disk.c`, which comes
/// between the host and its C library, tells how.
pub struct Disk {
    database: PathBuf,
    control: PathBuf,
}

impl Disk {
    /// The variable with the number of writes and syncs after which a process is killed, before it can begin another.
    pub const DIES_AFTER: &str = "DISK_DIES_AFTER";

    /// Puts one under the file of [`Machine::on_a_file`], for the processes to come.
    pub fn under(machine: Machine) -> (Machine, Self) {
        let dir = machine.dir().canonicalize().unwrap();
        let disk = Self { database: dir.join("data/revnoxa.db"), control: dir.join("disk") };
        fs::create_dir(&disk.control).unwrap();
        let machine = machine
            .set("LD_PRELOAD", LIBRARY)
            // Not by its path: the loader would part one with a space in it.
            .set("LD_LIBRARY_PATH", library().parent().unwrap().to_str().unwrap())
            .set("DISK_DATABASE", disk.database.to_str().unwrap())
            .set("DISK_CONTROL", disk.control.to_str().unwrap());
        (machine, disk)
    }

    /// Every write comes to this, until [`Disk::work`].
    pub fn fail(&self, how: Errno) {
        fs::write(self.control.join("fails"), how.raw_os_error().to_string()).unwrap();
    }

    /// Writes do as they should again.
    pub fn work(&self) {
        fs::remove_file(self.control.join("fails")).unwrap();
    }

    /// From now on nothing is synced, and the host told that it was.
    pub fn lie(&self) {
        fs::write(self.control.join("lying"), "").unwrap();
    }

    /// When no process runs: takes away what was written and not synced. Of that, what the disk was busy with may be there all the
    /// same: `survives` is asked for each sector, for each length, and for each name that is new or gone.
    pub fn cut_power(&self, mut survives: impl FnMut() -> bool) {
        for ending in ["", "-journal", "-wal"] {
            let written = with(&self.database, ending);
            let synced = self.control.join("durable").join(format!("file{ending}"));
            match left(fs::read(&written).ok(), fs::read(synced).ok(), &mut survives) {
                Some(bytes) => fs::write(&written, bytes).unwrap(),
                None => drop(fs::remove_file(&written)),
            }
        }
        // Shared memory by another name.
        let _ = fs::remove_file(with(&self.database, "-shm"));
        for folder in ["durable", "synced"] {
            fs::remove_dir_all(self.control.join(folder)).expect("a process ran on this disk");
        }
    }
}

/// What a power cut leaves of a file; `None`: not even its name.
fn left(written: Option<Vec<u8>>, synced: Option<Vec<u8>>, survives: &mut impl FnMut() -> bool) -> Option<Vec<u8>> {
    if written.is_some() != synced.is_some() && !survives() {
        return synced;
    }
    let (written, synced) = (written?, synced.unwrap_or_default());
    let mut left = vec![0; if survives() { written.len() } else { synced.len() }];
    for (number, sector) in left.chunks_mut(SECTOR).enumerate() {
        let (written, synced) = (sector_of(&written, number), sector_of(&synced, number));
        let kept = if written != synced && survives() { written } else { synced };
        let length = kept.len().min(sector.len());
        sector[..length].copy_from_slice(&kept[..length]);
    }
    Some(left)
}

fn sector_of(bytes: &[u8], number: usize) -> &[u8] {
    let rest = bytes.get(number * SECTOR..).unwrap_or_default();
    &rest[..rest.len().min(SECTOR)]
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut path = OsString::from(path);
    path.push(ending);
    path.into()
}

/// `disk.c`, compiled at the first use.
fn library() -> &'static Path {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let library = profile_dir().join(LIBRARY);
        let fresh = library.with_extension(format!("{}.so", std::process::id()));
        let compiled = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-pthread", "-o"])
            .arg(&fresh)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/disk.c"))
            .output()
            .expect("the tests need a C compiler");
        assert!(compiled.status.success(), "disk.c: {}", String::from_utf8_lossy(&compiled.stderr));
        // Other test programs may be at the same.
        fs::rename(&fresh, &library).unwrap();
        library
    })
}
