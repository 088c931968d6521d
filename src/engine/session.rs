//! What the decoder's cache holds of a conversation, and how much of the next prompt that spares.
//!
//! Each turn is rendered and tokenized anew; positions are compared one by one. A picture's rows compare by the picture's
//! key, so two conversations about two pictures never share them. The decoder gives the same bits however a prompt was
//! cut, so reuse changes no answer.

use super::image_cache::ImageKey;
use crate::error::{Error, Result};
use crate::prompt::Chunk;
use crate::token::TokenId;

/// What stands at one position of the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    Token(TokenId),
    /// Row `row` of a picture's embedding.
    Image {
        key: ImageKey,
        row: u32,
    },
}

/// The positions of `chunks`, whose pictures have the keys `keys`.
///
/// # Errors
/// `Request` where a message names a picture that the request does not bring.
pub fn cells(chunks: &[Chunk], keys: &[ImageKey]) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for chunk in chunks {
        match chunk {
            Chunk::Tokens(ids) => cells.extend(ids.iter().map(|&id| Cell::Token(id))),
            Chunk::Image { index, n_tokens } => {
                let key = *keys.get(*index).ok_or_else(|| {
                    Error::request(format!("picture {}: the request brings {}", index + 1, keys.len()))
                })?;
                cells.extend((0..*n_tokens as u32).map(|row| Cell::Image { key, row }));
            }
        }
    }
    Ok(cells)
}

/// How many positions both begin with.
pub fn n_common(held: &[Cell], wanted: &[Cell]) -> usize {
    held.iter().zip(wanted).take_while(|(held, wanted)| held == wanted).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Pixels;

    fn key(byte: u8) -> ImageKey {
        ImageKey::new(&Pixels { size_px: 1, rgb: vec![byte; 3].into(), planes: vec![0.0; 3] }, &[0; 32])
    }

    /// Tokens, a picture of two rows, tokens.
    fn prompt(before: &[TokenId], image: u8, after: &[TokenId]) -> Vec<Cell> {
        let tokens = |ids: &[TokenId]| Chunk::Tokens(ids.to_vec());
        let chunks = [tokens(before), Chunk::Image { index: 0, n_tokens: 2 }, tokens(after)];
        cells(&chunks, &[key(image)]).unwrap()
    }

    #[test]
    fn the_common_beginning_is_reused() {
        let held = prompt(&[1, 2], 7, &[3, 4]);
        let cases = [
            ("nothing held", vec![], held.clone(), 0),
            ("the same again", held.clone(), held.clone(), 6),
            ("a longer one", held.clone(), prompt(&[1, 2], 7, &[3, 4, 5]), 6),
            ("a shorter one", held.clone(), prompt(&[1, 2], 7, &[3]), 5),
            ("another token before the picture", held.clone(), prompt(&[1, 9], 7, &[3, 4]), 1),
            ("another picture", held.clone(), prompt(&[1, 2], 8, &[3, 4]), 2),
            ("another ending", held.clone(), prompt(&[1, 2], 7, &[3, 9, 9]), 5),
            ("an empty prompt", held, vec![], 0),
        ];
        for (name, held, prompt, expected) in cases {
            assert_eq!(n_common(&held, &prompt), expected, "{name}");
        }
    }

    #[test]
    fn a_picture_that_is_not_there() {
        let error = cells(&[Chunk::Image { index: 1, n_tokens: 2 }], &[key(0)]).unwrap_err();
        assert_eq!(error.to_string(), "picture 2: the request brings 1");
    }
}
