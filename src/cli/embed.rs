//! `owlet embed`: pictures in, a file of the tower's features out.

use super::devices::DeviceFlags;
use super::embed_file::{FeatureFile, Format};
use super::flags::n_threads;
use super::interrupt::Interruptible;
use super::models;
use super::pictures;
use super::progress::{Progress, Unit};
use super::screen::note;
use super::writing::WriteFlags;
use super::wrong_usage;
use crate::engine::{FeatureExtractor, Setup};
use crate::error::{Error, Result};
use crate::prompt::preprocess;
use ggml::Cancel;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write what the vision tower makes of pictures to a file
///
/// The ending of OUT says as what. safetensors: last_hidden_state (pictures, positions, width) and pooler_output (pictures, width).
/// npy: last_hidden_state alone, or pooler_output with --pooled. json: both by picture. Positions are the class token and the
/// patches row by row; pooler_output is the class token's row. Any model file with a vision tower will do: one of a tower alone
/// runs all its blocks, one of a whole model those that the model uses.
#[derive(clap::Args)]
pub struct Embed {
    /// Pictures (JPEG, PNG, WebP, GIF, BMP), `-` for standard input
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// File to write: .npy, .safetensors or .json
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Model file [default: that of `owlet models`]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Leave last_hidden_state out
    #[arg(long)]
    pooled: bool,
    #[command(flatten)]
    write: WriteFlags,
    #[command(flatten)]
    devices: DeviceFlags,
}

impl Embed {
    pub fn run(self) -> Result<ExitCode> {
        let format = Format::of(&self.output).unwrap_or_else(|problem| wrong_usage("embed", problem));
        if self.images.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
            wrong_usage("embed", "- may be given once: there is one standard input");
        }
        self.write.refuse_existing([&self.output])?;
        let setup = self.devices.apply_to_tower(Setup::cpu(n_threads(self.write.threads)))?;
        let mut extractor =
            FeatureExtractor::open(models::chosen(self.model.as_deref())?.as_deref(), &setup)?;
        let shape = extractor.shape;
        if self.pooled && !shape.has_class {
            return Err(Error::unsupported(&extractor.name, "--pooled: the tower has no class token"));
        }
        let n_images = self.images.len();
        let mut file = FeatureFile::create(&self.output, format, self.pooled, shape, n_images)?;
        let cancel = Cancel::new();
        let _interruptible = Interruptible::by(&cancel);
        let mut progress = Progress::new(Unit::Steps, self.write.quiet);
        for (i, path) in self.images.iter().enumerate() {
            let found = pictures::find(path)?;
            let pixels = preprocess(&found.picture, &extractor.image)?;
            let which = if n_images > 1 { format!(" {} of {n_images}", i + 1) } else { String::new() };
            let rows = extractor.encode(&pixels, &cancel, &mut |step| {
                progress.show(&format!("looking at picture{which}"), step.done.into(), step.total.into());
            })?;
            file.add(&found.source, &rows)?;
        }
        progress.clear();
        file.finish()?;
        if !self.write.quiet {
            let pictures = if n_images == 1 { "picture" } else { "pictures" };
            let (n_positions, n_embd) = (shape.n_positions, shape.n_embd);
            let rows = if self.pooled { String::new() } else { format!("{n_positions} rows of ") };
            note(&format!(
                "{}: {n_images} {pictures}, {rows}{n_embd} values each, by {}",
                self.output.display(),
                extractor.name
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}
