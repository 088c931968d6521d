//! What is said when a mapped file loses pages that are still in use: another program cut it short, or its
//! disk failed. The system then raises SIGBUS in whoever reads there, and nothing can be computed any more.
//!
//! Maps register here. [`report_lost_maps`] installs a handler that prints one line for a fault inside of a
//! registered map and exits; any other fault goes to whoever handled the signal before.

#[cfg(unix)]
pub(crate) use unix::Watched;
#[cfg(unix)]
pub use unix::report_lost_maps;

/// Nothing to install: other systems have no SIGBUS.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn report_lost_maps() -> std::io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
pub(crate) struct Watched;

#[cfg(not(unix))]
impl Watched {
    pub fn new(_map: &[u8], _path: &std::path::Path) -> Self {
        Self
    }
}

#[cfg(unix)]
mod unix {
    use std::io;
    use std::path::Path;
    use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::*};
    use std::sync::{Arc, Mutex, OnceLock};

    /// A map and what to say about it. The handler may only look: no locks, no memory.
    struct Slot {
        /// Address of the first byte; 0 where the slot is free.
        start: AtomicUsize,
        n_bytes: AtomicUsize,
        text: AtomicPtr<u8>,
        n_text: AtomicUsize,
    }

    /// More maps than this at once are not explained, only fatal.
    static SLOTS: [Slot; 64] = [const {
        Slot {
            start: AtomicUsize::new(0),
            n_bytes: AtomicUsize::new(0),
            text: AtomicPtr::new(std::ptr::null_mut()),
            n_text: AtomicUsize::new(0),
        }
    }; 64];

    /// Held by those who change slots, never by the handler.
    static CHANGES: Mutex<()> = Mutex::new(());

    /// Keeps a map registered, and its line of text alive, until it is dropped.
    pub(crate) struct Watched {
        slot: Option<&'static Slot>,
        _text: Arc<[u8]>,
    }

    impl Watched {
        pub fn new(map: &[u8], path: &Path) -> Self {
            let text = format!(
                "{}: a part of the file is gone while it is in use: it was cut short or its disk failed\n",
                path.display()
            );
            let text: Arc<[u8]> = text.into_bytes().into();
            let _guard = CHANGES.lock();
            let slot = SLOTS.iter().find(|slot| slot.start.load(Relaxed) == 0);
            if let Some(slot) = slot {
                slot.n_bytes.store(map.len(), Relaxed);
                slot.text.store(Arc::as_ptr(&text).cast::<u8>().cast_mut(), Relaxed);
                slot.n_text.store(text.len(), Relaxed);
                slot.start.store(map.as_ptr().addr(), Release);
            }
            Self { slot, _text: text }
        }
    }

    impl Drop for Watched {
        fn drop(&mut self) {
            let _guard = CHANGES.lock();
            if let Some(slot) = self.slot {
                slot.start.store(0, Release);
            }
        }
    }

    /// Who handled SIGBUS before.
    static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

    /// From now on, a mapped model file that loses its pages ends the program with one line on stderr and
    /// exit code 1. For a program's start; calling it again changes nothing.
    ///
    /// # Errors
    /// Where the system refuses the handler.
    #[allow(unsafe_code)]
    pub fn report_lost_maps() -> io::Result<()> {
        let mut failed = None;
        BEFORE.get_or_init(|| {
            // SAFETY: all-zero is a valid sigaction on every Unix: no handler, no flags, an empty mask. Both
            // pointers are to live values of that type, and `on_sigbus` has the signature that SA_SIGINFO asks
            // for and does only what a handler may do.
            unsafe {
                let mut before: libc::sigaction = std::mem::zeroed();
                let mut ours: libc::sigaction = std::mem::zeroed();
                ours.sa_sigaction = on_sigbus as *const () as usize;
                ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                if libc::sigaction(libc::SIGBUS, &ours, &mut before) != 0 {
                    failed = Some(io::Error::last_os_error());
                }
                before
            }
        });
        failed.map_or(Ok(()), Err)
    }

    #[allow(unsafe_code)]
    extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: SA_SIGINFO promises a valid `info`. A slot whose start is set holds a map that lives, because the
        // code that faulted borrows it, and with it the text. `write`, `_exit`, `sigaction` and `raise` are on the
        // list of what a handler may call.
        unsafe {
            let by_the_kernel = (*info).si_code > 0;
            let address = (*info).si_addr().addr();
            for slot in SLOTS.iter().filter(|_| by_the_kernel) {
                let start = slot.start.load(Acquire);
                if start != 0 && address.wrapping_sub(start) < slot.n_bytes.load(Relaxed) {
                    libc::write(2, slot.text.load(Relaxed).cast(), slot.n_text.load(Relaxed));
                    libc::_exit(1);
                }
            }
            if let Some(before) = BEFORE.get() {
                libc::sigaction(signal, before, std::ptr::null_mut());
            }
            // waits until this handler returns
            libc::raise(signal);
        }
    }
}
