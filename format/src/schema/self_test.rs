//! Room in a file for what its model computes from a picture and a prompt that every program can make: some values of the
//! picture's embedding and the largest logits behind the prompt, with how far off another computer may be.
//!
//! The room has one length, so that recording moves no tensor and changes no checksum. It is empty, all zeros, when a
//! file is written, and its first 32 bytes stay zero until everything behind them is on the disk: then they become the
//! seal of the rest and of the header. So a recording that is cut short leaves an empty room or a broken seal, never
//! values that were not computed.

use sha2::{Digest, Sha256};

use crate::container::InPlace;
use crate::{Gguf, Metadata, Result};

/// The key of the room: an array of u8.
pub const SELF_TEST_KEY: &str = "owlet.self_test";
const ROOM_BYTES: usize = 1024;
const SEAL_BYTES: usize = 32;
/// How the rest is laid out.
const VERSION: u32 = 1;
const LOGIT_BYTES: usize = 8;
const TEXT_AT: usize = SEAL_BYTES + 24 + SelfTest::MAX_EMBEDDING * 4 + SelfTest::MAX_LOGITS * LOGIT_BYTES;

/// What a model computed when it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct SelfTest {
    /// The program, and its arithmetic.
    pub recorded_by: String,
    /// Positions of the prompt, the picture's among them.
    pub n_positions: u32,
    /// Of the picture's embedding; none without a vision half.
    pub embedding: Vec<f32>,
    /// How far from it a value may be.
    pub embedding_bound: f32,
    /// Tokens with their logits, the largest first; none without a text half.
    pub logits: Vec<(u32, f32)>,
    pub logits_bound: f32,
}

/// What a file has of it.
#[derive(Clone, Debug, PartialEq)]
pub enum SelfTestRoom {
    /// The file was written before there was one.
    Absent,
    Empty,
    /// The seal is not that of what is there and of the header.
    Broken,
    Recorded(SelfTest),
}

impl SelfTest {
    pub const MAX_EMBEDDING: usize = 64;
    pub const MAX_LOGITS: usize = 16;

    /// Keeps the room free in a file that is to be written.
    pub fn reserve(metadata: &mut Metadata) {
        metadata.put(SELF_TEST_KEY, vec![0u8; ROOM_BYTES]);
    }

    /// # Errors
    /// Where the key has another type or length, or what was sealed there is no self-test.
    pub fn read(file: &Gguf) -> Result<SelfTestRoom> {
        let metadata = file.metadata();
        if metadata.get(SELF_TEST_KEY).is_none() {
            return Ok(SelfTestRoom::Absent);
        }
        let bytes = metadata.u8s(SELF_TEST_KEY)?;
        let problem = || format!("expected {ROOM_BYTES} bytes, found {}", bytes.len());
        let room: &[u8; ROOM_BYTES] =
            bytes.try_into().map_err(|_| metadata.wrong(SELF_TEST_KEY, problem()))?;
        let (seal, content) = room.split_at(SEAL_BYTES);
        if seal.iter().all(|byte| *byte == 0) {
            return Ok(SelfTestRoom::Empty);
        }
        if seal != seal_of(content, &file.identity()) {
            return Ok(SelfTestRoom::Broken);
        }
        let problem =
            "expected a self-test behind its seal, found none that this program reads: upgrade owlet";
        Self::decode(room).map(SelfTestRoom::Recorded).ok_or_else(|| metadata.wrong(SELF_TEST_KEY, problem))
    }

    /// Records this in the room of `file`, which was opened from a path; whatever happens meanwhile, the model stays as it is.
    ///
    /// # Errors
    /// Where the file has no room, or can't be written.
    ///
    /// # Panics
    /// Where there is more than the room can hold.
    pub fn record(&self, file: Gguf) -> Result<()> {
        let steps = self.steps(&file.identity());
        let mut place = InPlace::open(file, SELF_TEST_KEY)?;
        steps.iter().try_for_each(|(start, bytes)| place.write(*start, bytes))
    }

    /// What is written to which place of the room, each when the one before is on the disk.
    fn steps(&self, identity: &[u8; 32]) -> [(u64, Vec<u8>); 3] {
        let content = self.encode().split_off(SEAL_BYTES);
        let seal = seal_of(&content, identity).to_vec();
        [(0, vec![0; SEAL_BYTES]), (SEAL_BYTES as u64, content), (0, seal)]
    }

    /// The room, its seal still zero.
    fn encode(&self) -> Vec<u8> {
        assert!(self.embedding.len() <= Self::MAX_EMBEDDING && self.logits.len() <= Self::MAX_LOGITS);
        let mut bytes = vec![0; SEAL_BYTES];
        let numbers = [VERSION, self.n_positions, self.embedding.len() as u32, self.logits.len() as u32];
        numbers.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
        let mut values = [0.0; 2 + Self::MAX_EMBEDDING];
        values[..2].copy_from_slice(&[self.embedding_bound, self.logits_bound]);
        values[2..].iter_mut().zip(&self.embedding).for_each(|(to, value)| *to = *value);
        values.iter().for_each(|value: &f32| bytes.extend(value.to_le_bytes()));
        for at in 0..Self::MAX_LOGITS {
            let (token, logit) = self.logits.get(at).copied().unwrap_or_default();
            bytes.extend(token.to_le_bytes());
            bytes.extend(logit.to_le_bytes());
        }
        let mut n_text = self.recorded_by.len().min(ROOM_BYTES - TEXT_AT);
        while !self.recorded_by.is_char_boundary(n_text) {
            n_text -= 1;
        }
        bytes.extend(&self.recorded_by.as_bytes()[..n_text]);
        bytes.resize(ROOM_BYTES, 0);
        bytes
    }

    /// `None` for what [`SelfTest::encode`] can't have made of finite values.
    fn decode(room: &[u8; ROOM_BYTES]) -> Option<Self> {
        let (words, _) = room[SEAL_BYTES..TEXT_AT].as_chunks::<4>();
        let number = |at: usize| words.get(at).map(|word| u32::from_le_bytes(*word));
        let value = |at: usize| number(at).map(f32::from_bits).filter(|value| value.is_finite());
        let [version, n_positions, n_embedding, n_logits] = [number(0)?, number(1)?, number(2)?, number(3)?];
        let (n_embedding, n_logits) = (n_embedding as usize, n_logits as usize);
        if version != VERSION || n_embedding > Self::MAX_EMBEDDING || n_logits > Self::MAX_LOGITS {
            return None;
        }
        let logits_at = 6 + Self::MAX_EMBEDDING;
        let text = room[TEXT_AT..].split(|byte| *byte == 0).next()?;
        Some(Self {
            recorded_by: std::str::from_utf8(text).ok()?.to_owned(),
            n_positions,
            embedding: (0..n_embedding).map(|at| value(6 + at)).collect::<Option<_>>()?,
            embedding_bound: value(4).filter(|bound| *bound >= 0.0)?,
            logits: (0..n_logits)
                .map(|at| number(logits_at + 2 * at).zip(value(logits_at + 2 * at + 1)))
                .collect::<Option<_>>()?,
            logits_bound: value(5).filter(|bound| *bound >= 0.0)?,
        })
    }
}

impl Gguf {
    /// SHA-256 of the header, which holds the checksum of every tensor, as it is while no self-test is recorded: which model
    /// this is, with its weights.
    pub fn identity(&self) -> [u8; 32] {
        self.header_digest_without(SELF_TEST_KEY)
    }
}

fn seal_of(content: &[u8], identity: &[u8; 32]) -> [u8; SEAL_BYTES] {
    Sha256::new().chain_update(identity).chain_update(content).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Encoder;

    /// Stopped between any two bytes that are written.
    #[test]
    fn a_recording_that_is_cut_short_is_never_taken_for_one() {
        let mut metadata = Metadata::new("tiny.gguf");
        SelfTest::reserve(&mut metadata);
        let empty = Encoder::new(std::io::Cursor::new(Vec::new()), &metadata, &[]).unwrap().finish().unwrap();
        let mut bytes = empty.into_inner();
        let open = |bytes: &[u8]| Gguf::from_bytes(bytes.to_vec().into(), "tiny.gguf").unwrap();
        let (at, identity) =
            (open(&bytes).array_place(SELF_TEST_KEY).unwrap().start, open(&bytes).identity());
        let record = |n_positions| SelfTest {
            recorded_by: "owlet".into(),
            n_positions,
            embedding: vec![n_positions as f32; 64],
            embedding_bound: 0.25,
            logits: vec![(n_positions, 1.5); 16],
            logits_bound: 0.5,
        };
        // into an empty room, and over another record
        let mut known = vec![SelfTestRoom::Empty];
        for n_positions in [7, 8] {
            let before = known.last().cloned().unwrap();
            let after = SelfTestRoom::Recorded(record(n_positions));
            for (start, step) in record(n_positions).steps(&identity) {
                for (place, byte) in (at + start as usize..).zip(step) {
                    bytes[place] = byte;
                    let found = SelfTest::read(&open(&bytes)).unwrap();
                    let is_known =
                        [&before, &after, &SelfTestRoom::Empty, &SelfTestRoom::Broken].contains(&&found);
                    assert!(is_known, "{found:?}");
                    assert_eq!(open(&bytes).identity(), identity);
                }
            }
            assert_eq!(SelfTest::read(&open(&bytes)).unwrap(), after);
            known.push(after);
        }
    }
}
