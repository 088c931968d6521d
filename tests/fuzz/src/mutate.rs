//! Good input in, input that is a little wrong out: the same for the same seed, on every machine.

/// A stream of numbers (splitmix64) and what it does to bytes.
pub struct Mutator(u64);

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is at least 1.
    pub fn below(&mut self, n: usize) -> usize {
        (self.number() % n as u64) as usize
    }

    /// Changes `bytes` in one to four places, within the first `reach` bytes: a header is a small part of
    /// a file, and most of what can go wrong.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>, reach: usize) {
        for _ in 0..=self.below(4) {
            let reach = reach.clamp(1, bytes.len().max(1));
            let at = self.below(reach);
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..(at + 1 + self.below(16)).min(bytes.len()))),
                2 => {
                    let byte = self.number() as u8;
                    let n = 1 + self.below(16);
                    bytes.splice(at..at, std::iter::repeat_n(byte, n));
                }
                // a piece of the input stands twice
                3 => {
                    let piece = bytes[at..(at + 1 + self.below(64)).min(bytes.len())].to_vec();
                    let to = self.below(reach);
                    bytes.splice(to..to, piece);
                }
                4 => self.overwrite(bytes, at, 4),
                5 => self.overwrite(bytes, at, 8),
                6 => self.overwrite(bytes, at, 1),
                _ => {
                    let bit = 1 << self.below(8);
                    bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
                }
            }
        }
    }

    /// Puts a number where one that matters may be: those around which arithmetic breaks.
    fn overwrite(&mut self, bytes: &mut [u8], at: usize, width: usize) {
        let edge = match self.below(10) {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => i64::MAX as u64,
            4 => 1 << 63,
            5 => u32::MAX.into(),
            6 => 1 << 31,
            7 => bytes.len() as u64,
            8 => 1 << self.below(64),
            _ => self.number(),
        };
        let number = edge.wrapping_add(self.below(3) as u64).wrapping_sub(1).to_le_bytes();
        for (byte, new) in bytes.iter_mut().skip(at).zip(&number[..width]) {
            *byte = *new;
        }
    }
}
