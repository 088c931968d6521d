//! Bits and Huffman codes of a scan.
//!
//! Comes in: the bytes behind a scan's header. Goes out: bits and symbols. Behind the last byte, or behind a marker, come
//! zeros: [`Bits::is_overrun`] says whether any of them was used, which means that the scan was cut off.

/// What a scan's data may be accused of.
pub(super) type Problem = &'static str;

const LOOKUP_BITS: u32 = 8;

/// A Huffman table.
#[derive(Clone)]
pub(super) struct Table {
    /// By the next eight bits: length of the code (0: longer than eight) and its symbol.
    lookup: [(u8, u8); 1 << LOOKUP_BITS],
    /// By length: one more than the last code of that length (0: none), and where its symbols begin, less the first code.
    ends: [u32; 17],
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// `counts[i]` codes have length `i + 1`; `symbols` are in the order of the codes.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Table, Problem> {
        let mut table = Table {
            lookup: [(0, 0); 1 << LOOKUP_BITS],
            ends: [0; 17],
            offsets: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut first) = (0u32, 0usize);
        for length in 1..=16u32 {
            let n = usize::from(counts[length as usize - 1]);
            table.offsets[length as usize] = first as i32 - code as i32;
            for &symbol in &symbols[first..first + n] {
                if code >= 1 << length {
                    return Err("a Huffman table has more codes than fit");
                }
                if length <= LOOKUP_BITS {
                    let spread = LOOKUP_BITS - length;
                    let at = (code << spread) as usize;
                    table.lookup[at..at + (1 << spread)].fill((length as u8, symbol));
                }
                code += 1;
            }
            if n > 0 {
                table.ends[length as usize] = code;
            }
            first += n;
            code <<= 1;
        }
        Ok(table)
    }
}

pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    buffer: u64,
    n_bits: u32,
    /// Of `n_bits`, so many came from nowhere. May exceed `n_bits` once they are used.
    n_padding: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8], at: usize) -> Bits<'a> {
        Bits { data, at, buffer: 0, n_bits: 0, n_padding: 0 }
    }

    /// Where the next unread byte is; never behind a marker that has not been taken.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Whether more bits were used than the scan has.
    pub(super) fn is_overrun(&self) -> bool {
        self.n_padding > self.n_bits
    }

    fn refill(&mut self) {
        while self.n_bits <= 48 {
            let byte = match (self.data.get(self.at), self.data.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (Some(0xff), _) | (None, _) => {
                    self.n_padding = (self.n_padding + 8).min(1 << 16);
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.n_bits += 8;
        }
    }

    /// The next `n` bits, up to 16, as a number.
    pub(super) fn take(&mut self, n: u32) -> i32 {
        if self.n_bits < n {
            self.refill();
        }
        self.n_bits -= n;
        (self.buffer >> self.n_bits) as i32 & ((1 << n) - 1)
    }

    pub(super) fn bit(&mut self) -> bool {
        self.take(1) == 1
    }

    /// A signed value of `n` bits: its upper half is positive, its lower half stands for the negative ones.
    pub(super) fn signed(&mut self, n: u32) -> i32 {
        let value = self.take(n);
        if n > 0 && value < 1 << (n - 1) { value - (1 << n) + 1 } else { value }
    }

    pub(super) fn symbol(&mut self, table: &Table) -> Result<u8, Problem> {
        if self.n_bits < 16 {
            self.refill();
        }
        let next = (self.buffer >> (self.n_bits - 16)) as u32 & 0xffff;
        let (length, symbol) = table.lookup[(next >> (16 - LOOKUP_BITS)) as usize];
        if length > 0 {
            self.n_bits -= u32::from(length);
            return Ok(symbol);
        }
        for length in LOOKUP_BITS + 1..=16 {
            let code = next >> (16 - length);
            if code < table.ends[length as usize] {
                let symbol = code as i32 + table.offsets[length as usize];
                self.n_bits -= length;
                return table.symbols.get(symbol as usize).copied().ok_or("a Huffman code without a symbol");
            }
        }
        Err("a Huffman code that is not in its table")
    }

    /// Drops the bits left of the current byte run and takes restart marker `n`.
    pub(super) fn restart(&mut self, n: u8) -> Result<(), Problem> {
        (self.buffer, self.n_bits, self.n_padding) = (0, 0, 0);
        // Any number of 0xff may stand before a marker.
        while self.data.get(self.at) == Some(&0xff) && self.data.get(self.at + 1) == Some(&0xff) {
            self.at += 1;
        }
        if self.data.get(self.at..self.at + 2) != Some(&[0xff, 0xd0 + n]) {
            return Err("a restart marker is missing");
        }
        self.at += 2;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_all_lengths() {
        // One code of each length: 0, 10, 110, ... and the symbol is the length.
        let symbols: Vec<u8> = (1..=16).collect();
        let table = Table::new(&[1; 16], &symbols).unwrap();
        let data = [0b0101_1011, 0b1011_1101, 0xfe, 0xff, 0x00, 0b1111_1110, 0xaa];
        let mut bits = Bits::new(&data, 0);
        let mut found = Vec::new();
        for _ in 0..8 {
            found.push(bits.symbol(&table).unwrap());
        }
        assert_eq!(found, [1, 2, 3, 4, 5, 9, 16, 2]);
        assert!(!bits.is_overrun());
        bits.take(16);
        assert!(bits.is_overrun());
    }

    #[test]
    fn too_many_codes() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert_eq!(Table::new(&counts, &[1, 2, 3]).err(), Some("a Huffman table has more codes than fit"));
    }

    #[test]
    fn markers_end_the_bits() {
        let mut bits = Bits::new(&[0xf0, 0xff, 0xff, 0xd3, 0x80], 0);
        assert_eq!(bits.take(4), 15);
        assert_eq!(bits.restart(3), Ok(()));
        assert!(bits.bit());
        assert_eq!(bits.restart(4), Err("a restart marker is missing"));
    }
}
