//! The network once more, as loops over f64: no graph, no views, no batches. Formulas from facts about the
//! models, not from layers.rs. Rows are `Vec<f64>`; a matrix `[n_in, n_out]` is stored row by row, so output
//! `o` reads `w[o * n_in..]`.

use std::collections::HashMap;

use owlet_format::{
    Activation, NormKind, ProjectorConfig, ProjectorKind, QkNorm, Shuffle, TextConfig, VisionConfig,
};

use super::tiny::Tensors;

pub(super) type Rows = Vec<Vec<f64>>;

/// Values of named nodes, `[n, n_rows]` flattened.
pub(super) type Nodes = HashMap<String, Vec<f64>>;

/// All nodes of the tower for a picture `[n_px, n_px, 3]`; the last block's rows are returned.
pub(super) fn tower(c: &VisionConfig, t: &Tensors, pixels: &[f32], nodes: &mut Nodes) -> Rows {
    let (n_px, p, grid) = (c.image_px as usize, c.patch_px as usize, c.grid() as usize);
    let w = t.get("v.patch_embd.weight");
    let bias = if c.patch_bias { t.get("v.patch_embd.bias") } else { vec![0.0; c.n_embd as usize] };
    let mut x = Rows::new();
    for (row, column) in (0..grid).flat_map(|r| (0..grid).map(move |c| (r, c))) {
        x.push(Vec::new());
        for o in 0..c.n_embd as usize {
            let mut sum = bias[o];
            for (ch, ky, kx) in (0..3 * p * p).map(|i| (i / (p * p), i / p % p, i % p)) {
                let pixel = pixels[(ch * n_px + row * p + ky) * n_px + column * p + kx];
                sum += w[((o * 3 + ch) * p + ky) * p + kx] * f64::from(pixel);
            }
            x.last_mut().unwrap().push(sum);
        }
    }
    note(nodes, "patch_embd", &x);
    if c.cls {
        x.insert(0, t.get("v.class_embd"));
    }
    let positions = t.get("v.position_embd.weight");
    for (i, row) in x.iter_mut().enumerate() {
        for (j, value) in row.iter_mut().enumerate() {
            *value += positions[i * c.n_embd as usize + j];
        }
    }
    note(nodes, "pos_embd", &x);
    if c.pre_norm {
        let (weight, eps) = (t.get("v.pre_ln.weight"), f64::from(c.norm_eps));
        x = match c.norm {
            NormKind::Rms => rms_norm(&x, &weight, eps),
            NormKind::Layer => layer_norm(&x, &weight, &t.get("v.pre_ln.bias"), eps),
        };
        note(nodes, "pre_ln", &x);
    }
    for il in 0..c.n_layer {
        x = tower_block(c, t, il, x, nodes);
    }
    x
}

fn tower_block(c: &VisionConfig, t: &Tensors, il: u32, x: Rows, nodes: &mut Nodes) -> Rows {
    let name = |tensor: &str| format!("v.blk.{il}.{tensor}");
    let (n, eps) = (c.n_embd as usize, f64::from(c.norm_eps));
    let block_norm = |x: &Rows, at: &str| match c.norm {
        NormKind::Rms => rms_norm(x, &t.get(&name(&format!("{at}.weight"))), eps),
        NormKind::Layer => {
            layer_norm(x, &t.get(&name(&format!("{at}.weight"))), &t.get(&name(&format!("{at}.bias"))), eps)
        }
    };
    let scaled = |branch: Rows, ls: &str| match c.layer_scale {
        false => branch,
        true => {
            let ls = t.get(&name(ls));
            branch.into_iter().map(|row| row.iter().zip(&ls).map(|(a, b)| a * b).collect()).collect()
        }
    };
    let qkv_bias = c.qkv_bias.then(|| t.get(&name("attn_qkv.bias")));
    let qkv = linear(&block_norm(&x, "ln1"), &t.get(&name("attn_qkv.weight")), qkv_bias);
    let part = |i: usize| qkv.iter().map(|row| row[i * n..(i + 1) * n].to_vec()).collect::<Rows>();
    let (mut q, mut k, v) = (part(0), part(1), part(2));
    if c.qk_norm == QkNorm::Full {
        q = rms_norm(&q, &t.get(&name("attn_q_norm.weight")), eps);
        k = rms_norm(&k, &t.get(&name("attn_k_norm.weight")), eps);
        note(nodes, &name("attn_q"), &q);
        note(nodes, &name("attn_k"), &k);
    }
    let everything = |_row: usize| x.len();
    let out = attention(&q, &k, &v, [c.n_head as usize; 2], everything);
    let out = linear(&out, &t.get(&name("attn_out.weight")), Some(t.get(&name("attn_out.bias"))));
    note(nodes, &name("attn_out"), &out);
    let x = sum(x, scaled(out, "ls1.weight"));

    let up =
        linear(&block_norm(&x, "ln2"), &t.get(&name("ffn_up.weight")), Some(t.get(&name("ffn_up.bias"))));
    let act = match c.act {
        Activation::GeluErf => gelu_erf,
        Activation::QuickGelu => |x: f64| x / (1.0 + (-1.702 * x).exp()),
    };
    let up = map(up, act);
    let down = linear(&up, &t.get(&name("ffn_down.weight")), Some(t.get(&name("ffn_down.bias"))));
    let x = sum(x, scaled(down, "ls2.weight"));
    note(nodes, &name("out"), &x);
    x
}

/// All nodes of the projector; `x` are the tower's rows with the class token's.
pub(super) fn projector(
    v: &VisionConfig,
    c: &ProjectorConfig,
    t: &Tensors,
    x: &Rows,
    nodes: &mut Nodes,
) -> Rows {
    let patches = &x[usize::from(v.cls)..];
    let (n, s, width) = (v.grid() as usize, c.ratio as usize, v.n_embd as usize);
    let side = n / s;
    let mut shuffled = vec![Vec::new(); side * side];
    for (i, j) in (0..side).flat_map(|i| (0..side).map(move |j| (i, j))) {
        let token = match c.shuffle {
            Shuffle::V1 => side * j + i,
            Shuffle::V2 | Shuffle::None => side * i + j,
        };
        for k in 0..s * s * width {
            let (a, b, channel) = (k / (s * width), k % (s * width) / width, k % width);
            shuffled[token].push(patches[n * (s * i + a) + s * j + b][channel]);
        }
    }
    note(nodes, "shuffle", &shuffled);
    let (x, first, second) = match c.kind {
        ProjectorKind::Mlp2xGelu => (shuffled, "mm.0", "mm.2"),
        ProjectorKind::Mlp1 => {
            let normal = layer_norm(&shuffled, &t.get("mm.0.weight"), &t.get("mm.0.bias"), c.norm_eps.into());
            note(nodes, "mm.0", &normal);
            (normal, "mm.1", "mm.3")
        }
    };
    let dense =
        |x: &Rows, at: &str| linear(x, &t.get(&format!("{at}.weight")), Some(t.get(&format!("{at}.bias"))));
    let x = dense(&x, first);
    note(nodes, "mm.1", &x);
    let x = map(x, gelu_erf);
    note(nodes, "mm.2", &x);
    let x = dense(&x, second);
    note(nodes, "mm.out", &x);
    x
}

/// All nodes of the decoder for one sequence that starts at position 0.
pub(super) fn decoder(c: &TextConfig, t: &Tensors, inputs: Rows, nodes: &mut Nodes) {
    let eps = f64::from(c.norm_eps);
    let mut x = inputs;
    note(nodes, "inp_embd", &x);
    for il in 0..c.n_layer {
        let get = |tensor: &str| t.get(&format!("blk.{il}.{tensor}.weight"));
        let a = rms_norm(&x, &get("attn_norm"), eps);
        let q = rope(c, linear(&a, &get("attn_q"), None));
        let k = rope(c, linear(&a, &get("attn_k"), None));
        let v = linear(&a, &get("attn_v"), None);
        let up_to_itself = |row: usize| row + 1;
        let out = attention(&q, &k, &v, [c.n_head as usize, c.n_head_kv as usize], up_to_itself);
        let out = linear(&out, &get("attn_output"), None);
        note(nodes, &format!("blk.{il}.attn_out"), &out);
        x = sum(x, out);
        let m = rms_norm(&x, &get("ffn_norm"), eps);
        let gate = map(linear(&m, &get("ffn_gate"), None), |g| g / (1.0 + (-g).exp()));
        let up = linear(&m, &get("ffn_up"), None);
        let both = gate.iter().zip(&up).map(|(g, u)| g.iter().zip(u).map(|(g, u)| g * u).collect()).collect();
        x = sum(x, linear(&both, &get("ffn_down"), None));
        note(nodes, &format!("blk.{il}.out"), &x);
    }
    let normal = rms_norm(&x, &t.get("output_norm.weight"), eps);
    note(nodes, "output_norm", &normal);
    note(nodes, "logits", &linear(&normal, &t.get("output.weight"), None));
}

/// Row `i` is at position `i`; neighbours `2 i, 2 i + 1` of a head turn together.
fn rope(c: &TextConfig, x: Rows) -> Rows {
    let (head_dim, rope_dim) = (c.head_dim() as usize, c.rope_dim as usize);
    let turned = |(pos, row): (usize, Vec<f64>)| {
        let mut out = row.clone();
        for head in (0..row.len()).step_by(head_dim) {
            for i in (0..rope_dim).step_by(2) {
                let angle = pos as f64 * f64::from(c.rope_base).powf(-(i as f64) / rope_dim as f64);
                let (a, b) = (row[head + i], row[head + i + 1]);
                out[head + i] = a * angle.cos() - b * angle.sin();
                out[head + i + 1] = a * angle.sin() + b * angle.cos();
            }
        }
        out
    };
    x.into_iter().enumerate().map(turned).collect()
}

/// Row `r` attends to rows `0..seen(r)`; query head `h` reads key head `h * n_head_kv / n_head`.
fn attention(
    q: &Rows,
    k: &Rows,
    v: &Rows,
    [n_head, n_head_kv]: [usize; 2],
    seen: impl Fn(usize) -> usize,
) -> Rows {
    let head_dim = q[0].len() / n_head;
    let one = |(r, row): (usize, &Vec<f64>)| {
        let mut out = Vec::new();
        for h in 0..n_head {
            let kv = h * n_head_kv / n_head * head_dim;
            let score = |k: &Vec<f64>| (0..head_dim).map(|i| row[h * head_dim + i] * k[kv + i]).sum::<f64>();
            let scores: Vec<f64> = k[..seen(r)].iter().map(|k| score(k) / (head_dim as f64).sqrt()).collect();
            let max = scores.iter().cloned().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let total: f64 = weights.iter().sum();
            out.extend(
                (0..head_dim).map(|i| weights.iter().zip(v).map(|(w, v)| w * v[kv + i]).sum::<f64>() / total),
            );
        }
        out
    };
    q.iter().enumerate().map(one).collect()
}

fn linear(x: &Rows, w: &[f64], bias: Option<Vec<f64>>) -> Rows {
    let n_in = x[0].len();
    let dot = |row: &Vec<f64>, w: &[f64]| row.iter().zip(w).map(|(a, b)| a * b).sum::<f64>();
    let bias = bias.unwrap_or_else(|| vec![0.0; w.len() / n_in]);
    x.iter().map(|row| w.chunks_exact(n_in).zip(&bias).map(|(w, b)| dot(row, w) + b).collect()).collect()
}

fn rms_norm(x: &Rows, w: &[f64], eps: f64) -> Rows {
    let one = |row: &Vec<f64>| {
        let mean = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
        row.iter().zip(w).map(|(v, w)| v / (mean + eps).sqrt() * w).collect()
    };
    x.iter().map(one).collect()
}

fn layer_norm(x: &Rows, w: &[f64], bias: &[f64], eps: f64) -> Rows {
    let one = |row: &Vec<f64>| {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / row.len() as f64;
        let normal = |v: &f64| (v - mean) / (variance + eps).sqrt();
        row.iter().zip(w).zip(bias).map(|((v, w), b)| normal(v) * w + b).collect()
    };
    x.iter().map(one).collect()
}

/// `x / 2 (1 + erf(x / sqrt 2))`, the error function by its Taylor series, which is good to 1e-9 as far as it
/// is used; past that the error function is 1 to 3e-9.
fn gelu_erf(x: f64) -> f64 {
    let z = x / std::f64::consts::SQRT_2;
    if z.abs() > 4.2 {
        return x.max(0.0);
    }
    let (mut term, mut sum) = (z, z);
    for n in 1..100 {
        term *= -z * z / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    0.5 * x * (1.0 + 2.0 / std::f64::consts::PI.sqrt() * sum)
}

fn map(x: Rows, f: impl Fn(f64) -> f64) -> Rows {
    x.into_iter().map(|row| row.into_iter().map(&f).collect()).collect()
}

fn sum(a: Rows, b: Rows) -> Rows {
    a.into_iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

fn note(nodes: &mut Nodes, name: &str, x: &Rows) {
    nodes.insert(name.to_owned(), x.concat());
}
