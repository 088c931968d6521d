//! The client's end of a connection, as ggml's RPC backend sees it: one that never fails. What ggml sends is followed command
//! by command. Once the worker is lost, whatever it does, every answer is made up here, as long as ggml expects it and
//! of numbers that do no harm; that the worker was lost is told to whoever asks ([`Line::lost`]), and nothing that was computed
//! since may be believed.
//!
//! A command is a byte, eight bytes of length, and its content; an answer has eight bytes of length before it. Facts:
//! ggml-rpc.cpp of the pinned source.

use std::io::{BufWriter, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::Protocol;
use crate::{Error, Result};

/// How long a worker may take to say hello: it may be at work for somebody else.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take to compute what it was given.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a hello brings along, and what comes back: the version, a spare byte, and abilities, of which there are none here.
const HELLO_BYTES: usize = 24;
const GREETING_BYTES: usize = 4 + HELLO_BYTES;

/// Commands that somebody waits for, as they are numbered.
mod command {
    pub const ALLOC_BUFFER: u8 = 0;
    pub const GET_ALIGNMENT: u8 = 1;
    pub const GET_MAX_SIZE: u8 = 2;
    pub const BUFFER_GET_BASE: u8 = 3;
    pub const SET_TENSOR_HASH: u8 = 7;
    pub const GET_TENSOR: u8 = 8;
    pub const COPY_TENSOR: u8 = 9;
    pub const GET_DEVICE_MEMORY: u8 = 11;
    pub const GET_ALLOC_SIZE: u8 = 13;
    pub const HELLO: u8 = 14;
    pub const DEVICE_COUNT: u8 = 15;
}

/// A connection to a worker.
pub(crate) struct Line {
    address: String,
    stream: Mutex<Option<Stream>>,
    lost: OnceLock<String>,
    greeting: [u8; GREETING_BYTES],
    tensor_bytes: usize,
}

struct Stream {
    input: TcpStream,
    output: BufWriter<TcpStream>,
}

/// Where one of ggml's users of a line is in its talk.
pub(crate) struct Talk {
    tensor_bytes: usize,
    /// What came of a command so far, as much of it as matters.
    head: Vec<u8>,
    /// Bytes of its content that are still to come, once the length is known.
    left: Option<u64>,
    /// What ggml waits for.
    answer: Answer,
}

#[derive(Default)]
struct Answer {
    /// Bytes that ggml has got of it.
    n_given: usize,
    /// The length before it, of which there are eight bytes.
    length: [u8; 8],
    /// What takes its place where nobody answers, with the length; zeros follow.
    made_up: Vec<u8>,
    /// That is it, even where the worker is there.
    is_ours: bool,
}

impl Line {
    /// # Errors
    /// [`Error::Unsupported`]: nobody answers at `address`, or nobody who speaks `protocol`.
    pub(super) fn connect(address: &str, protocol: &Protocol) -> Result<Line> {
        let fail = |why: &str| Error::Unsupported(format!("{address}: {why}"));
        let addresses =
            address.to_socket_addrs().map_err(|error| fail(&format!("expected HOST:PORT: {error}")))?;
        let mut last = None;
        let connected = addresses.into_iter().find_map(|address| {
            TcpStream::connect_timeout(&address, HELLO_PATIENCE).map_err(|error| last = Some(error)).ok()
        });
        let input = connected.ok_or_else(|| {
            let why = last.map_or("no such address".into(), |error| error.to_string());
            fail(&format!("no worker answers: {why}"))
        })?;
        let mut stream = Stream::new(input).map_err(|error| fail(&error.to_string()))?;
        let greeting = stream.greet().map_err(|error| {
            fail(&format!("no worker says hello ({error}): is it one, and has it nobody else to serve?"))
        })?;
        let [major, minor, _] = protocol.version;
        if greeting[0] != major || greeting[1] > minor {
            let found = format!("{}.{}.{}", greeting[0], greeting[1], greeting[2]);
            return Err(fail(&format!("expected a worker of protocol {major}.{minor}, found {found}")));
        }
        stream.wait(PATIENCE).map_err(|error| fail(&error.to_string()))?;
        let mut line = Line::gone(protocol);
        (line.address, line.stream, line.lost) = (address.into(), Mutex::new(Some(stream)), OnceLock::new());
        Ok(line)
    }

    /// A line to nobody.
    pub(super) fn gone(protocol: &Protocol) -> Line {
        let mut greeting = [0; GREETING_BYTES];
        greeting[..3].copy_from_slice(&protocol.version);
        Line {
            address: "a worker".into(),
            stream: Mutex::new(None),
            lost: OnceLock::from("it is gone".to_owned()),
            greeting,
            tensor_bytes: protocol.tensor_bytes,
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Why the worker is lost, if it is.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// Ends the connection, and with it all that the worker keeps for it.
    pub(crate) fn hang_up(&self, why: &str) {
        self.lost.get_or_init(|| why.into());
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn talk(&self) -> Talk {
        Talk { tensor_bytes: self.tensor_bytes, head: Vec::new(), left: None, answer: Answer::default() }
    }

    /// Passes on what ggml says.
    pub(super) fn send(&self, talk: &mut Talk, bytes: &[u8]) {
        talk.follow(bytes, &self.greeting);
        if talk.is_hello() {
            return;
        }
        self.with(|stream| stream.output.write_all(bytes));
    }

    pub(super) fn flush(&self) {
        self.with(|stream| stream.output.flush());
    }

    /// Fills `bytes` with what the worker answers, or with what is made up.
    pub(super) fn receive(&self, talk: &mut Talk, bytes: &mut [u8]) {
        let answer = &mut talk.answer;
        let first = answer.n_given;
        answer.n_given += bytes.len();
        if !answer.is_ours {
            let received = self.with(|stream| stream.input.read_exact(bytes));
            if received && first < 8 {
                // The length comes first, alone, and ggml ends the process where it is another one.
                if *bytes == answer.length {
                    return;
                }
                self.hang_up("the worker answered something else than it was asked for");
            } else if received {
                return;
            }
        }
        let made_up = answer.made_up.iter().skip(first).chain(std::iter::repeat(&0));
        bytes.iter_mut().zip(made_up).for_each(|(byte, made_up)| *byte = *made_up);
    }

    /// Whether the worker is there and did it.
    fn with(&self, work: impl FnOnce(&mut Stream) -> std::io::Result<()>) -> bool {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = stream.as_mut() else { return false };
        match work(open) {
            Ok(()) => true,
            Err(error) => {
                *stream = None;
                self.lost.get_or_init(|| in_words(&error));
                false
            }
        }
    }
}

fn in_words(error: &std::io::Error) -> String {
    use std::io::ErrorKind::{TimedOut, UnexpectedEof, WouldBlock};
    match error.kind() {
        UnexpectedEof => "the worker closed the connection".into(),
        WouldBlock | TimedOut => format!("the worker did not answer within {} s", PATIENCE.as_secs()),
        _ => format!("the connection to the worker failed: {error}"),
    }
}

impl Stream {
    fn new(input: TcpStream) -> std::io::Result<Stream> {
        input.set_nodelay(true)?;
        let output = BufWriter::with_capacity(1 << 16, input.try_clone()?);
        let stream = Stream { input, output };
        stream.wait(HELLO_PATIENCE)?;
        Ok(stream)
    }

    fn wait(&self, patience: Duration) -> std::io::Result<()> {
        self.input.set_read_timeout(Some(patience))?;
        self.input.set_write_timeout(Some(patience))
    }

    fn greet(&mut self) -> std::io::Result<[u8; GREETING_BYTES]> {
        self.output.write_all(&[command::HELLO])?;
        self.output.write_all(&(HELLO_BYTES as u64).to_le_bytes())?;
        self.output.write_all(&[0; HELLO_BYTES])?;
        self.output.flush()?;
        let mut length = [0; 8];
        self.input.read_exact(&mut length)?;
        if u64::from_le_bytes(length) != GREETING_BYTES as u64 {
            return Err(std::io::Error::other("an answer of another kind"));
        }
        let mut greeting = [0; GREETING_BYTES];
        self.input.read_exact(&mut greeting)?;
        Ok(greeting)
    }
}

impl Talk {
    /// Command and length.
    const HEAD_BYTES: usize = 9;

    fn is_hello(&self) -> bool {
        self.head.first() == Some(&command::HELLO)
    }

    /// Keeps account of what ggml says. Content comes in one piece, as ggml sends it.
    fn follow(&mut self, bytes: &[u8], greeting: &[u8]) {
        if self.left == Some(0) {
            (self.head, self.left) = (Vec::new(), None);
        }
        // What somebody asks for stands at the end of a tensor and two numbers.
        let n_kept = (Talk::HEAD_BYTES + self.tensor_bytes + 16).saturating_sub(self.head.len());
        self.head.extend_from_slice(&bytes[..bytes.len().min(n_kept)]);
        let Some((length, content)) = self.head.get(1..).and_then(|rest| rest.split_first_chunk::<8>())
        else {
            return;
        };
        let length = u64::from_le_bytes(*length);
        self.left = Some(match self.left {
            None => length,
            Some(left) => left.saturating_sub(bytes.len() as u64),
        });
        if self.left == Some(0) {
            self.answer = Answer::to(self.head[0], content, greeting);
        }
    }
}

impl Answer {
    /// What is expected after a command with this content, and what is made up where nobody answers: no memory, but
    /// where a number must make sense, one that does.
    fn to(command: u8, content: &[u8], greeting: &[u8]) -> Answer {
        const ALIGNMENT: u64 = 256;
        const BASE: u64 = 1 << 30;
        let number = |number: u64| number.to_le_bytes().to_vec();
        let (n_bytes, content): (usize, _) = match command {
            command::ALLOC_BUFFER | command::GET_DEVICE_MEMORY => (16, Vec::new()),
            command::GET_ALIGNMENT => (8, number(ALIGNMENT)),
            command::GET_MAX_SIZE => (8, number(u64::MAX)),
            command::BUFFER_GET_BASE => (8, number(BASE)),
            command::GET_ALLOC_SIZE => (8, Vec::new()),
            // Done, so that nothing else is tried.
            command::SET_TENSOR_HASH | command::COPY_TENSOR => (1, vec![1]),
            command::GET_TENSOR => {
                let wanted = content.last_chunk::<8>().map_or(0, |n| u64::from_le_bytes(*n));
                (wanted as usize, Vec::new())
            }
            command::DEVICE_COUNT => (4, Vec::new()),
            command::HELLO => (GREETING_BYTES, greeting.to_vec()),
            _ => return Answer::default(),
        };
        let length = (n_bytes as u64).to_le_bytes();
        let made_up = [&length[..], &content].concat();
        Answer { n_given: 0, length, made_up, is_ours: command == command::HELLO }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::super::protocol;
    use super::*;

    /// A worker that says hello and then does `work`.
    fn line_to(work: impl FnOnce(TcpStream) + Send + 'static) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let protocol = protocol();
        let version = protocol.version;
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; Talk::HEAD_BYTES + HELLO_BYTES]).unwrap();
            let mut greeting = [0; GREETING_BYTES];
            greeting[..3].copy_from_slice(&version);
            stream.write_all(&(GREETING_BYTES as u64).to_le_bytes()).unwrap();
            stream.write_all(&greeting).unwrap();
            work(stream);
        });
        Line::connect(&address, &protocol).unwrap()
    }

    /// As ggml does: a command in three pieces, then the length of the answer and the answer.
    fn ask(line: &Line, talk: &mut Talk, command: u8, content: &[u8], n_bytes: usize) -> Vec<u8> {
        line.send(talk, &[command]);
        line.send(talk, &(content.len() as u64).to_le_bytes());
        line.send(talk, content);
        line.flush();
        let (mut length, mut answer) = ([0; 8], vec![9; n_bytes]);
        line.receive(talk, &mut length);
        assert_eq!(u64::from_le_bytes(length), n_bytes as u64, "command {command}");
        line.receive(talk, &mut answer);
        answer
    }

    /// The content of a wish for `n` bytes of a tensor.
    fn wish(line: &Line, n: u64) -> Vec<u8> {
        [&vec![7; line.tensor_bytes + 8][..], &n.to_le_bytes()].concat()
    }

    #[test]
    fn whoever_is_lost_is_answered_for() {
        let line = line_to(|mut stream| {
            // One answer, and half of another.
            stream.write_all(&[3u64.to_le_bytes().as_slice(), &[4, 5, 6]].concat()).unwrap();
            stream.write_all(&[100u64.to_le_bytes().as_slice(), &[1; 50]].concat()).unwrap();
        });
        let mut talk = line.talk();
        let content = wish(&line, 3);
        assert_eq!(ask(&line, &mut talk, command::GET_TENSOR, &content, 3), [4, 5, 6]);
        assert_eq!(line.lost(), None);
        let content = wish(&line, 100);
        assert_eq!(ask(&line, &mut talk, command::GET_TENSOR, &content, 100), [0; 100]);
        let why = line.lost().unwrap().to_owned();
        assert!(why == "the worker closed the connection" || why.contains("failed: "), "{why}");

        // Nothing that may be asked next ends the process, or is what it should not be.
        let mut next =
            |command, n_content: usize, n_bytes| ask(&line, &mut talk, command, &vec![1; n_content], n_bytes);
        assert_eq!(next(command::ALLOC_BUFFER, 12, 16), [0; 16], "no memory");
        let alignment = next(command::GET_ALIGNMENT, 4, 8);
        assert!(u64::from_le_bytes(alignment.try_into().unwrap()).is_power_of_two());
        assert_ne!(next(command::BUFFER_GET_BASE, 8, 8), [0; 8]);
        assert_eq!(next(command::GET_MAX_SIZE, 4, 8), [255; 8]);
        assert_eq!(next(command::GET_ALLOC_SIZE, 5000, 8), [0; 8]);
        assert_eq!(next(command::SET_TENSOR_HASH, 320, 1), [1]);
        assert_eq!(next(command::COPY_TENSOR, 600, 1), [1]);
        assert_eq!(next(command::GET_DEVICE_MEMORY, 4, 16), [0; 16]);
        assert_eq!(next(command::DEVICE_COUNT, 0, 4), [0; 4]);
        assert_eq!(next(command::HELLO, HELLO_BYTES, GREETING_BYTES)[..3], protocol().version);
        // One that nobody waits for, between two that somebody does.
        line.send(&mut talk, &[10]);
        line.send(&mut talk, &5u64.to_le_bytes());
        line.send(&mut talk, &[0; 5]);
        assert_eq!(ask(&line, &mut talk, command::DEVICE_COUNT, &[], 4), [0; 4]);
    }

    #[test]
    fn an_answer_of_another_length_is_none() {
        let line = line_to(|mut stream| {
            stream.write_all(&[5u64.to_le_bytes().as_slice(), &[1; 64]].concat()).unwrap();
            let _ = stream.read(&mut [0; 1000]);
        });
        let content = wish(&line, 3);
        assert_eq!(ask(&line, &mut line.talk(), command::GET_TENSOR, &content, 3), [0; 3]);
        assert_eq!(line.lost(), Some("the worker answered something else than it was asked for"));
    }

    #[test]
    fn nobody_is_a_worker_by_accident() {
        let refused = |greeting: [u8; 3]| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let greeting = [&greeting[..], &[0; GREETING_BYTES - 3]].concat();
                stream.write_all(&(GREETING_BYTES as u64).to_le_bytes()).unwrap();
                stream.write_all(&greeting).unwrap();
                let _ = stream.read(&mut [0; 100]);
            });
            let error = Line::connect(&address, &protocol()).err().unwrap().to_string();
            error.strip_prefix(&format!("{address}: ")).unwrap().to_owned()
        };
        let [major, minor, _] = protocol().version;
        let expected = format!("expected a worker of protocol {major}.{minor}, found {}.0.0", major + 1);
        assert_eq!(refused([major + 1, 0, 0]), expected);
        assert!(Line::connect("nowhere", &protocol()).err().unwrap().to_string().contains("HOST:PORT"));
    }
}
