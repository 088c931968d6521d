//! For tests: a scheduler whose rounds are made one by one, and an engine of the same model, which checks requests and answers alone.

use super::Scheduler;
use crate::engine::image_cache::ImageCache;
use crate::engine::order::{Order, Orders};
use crate::engine::{CacheOptions, Engine, Event, Loaded, Options, Request, Speculation};
use crate::model::KvType;
use ggml::Cancel;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

pub struct ByHand {
    pub scheduler: Scheduler,
    pub orders: Sender<Order>,
    pub engine: Engine,
}

impl ByHand {
    pub fn new(loaded: Loaded, options: &Options) -> ByHand {
        let (scheduler, orders, _) = scheduler(&loaded, options);
        let engine = Engine::start(loaded, options.clone()).unwrap();
        ByHand { scheduler, orders, engine }
    }

    pub fn submit(&self, request: Request) -> Receiver<Event> {
        let (to, events) = channel();
        let job = self.engine.check(request).unwrap().job(Cancel::new(), to);
        self.orders.send(Order::Answer(Box::new(job))).unwrap();
        events
    }

    /// Makes rounds until `is_over`.
    pub fn rounds_until(&mut self, mut is_over: impl FnMut(&Scheduler) -> bool) {
        const MANY: usize = 10_000;
        for _ in 0..MANY {
            if is_over(&self.scheduler) {
                return;
            }
            self.scheduler.round();
        }
        panic!("{MANY} rounds, and it is not over");
    }
}

/// With where it takes orders from, and what stops it.
pub fn scheduler(loaded: &Loaded, options: &Options) -> (Scheduler, Sender<Order>, Cancel) {
    let cache = ImageCache::new(options.cache.clone(), loaded.embedding_shape(), Arc::default());
    let ((orders, submitted), stop) = (channel(), Cancel::new());
    let of_scheduler = Orders { submitted, stop: stop.clone() };
    (Scheduler::new(loaded.clone(), options.clone(), cache, of_scheduler).unwrap(), orders, stop)
}

/// The plainest.
pub fn options(n_ctx: u32, n_slots: u32) -> Options {
    Options {
        n_ctx,
        n_slots,
        kv_type: KvType::F16,
        cache: CacheOptions::default(),
        speculation: Speculation::Off,
        low_memory: false,
    }
}
