//! Secrets at rest: XChaCha20-Poly1305 under a master key, bound to the row and column they stand in.
//!
//! There are several keys while one replaces another. A value names the key it is sealed under; those sealed before values did
//! are tried with each.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use super::StoreError;
use crate::config::{KeyId, MasterKey, MasterKeys};
use crate::domain::event::fingerprint;

/// First byte of a sealed value that does not name its key: nonce, ciphertext with tag.
const NAMELESS: u8 = 1;
/// First byte of one that does: name of the key, nonce, ciphertext with tag.
const NAMED: u8 = 2;
/// Bytes of the nonce; long enough to be random for every value.
const NONCE: usize = 24;

/// Opens values. One that was moved to another place does not open.
pub(super) struct Sealer {
    /// The current one first.
    keys: Vec<Key>,
}

/// Seals values.
pub(super) struct Key {
    id: KeyId,
    cipher: XChaCha20Poly1305,
}

/// Why a value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// It is sealed under this key, which we do not have.
    UnknownKey(KeyId),
    /// It is sealed for another place or, without a name, under another key; or it was changed since.
    Unreadable,
}

impl Sealer {
    pub(super) fn new(keys: &MasterKeys) -> Self {
        Self { keys: keys.iter().map(Key::new).collect() }
    }

    /// The key that replaces the others.
    pub(super) fn current(&self) -> &Key {
        &self.keys[0]
    }

    /// What was sealed, and under which key. `place` is the column and the row's key.
    pub(super) fn open(&self, place: &[&str], sealed: &[u8]) -> Result<(&Key, Vec<u8>), Closed> {
        let (name, sealed) = match sealed {
            [NAMELESS, sealed @ ..] => (None, sealed),
            [NAMED, sealed @ ..] => {
                let (name, sealed) = sealed.split_first_chunk().ok_or(Closed::Unreadable)?;
                (Some(KeyId::from_bytes(*name)), sealed)
            }
            _ => return Err(Closed::Unreadable),
        };
        let has_name = |key: &&Key| name.is_none_or(|name| name == key.id);
        let place = bound_to(place);
        let opened = self.keys.iter().filter(has_name).find_map(|key| Some((key, key.open(&place, sealed)?)));
        opened.ok_or(match name {
            Some(name) if !self.keys.iter().any(|key| key.id == name) => Closed::UnknownKey(name),
            _ => Closed::Unreadable,
        })
    }

    /// As values were sealed before they named their key.
    #[cfg(test)]
    pub(super) fn seal_nameless(&self, place: &[&str], text: &[u8]) -> Vec<u8> {
        [&[NAMELESS], &self.current().seal(place, text)[1 + KeyId::BYTES..]].concat()
    }
}

impl Closed {
    /// The error of whoever wanted to read the value of this column and row.
    pub(super) fn at(self, table: &'static str, column: &'static str, id: &str) -> StoreError {
        StoreError::Unreadable { table, column, id: id.to_owned(), key: self.key() }
    }

    /// The key that is missing; `None`: that is not what is wrong, or not known.
    pub(super) fn key(self) -> Option<KeyId> {
        match self {
            Self::UnknownKey(key) => Some(key),
            Self::Unreadable => None,
        }
    }
}

impl Key {
    fn new(key: &MasterKey) -> Self {
        Self { id: key.id(), cipher: XChaCha20Poly1305::new(key.as_bytes().into()) }
    }

    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    /// Whether both are the same key of one [`Sealer`].
    pub(super) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }

    /// `place` is the column and the row's key.
    pub(super) fn seal(&self, place: &[&str], text: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload { msg: text, aad: &bound_to(place) };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).expect("only fails on texts of 256 GiB");
        [&[NAMED], self.id.as_bytes().as_slice(), &nonce, &sealed].concat()
    }

    fn open(&self, place: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
        self.cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: place }).ok()
    }
}

fn bound_to(place: &[&str]) -> [u8; 32] {
    let parts: Vec<&[u8]> = place.iter().map(|part| part.as_bytes()).collect();
    fingerprint(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: [&str; 3] = ["t.c", "acme", "ep_1"];

    fn keys(current: u8, previous: &[u8]) -> MasterKeys {
        let key = |byte: u8| MasterKey::from_bytes([byte; 32]);
        MasterKeys { current: key(current), previous: previous.iter().copied().map(key).collect() }
    }

    fn open(sealer: &Sealer, place: &[&str], sealed: &[u8]) -> Result<Vec<u8>, Closed> {
        sealer.open(place, sealed).map(|(_, text)| text)
    }

    #[test]
    fn opens_only_in_its_place_with_its_key_unchanged() {
        let sealer = Sealer::new(&keys(1, &[2]));
        let named = sealer.current().seal(&PLACE, b"secret");
        assert_ne!(named, sealer.current().seal(&PLACE, b"secret"), "a fresh nonce each time");
        for sealed in [named, sealer.seal_nameless(&PLACE, b"secret")] {
            assert_eq!(open(&sealer, &PLACE, &sealed).unwrap(), b"secret");
            assert_eq!(open(&sealer, &["t.c", "acme", "ep_2"], &sealed), Err(Closed::Unreadable));
            assert_eq!(open(&sealer, &["t.d", "acme", "ep_1"], &sealed), Err(Closed::Unreadable));
            assert_eq!(open(&sealer, &["t.c", "acmeep_1"], &sealed), Err(Closed::Unreadable));
            assert!(open(&Sealer::new(&keys(3, &[])), &PLACE, &sealed).is_err());
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert!(open(&sealer, &PLACE, &changed).is_err(), "byte {at}");
                assert!(open(&sealer, &PLACE, &sealed[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn a_value_opens_with_any_key_there_is_and_tells_which() {
        let (before, after) = (Sealer::new(&keys(1, &[])), Sealer::new(&keys(2, &[3, 1])));
        let nameless = before.seal_nameless(&PLACE, b"old");
        let named = before.current().seal(&PLACE, b"old");
        for sealed in [&nameless, &named] {
            let (key, text) = after.open(&PLACE, sealed).ok().unwrap();
            assert_eq!((key.id(), text.as_slice()), (before.current().id(), b"old".as_slice()));
            assert!(!key.is(after.current()));
        }
        let newer = after.current().seal(&PLACE, b"new");
        assert!(after.open(&PLACE, &newer).is_ok_and(|(key, _)| key.is(after.current())));
        assert_eq!(open(&before, &PLACE, &newer), Err(Closed::UnknownKey(after.current().id())));
        let nameless = after.seal_nameless(&PLACE, b"new");
        assert_eq!(open(&before, &PLACE, &nameless), Err(Closed::Unreadable), "it does not tell its key");
    }
}
