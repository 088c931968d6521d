//! Who attends over the cells of a layer, by where the layer lies and what is there, and in which order values lie for that. Knows no
//! cells.

use ggml::Place;
use owlet_format::TextConfig;

use super::units::KvType;
use crate::model::Model;
use crate::{Error, Result};

/// Who attends over a layer's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Kernels of ours, which read rows and find sequences by themselves.
    Ours,
    /// ggml's flash attention, which reads rows.
    Flash,
    /// ggml's products on the CPU, which read values by columns: a fixed order of sums, whatever `n_kv`.
    Products,
    /// A device's products, which read values by columns.
    DeviceProducts,
    /// Those of a device of another machine.
    RemoteProducts,
}

impl Reader {
    /// Of a layer at `place`.
    ///
    /// # Errors
    /// `Unsupported`: nobody there attends over caches of this type.
    pub(super) fn of(model: &Model, config: &TextConfig, kv_type: KvType, place: Place) -> Result<Reader> {
        let is_quantized = kv_type == KvType::Q8_0;
        let Place::Device(device) = place else {
            // ggml's flash attention for floats chooses its order of sums by the number of rows and threads.
            return Ok(match model.0.kernels.attend_over_cells() {
                true => Reader::Ours,
                false if is_quantized => Reader::Flash,
                false => Reader::Products,
            });
        };
        let heads = [config.n_head.into(), config.n_head_kv.into()];
        let has_flash =
            model.backend().device_has_flash_attn(device, config.head_dim().into(), heads, kv_type.dtype());
        match kv_type {
            KvType::F16 | KvType::Q8_0 if has_flash => Ok(Reader::Flash),
            // A device's flash attention reads f32 as f16.
            KvType::F32 | KvType::F16 => Ok(match model.backend().devices().nth(device) {
                Some(device) if device.is_remote() => Reader::RemoteProducts,
                _ => Reader::DeviceProducts,
            }),
            KvType::Q8_0 => Err(Error::unsupported(
                "kv type q8_0",
                format_args!(
                    "layers on the device need f16 or f32 for heads of {}, {} of {}",
                    config.head_dim(),
                    config.n_head,
                    config.n_head_kv
                ),
            )),
        }
    }

    /// How it wants values to lie.
    pub(super) fn order(self) -> Order {
        match self {
            Reader::Products => Order::Steps,
            Reader::DeviceProducts => Order::Columns,
            // A column of cells would be asked for alone, over the network, by whoever saves or copies rows.
            Reader::Ours | Reader::Flash | Reader::RemoteProducts => Order::Rows,
        }
    }
}

/// How values lie in a layer's tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// `[n_embd_kv, n_cells * n_seq]`, as keys do.
    Rows,
    /// `[1, n_cells * n_embd_kv * n_seq]`: step after step of cells, in each step the cells of element 0, then those of element 1.
    Steps,
    /// `[n_cells * n_seq, n_embd_kv]`: all cells of element 0, then those of element 1.
    Columns,
}
