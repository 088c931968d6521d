//! What lies between products. Comes in: what a layer computes, as a recipe. Goes out: its nodes, once something
//! reads them, in the form that the reader takes: a norm or an activation that only integer products read is
//! packed as it is computed and never stored in f32. Which form it was changes no bit of what follows. The
//! one place that chooses between our passes and ggml's. Knows no network.

use std::fmt::Display;

use ggml::{DType, Tensor};
use owlet_format::{Activation, NormKind};

use super::net::Net;
use super::views;
use crate::kernels::{Columns, Curve, Statistics, Work};

/// A product `[n_out, n_columns]` and the bias that it waits for: who reads it adds that in passing.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    pub(super) product: Tensor,
    pub(super) bias: Option<Tensor>,
}

impl Sum {
    /// The sum as a node of its own.
    pub(super) fn tensor(self, net: &mut Net) -> Tensor {
        match self.bias {
            Some(bias) => net.graph.add(self.product, bias),
            None => self.product,
        }
    }

    /// As a node of its own with this name if somebody watches it.
    pub(super) fn named(self, net: &mut Net, name: impl Display) -> Sum {
        if !net.is_watched(&name.to_string()) {
            return self;
        }
        let sum = self.tensor(net);
        Sum { product: net.name(sum, name), bias: None }
    }
}

/// A norm over `ne[0]` with its learned vectors.
#[derive(Clone, Copy)]
pub(super) struct Norm {
    pub(super) kind: NormKind,
    pub(super) eps: f32,
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

/// `x` normalised row by row, then the learned scale (and shift).
pub(super) fn norm(norm: &Norm, x: Tensor) -> Operand {
    Operand::new(Recipe::Norm { norm: *norm, x, first: 0 })
}

/// The same of the elements from `first` on of every row of a contiguous `x`, as many as the scale has, in f32:
/// `[n, n_rows]`.
pub(super) fn norm_of_columns(net: &mut Net, norm: &Norm, x: Tensor, first: u64) -> Tensor {
    Operand::new(Recipe::Norm { norm: *norm, x, first }).floats(net)
}

pub(super) fn activation(act: Activation, x: Sum) -> Operand {
    Operand::new(Recipe::Activation(act, x))
}

/// `silu(gate) * up`.
pub(super) fn swiglu(net: &mut Net, gate: Sum, up: Sum) -> Operand {
    let (gate, up) = (gate.tensor(net), up.tensor(net));
    Operand::new(Recipe::Gate { gate, up })
}

/// `hidden + branch * scale`, the residual.
pub(super) fn join(net: &mut Net, hidden: Tensor, branch: Sum, scale: Option<Tensor>) -> Tensor {
    let work = Work::Join { has_bias: branch.bias.is_some(), has_scale: scale.is_some() };
    let others: Vec<_> = branch.bias.into_iter().chain(scale).collect();
    // A sum alone is one pass of ggml's as well, and takes the place of what it reads.
    if let Some(op) = net.kernels().pass(work).filter(|_| !others.is_empty()) {
        let args = [&[hidden, branch.product], &others[..]].concat();
        let ne = net.graph.ne(hidden);
        return net.graph.custom("join", DType::F32, ne, &args, op);
    }
    let branch = branch.tensor(net);
    let branch = match scale {
        Some(scale) => net.graph.mul(branch, scale),
        None => branch,
    };
    net.graph.add(hidden, branch)
}

/// What products read: `[n, n_columns]`.
pub(super) struct Operand {
    recipe: Recipe,
    floats: Option<Tensor>,
    packed: Option<Tensor>,
}

/// What the values are.
#[derive(Clone, Copy)]
enum Recipe {
    Given(Tensor),
    /// Of the elements of `x` from `first` on.
    Norm {
        norm: Norm,
        x: Tensor,
        first: u64,
    },
    Activation(Activation, Sum),
    /// `silu(gate) * up`
    Gate {
        gate: Tensor,
        up: Tensor,
    },
}

impl Operand {
    /// Contiguous f32.
    pub(super) fn given(x: Tensor) -> Operand {
        Operand::new(Recipe::Given(x))
    }

    fn new(recipe: Recipe) -> Operand {
        Operand { recipe, floats: None, packed: None }
    }

    /// Elements and columns.
    pub(super) fn ne(&self, net: &Net) -> [u64; 2] {
        let [n, n_columns, ..] = net.graph.ne(match self.recipe {
            Recipe::Given(x) | Recipe::Norm { x, .. } | Recipe::Gate { gate: x, .. } => x,
            Recipe::Activation(_, x) => x.product,
        });
        match self.recipe {
            Recipe::Norm { norm, .. } => [net.graph.ne(norm.weight)[0], n_columns],
            _ => [n, n_columns],
        }
    }

    /// In f32.
    pub(super) fn floats(&mut self, net: &mut Net) -> Tensor {
        if let Some(floats) = self.floats {
            return floats;
        }
        let pass = self.recipe.pass();
        let pass = pass.and_then(|(name, work, args)| Some((name, args, net.kernels().pass(work)?)));
        let floats = match pass {
            Some((name, args, op)) => {
                let [n, n_columns] = self.ne(net);
                net.graph.custom(name, DType::F32, [n, n_columns, 1, 1], &args, op)
            }
            None => self.recipe.by_ggml(net),
        };
        *self.floats.insert(floats)
    }

    /// As the integer kernels read it; none where they cannot. All that read it share it.
    pub(super) fn packed(&mut self, net: &mut Net) -> Option<Tensor> {
        if self.packed.is_none() {
            let [n, n_columns] = self.ne(net);
            let fused = self.recipe.pass().filter(|_| self.floats.is_none());
            let (name, args, Columns { op, column_bytes }) = match fused {
                Some((name, work, args)) => (name, args, net.kernels().packed_pass(work, n)?),
                None => ("pack", vec![self.floats(net)], net.kernels().pack(n)?),
            };
            self.packed = Some(net.graph.custom(name, DType::I8, [column_bytes, n_columns, 1, 1], &args, op));
        }
        self.packed
    }

    /// In f32 with this name if somebody watches it.
    pub(super) fn named(mut self, net: &mut Net, name: impl Display) -> Operand {
        if net.is_watched(&name.to_string()) {
            let floats = self.floats(net);
            net.name(floats, name);
        }
        self
    }
}

impl Recipe {
    /// The pass of ours that computes it, and its arguments.
    fn pass(&self) -> Option<(&'static str, Work, Vec<Tensor>)> {
        match *self {
            Recipe::Given(_) => None,
            Recipe::Norm { norm, x, first } => {
                let statistics = Statistics { is_centred: norm.kind == NormKind::Layer, eps: norm.eps };
                let work = Work::Norm { statistics, first: first as usize };
                Some(("norm", work, [x, norm.weight].into_iter().chain(norm.bias).collect()))
            }
            Recipe::Activation(act, x) => {
                let curve = match act {
                    Activation::GeluErf => Curve::Gelu,
                    Activation::QuickGelu => Curve::QuickGelu,
                };
                Some(("activation", Work::Curve(curve), [x.product].into_iter().chain(x.bias).collect()))
            }
            Recipe::Gate { gate, up } => Some(("swiglu", Work::Gate, vec![gate, up])),
        }
    }

    fn by_ggml(&self, net: &mut Net) -> Tensor {
        match *self {
            Recipe::Given(x) => x,
            Recipe::Norm { norm, x, first } => {
                let n = net.graph.ne(norm.weight)[0];
                let x = if net.graph.ne(x)[0] == n { x } else { views::columns(net, x, first, n) };
                let normal = match norm.kind {
                    NormKind::Rms => net.graph.rms_norm(x, norm.eps),
                    NormKind::Layer => net.graph.norm(x, norm.eps),
                };
                let scaled = net.graph.mul(normal, norm.weight);
                Sum { product: scaled, bias: norm.bias }.tensor(net)
            }
            Recipe::Activation(act, x) => {
                let x = x.tensor(net);
                match act {
                    Activation::GeluErf => net.graph.gelu_erf(x),
                    Activation::QuickGelu => net.graph.gelu_quick(x),
                }
            }
            Recipe::Gate { gate, up } => net.graph.swiglu_split(gate, up),
        }
    }
}
