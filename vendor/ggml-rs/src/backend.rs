//! The processors that graphs run on: ggml's CPU backend with one pool of threads that lives as long as it, and the
//! devices beside it that were chosen.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::thread;

use crate::device::Open;
use crate::{Cancel, Device, Error, Graph, Place, Result, check_cpu, sys};

/// Where graphs run. Clones share the threads; graphs of all clones run one after another.
#[derive(Clone)]
pub struct Backend(Arc<Inner>);

struct Inner {
    raw: NonNull<sys::ggml_backend>,
    threadpool: NonNull<sys::ggml_threadpool>,
    devices: Vec<Open>,
    /// A device that failed, and why: nothing is computed any more.
    lost: OnceLock<(String, String)>,
    n_threads: usize,
    state: Mutex<State>,
}

// SAFETY: a backend and its pool have no tie to a thread; what changes them runs under `state`.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

/// What ends a computation after the node that runs: from outside, or from a node itself.
struct Stop<'a> {
    cancel: &'a Cancel,
    has_failed: &'a AtomicBool,
}

/// What only one computation at a time may touch; holding it is the right to compute.
pub(crate) struct State {
    /// Scratch that the backend has already got beyond tensors, in bytes.
    work_bytes: usize,
    /// ggml threw in the middle of a graph: its own pointers may dangle, so nothing runs or is freed.
    broken: bool,
}

impl Backend {
    /// The CPU with `n_threads` threads, the caller's among them. Idle threads sleep.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when this CPU lacks what ggml was built for, [`Error::Limit`] beyond four
    /// threads a core, [`Error::Threads`] when the system gives none.
    pub fn cpu(n_threads: usize) -> Result<Backend> {
        Backend::with_devices(n_threads, &[])
    }

    /// The same with `devices` beside it, which [`Place::Device`] counts. What a device was given to compute it computes to
    /// the end: [`Cancel`] is looked at before.
    ///
    /// # Errors
    /// As [`Backend::cpu`]; [`Error::Unsupported`] where a device cannot be used; [`Error::Limit`] beyond 15 devices;
    /// [`Error::Request`] for one that is given twice.
    pub fn with_devices(n_threads: usize, devices: &[Device]) -> Result<Backend> {
        check_cpu()?;
        install_callbacks();
        if devices.len() > sys::MAX_DEVICES {
            let (max, found) = (sys::MAX_DEVICES as u64, devices.len() as u64);
            return Err(Error::Limit { what: "devices", max, found });
        }
        if let Some(twice) = (1..devices.len()).find(|&i| devices[..i].contains(&devices[i])) {
            let name = devices[twice].name();
            return Err(Error::Request(format!("devices: expected each once, found {name} twice")));
        }
        let max = max_threads();
        if n_threads == 0 || n_threads > max {
            return Err(Error::Limit { what: "threads", max: max as u64, found: n_threads as u64 });
        }
        try_threads(n_threads - 1).map_err(|source| Error::Threads { n_threads, source })?;
        let memory = || Error::Memory { what: "the cpu backend".into(), bytes: 1 << 16 };
        // SAFETY: no arguments; the CPU was checked.
        let raw = NonNull::new(unsafe { sys::owlet_cpu_new() }).ok_or_else(memory)?;
        // SAFETY: n_threads is in 1..=512.
        let Some(threadpool) = NonNull::new(unsafe { sys::owlet_threadpool_new(n_threads as c_int) }) else {
            // SAFETY: made above, used by no one.
            unsafe { sys::ggml_backend_free(raw.as_ptr()) };
            return Err(memory());
        };
        // SAFETY: both are alive, and Inner frees the backend before the pool.
        unsafe {
            sys::ggml_backend_cpu_set_n_threads(raw.as_ptr(), n_threads as c_int);
            sys::ggml_backend_cpu_set_threadpool(raw.as_ptr(), threadpool.as_ptr());
        }
        let state = Mutex::new(State { work_bytes: 0, broken: false });
        let (devices_of_it, lost) = (Vec::new(), OnceLock::new());
        let mut inner = Inner { raw, threadpool, devices: devices_of_it, lost, n_threads, state };
        for device in devices {
            inner.devices.push(Open::new(device)?);
        }
        Ok(Backend(Arc::new(inner)))
    }

    /// In the order in which [`Place::Device`] counts them.
    pub fn devices(&self) -> impl ExactSizeIterator<Item = &Device> {
        self.0.devices.iter().map(Open::device)
    }

    pub fn n_devices(&self) -> usize {
        self.0.devices.len()
    }

    /// A device at work.
    ///
    /// # Panics
    /// When there is no such device.
    pub(crate) fn open(&self, device: usize) -> &Open {
        let n = self.n_devices();
        assert!(device < n, "expected one of {n} devices, found number {device}");
        &self.0.devices[device]
    }

    /// # Panics
    /// When `place` is a device that there is not.
    pub(crate) fn expect(&self, place: Place, what: &str) {
        if let Place::Device(device) = place {
            let n = self.n_devices();
            assert!(device < n, "{what}: expected a place among {n} devices, found number {device}");
        }
    }

    /// Notes that `device` has just failed, for the reason that the shim kept.
    pub(crate) fn lost(&self, device: usize) -> Error {
        self.note_lost(self.open(device).device().name())
    }

    /// The same where one of the devices in a graph has.
    pub(crate) fn lost_in_a_graph(&self) -> Error {
        let names: Vec<_> = self.devices().map(Device::name).collect();
        if names.is_empty() { Error::Compute } else { self.note_lost(names.join(" or ")) }
    }

    fn note_lost(&self, device: String) -> Error {
        self.0.lost.get_or_init(|| (device, problem()));
        self.leave();
        match self.check() {
            Err(error) => error,
            Ok(()) => Error::Compute,
        }
    }

    /// Other processes are of use to others.
    fn leave(&self) {
        self.devices().for_each(Device::leave);
    }

    /// Whether all devices are still there, as far as it is known.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn check(&self) -> Result<()> {
        if self.0.lost.get().is_none() {
            let lost = |device: &Device| Some((device.name(), device.lost()?.to_owned()));
            let Some(lost) = self.devices().find_map(lost) else { return Ok(()) };
            self.0.lost.get_or_init(|| lost);
            self.leave();
        }
        match self.0.lost.get() {
            Some((device, why)) => Err(Error::Lost { device: device.clone(), why: why.clone() }),
            None => Ok(()),
        }
    }

    /// Another backend on the same devices, after one was lost: those of other processes are looked for anew.
    ///
    /// # Errors
    /// As [`Backend::with_devices`]; [`Error::Unsupported`] where a device is not back.
    pub fn again(&self) -> Result<Backend> {
        let devices: Vec<_> = self.devices().map(Device::again).collect::<Result<_>>()?;
        Backend::with_devices(self.n_threads(), &devices)
    }

    pub fn n_threads(&self) -> usize {
        self.0.n_threads
    }

    /// Whether weights, memory, graphs or another handle keep it, too.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    pub(crate) fn is(&self, other: &Backend) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn raw(&self) -> *mut sys::ggml_backend {
        self.0.raw.as_ptr()
    }

    /// Waits for the computation that runs now and keeps the next one out.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held left nothing half done: State changes in single steps.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that ggml will get the scratch memory that `graph` needs, since it does not survive
    /// getting none.
    ///
    /// # Safety
    /// `graph` is alive and allocated.
    pub(crate) unsafe fn reserve_work(&self, graph: *mut sys::ggml_cgraph) -> Result<()> {
        let mut state = self.lock();
        // SAFETY: as above.
        let bytes = unsafe { self.work_bytes(graph) };
        if bytes > state.work_bytes {
            let mut probe: Vec<u8> = Vec::new();
            probe
                .try_reserve_exact(bytes)
                .map_err(|_| Error::Memory { what: "scratch of a graph".into(), bytes: bytes as u64 })?;
            state.work_bytes = bytes;
        }
        Ok(())
    }

    /// Scratch that ggml will want for `graph` beside its nodes.
    ///
    /// # Safety
    /// `graph` is alive.
    pub(crate) unsafe fn work_bytes(&self, graph: *mut sys::ggml_cgraph) -> usize {
        // SAFETY: the graph is alive; the pool, too.
        unsafe { sys::owlet_graph_work_bytes(graph, self.0.n_threads as c_int, self.0.threadpool.as_ptr()) }
    }

    /// Computes an allocated graph, for which weights that take turns are brought. `reproducible` makes the bits of a column
    /// independent of how many columns ride along.
    ///
    /// # Safety
    /// `graph` is allocated in `sched`, which runs on this backend, and everything it reads and writes is
    /// alive and touched by no one else while the backend is locked.
    pub(crate) unsafe fn compute(
        &self,
        sched: *mut sys::ggml_backend_sched,
        graph: &Graph,
        reproducible: bool,
        cancel: &Cancel,
    ) -> Result<()> {
        let mut state = self.lock();
        self.check()?;
        if state.broken {
            return Err(Error::Compute);
        }
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        #[cfg(feature = "rpc")]
        let _turn = self.devices().any(Device::is_remote).then(crate::rpc::turn);
        graph.bring_weights(cancel, &state)?;
        let stop = Stop { cancel, has_failed: graph.customs.has_failed() };
        let data = std::ptr::from_ref(&stop).cast_mut().cast();
        // SAFETY: `stop` outlives the computation, after which the callback is taken back; the caller
        // vouches for the rest.
        let status = unsafe {
            sys::ggml_backend_cpu_set_abort_callback(self.raw(), Some(must_stop), data);
            sys::ggml_backend_cpu_set_use_ref(self.raw(), reproducible);
            let status = sys::owlet_sched_compute(sched, graph.raw);
            sys::ggml_backend_cpu_set_abort_callback(self.raw(), None, null_mut());
            status
        };
        match status {
            sys::OWLET_OK => self.check(),
            sys::OWLET_ABORTED => Err(Error::Cancelled),
            _ => {
                state.broken = true;
                Err(self.lost_in_a_graph())
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let broken = self.state.get_mut().unwrap_or_else(PoisonError::into_inner).broken;
        if broken {
            return;
        }
        // SAFETY: the last clone is gone, so nothing runs; the backend goes before the pool it points to.
        unsafe {
            self.devices.iter_mut().for_each(|device| device.close());
            sys::ggml_backend_free(self.raw.as_ptr());
            sys::ggml_threadpool_free(self.threadpool.as_ptr());
        }
    }
}

/// What the last exception of this thread said, in one line.
pub(crate) fn problem() -> String {
    // SAFETY: C keeps the text, which ends with 0, until this thread's next exception.
    let text = unsafe { CStr::from_ptr(sys::owlet_problem()) }.to_string_lossy();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Threads that spin on each other's barriers without a core of their own only wait: a few a core at most,
/// and never more than ggml has room for.
fn max_threads() -> usize {
    let n_cores = thread::available_parallelism().map_or(1, |n| n.get());
    n_cores.saturating_mul(4).clamp(16, 512)
}

/// Starts `n` threads at once and lets them end. ggml ends the process when the system gives it no thread;
/// this asks first.
fn try_threads(n: usize) -> std::io::Result<()> {
    /// What the system gives to threads of C.
    const STACK_BYTES: usize = 8 << 20;
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock();
    let mut threads = Vec::new();
    let mut result = Ok(());
    for _ in 0..n {
        let gate = Arc::clone(&gate);
        match thread::Builder::new().stack_size(STACK_BYTES).spawn(move || drop(gate.lock())) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    drop(closed);
    for thread in threads {
        // These threads do nothing that could panic.
        let _ = thread.join();
    }
    result
}

/// Ends the process without taking anything down. While a thread still computes on a device this is the only way: the
/// device's driver is closed by what else happens at an exit, and ggml ends the process with a signal of its own then.
pub fn exit_at_once(status: u8) -> ! {
    // SAFETY: the process ends here.
    unsafe { sys::_exit(status.into()) }
}

pub(crate) fn install_callbacks() {
    static ONCE: Once = Once::new();
    // SAFETY: both functions live forever.
    ONCE.call_once(|| unsafe { sys::owlet_install_callbacks() });
}

unsafe extern "C" fn must_stop(stop: *mut c_void) -> bool {
    // SAFETY: `Backend::compute` passes what outlives the call.
    let stop = unsafe { &*stop.cast::<Stop<'_>>() };
    stop.cancel.is_cancelled() || stop.has_failed.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_threads_has_limits() {
        for n in [1, 2, 3, 16] {
            assert_eq!(Backend::cpu(n).unwrap().n_threads(), n);
        }
        for n in [0, max_threads() + 1, usize::MAX] {
            let error = Backend::cpu(n).err().unwrap().to_string();
            assert_eq!(error, format!("threads: 1 to {} possible, found {n}", max_threads()));
        }
    }

    #[test]
    fn backends_come_and_go() {
        for _ in 0..50 {
            let backend = Backend::cpu(3).unwrap();
            assert!(!backend.is_shared() && backend.clone().is(&backend));
            assert!(!backend.is(&Backend::cpu(1).unwrap()));
        }
    }
}
