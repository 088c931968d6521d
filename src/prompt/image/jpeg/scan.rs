//! The entropy-coded data of one scan (ITU-T T.81, annexes F and G).
//!
//! Comes in: a scan's header, its tables and its data. Goes out: coefficients, handed block by block to whoever keeps
//! them. A scan that ends early or contradicts itself is an error: there are no half pictures.

use super::huffman::{Bits, Problem, Table};

/// Position in the block, row order, of the coefficient that is coded n-th.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
    14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
    46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Which coefficients a scan brings, and which of their bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// All of them, whole.
    Sequential,
    DcFirst {
        shift: u32,
    },
    DcRefine {
        shift: u32,
    },
    AcFirst {
        start: usize,
        end: usize,
        shift: u32,
    },
    AcRefine {
        start: usize,
        end: usize,
        shift: u32,
    },
}

/// One component of a scan: its place in the frame, the blocks it has in an MCU and its tables.
pub(super) struct ScanComponent<'a> {
    pub(super) index: usize,
    /// Blocks across and down in one MCU.
    pub(super) blocks: [usize; 2],
    pub(super) dc: Option<&'a Table>,
    pub(super) ac: Option<&'a Table>,
}

pub(super) struct Scan<'a> {
    pub(super) pass: Pass,
    pub(super) components: Vec<ScanComponent<'a>>,
    /// MCUs across and down.
    pub(super) mcus: [usize; 2],
    /// MCUs between restart markers; 0 for none.
    pub(super) restart_interval: usize,
}

/// What carries over from block to block.
#[derive(Default)]
struct State {
    dc: [i32; 4],
    /// Blocks still to come that bring nothing new.
    n_skipped: u32,
}

/// Where blocks are kept. Both calls take the component's place in the frame and the block's column and row.
pub(super) trait Blocks {
    /// The block as far as it is known: zeros at first.
    fn load(&mut self, component: usize, position: [usize; 2]) -> &mut [i16; 64];
    /// The block that was loaded last has been decoded.
    fn store(&mut self, component: usize, position: [usize; 2]);
}

impl Scan<'_> {
    /// Decodes the scan whose data begins at `at` into `blocks`. Returns where the data ends.
    pub(super) fn decode(&self, data: &[u8], at: usize, blocks: &mut impl Blocks) -> Result<usize, Problem> {
        let mut bits = Bits::new(data, at);
        let mut state = State::default();
        let mut n_done = 0;
        for mcu_y in 0..self.mcus[1] {
            for mcu_x in 0..self.mcus[0] {
                if self.restart_interval > 0 && n_done > 0 && n_done % self.restart_interval == 0 {
                    bits.restart(((n_done / self.restart_interval - 1) % 8) as u8)?;
                    state = State::default();
                }
                n_done += 1;
                for component in &self.components {
                    let [across, down] = component.blocks;
                    for i in 0..across * down {
                        let position = [mcu_x * across + i % across, mcu_y * down + i / across];
                        let block = blocks.load(component.index, position);
                        self.pass.decode(&mut bits, &mut state, component, block)?;
                        blocks.store(component.index, position);
                    }
                }
                if bits.is_overrun() {
                    return Err("the file ends before the picture does");
                }
            }
        }
        Ok(bits.position())
    }
}

impl Pass {
    fn decode(
        self,
        bits: &mut Bits,
        state: &mut State,
        component: &ScanComponent,
        block: &mut [i16; 64],
    ) -> Result<(), Problem> {
        let dc = || component.dc.ok_or("a scan names a DC table that was never given");
        let ac = || component.ac.ok_or("a scan names an AC table that was never given");
        match self {
            Pass::Sequential => {
                block[0] = next_dc(bits, dc()?, &mut state.dc[component.index])? as i16;
                sequential_ac(bits, ac()?, block)
            }
            Pass::DcFirst { shift } => {
                block[0] = (next_dc(bits, dc()?, &mut state.dc[component.index])? << shift) as i16;
                Ok(())
            }
            Pass::DcRefine { shift } => {
                block[0] |= i16::from(bits.bit()) << shift;
                Ok(())
            }
            Pass::AcFirst { start, end, shift } => {
                if state.n_skipped > 0 {
                    state.n_skipped -= 1;
                    return Ok(());
                }
                state.n_skipped = first_ac(bits, ac()?, block, start..=end, shift)?;
                Ok(())
            }
            Pass::AcRefine { start, end, shift } => {
                refine_ac(bits, ac()?, &mut state.n_skipped, block, start..=end, shift)
            }
        }
    }
}

/// DC values are coded as differences from the block before.
fn next_dc(bits: &mut Bits, table: &Table, dc: &mut i32) -> Result<i32, Problem> {
    let n = bits.symbol(table)?;
    if n > 15 {
        return Err("a DC difference of more than 15 bits");
    }
    *dc = dc.wrapping_add(bits.signed(u32::from(n)));
    Ok(*dc)
}

const BEYOND: Problem = "a coefficient beyond the end of its block";

fn sequential_ac(bits: &mut Bits, table: &Table, block: &mut [i16; 64]) -> Result<(), Problem> {
    let mut k = 1;
    while k < 64 {
        let symbol = bits.symbol(table)?;
        let (run, n) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        match (run, n) {
            (15, 0) => k += 16,
            (_, 0) => break,
            _ => {
                k += run;
                let position = *ZIGZAG.get(k).ok_or(BEYOND)?;
                block[usize::from(position)] = bits.signed(n) as i16;
                k += 1;
            }
        }
    }
    Ok(())
}

/// Returns how many following blocks bring nothing.
fn first_ac(
    bits: &mut Bits,
    table: &Table,
    block: &mut [i16; 64],
    band: std::ops::RangeInclusive<usize>,
    shift: u32,
) -> Result<u32, Problem> {
    let mut k = *band.start();
    while k <= *band.end() {
        let symbol = bits.symbol(table)?;
        let (run, n) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        match (run, n) {
            (15, 0) => k += 16,
            (_, 0) => return Ok(end_run(bits, run) - 1),
            _ => {
                k += run;
                if k > *band.end() {
                    return Err(BEYOND);
                }
                block[usize::from(ZIGZAG[k])] = (bits.signed(n) << shift) as i16;
                k += 1;
            }
        }
    }
    Ok(0)
}

/// Blocks, this one included, whose band ends here.
fn end_run(bits: &mut Bits, n: usize) -> u32 {
    (1 << n) + bits.take(n as u32) as u32
}

/// Adds one bit to the coefficients of a band: a correction bit for each that is not zero yet, and new ones between.
fn refine_ac(
    bits: &mut Bits,
    table: &Table,
    n_skipped: &mut u32,
    block: &mut [i16; 64],
    band: std::ops::RangeInclusive<usize>,
    shift: u32,
) -> Result<(), Problem> {
    let one = 1i16 << shift;
    let mut k = *band.start();
    while *n_skipped == 0 && k <= *band.end() {
        let symbol = bits.symbol(table)?;
        let (mut run, n) = (usize::from(symbol >> 4), symbol & 15);
        let new = match n {
            0 if run < 15 => {
                *n_skipped = end_run(bits, run);
                break;
            }
            0 => None,
            1 => Some(if bits.bit() { one } else { -one }),
            _ => return Err("a refined coefficient of more than one bit"),
        };
        // Pass over `run` coefficients that are still zero; the next zero takes the new value.
        loop {
            if k > *band.end() {
                if new.is_some() {
                    return Err(BEYOND);
                }
                break;
            }
            let coefficient = &mut block[usize::from(ZIGZAG[k])];
            k += 1;
            if *coefficient != 0 {
                refine(bits, coefficient, one);
            } else if run > 0 {
                run -= 1;
            } else {
                *coefficient = new.unwrap_or(0);
                break;
            }
        }
    }
    if *n_skipped > 0 {
        for &position in &ZIGZAG[k..=*band.end()] {
            let coefficient = &mut block[usize::from(position)];
            if *coefficient != 0 {
                refine(bits, coefficient, one);
            }
        }
        *n_skipped -= 1;
    }
    Ok(())
}

fn refine(bits: &mut Bits, coefficient: &mut i16, one: i16) {
    if bits.bit() && *coefficient & one == 0 {
        *coefficient = coefficient.wrapping_add(if *coefficient > 0 { one } else { -one });
    }
}
