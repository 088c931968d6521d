//! Devices of other processes, on this machine or another: ggml's RPC backend, which asks its protocol's users to trust
//! their network. In: addresses. Out: devices like any other, and at the other end a worker that offers its own.
//!
//! ggml's client ends the process where a connection fails, and nothing can stop it then. So what it talks to is a
//! [`Line`], which never fails.

mod line;
mod worker;

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::device::Device;
use crate::{Error, Result, sys};

pub(crate) use line::Line;
use line::Talk;
pub use worker::Worker;

#[repr(C)]
struct Protocol {
    version: [u8; 3],
    tensor_bytes: usize,
}

unsafe extern "C" {
    // c/rpc.h
    fn owlet_rpc_protocol(version: *mut u8, tensor_bytes: *mut usize);
    fn owlet_rpc_n_devices(worker: u64) -> usize;
    fn owlet_rpc_device(worker: u64, i: usize) -> *mut sys::ggml_backend_device;
    fn owlet_rpc_cpu(n_threads: c_int) -> *mut sys::ggml_backend;
    fn owlet_rpc_set_memory(free: usize, total: usize);
    fn owlet_rpc_serve(line: *mut c_void, backends: *const *mut sys::ggml_backend, n_backends: usize);
}

fn protocol() -> Protocol {
    let mut protocol = Protocol { version: [0; 3], tensor_bytes: 0 };
    // SAFETY: C fills both.
    unsafe { owlet_rpc_protocol(protocol.version.as_mut_ptr(), &mut protocol.tensor_bytes) };
    protocol
}

/// A device of a worker: the line to it, and its number there.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(crate) line: Arc<Line>,
    index: usize,
}

impl Remote {
    /// `HOST:PORT`, with a number behind it from a worker's second device on.
    pub(crate) fn name(&self) -> String {
        let address = self.line.address();
        if self.index == 0 { address.into() } else { format!("{address}/{}", self.index) }
    }

    /// The same device of whoever answers there now.
    pub(crate) fn again(&self) -> Result<Device> {
        let devices = Device::remote(self.line.address())?;
        let name = self.name();
        let found = devices.into_iter().find(|device| device.name() == name);
        found.ok_or_else(|| Error::Unsupported(format!("{name}: the worker has no such device any more")))
    }
}

impl Device {
    /// The devices of the worker at `address`, `HOST:PORT`. The worker serves no other process as long as one of them, or of
    /// their clones, is there.
    ///
    /// # Errors
    /// [`Error::Unsupported`]: nobody answers there, or no worker of this version.
    pub fn remote(address: &str) -> Result<Vec<Device>> {
        let (number, line) = match lines::to(address) {
            Some(open) => open,
            None => {
                let line = Arc::new(Line::connect(address, &protocol())?);
                (lines::add(&line), line)
            }
        };
        // SAFETY: the line is alive, and lines answer whatever happens.
        let n_devices = unsafe { owlet_rpc_n_devices(number) };
        let device = |index| {
            // SAFETY: as above. ggml keeps what it made for a worker.
            let raw = NonNull::new(unsafe { owlet_rpc_device(number, index) })?;
            Some(Device::of_worker(raw, Remote { line: Arc::clone(&line), index }))
        };
        let devices: Vec<_> = (0..n_devices).filter_map(device).collect();
        match line.lost() {
            Some(why) => Err(Error::Unsupported(format!("{address}: {why}"))),
            None if devices.is_empty() => {
                Err(Error::Unsupported(format!("{address}: the worker has no device")))
            }
            None => Ok(devices),
        }
    }
}

/// The right to run a graph in other processes. ggml's client asks a worker to run the last graph again where it is the same
/// one, and does not see another thread's come between.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lines by number, which is all that C knows of them.
mod lines {
    use super::*;

    static LINES: Mutex<Option<HashMap<u64, Weak<Line>>>> = Mutex::new(None);

    pub(super) fn add(line: &Arc<Line>) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = lines.get_or_insert_default();
        lines.retain(|_, line| line.strong_count() > 0);
        lines.insert(number, Arc::downgrade(line));
        number
    }

    /// The one to a worker that is there, if this process has one.
    pub(super) fn to(address: &str) -> Option<(u64, Arc<Line>)> {
        let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        let open = lines.iter().flatten().filter_map(|(&number, line)| Some((number, line.upgrade()?)));
        { open }.find(|(_, line)| line.address() == address && line.lost().is_none())
    }

    /// One that is gone answers as a lost one does.
    pub(super) fn find(number: u64) -> Arc<Line> {
        let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        let found = lines.as_ref().and_then(|lines| lines.get(&number)).and_then(Weak::upgrade);
        found.unwrap_or_else(|| Arc::new(Line::gone(&protocol())))
    }
}

/// What C holds of a connection.
enum End {
    Client { line: Arc<Line>, talk: Talk },
    Server(worker::Client),
}

impl End {
    fn into_raw(self) -> *mut c_void {
        Box::into_raw(Box::new(self)).cast()
    }
}

/// # Safety
/// As for [`owlet_line_close`].
unsafe fn end<'a>(line: *mut c_void) -> &'a mut End {
    // SAFETY: made by `into_raw`, alive, and used by one thread at a time.
    unsafe { &mut *line.cast::<End>() }
}

#[unsafe(no_mangle)]
extern "C" fn owlet_line_open(worker: u64) -> *mut c_void {
    let line = lines::find(worker);
    End::Client { talk: line.talk(), line }.into_raw()
}

/// # Safety
/// `line` is from [`owlet_line_open`] or [`End::into_raw`], and not used again.
#[unsafe(no_mangle)]
unsafe extern "C" fn owlet_line_close(line: *mut c_void) {
    // SAFETY: the caller vouches for it.
    drop(unsafe { Box::from_raw(line.cast::<End>()) });
}

/// # Safety
/// `line` is open; there are `n_bytes` at `bytes`.
#[unsafe(no_mangle)]
unsafe extern "C" fn owlet_line_send(line: *mut c_void, bytes: *const u8, n_bytes: usize) -> bool {
    let bytes = match n_bytes {
        // They may come with no address.
        0 => &[],
        // SAFETY: the caller vouches for it.
        _ => unsafe { std::slice::from_raw_parts(bytes, n_bytes) },
    };
    // SAFETY: as above.
    match unsafe { end(line) } {
        End::Client { line, talk } => {
            line.send(talk, bytes);
            true
        }
        End::Server(client) => client.send(bytes),
    }
}

/// # Safety
/// As for [`owlet_line_send`].
#[unsafe(no_mangle)]
unsafe extern "C" fn owlet_line_receive(line: *mut c_void, bytes: *mut u8, n_bytes: usize) -> bool {
    let bytes = match n_bytes {
        0 => &mut [],
        // SAFETY: the caller vouches for it.
        _ => unsafe { std::slice::from_raw_parts_mut(bytes, n_bytes) },
    };
    // SAFETY: as above.
    match unsafe { end(line) } {
        End::Client { line, talk } => {
            line.receive(talk, bytes);
            true
        }
        End::Server(client) => client.receive(bytes),
    }
}

/// # Safety
/// `line` is open.
#[unsafe(no_mangle)]
unsafe extern "C" fn owlet_line_flush(line: *mut c_void) -> bool {
    // SAFETY: the caller vouches for it.
    match unsafe { end(line) } {
        End::Client { line, .. } => {
            line.flush();
            true
        }
        End::Server(client) => client.flush(),
    }
}
