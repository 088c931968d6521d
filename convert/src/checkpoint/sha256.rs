//! SHA-256 whose work can be put down in a few bytes and taken up by another run. The compression is the sha2
//! crate's; what stands here is the bookkeeping around it (FIPS 180-4, 5.1.1 and 6.2).

use sha2::compress256;
use sha2::digest::generic_array::GenericArray;

const BLOCK: usize = 64;
/// What [`Sha256::save`] yields: state, length, and the bytes of the block that is not full.
pub const SAVED_BYTES: usize = 32 + 8 + BLOCK;

const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A hash under way.
#[derive(Debug, Clone)]
pub struct Sha256 {
    state: [u32; 8],
    n_bytes: u64,
    /// Its first `n_bytes % 64` bytes wait for their block to be full.
    block: [u8; BLOCK],
}

impl Default for Sha256 {
    fn default() -> Sha256 {
        Sha256 { state: START, n_bytes: 0, block: [0; BLOCK] }
    }
}

impl Sha256 {
    /// Bytes that were hashed so far.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    fn n_waiting(&self) -> usize {
        (self.n_bytes % BLOCK as u64) as usize
    }

    pub fn update(&mut self, mut bytes: &[u8]) {
        let n_waiting = self.n_waiting();
        self.n_bytes = self.n_bytes.wrapping_add(bytes.len() as u64);
        if n_waiting > 0 {
            let n = bytes.len().min(BLOCK - n_waiting);
            self.block[n_waiting..n_waiting + n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if n_waiting + n < BLOCK {
                return;
            }
            compress(&mut self.state, &self.block);
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        blocks.iter().for_each(|block| compress(&mut self.state, block));
        self.block[..rest.len()].copy_from_slice(rest);
    }

    pub fn finish(mut self) -> [u8; 32] {
        let n_bits = self.n_bytes.wrapping_mul(8);
        let n_waiting = self.n_waiting();
        self.block[n_waiting] = 0x80;
        self.block[n_waiting + 1..].fill(0);
        if n_waiting + 1 > BLOCK - 8 {
            compress(&mut self.state, &self.block);
            self.block.fill(0);
        }
        self.block[BLOCK - 8..].copy_from_slice(&n_bits.to_be_bytes());
        compress(&mut self.state, &self.block);
        let mut sum = [0; 32];
        for (out, word) in sum.chunks_exact_mut(4).zip(self.state) {
            out.copy_from_slice(&word.to_be_bytes());
        }
        sum
    }

    /// All that [`Sha256::restore`] needs.
    pub fn save(&self) -> [u8; SAVED_BYTES] {
        let mut saved = [0; SAVED_BYTES];
        for (out, word) in saved.chunks_exact_mut(4).zip(self.state) {
            out.copy_from_slice(&word.to_be_bytes());
        }
        saved[32..40].copy_from_slice(&self.n_bytes.to_le_bytes());
        let n_waiting = self.n_waiting();
        saved[40..40 + n_waiting].copy_from_slice(&self.block[..n_waiting]);
        saved
    }

    /// Goes on where [`Sha256::save`] was called. Any bytes are some hash under way.
    pub fn restore(saved: &[u8; SAVED_BYTES]) -> Sha256 {
        let mut hash = Sha256::default();
        for (word, bytes) in hash.state.iter_mut().zip(saved.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        let mut n_bytes = [0; 8];
        n_bytes.copy_from_slice(&saved[32..40]);
        hash.n_bytes = u64::from_le_bytes(n_bytes);
        hash.block.copy_from_slice(&saved[40..]);
        hash
    }
}

fn compress(state: &mut [u32; 8], block: &[u8; BLOCK]) {
    compress256(state, std::slice::from_ref(GenericArray::from_slice(block)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sha_256_wherever_it_is_cut_and_put_down() {
        use sha2::Digest;
        let bytes: Vec<u8> = (0..300u32).map(|i| ((i * i) >> 3) as u8).collect();
        for len in [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 300] {
            let expected: [u8; 32] = sha2::Sha256::digest(&bytes[..len]).into();
            for cut in 0..=len {
                let mut hash = Sha256::default();
                hash.update(&bytes[..cut]);
                let mut hash = Sha256::restore(&hash.save());
                assert_eq!(hash.n_bytes(), cut as u64);
                hash.update(&bytes[cut..len]);
                assert_eq!(hash.finish(), expected, "{len} bytes, put down at {cut}");
            }
        }
    }
}
