//! Plugins: their names and versions, how they are attached to an endpoint, and what a call of one came to.

mod attachment;
mod run;

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

pub use attachment::{ATTACHMENTS_LIMIT, Attachment, InvalidRollout, OnError, Rollout, SETTINGS_LIMIT};
pub use run::{Changed, Decision, Failure, FailureKind, LogLine, Ran, Run, Verdict};

/// Plugins of one tenant.
pub const PLUGINS_LIMIT: usize = 100;
/// Versions of one plugin.
pub const VERSIONS_LIMIT: usize = 100;
/// Bytes of all of a tenant's components together.
pub const COMPONENTS_LIMIT: u64 = 512 * 1024 * 1024;

/// The text is not a plugin's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 63 of a-z, 0-9, '-' and '_', not starting with '-' or '_'")]
pub struct InvalidName;

/// A plugin's name, `[a-z0-9][a-z0-9_-]{0,62}`: unique within its tenant, and its id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PluginName(Arc<str>);

impl PluginName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PluginName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        let valid = (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with(['-', '_']);
        valid.then(|| Self(text.into())).ok_or(InvalidName)
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be `sha256:` followed by 64 lower-case hexadecimal digits")]
pub struct InvalidVersion;

/// A version of a plugin: the SHA-256 of its bytes, written `sha256:…`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version([u8; 32]);

impl Version {
    /// The version that these bytes are.
    #[must_use]
    pub fn of(component: &[u8]) -> Self {
        Self(Sha256::digest(component).into())
    }

    /// The digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64).ok_or(InvalidVersion)?;
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(InvalidVersion),
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! text_form {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_form!(PluginName);
text_form!(Version);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        let longest = "a".repeat(63);
        for valid in ["a", "redact-fields", "0_x", longest.as_str()] {
            assert!(valid.parse::<PluginName>().is_ok(), "{valid}");
        }
        let too_long = "a".repeat(64);
        for invalid in ["", "-a", "_a", "A", "a b", "a/b", "a.b", "é", too_long.as_str()] {
            assert_eq!(invalid.parse::<PluginName>(), Err(InvalidName), "{invalid}");
        }
    }

    #[test]
    fn a_version_is_the_digest_of_its_bytes_and_reads_as_it_prints() {
        let version = Version::of(b"abc");
        // FIPS 180-4's example.
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(version.to_string(), text);
        assert_eq!(text.parse(), Ok(version));
        for invalid in ["", "sha256:", &text[7..], &text[..70], &text.to_uppercase(), &text.replace('b', "g")] {
            assert_eq!(invalid.parse::<Version>(), Err(InvalidVersion), "{invalid}");
        }
    }
}
