//! Layers in other processes: two workers on loopback say what the CPU says, and one that dies costs an answer, not the
//! program.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use owlet::engine::{CacheOptions, DeviceChoice, Engine, Event, Loaded, Options, Setup, Speculation, Ticket};
use owlet::model::{GpuLayers, KvType, VisionDevice, Wish};
use owlet::prompt::Message;

use crate::engine::{finish, pixels, request};
use crate::models::{Kind, path};
use crate::program::{Ran, command, owlet, picture};

/// A worker of its own process, and where it listens.
struct Worker {
    child: Child,
    address: String,
}

impl Worker {
    fn start() -> Worker {
        Worker::at("127.0.0.1:0")
    }

    fn at(address: &str) -> Worker {
        let mut child = worker(address).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let rest = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}"));
        let (address, lends) = rest.split_once(", ").unwrap();
        assert_eq!(lends, "lending the CPU\n");
        Worker { address: address.into(), child }
    }

    fn die(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn worker(address: &str) -> Command {
    command(&["rpc-worker", "--device", "none", "-t", "1", "--memory", "3GB", "--listen", address])
}

fn setup(workers: &[&Worker]) -> Setup {
    let wish = Wish { layers: GpuLayers::All, vision: VisionDevice::Gpu };
    let workers = workers.iter().map(|worker| worker.address.clone()).collect();
    Setup {
        device: DeviceChoice::Cpu,
        workers,
        wish,
        kv_type: KvType::F32,
        n_ctx: Some(1024),
        ..Setup::cpu(1)
    }
}

fn engine(setup: &Setup) -> Engine {
    let loaded = Loaded::open_with(Some(&path(Kind::Random)), setup).unwrap();
    let options = Options {
        n_ctx: 1024,
        n_slots: 1,
        kv_type: KvType::F32,
        cache: CacheOptions::default(),
        speculation: Speculation::Auto,
        low_memory: false,
    };
    Engine::start(loaded, options).unwrap()
}

fn ask(engine: &Engine, max_tokens: u32) -> Ticket {
    let asked = request(vec![Message::user("What is it?", [0])], vec![pixels(112, 3)]);
    engine.submit(owlet::engine::Request { max_tokens, ..asked }).unwrap()
}

fn failure(ticket: &Ticket) -> String {
    loop {
        match ticket.next_event() {
            Event::Failed(error) => return error.to_string(),
            Event::Done(outcome) => panic!("expected a failure, found {outcome:?}"),
            _ => {}
        }
    }
}

/// The built-in model, by the real program: a picture by the first worker, layers of both.
#[test]
fn two_workers_say_what_the_cpu_says() {
    let [first, second] = [Worker::start(), Worker::start()];
    let red = picture("rpc-red.png", 60, 40, [255, 0, 0, 255]);
    let both = format!("{},{}", first.address, second.address);
    let run = |flags: &[&str]| -> Ran {
        let asked = ["run", "What colour is it?", "--temp", "0", "-i", red.to_str().unwrap()];
        owlet(&[&asked[..], flags].concat())
    };
    let on_cpu = run(&[]).ok();
    let spread = run(&["--rpc", &both, "--gpu-layers", "all", "--vision-device", "gpu"]);
    for (worker, what) in [(&first, "the vision half and "), (&second, "")] {
        let receipt = format!("{} (a worker): {what}", worker.address);
        assert!(spread.err.contains(&receipt), "{receipt}: {spread:?}");
    }
    assert_eq!(spread.ok(), on_cpu);

    let file = path(Kind::Random);
    let plan = owlet(&["inspect", file.to_str().unwrap(), "--plan", "--rpc", &both]).ok();
    assert!(plan.contains(&format!("On {} (a worker)", second.address)), "{plan}");
}

/// It dies in the middle of an answer, is not there for the next request, and is there again for the one after.
#[test]
fn a_worker_that_dies_costs_an_answer_and_not_the_program() {
    let (first, mut second) = (Worker::start(), Worker::start());
    let setup = setup(&[&first, &second]);
    let engine = engine(&setup);
    let expected = finish(&ask(&engine, 12)).0.ids;
    // Another engine of the same process shares the connections.
    assert_eq!(finish(&ask(&self::engine(&setup), 12)).0.ids, expected);

    let ticket = ask(&engine, 900);
    while !matches!(ticket.next_event(), Event::Text(_)) {}
    second.die();
    let text = failure(&ticket);
    let beginning = format!("{}: lost, with all that is on it: ", second.address);
    assert!(text.starts_with(&beginning) && !text.contains('\n'), "{text}");

    let text = failure(&ask(&engine, 12));
    let beginning = format!("this machine: {}: no worker answers: ", second.address);
    assert!(text.starts_with(&beginning), "{text}");

    let again = Worker::at(&second.address);
    assert_eq!(again.address, second.address);
    for _ in 0..2 {
        assert_eq!(finish(&ask(&engine, 12)).0.ids, expected);
    }
}

#[test]
fn what_cannot_be_a_worker_is_one_line() {
    let public = owlet(&["rpc-worker", "--listen", "0.0.0.0:0"]);
    let why =
        "expected one address of loopback or of a private network: the protocol trusts whoever reaches it";
    assert_eq!((public.code, public.err), (Some(1), format!("owlet: --listen 0.0.0.0:0: {why}\n")));
    assert_eq!(owlet(&["rpc-worker", "--listen", "here"]).code, Some(2));
    let taken = Worker::start();
    let second = owlet(&["rpc-worker", "--listen", &taken.address]);
    assert!(second.code == Some(1) && second.err.contains("--listen"), "{second:?}");

    // Nobody there, and somebody who speaks another protocol.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let talker = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"220 mail at your service\r\n").unwrap();
    });
    let run = |address: &str| owlet(&["run", "Hello?", "--rpc", address]);
    let found = run(&address.to_string());
    talker.join().unwrap();
    let why = "no worker says hello (an answer of another kind): is it one, and has it nobody else to serve?";
    assert_eq!((found.code, found.err), (Some(1), format!("owlet: --rpc: {address}: {why}\n")));
    let found = run(&address.to_string());
    assert!(found.err.starts_with(&format!("owlet: --rpc: {address}: no worker answers: ")), "{found:?}");
    assert_eq!(found.code, Some(1));
}
