//! The tests of a bench, by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Test {
    /// A 12-megapixel JPEG to pixels.
    Picture,
    /// Those pixels to what the tower takes.
    Preprocess,
    /// A whole picture through the tower: patches and all blocks.
    Vision,
    /// The tower's rows to rows of the text half.
    Projector,
    /// So many tokens of a prompt, into an empty context.
    Prefill256,
    Prefill512,
    /// A token of an answer, at the beginning of the context.
    Decode,
    /// A token of an answer, behind 2,048 others.
    Decode2048,
    /// From opening the file to being ready for a question.
    Startup,
    /// The most memory that was taken at once, mapped weights included.
    Memory,
}

impl Test {
    /// In the order in which they run.
    pub const ALL: [Test; 10] = [
        Test::Picture,
        Test::Preprocess,
        Test::Vision,
        Test::Projector,
        Test::Prefill256,
        Test::Prefill512,
        Test::Decode,
        Test::Decode2048,
        Test::Startup,
        Test::Memory,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Test::Picture => "picture",
            Test::Preprocess => "preprocess",
            Test::Vision => "vision",
            Test::Projector => "projector",
            Test::Prefill256 => "prefill256",
            Test::Prefill512 => "prefill512",
            Test::Decode => "decode",
            Test::Decode2048 => "decode2048",
            Test::Startup => "startup",
            Test::Memory => "memory",
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Test {
    type Err = Error;

    fn from_str(word: &str) -> Result<Test, Error> {
        Test::ALL.into_iter().find(|test| test.name() == word).ok_or_else(|| {
            let names = Test::ALL.map(Test::name).join(", ");
            Error::request(format_args!("test {word:?}: expected one of {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_and_people_use_the_same_names() {
        for test in Test::ALL {
            assert_eq!(serde_json::to_string(&test).unwrap(), format!("\"{test}\""));
            assert_eq!(test.name().parse::<Test>().unwrap(), test);
        }
        let error = "prefill1".parse::<Test>().unwrap_err().to_string();
        assert!(
            error.starts_with("test \"prefill1\": expected one of picture, preprocess, vision, "),
            "{error}"
        );
    }
}
