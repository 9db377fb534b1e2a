//! Secrets at rest: XChaCha20-Poly1305 under the master key, bound to the row and column they stand in.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::config::MasterKey;
use crate::domain::event::fingerprint;

/// First byte of a sealed value: the form below.
const FORM: u8 = 1;
/// Bytes of the nonce; long enough to be random for every value.
const NONCE: usize = 24;

/// Seals and opens values. A value moved to another place does not open.
pub(super) struct Sealer(XChaCha20Poly1305);

impl Sealer {
    pub(super) fn new(key: &MasterKey) -> Self {
        Self(XChaCha20Poly1305::new(key.as_bytes().into()))
    }

    /// `FORM`, nonce, ciphertext with tag. `place` is the column and the row's key.
    pub(super) fn seal(&self, place: &[&str], text: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload { msg: text, aad: &bound_to(place) };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).expect("only fails on texts of 256 GiB");
        [&[FORM], nonce.as_slice(), &sealed].concat()
    }

    /// `None`: sealed under another key, for another place, or changed since.
    pub(super) fn open(&self, place: &[&str], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.strip_prefix(&[FORM])?.split_first_chunk::<NONCE>()?;
        self.0.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &bound_to(place) }).ok()
    }
}

fn bound_to(place: &[&str]) -> [u8; 32] {
    let parts: Vec<&[u8]> = place.iter().map(|part| part.as_bytes()).collect();
    fingerprint(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_in_its_place_with_its_key_unchanged() {
        let sealer = Sealer::new(&MasterKey::from_bytes([1; 32]));
        let sealed = sealer.seal(&["t.c", "acme", "ep_1"], b"secret");
        assert_eq!(sealer.open(&["t.c", "acme", "ep_1"], &sealed).unwrap(), b"secret");
        assert_ne!(sealed, sealer.seal(&["t.c", "acme", "ep_1"], b"secret"), "a fresh nonce each time");
        assert!(sealer.open(&["t.c", "acme", "ep_2"], &sealed).is_none());
        assert!(sealer.open(&["t.c", "acmeep_1"], &sealed).is_none());
        assert!(Sealer::new(&MasterKey::from_bytes([2; 32])).open(&["t.c", "acme", "ep_1"], &sealed).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open(&["t.c", "acme", "ep_1"], &changed).is_none(), "byte {at}");
        }
    }
}
