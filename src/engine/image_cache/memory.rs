//! The embeddings of the last pictures, in memory, up to a budget of bytes.

use super::{Embedding, ImageKey};

pub struct MemoryCache {
    max_bytes: u64,
    n_bytes: u64,
    /// The one that was used last stands last.
    entries: Vec<(ImageKey, Embedding)>,
}

impl MemoryCache {
    pub fn new(max_bytes: u64) -> MemoryCache {
        MemoryCache { max_bytes, n_bytes: 0, entries: Vec::new() }
    }

    pub fn find(&mut self, key: &ImageKey) -> Option<Embedding> {
        let at = self.entries.iter().position(|(kept, _)| kept == key)?;
        self.entries[at..].rotate_left(1);
        self.entries.last().map(|(_, embedding)| Embedding::clone(embedding))
    }

    /// Keeps `embedding`; what was not used for longest makes room. One that is larger than the budget is not kept.
    pub fn keep(&mut self, key: ImageKey, embedding: Embedding) {
        if n_bytes(&embedding) > self.max_bytes || self.find(&key).is_some() {
            return;
        }
        self.n_bytes += n_bytes(&embedding);
        self.entries.push((key, embedding));
        while self.n_bytes > self.max_bytes && !self.entries.is_empty() {
            let (_, oldest) = self.entries.remove(0);
            self.n_bytes -= n_bytes(&oldest);
        }
    }
}

fn n_bytes(embedding: &Embedding) -> u64 {
    size_of_val(embedding.as_slice()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Pixels;
    use std::sync::Arc;

    fn key(byte: u8) -> ImageKey {
        ImageKey::new(&Pixels { size_px: 1, rgb: vec![byte; 3].into(), planes: vec![] }, &[0; 32])
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        // Room for three of two floats.
        let mut cache = MemoryCache::new(24);
        for byte in 1..=3 {
            cache.keep(key(byte), Arc::new(vec![byte.into(); 2]));
        }
        assert_eq!(cache.find(&key(1)).unwrap()[0], 1.0);
        cache.keep(key(3), Arc::new(vec![9.0; 2]));
        cache.keep(key(4), Arc::new(vec![4.0; 2]));
        let there = |cache: &mut MemoryCache| [1, 2, 3, 4].map(|byte| cache.find(&key(byte)).map(|e| e[0]));
        assert_eq!(there(&mut cache), [Some(1.0), None, Some(3.0), Some(4.0)]);
        cache.keep(key(5), Arc::new(vec![5.0; 7]));
        assert_eq!(there(&mut cache), [Some(1.0), None, Some(3.0), Some(4.0)], "too large to keep");
        cache.keep(key(6), Arc::new(vec![6.0; 6]));
        assert_eq!(there(&mut cache), [None; 4], "as large as all");
        assert_eq!((cache.n_bytes, cache.entries.len()), (24, 1));
    }
}
