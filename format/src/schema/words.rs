//! Enums that a file stores as a word. One row a variant gives the type, its word and the way back,
//! so that a word can be neither written nor read in two spellings.

use crate::error::Shown;
use crate::{Metadata, Result};

/// An enum that [`words`] declared.
pub(crate) trait Word: Sized {
    const WORDS: &'static [&'static str];

    fn from_word(word: &str) -> Option<Self>;
}

/// # Errors
/// Where `key` is missing or holds no word of this enum.
pub(crate) fn read<T: Word>(metadata: &Metadata, key: &str) -> Result<T> {
    let word = metadata.str(key)?;
    T::from_word(word).ok_or_else(|| {
        metadata.wrong(key, format!("expected {}, found {}", T::WORDS.join(" or "), Shown(word)))
    })
}

/// Declares an enum with `ALL`, `word` and `from_word`.
macro_rules! words {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$row:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$row])* $variant,)+ }

        impl $name {
            /// Every variant, in the order in which messages list them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word that stands in a file.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The variant that `word` stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl $crate::schema::words::Word for $name {
            const WORDS: &'static [&'static str] = &[$($word,)+];

            fn from_word(word: &str) -> Option<Self> {
                Self::from_word(word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

pub(crate) use words;
