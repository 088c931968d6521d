//! What a JPEG's frame header announces, and the blocks and samples that fill it.
//!
//! Comes in: sizes and sampling factors, then blocks from scans. Goes out: one plane of samples a component. Planes and
//! coefficients are kept in bands of eight rows, so that a progressive picture's coefficients (two bytes a sample) go as
//! its samples (one byte) come, and never both stand in full.

use super::huffman::Problem;
use super::idct;
use super::scan::Blocks;

pub(super) struct Component {
    pub(super) id: u8,
    /// Sampling factors: blocks across and down in an interleaved MCU.
    pub(super) sampling: [usize; 2],
    pub(super) quant_index: usize,
    /// The table that was in force when the component's first scan began.
    pub(super) quant: Option<[u16; 64]>,
    /// Samples across and down, without padding.
    pub(super) size: [usize; 2],
    /// Blocks across and down as stored: padded to whole MCUs.
    stored: [usize; 2],
    coefficients: Vec<Vec<[i16; 64]>>,
    bands: Vec<Vec<u8>>,
}

impl Component {
    /// Blocks across and down that hold samples of the picture.
    pub(super) fn blocks(&self) -> [usize; 2] {
        self.size.map(|n| n.div_ceil(8))
    }

    /// Row `y` of the plane.
    pub(super) fn row(&self, y: usize) -> &[u8] {
        let n_row = self.stored[0] * 8;
        let start = y % 8 * n_row;
        &self.bands[y / 8][start..start + self.size[0]]
    }

    fn empty_band(&self) -> Vec<u8> {
        vec![0; self.stored[0] * 64]
    }

    fn quant(&self) -> [u16; 64] {
        self.quant.unwrap_or([1; 64])
    }
}

pub(super) struct Frame {
    /// Width and height of the picture.
    pub(super) size: [usize; 2],
    pub(super) is_progressive: bool,
    /// The largest sampling factors, across and down.
    pub(super) max_sampling: [usize; 2],
    pub(super) components: Vec<Component>,
    scratch: [i16; 64],
}

impl Frame {
    /// `parts` has id, sampling factors and quantization table of each component.
    pub(super) fn new(
        size: [usize; 2],
        is_progressive: bool,
        parts: &[(u8, [usize; 2], usize)],
    ) -> Result<Frame, Problem> {
        let mut max_sampling = [1; 2];
        for &(_, sampling, quant_index) in parts {
            if sampling.iter().any(|factor| !(1..=4).contains(factor)) || quant_index > 3 {
                return Err("a component with impossible sampling factors or table");
            }
            max_sampling = [max_sampling[0].max(sampling[0]), max_sampling[1].max(sampling[1])];
        }
        let mut frame =
            Frame { size, is_progressive, max_sampling, components: Vec::new(), scratch: [0; 64] };
        for &(id, sampling, quant_index) in parts {
            let samples = [0, 1].map(|i| (size[i] * sampling[i]).div_ceil(max_sampling[i]));
            let stored = [0, 1].map(|i| frame.mcus()[i] * sampling[i]);
            let (coefficients, bands) = (Vec::new(), Vec::new());
            let component = Component {
                id,
                sampling,
                quant_index,
                quant: None,
                size: samples,
                stored,
                coefficients,
                bands,
            };
            frame.components.push(component);
        }
        Ok(frame)
    }

    /// MCUs across and down of an interleaved scan.
    pub(super) fn mcus(&self) -> [usize; 2] {
        [0, 1].map(|i| self.size[i].div_ceil(8 * self.max_sampling[i]))
    }

    /// Makes room for component `index`; called when its first scan begins.
    pub(super) fn allocate(&mut self, index: usize) {
        let component = &mut self.components[index];
        let [across, down] = component.stored;
        if self.is_progressive {
            component.coefficients = (0..down).map(|_| vec![[0; 64]; across]).collect();
        } else {
            component.bands = (0..down).map(|_| component.empty_band()).collect();
        }
    }

    /// Whether every component has had a scan.
    pub(super) fn is_complete(&self) -> bool {
        self.components.iter().all(|component| component.quant.is_some())
    }

    /// Turns what is still coefficients into samples.
    pub(super) fn finish(&mut self) {
        for component in &mut self.components {
            let quant = component.quant();
            for blocks in std::mem::take(&mut component.coefficients) {
                let mut band = component.empty_band();
                for (column, block) in blocks.iter().enumerate() {
                    put(&mut band, column, &idct::inverse(block, &quant));
                }
                component.bands.push(band);
            }
        }
    }
}

impl Blocks for Frame {
    fn load(&mut self, component: usize, [column, row]: [usize; 2]) -> &mut [i16; 64] {
        if self.is_progressive {
            return &mut self.components[component].coefficients[row][column];
        }
        self.scratch = [0; 64];
        &mut self.scratch
    }

    fn store(&mut self, component: usize, [column, row]: [usize; 2]) {
        if !self.is_progressive {
            let component = &mut self.components[component];
            let samples = idct::inverse(&self.scratch, &component.quant());
            put(&mut component.bands[row], column, &samples);
        }
    }
}

fn put(band: &mut [u8], column: usize, samples: &[u8; 64]) {
    let n_row = band.len() / 8;
    for (line, samples) in band.chunks_exact_mut(n_row).zip(samples.chunks_exact(8)) {
        line[column * 8..column * 8 + 8].copy_from_slice(samples);
    }
}
