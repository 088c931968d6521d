//! The terminal door: command lines in; answers on standard output, everything else on standard error.
//!
//! A door holds no loop over tokens: it submits requests to the engine and shows what happens. Exit status: 0 done, 1
//! failed, 2 wrong usage, 130 interrupted; a reader that closes our output early has had enough, which is 0.

mod bar;
mod bench;
mod cache;
mod chat;
mod commands;
mod convert;
mod devices;
mod embed;
mod embed_file;
mod figures;
mod flags;
mod follow;
mod imatrix;
mod inspect;
mod interrupt;
mod json;
mod lines;
mod pictures;
mod plan;
mod progress;
mod quantity;
mod quantize;
mod receipt;
mod run;
mod screen;
mod serve;
mod state;
mod verify;
mod version;

use crate::error::{Error, Result};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use std::process::ExitCode;

/// Answers questions about pictures on the computer you already have.
#[derive(Parser)]
#[command(name = "owlet", version = version::line())]
#[command(arg_required_else_help = true, override_usage = "owlet <COMMAND>")]
struct Owlet {
    /// List the GPUs that models can go to
    #[arg(long, hide = !ggml::Device::ARE_BUILT_IN)]
    list_devices: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    Run(run::Run),
    Chat(chat::Chat),
    Serve(serve::Serve),
    Convert(convert::Convert),
    Embed(embed::Embed),
    Imatrix(imatrix::Imatrix),
    Inspect(inspect::Inspect),
    Quantize(quantize::Quantize),
    Verify(verify::Verify),
    Bench(bench::Bench),
    Cache(cache::Cache),
}

/// Interrupted by Ctrl-C, as shells count it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// The whole program.
pub fn main() -> ExitCode {
    let owlet = Owlet::parse();
    let done = start().and_then(|()| match owlet.command.filter(|_| !owlet.list_devices) {
        None => devices::list(),
        Some(Command::Run(run)) => run.run(),
        Some(Command::Chat(chat)) => chat.run(),
        Some(Command::Serve(serve)) => serve.run(),
        Some(Command::Convert(convert)) => convert.run(),
        Some(Command::Embed(embed)) => embed.run(),
        Some(Command::Imatrix(imatrix)) => imatrix.run(),
        Some(Command::Inspect(inspect)) => inspect.run(),
        Some(Command::Quantize(quantize)) => quantize.run(),
        Some(Command::Verify(verify)) => verify.run(),
        Some(Command::Bench(bench)) => bench.run(),
        Some(Command::Cache(cache)) => cache.run(),
    });
    match done {
        Ok(exit) => exit,
        Err(error) if screen::is_closed_output(&error) => ExitCode::SUCCESS,
        Err(Error::Cancelled) => {
            screen::note("owlet: cancelled");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            screen::note(&format!("owlet: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What has to hold before any command.
fn start() -> Result<()> {
    ggml::check_cpu()?;
    owlet_format::report_lost_maps()
        .map_err(|error| Error::Backend(format!("handler for lost files: {error}")))?;
    interrupt::install()
}

/// Ends the program as clap does when an argument of `command` is wrong.
fn wrong_usage(command: &str, problem: impl std::fmt::Display) -> ! {
    let mut owlet = Owlet::command();
    owlet.build();
    let command = owlet.find_subcommand_mut(command);
    let error = command.map(|command| command.error(ErrorKind::ValueValidation, &problem));
    error.unwrap_or_else(|| Owlet::command().error(ErrorKind::ValueValidation, &problem)).exit()
}
