//! Which of llama.cpp's graphs computes a vision half, and what they and its text half compute differently from owlet.
//!
//! llama.cpp reads no key about norms, order of tokens or form of GELU: it concludes from the kind of projector and from
//! sizes. Read in its tools/mtmd: clip.cpp, mtmd-image.cpp, models/llava.cpp, models/internvl.cpp.

use owlet_format::{Activation, Fit, ModelConfig, NormKind, ProjectorKind, QkNorm, Shuffle, VisionConfig};

/// One of llama.cpp's graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Graph {
    /// `mlp`: CLIP's tower, two matrices.
    Llava,
    /// `internvl`: an InternViT, pixel shuffle, norm and two matrices.
    InternVl,
}

impl Graph {
    /// `clip.projector_type`
    pub fn word(self) -> &'static str {
        match self {
            Graph::Llava => "mlp",
            Graph::InternVl => "internvl",
        }
    }

    /// The graph for a vision half.
    ///
    /// # Errors
    /// Why there is none, as part of a sentence.
    pub fn of(config: &ModelConfig) -> Result<Graph, String> {
        let (Some(vision), Some(projector)) = (&config.vision, &config.projector) else {
            return Err("there is no vision half".into());
        };
        if !vision.cls {
            return Err("its graphs take a class token for granted, and this tower has none".into());
        }
        if vision.qk_norm == QkNorm::Full && vision.norm == NormKind::Layer {
            return Err("its graphs norm q and k as they norm blocks, and this tower does not".into());
        }
        match projector.kind {
            ProjectorKind::Mlp1 => internvl(vision),
            ProjectorKind::Mlp2xGelu if projector.shuffle != Shuffle::None => {
                Err("its graph for LLaVA has no pixel shuffle, and this model has one".into())
            }
            ProjectorKind::Mlp2xGelu if vision.norm == NormKind::Rms || vision.layer_scale => {
                Err("its graph for LLaVA has LayerNorms and no layer scale, and this tower is an InternViT"
                    .into())
            }
            ProjectorKind::Mlp2xGelu => Ok(Graph::Llava),
        }
    }
}

/// The widths at which llama.cpp takes an InternViT for one with RMS norms.
const RMS_N_EMBD: u32 = 3200;
const RMS_N_LAYER: u32 = 45;

fn internvl(vision: &VisionConfig) -> Result<Graph, String> {
    let VisionConfig { n_embd, n_layer, norm, .. } = *vision;
    let is_rms = (n_embd, n_layer) == (RMS_N_EMBD, RMS_N_LAYER);
    if is_rms == (norm == NormKind::Rms) {
        return Ok(Graph::InternVl);
    }
    let taken = if is_rms { "RMS norms" } else { "LayerNorms" };
    Err(format!(
        "it concludes from a width of {n_embd} and {n_layer} blocks that the tower has {taken}, and it has others"
    ))
}

/// What llama.cpp makes of a model, a sentence each.
pub fn differences(config: &ModelConfig) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    match Graph::of(config) {
        Ok(graph) => {
            match graph {
                Graph::Llava => llava_graph(&mut found),
                Graph::InternVl => internvl_graph(config, &mut found),
            }
            both_graphs(config, &mut found);
        }
        Err(why) => {
            found.push(format!(
                "Only the text half is written: llama.cpp cannot run this vision half, since {why}."
            ));
        }
    }
    text(config, &mut found);
    found
}

fn llava_graph(found: &mut Vec<String>) {
    let sentences = [
        "Picture rows: llama.cpp puts the class token behind the patches and then cuts off the front, so the text half gets \
         no row of the first patch, the class token's row as the last one, and the others one place early.",
        "Positions are turned in this file so that every patch has its own in llama.cpp as it is since May 2025; one that \
         puts the class token first, as before, gives every patch its neighbour's.",
        "Pictures: llama.cpp resizes before it pads to a square, this model wants the other order.",
    ];
    found.extend(sentences.map(String::from));
}

fn internvl_graph(config: &ModelConfig, found: &mut Vec<String>) {
    found.push(
        "Positions are turned in this file, since llama.cpp's graph has the class token behind the patches."
            .into(),
    );
    if config.projector.as_ref().is_some_and(|projector| projector.shuffle == Shuffle::V1) {
        let what = "llama.cpp hands a picture's tokens on row by row, this model was trained with columns: it sees pictures \
                    with their axes exchanged";
        found.push(format!("Token order: {what}."));
    }
    if let Some(image) = &config.image {
        let px = image.size_px;
        found.push(format!(
            "Pictures: those with a side over {px} pixels get a second, letterboxed view in llama.cpp, with begin and end \
             tokens of its own; this model wants one view of {px} x {px}."
        ));
    }
    // the constant in its graph
    if config.projector.as_ref().is_some_and(|projector| projector.norm_eps != 1e-5) {
        found.push("Projector: llama.cpp's norm has an epsilon of 1e-5, this model another.".into());
    }
}

fn both_graphs(config: &ModelConfig, found: &mut Vec<String>) {
    let is_erf = config.vision.as_ref().is_some_and(|vision| vision.act == Activation::GeluErf);
    let place = if is_erf { "in tower and projector" } else { "in the projector" };
    found.push(format!("GELU: llama.cpp computes the tanh form {place}, this model wants the one by erf."));
    found.push("Patches: llama.cpp rounds pixels to f16 before the first matrix.".into());
    if config.image.as_ref().is_some_and(|image| image.fit == Fit::Crop) {
        found.push("Pictures: llama.cpp does not cut out the middle.".into());
    }
}

fn text(config: &ModelConfig, found: &mut Vec<String>) {
    if config.tokenizer.as_ref().is_some_and(|tokenizer| !tokenizer.legacy && tokenizer.add_space_prefix) {
        let what =
            "llama.cpp puts a space before text behind a special token, this model was trained without one";
        found.push(format!("Tokens: {what}; it shows from the second question on."));
    }
    found.push("Tokens: what a person types can become a special token in llama.cpp.".into());
}
