//! The terminal door: command lines in; answers on standard output, everything else on standard error.
//!
//! A door holds no loop over tokens: it submits requests to the engine and shows what happens. Exit status: 0 done, 1
//! failed, 2 wrong usage, 3 done in part, 130 interrupted; a reader that closes our output early has had enough, which is 0.

mod backends;
mod bar;
mod bench;
mod cache;
mod caption;
mod chat;
mod clipboard;
mod constraint;
mod convert;
mod devices;
mod disk;
mod doctor;
mod embed;
mod embed_file;
mod export;
mod figures;
mod flags;
mod follow;
mod imatrix;
mod inspect;
mod interrupt;
mod json;
mod manual;
mod mentions;
mod models;
mod pair;
mod pictures;
mod plan;
mod preview;
mod progress;
mod pull;
mod quantity;
mod quantize;
mod receipt;
#[cfg(feature = "rpc")]
mod rpc_worker;
mod run;
mod screen;
mod serve;
mod settings;
mod source;
mod state;
mod terminal;
mod types;
mod verify;
mod version;
mod web;
mod writing;

use crate::error::{Error, Result};
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};
use settings::Settings;
use std::path::PathBuf;
use std::process::ExitCode;

/// Answers questions about pictures on the computer you already have.
#[derive(Parser)]
#[command(name = "owlet", version = version::line())]
#[command(arg_required_else_help = true, override_usage = "owlet <COMMAND>", after_help = EXIT_STATUS)]
struct Owlet {
    /// List the GPUs that models can go to
    #[arg(long, hide = !ggml::Device::GPUS_ARE_BUILT_IN)]
    list_devices: bool,
    /// Directory of the backends for GPUs
    #[arg(long, value_name = "DIR", requires = "list_devices", hide = !ggml::Device::CAN_BE_LOADED)]
    backends: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_STATUS: &str = "\
Exit status:
    0  done
    1  failed
    2  wrong usage
    3  done in part: a picture failed, or an answer was ended before it was complete
  130  interrupted by Ctrl-C";

#[derive(clap::Subcommand)]
enum Command {
    Run(run::Run),
    Chat(chat::Chat),
    Caption(caption::Caption),
    Serve(serve::Serve),
    Convert(convert::Convert),
    Embed(embed::Embed),
    Export(export::Export),
    Imatrix(imatrix::Imatrix),
    Inspect(inspect::Inspect),
    Models(models::Models),
    Pull(pull::Pull),
    Quantize(quantize::Quantize),
    Verify(verify::Verify),
    Bench(bench::Bench),
    Cache(cache::Cache),
    #[cfg(feature = "rpc")]
    RpcWorker(rpc_worker::RpcWorker),
    Doctor(doctor::Doctor),
    Completions(manual::Completions),
    #[command(hide = true)]
    Man(manual::Man),
}

/// As clap ends the program.
const WRONG_USAGE: u8 = 2;

/// Not all was done that was asked for, and what was done is there.
const IN_PART: u8 = 3;

/// Interrupted by Ctrl-C, as shells count it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// The whole program.
pub fn main() -> ExitCode {
    let owlet = match arguments() {
        Ok(owlet) => owlet,
        Err(error) => {
            screen::note(&format!("owlet: {error}"));
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let done = start().and_then(|()| match owlet.command.filter(|_| !owlet.list_devices) {
        None => devices::list(owlet.backends.as_deref()),
        Some(Command::Run(run)) => run.run(),
        Some(Command::Chat(chat)) => chat.run(),
        Some(Command::Caption(caption)) => caption.run(),
        Some(Command::Serve(serve)) => serve.run(),
        Some(Command::Convert(convert)) => convert.run(),
        Some(Command::Embed(embed)) => embed.run(),
        Some(Command::Export(export)) => export.run(),
        Some(Command::Imatrix(imatrix)) => imatrix.run(),
        Some(Command::Inspect(inspect)) => inspect.run(),
        Some(Command::Models(models)) => models.run(),
        Some(Command::Pull(pull)) => pull.run(),
        Some(Command::Quantize(quantize)) => quantize.run(),
        Some(Command::Verify(verify)) => verify.run(),
        Some(Command::Bench(bench)) => bench.run(),
        Some(Command::Cache(cache)) => cache.run(),
        #[cfg(feature = "rpc")]
        Some(Command::RpcWorker(worker)) => worker.run(),
        Some(Command::Doctor(doctor)) => doctor.run(),
        Some(Command::Completions(completions)) => completions.run(),
        Some(Command::Man(man)) => man.run(),
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

/// The command line over the settings. Ends the program where clap has something to say.
///
/// # Errors
/// What is wrong with the settings, where they matter.
fn arguments() -> Result<Owlet> {
    let program = Owlet::command();
    let settings = match Settings::read(&program) {
        Err(error) if Settings::matter(&program) => return Err(error),
        settings => settings.unwrap_or_default(),
    };
    let matches = settings.apply(program).get_matches();
    Ok(Owlet::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()))
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
