//! `owlet pull`: a model from the hub onto the shelf, in the default types.

use super::models::Shelf;
use super::screen::note;
use super::source::{HubFlags, Source, Sources};
use super::writing::carry_out;
use super::wrong_usage;
use crate::error::{Error, Result};
use ggml::Cancel;
use owlet_convert::Options;
use owlet_convert::hub::{Environment, ModelName};
use std::path::PathBuf;
use std::process::ExitCode;

/// Fetch a model from the hub and make it one of `owlet models`
///
/// Converts while downloading, as `owlet convert ORG/NAME --stream` does with its default types; the disk has to hold the result
/// only. Says size, licence and room first, and asks. What was interrupted is gone on with by the same command. The first
/// model that is pulled becomes the default.
#[derive(clap::Args)]
pub struct Pull {
    /// The model's name at the hub, ORG/NAME
    #[arg(value_name = "NAME")]
    name: String,
    /// Name that it gets here [default: the part behind the slash]
    #[arg(long = "as", value_name = "NAME")]
    own_name: Option<String>,
    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
    /// Directory or name at the hub of its vision tower [default: what its config.json names, where it has none of its own]
    #[arg(long, value_name = "DIR|ORG/NAME")]
    vision_tower: Option<PathBuf>,
    /// Go on without asking
    #[arg(short, long)]
    yes: bool,
    /// Print errors and nothing else
    #[arg(short, long)]
    quiet: bool,
}

impl Pull {
    pub fn run(self) -> Result<ExitCode> {
        let endpoint = Environment::of_process()?.endpoint();
        let Some(name) = ModelName::parse_at(&self.name, &endpoint) else {
            wrong_usage("pull", format!("expected a model's name at the hub, ORG/NAME, found {}", self.name));
        };
        let shelf = Shelf::open()?;
        let own_name = self.own_name.unwrap_or_else(|| name.model().to_string());
        let path = shelf.path(&own_name)?;
        if path.exists() {
            let what =
                format!("there already; `owlet models rm {own_name}` makes room, --as gives another name");
            return Err(Error::request(format!("{own_name}: {what}")));
        }
        shelf.make()?;
        owlet_convert::tidy(&path);
        let hub = HubFlags::streaming(self.revision, self.yes);
        let vision_tower = self.vision_tower.as_deref().map(Source::of).transpose()?;
        let (sources, cancel) = (Sources { checkpoint: Source::Hub(name), vision_tower }, Cancel::new());
        let planned = hub.plan(sources, Options::default(), self.quiet, &cancel)?;
        let plan = hub.ready(planned, &path, self.quiet)?;
        let done = carry_out(&cancel, self.quiet, |bar, cancel| plan.run(&path, bar, cancel))?;
        if shelf.default_name().is_none() {
            shelf.make_default(&own_name)?;
            if !self.quiet {
                note(&format!("{own_name} is the default model now: it answers where -m names no file"));
            }
        }
        Ok(done)
    }
}
