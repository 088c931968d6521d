//! How many rows a pass takes and how many positions a cache has, by where a model lies.

use crate::model::Model;

/// Rows of prompts in one pass of a CPU: few enough that progress is seen and a waiting stream goes on soon.
pub const PROMPT_ROWS: usize = 128;

/// Positions that a cache on the CPU starts with. It grows by doubling, up to the context, so that a short answer of a large
/// model does not pay for the longest one.
const FIRST_CACHE: u32 = 512;

/// Rows of prompts in one pass of `model`: a device takes milliseconds for more than the CPU's, and reads its weights once for all
/// of them.
pub fn prompt_rows(model: &Model) -> usize {
    let placement = model.placement();
    let is_all_on_device = placement.has_device() && placement.n_device_layers() == placement.n_layer();
    if is_all_on_device { 4 * PROMPT_ROWS } else { PROMPT_ROWS }
}

/// Positions that a cache on the CPU has room for when a context of at most `n_ctx` holds `n_filled`.
pub fn cached_positions(n_filled: u32, n_ctx: u32) -> u32 {
    let mut n = FIRST_CACHE;
    while n < n_filled {
        n = n.saturating_mul(2);
    }
    n.min(n_ctx)
}

/// The same where `model` is: a device's memory was planned for the whole context, once, and a cache that grows is there twice.
pub(super) fn positions_of(model: &Model, n_filled: u32, n_ctx: u32) -> u32 {
    if model.placement().n_device_layers() > 0 { n_ctx } else { cached_positions(n_filled, n_ctx) }
}

#[cfg(test)]
mod tests {
    use super::super::by_hand;
    use crate::engine::Loaded;
    use crate::engine::turns::at_work;
    use ggml::Device;

    #[test]
    fn a_cache_grows_on_the_cpu_and_is_whole_on_a_device() {
        let n_ctx = 768;
        let options = by_hand::options(n_ctx, 1);
        let cases = [
            ("the CPU", Loaded::open(None, 1).unwrap(), [512, 512, n_ctx]),
            ("a device", at_work::loaded(&Device::stand_in(), 0), [n_ctx; 3]),
        ];
        for (what, loaded, expected) in cases {
            let (mut scheduler, _, _) = by_hand::scheduler(&loaded, &options);
            for (n_filled, expected) in [0, 512, 513].into_iter().zip(expected) {
                scheduler.make_room(n_filled).unwrap();
                assert_eq!(scheduler.decoder.n_ctx(), expected, "{n_filled} positions on {what}");
            }
        }
    }
}
