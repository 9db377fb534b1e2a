//! Compiled components on disk. Loading machine code that somebody else could have written would hand them the process, so
//! each file carries a MAC under a key of ours: a file that was changed is compiled again, never loaded.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::{MasterKey, MasterKeys};
use crate::domain::plugin::Version;

/// Bytes of the MAC in front of the artifact.
const MAC: usize = 32;
/// Bytes of all files together; beyond it the files written longest ago go.
const TOTAL: u64 = 4 << 30;
/// A file still unfinished after this long was left behind by a process that died.
const UNFINISHED: Duration = Duration::from_secs(3_600);

pub(super) struct Artifacts {
    folder: PathBuf,
    /// Of each master key; files are kept under the first.
    macs: Vec<Hmac<Sha256>>,
    compatibility: u64,
}

impl Artifacts {
    /// The artifacts in `folder` of the engine with this `compatibility`; those of other engines are deleted.
    pub(super) fn open(folder: PathBuf, keys: &MasterKeys, compatibility: u64) -> std::io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let artifacts = Self { folder, macs: keys.iter().map(derived).collect(), compatibility };
        artifacts.tidy()?;
        Ok(artifacts)
    }

    /// The artifact of this version; `None`: there is none that is surely ours.
    pub(super) fn load(&self, version: Version) -> Option<Vec<u8>> {
        let mut file = File::open(self.path(version)).ok()?;
        let mut mac = [0; MAC];
        file.read_exact(&mut mac).ok()?;
        let mut artifact = Vec::new();
        file.read_to_end(&mut artifact).ok()?;
        let genuine = |key: &Hmac<Sha256>| self.mac_of(key, version, &artifact).verify_slice(&mac).is_ok();
        match self.macs.iter().position(genuine) {
            Some(0) => {}
            Some(_) => self.keep_again(version, &artifact),
            None => {
                tracing::warn!(plugin.version = %version, "a compiled plugin on disk is not ours; it is compiled again");
                return None;
            }
        }
        Some(artifact)
    }

    /// Under the newest key: the one it is kept under will be gone one day.
    fn keep_again(&self, version: Version, artifact: &[u8]) {
        if let Err(error) = self.store(version, artifact) {
            tracing::warn!(plugin.version = %version, %error, "cannot keep a compiled plugin under the new master key");
        }
    }

    pub(super) fn store(&self, version: Version, artifact: &[u8]) -> std::io::Result<()> {
        // Under another name first: whoever reads finds all of it or nothing.
        let unfinished = self.folder.join(format!("{:016x}.tmp", rand::random::<u64>()));
        let written = (|| {
            let mut file = File::options().create_new(true).write(true).mode(0o600).open(&unfinished)?;
            file.write_all(&self.mac_of(&self.macs[0], version, artifact).finalize().into_bytes())?;
            file.write_all(artifact)?;
            fs::rename(&unfinished, self.path(version))
        })();
        if written.is_err() {
            // The error that counts is the one we have.
            let _ = fs::remove_file(&unfinished);
        }
        written?;
        self.tidy()
    }

    fn mac_of(&self, key: &Hmac<Sha256>, version: Version, artifact: &[u8]) -> Hmac<Sha256> {
        let mac = key.clone().chain_update(version.as_bytes()).chain_update(self.compatibility.to_be_bytes());
        mac.chain_update(artifact)
    }

    fn path(&self, version: Version) -> PathBuf {
        let version = version.to_string();
        let digest = version.trim_start_matches("sha256:");
        self.folder.join(format!("{digest}{}", self.suffix()))
    }

    fn suffix(&self) -> String {
        format!(".{:016x}.cwasm", self.compatibility)
    }

    /// Deletes other engines' files, what was left behind and, over [`TOTAL`], the oldest.
    fn tidy(&self) -> std::io::Result<()> {
        let suffix = self.suffix();
        let mut files = Vec::new();
        let mut total = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Gone since it was listed: somebody else tidied.
            let Ok(metadata) = entry.metadata() else { continue };
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let left_behind = name.ends_with(".tmp") && modified.elapsed().is_ok_and(|age| age > UNFINISHED);
            if left_behind || name.ends_with(".cwasm") && !name.ends_with(&suffix) {
                remove(&entry.path());
            } else if name.ends_with(&suffix) {
                total += metadata.len();
                files.push((modified, metadata.len(), entry.path()));
            }
        }
        files.sort();
        for (_, size, path) in files {
            if total <= TOTAL {
                break;
            }
            remove(&path);
            total -= size;
        }
        Ok(())
    }
}

/// A key of our own: the master key itself is for sealing.
fn derived(key: &MasterKey) -> Hmac<Sha256> {
    let mac = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac(&mac(key.as_bytes()).chain_update(b"revnoxa: compiled plugins").finalize().into_bytes())
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(%error, path = %path.display(), "cannot delete a compiled plugin");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> MasterKeys {
        MasterKey::from_bytes([byte; 32]).into()
    }

    #[test]
    fn only_what_we_wrote_is_read() {
        let folder = std::env::temp_dir().join(format!("revnoxa-artifacts-{}", std::process::id()));
        let version = Version::of(b"component");
        let artifacts = Artifacts::open(folder.clone(), &key(1), 7).unwrap();
        assert!(artifacts.load(version).is_none());
        artifacts.store(version, b"machine code").unwrap();
        assert_eq!(artifacts.load(version).unwrap(), b"machine code");
        assert!(Artifacts::open(folder.clone(), &key(2), 7).unwrap().load(version).is_none(), "another key");
        let both = MasterKeys { previous: vec![MasterKey::from_bytes([1; 32])], ..key(2) };
        let kept = Artifacts::open(folder.clone(), &both, 7).unwrap().load(version);
        assert_eq!(kept.unwrap(), b"machine code", "another key that replaces this one");
        let kept = Artifacts::open(folder.clone(), &key(2), 7).unwrap().load(version);
        assert_eq!(kept.unwrap(), b"machine code", "kept under that key since");
        artifacts.store(version, b"machine code").unwrap();
        fs::copy(artifacts.path(version), artifacts.path(Version::of(b"another"))).unwrap();
        assert!(artifacts.load(Version::of(b"another")).is_none(), "another version's");
        let whole = fs::read(artifacts.path(version)).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(artifacts.path(version), &changed).unwrap();
            assert!(artifacts.load(version).is_none(), "byte {at}");
        }
        fs::write(artifacts.path(version), &whole[..MAC]).unwrap();
        assert!(artifacts.load(version).is_none(), "cut off");
        let newer = Artifacts::open(folder.clone(), &key(1), 8).unwrap();
        assert!(newer.load(version).is_none());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "the older engine's files are gone");
        fs::remove_dir_all(folder).unwrap();
    }
}
