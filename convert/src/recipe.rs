//! Which type each tensor gets: a line of a recipe file, or the choice for its part. The text half follows
//! llama-quantize's rules, so that a file is what people know under the same name; the other parts get one type. Where
//! rows don't allow that, the next type that holds them.

use ggml::DType;
use owlet_format::{ModelConfig, Part, Role, TensorSpec};

use crate::checkpoint::SourceType;
use crate::error::Result;
use crate::mixture::{TextWeight, TypeChoice, fitting, text_type};
use crate::rules::Rules;

/// One choice a part, and rules before them.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub text: TypeChoice,
    pub vision: TypeChoice,
    pub projector: TypeChoice,
    pub rules: Rules,
    /// Whether there is an importance matrix, which changes some choices of the text half.
    pub has_importance: bool,
}

/// The type a tensor gets, and the one that its rows were too short or too long for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    pub dtype: DType,
    pub instead_of: Option<DType>,
}

impl Chosen {
    /// The type that a tensor has already.
    pub fn kept(dtype: DType) -> Chosen {
        Chosen { dtype, instead_of: None }
    }
}

impl Recipe {
    /// The types asked for, a line each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let types = [("text", self.text), ("vision", self.vision), ("projector", self.projector)];
        types.into_iter().map(|(part, choice)| format!("{part} = {choice}")).chain(self.rules.lines())
    }

    /// The type of `spec`, whose source is `source`, in a model of `config`.
    pub fn choose(&self, spec: &TensorSpec, source: SourceType, config: &ModelConfig) -> Chosen {
        let choice = self.of(spec.part);
        if Recipe::has_choice(spec) {
            let n_per_row = spec.ne.padded()[0];
            let by_name = || match &config.text {
                Some(text) if spec.part == Part::Text => {
                    let (name, has_importance) = (spec.name.as_str(), self.has_importance);
                    text_type(choice, TextWeight { name, n_per_row, text, has_importance })
                }
                _ => choice.base(),
            };
            let wanted = self.rules.dtype(&spec.name).unwrap_or_else(by_name);
            let dtype = fitting(wanted, n_per_row);
            return Chosen { dtype, instead_of: (dtype != wanted).then_some(wanted) };
        }
        // f16 can't hold every bf16; the kernel is small
        let half = spec.role == Role::Patch && (choice.base() == DType::F16 || source == SourceType::F16);
        let dtype = if half && choice.base() != DType::F32 { DType::F16 } else { DType::F32 };
        Chosen { dtype, instead_of: None }
    }

    /// Whether a recipe has a say about the tensor; norms, biases and the like are f32.
    pub fn has_choice(spec: &TensorSpec) -> bool {
        matches!(spec.role, Role::Matrix | Role::Embedding | Role::Output)
    }

    /// The choice for a part.
    pub fn of(&self, part: Part) -> TypeChoice {
        match part {
            Part::Text => self.text,
            Part::Vision => self.vision,
            Part::Projector => self.projector,
        }
    }

    /// # Errors
    /// For a rule that decides about none of `specs`.
    pub fn refuse_idle_rules(&self, specs: &[TensorSpec]) -> Result<()> {
        let names: Vec<&str> =
            specs.iter().filter(|spec| Recipe::has_choice(spec)).map(|spec| spec.name.as_str()).collect();
        self.rules.refuse_idle(&names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TypeChoice::Plain;

    #[test]
    fn small_tensors_keep_their_numbers() {
        let spec = |name: &str, role, ne: &[u64]| TensorSpec {
            name: name.into(),
            ne: owlet_format::Shape::new(ne).unwrap(),
            part: Part::Vision,
            role,
        };
        let of = |vision, spec: &TensorSpec, source| {
            let rules = Rules::parse(b". = q4_0", "recipe").unwrap();
            Recipe { text: Plain(DType::Q4_0), vision, projector: vision, rules, has_importance: false }
                .choose(spec, source, &ModelConfig::of_family(""))
                .dtype
        };
        let patch = spec("v.patch_embd.weight", Role::Patch, &[14, 14, 3, 64]);
        let norm = spec("v.blk.0.ln1.weight", Role::Norm, &[64]);
        let q8_0 = Plain(DType::Q8_0);
        assert_eq!(of(q8_0, &patch, SourceType::BF16), DType::F32);
        assert_eq!(of(q8_0, &patch, SourceType::F16), DType::F16);
        assert_eq!(of(Plain(DType::F16), &patch, SourceType::BF16), DType::F16);
        assert_eq!(of(Plain(DType::F32), &patch, SourceType::F16), DType::F32);
        assert_eq!(of(q8_0, &norm, SourceType::BF16), DType::F32);
        let matrix = spec("v.blk.0.ffn_up.weight", Role::Matrix, &[64, 64]);
        assert_eq!(of(q8_0, &matrix, SourceType::BF16), DType::Q4_0, "a rule goes before the part's type");
    }
}
