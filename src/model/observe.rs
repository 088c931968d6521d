//! Watching the network at work: parity tests compare named nodes with the reference, imatrix collects
//! activations. A graph without an observer marks no node and copies nothing.
//!
//! Names: `patch_embd`, `pos_embd`, `pre_ln`, `v.blk.N.{attn_q, attn_k, attn_out, out}`, `v.out`, `shuffle`,
//! `mm.{0, 1, 2, out}`, `inp_embd`, `blk.N.{attn_out, out}`, `output_norm`, `logits`. `attn_out` is the branch
//! before it joins the residual; `mm.1` is before the activation, `mm.2` behind it. And `WEIGHT.in [n_in, n_rows]`, what
//! the matrix of that name is multiplied with: `blk.0.ffn_down.weight.in`.

/// Receives values of named nodes, in the order in which they are computed.
pub trait Observe {
    /// Whether [`node`](Self::node) shall be called for this name.
    fn wants(&self, name: &str) -> bool;

    /// Whether [`node`](Self::node) shall be called for what the matrix `weight` is multiplied with.
    fn wants_input(&self, _weight: &str) -> bool {
        false
    }

    /// The node's values, and its shape, innermost first.
    fn node(&mut self, name: &str, ne: &[u64], values: &[f32]);
}
