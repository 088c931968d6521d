//! What a picture's embedding depends on, as one number.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::engine::scope::Scope;
use crate::prompt::Pixels;

/// SHA-256 of everything that an embedding depends on: the model with the arithmetic that runs it, and the pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageKey([u8; 32]);

impl ImageKey {
    pub const N_BYTES: usize = 32;

    /// The key of `pixels` under the tower of `encoder_digest`, which covers weights, arithmetic and how pixels are
    /// normalised.
    pub fn new(pixels: &Pixels, encoder_digest: &[u8; 32]) -> ImageKey {
        let mut hash = Sha256::new();
        hash.update(b"owlet image embedding 1\0");
        hash.update(encoder_digest);
        hash.update((pixels.size_px as u64).to_le_bytes());
        hash.update(pixels.rgb.as_slice());
        ImageKey(hash.finalize().into())
    }

    /// The key by which those of `scope` find the same embedding, and nobody else does.
    pub fn within(self, scope: Scope) -> ImageKey {
        let Some(digest) = scope.digest() else { return self };
        let mut hash = Sha256::new_with_prefix(b"owlet image embedding 1, of a scope\0");
        hash.update(self.0);
        hash.update(digest);
        ImageKey(hash.finalize().into())
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// 64 lower-case hex digits.
impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_depend_on_pixels_size_and_model() {
        let pixels = |size_px, byte: u8| Pixels { size_px, rgb: vec![byte; 12].into(), planes: vec![] };
        let keys = [
            ImageKey::new(&pixels(2, 0), &[0; 32]),
            ImageKey::new(&pixels(2, 1), &[0; 32]),
            ImageKey::new(&pixels(1, 0), &[0; 32]),
            ImageKey::new(&pixels(2, 0), &[1; 32]),
            ImageKey::new(&pixels(2, 0), &[0; 32]).within(Scope::of(b"a")),
            ImageKey::new(&pixels(2, 0), &[0; 32]).within(Scope::of(b"b")),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|b| a != b), "{i}");
            assert_eq!(a.within(Scope::SHARED), *a);
            let hex = a.to_string();
            assert!(hex.len() == 64 && hex.starts_with(&format!("{:02x}", a.bytes()[0])), "{hex}");
        }
    }
}
