//! The other end: a process that lends its devices, or its CPU, to one program at a time.

use std::ffi::c_int;
use std::io::{BufReader, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ptr::NonNull;

use super::{End, owlet_rpc_cpu, owlet_rpc_serve, owlet_rpc_set_memory};
use crate::device::Open;
use crate::{Backend, Device, DeviceMemory, Error, Result, sys};

/// Devices, or the CPU, that wait for a program to use them.
pub struct Worker {
    devices: Vec<Open>,
    cpu: Option<NonNull<sys::ggml_backend>>,
}

/// The worker's end of a connection.
pub(super) struct Client {
    input: BufReader<TcpStream>,
    output: BufWriter<TcpStream>,
}

impl Worker {
    /// Lends `devices`; the CPU with `n_threads` threads where there are none.
    ///
    /// # Errors
    /// As for [`crate::Backend::with_devices`].
    pub fn new(devices: &[Device], n_threads: usize) -> Result<Worker> {
        // What holds for any CPU backend holds for this one.
        drop(Backend::cpu(n_threads)?);
        let open: Vec<_> = devices.iter().map(Open::new).collect::<Result<_>>()?;
        let cpu = match open.as_slice() {
            // SAFETY: the CPU was checked.
            [] => Some(
                NonNull::new(unsafe { owlet_rpc_cpu(n_threads as c_int) })
                    .ok_or_else(|| Error::Memory { what: "the cpu backend".into(), bytes: 1 << 16 })?,
            ),
            _ => None,
        };
        Ok(Worker { devices: open, cpu })
    }

    /// What is lent, in words.
    pub fn lends(&self) -> Vec<String> {
        match self.cpu {
            Some(_) => vec!["the CPU".into()],
            None => self.devices.iter().map(|open| open.device().name()).collect(),
        }
    }

    /// Serves whoever connects to `listener`, one after another; `memory` says what the CPU has for each, `seen` hears
    /// who came, and whether they left.
    ///
    /// # Errors
    /// What the system says of the listener.
    pub fn serve(
        &self,
        listener: &TcpListener,
        memory: impl Fn() -> DeviceMemory,
        mut seen: impl FnMut(SocketAddr, bool),
    ) -> std::io::Result<()> {
        loop {
            let (stream, address) = listener.accept()?;
            let Ok(client) = Client::new(stream) else { continue };
            seen(address, false);
            let DeviceMemory { free, total } = memory();
            let devices = self.devices.iter().map(Open::raw);
            let raw: Vec<_> = devices.chain(self.cpu.map(NonNull::as_ptr)).collect();
            // SAFETY: the backends are alive, and nobody else uses them; C closes the line.
            unsafe {
                owlet_rpc_set_memory(free as usize, total as usize);
                owlet_rpc_serve(End::Server(client).into_raw(), raw.as_ptr(), raw.len());
            }
            seen(address, true);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SAFETY: nothing runs any more.
        unsafe {
            self.devices.iter_mut().for_each(|open| open.close());
            if let Some(cpu) = self.cpu {
                sys::owlet_backend_free(cpu.as_ptr());
            }
        }
    }
}

impl Client {
    fn new(stream: TcpStream) -> std::io::Result<Client> {
        stream.set_nodelay(true)?;
        let input = BufReader::with_capacity(1 << 16, stream.try_clone()?);
        Ok(Client { input, output: BufWriter::with_capacity(1 << 16, stream) })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        self.output.write_all(bytes).is_ok()
    }

    pub(super) fn receive(&mut self, bytes: &mut [u8]) -> bool {
        self.input.read_exact(bytes).is_ok()
    }

    pub(super) fn flush(&mut self) -> bool {
        self.output.flush().is_ok()
    }
}
