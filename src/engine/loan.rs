//! A slot on loan: for a while its cached rows are read or written for somebody else's file, and no request gets it.
//!
//! The borrower's thread does the waiting for disks and the hashing; the thread that computes only copies rows, between
//! two passes of the requests that go on meanwhile. A borrower that vanishes gives its slot back. Must not know files.

use super::order::{Lent, LoanOrder, Order, Wanted, stopped};
use super::slot::Holding;
use crate::error::Result;
use crate::model::KvRows;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Rows that may be on their way between the two threads: enough that neither waits for the other all the time.
const MAX_UNDERWAY: usize = 4;

/// A slot that goes back when this is dropped. Rows that were written count only after [`Loan::keep`].
pub struct Loan<'a> {
    orders: &'a Sender<Order>,
    slot: usize,
    /// The rows are these from now on.
    kept: Option<Holding>,
}

impl<'a> Loan<'a> {
    /// Waits for the slot. Yields also what it holds.
    ///
    /// # Errors
    /// `Limit`, `Backend` where there is no room; `Internal` where the engine has stopped.
    pub fn new(orders: &'a Sender<Order>, wanted: Wanted) -> Result<(Loan<'a>, Holding)> {
        let (reply, lent) = channel();
        send(orders, LoanOrder::Lend { wanted, reply })?;
        let Lent { slot, knows } = receive(&lent)??;
        Ok((Loan { orders, slot, kept: None }, knows))
    }

    /// Brings the bytes of each of `rows`, in order, to `take`.
    ///
    /// # Errors
    /// What `take` says, or the cache.
    pub fn read(
        &self,
        mut rows: impl Iterator<Item = KvRows>,
        mut take: impl FnMut(Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let (reply, read) = channel();
        let mut n_underway = 0;
        loop {
            for rows in rows.by_ref().take(MAX_UNDERWAY - n_underway) {
                let reply = reply.clone();
                send(self.orders, LoanOrder::Read { slot: self.slot, rows, reply })?;
                n_underway += 1;
            }
            if n_underway == 0 {
                return Ok(());
            }
            take(receive(&read)??)?;
            n_underway -= 1;
        }
    }

    /// Writes each of `rows`, in order, with the bytes that `bring` yields for it.
    ///
    /// # Errors
    /// What `bring` says, or the cache.
    pub fn write(
        &self,
        rows: impl Iterator<Item = KvRows>,
        mut bring: impl FnMut(KvRows) -> Result<Vec<u8>>,
    ) -> Result<()> {
        let (reply, written) = channel();
        let mut n_underway = 0;
        for rows in rows {
            if n_underway == MAX_UNDERWAY {
                receive(&written)??;
                n_underway -= 1;
            }
            let (bytes, reply) = (bring(rows)?, reply.clone());
            send(self.orders, LoanOrder::Write { slot: self.slot, rows, bytes, reply })?;
            n_underway += 1;
        }
        (0..n_underway).try_for_each(|_| receive(&written)?)
    }

    /// Gives the slot back; it knows this from now on.
    pub fn keep(mut self, knows: Holding) {
        self.kept = Some(knows);
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        // An engine that has stopped needs no slots.
        let _ = send(self.orders, LoanOrder::Return { slot: self.slot, knows: self.kept.take() });
    }
}

fn send(orders: &Sender<Order>, order: LoanOrder) -> Result<()> {
    orders.send(Order::Loan(order)).map_err(|_| stopped())
}

fn receive<T>(replies: &Receiver<T>) -> Result<T> {
    replies.recv().map_err(|_| stopped())
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scheduler::by_hand::{options, scheduler};
    use crate::engine::{Engine, Event, Loaded, Request};
    use crate::prompt::Message;
    use std::fs;
    use std::sync::{Arc, OnceLock};
    use std::thread::{Builder, sleep};
    use std::time::Duration;

    /// What the thread of this name, which no other has, took of a processor: in ticks, of which a second has a hundred.
    fn ticks(name: &str) -> u64 {
        let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        let is_it = |task: &std::path::PathBuf| {
            fs::read_to_string(task.join("comm")).is_ok_and(|found| found.trim() == name)
        };
        let stat = fs::read_to_string(tasks.into_iter().find(is_it).unwrap().join("stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// A request that waits while every slot is on loan takes no time of the thread that computes, and is answered afterwards.
    #[test]
    fn who_waits_for_a_lent_slot_costs_nothing() {
        let name = "waits for slots";
        let loaded = Loaded::open(None, 1).unwrap();
        let options = options(256, 1);
        let (scheduler, orders, stop) = scheduler(&loaded, &options);
        let thread = Builder::new().name(name.into()).spawn(move || scheduler.run()).unwrap();
        let (counts, spelling, thread) = (Arc::default(), OnceLock::new(), Some(thread));
        let engine = Engine { loaded, options, orders, counts, spelling, stop, thread };

        let (loan, _) = Loan::new(&engine.orders, Wanted::Slot(0)).unwrap();
        let request = Request { max_tokens: 2, ..Request::new(vec![Message::user("What?", [])], vec![]) };
        let ticket = engine.submit(request).unwrap();
        assert!(ticket.next_event_within(Duration::from_millis(100)).is_none());
        let before = ticks(name);
        sleep(Duration::from_millis(500));
        let took = ticks(name) - before;
        assert!(took < 5, "{took} ticks of waiting");
        drop(loan);
        while !matches!(ticket.next_event(), Event::Done(_)) {}
    }
}
