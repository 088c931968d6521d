//! preprocessor_config.json: the normalisation of pixels, and whether the file agrees with the model's side.

use super::json::{Json, JsonFile};
use crate::error::Result;

/// Mean and standard deviation where a file says none.
pub struct Statistics {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// The statistics of ImageNet, as every InternVL uses them.
pub const IMAGENET: Statistics = Statistics { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
/// CLIP's own (OPENAI_CLIP_MEAN of transformers).
pub const CLIP: Statistics = Statistics {
    mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
    std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
};

/// Per channel, red green blue, on the scale of 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    pub mean: [f32; 3],
    pub std: [f32; 3],
    pub assumed: Vec<String>,
    pub notes: Vec<String>,
}

impl Normalisation {
    /// What no file has a say in.
    pub fn of(statistics: &Statistics) -> Normalisation {
        let Statistics { mean, std } = *statistics;
        Normalisation { mean, std, assumed: Vec::new(), notes: Vec::new() }
    }
}

/// Reads mean and standard deviation out of preprocessor_config.json; where it says none they are `default`, and that is
/// said.
///
/// # Errors
/// For values that are no three numbers, or a deviation that is not positive.
pub fn read(preprocessor: &JsonFile, default: &Statistics, size_px: u32) -> Result<Normalisation> {
    let root = preprocessor.root();
    let mut assumed = Vec::new();
    let mut of = |key: &str, default: [f32; 3]| match root.key(key) {
        Some(value) => triple(&value),
        None => {
            assumed.push(format!("preprocessor_config.{key} = {default:?}"));
            Ok(default)
        }
    };
    let (mean, std) = (of("image_mean", default.mean)?, of("image_std", default.std)?);
    if let Some(value) = root.key("image_std")
        && std.iter().any(|x| *x <= 0.0)
    {
        return Err(value.wrong("three positive numbers"));
    }
    let mut notes = Vec::new();
    for key in ["size", "crop_size"] {
        let Some(value) = root.key(key) else { continue };
        let px = side(&value)?;
        if px != size_px {
            notes.push(format!("preprocessor_config.{key} says {px}, the model takes {size_px}"));
        }
    }
    Ok(Normalisation { mean, std, assumed, notes })
}

/// Whether preprocessor_config.json asks for what CLIPImageProcessor does by default: the shorter side resized with
/// Pillow's bicubic kernel to the side that is then cut out of the middle.
///
/// # Errors
/// For other settings.
pub fn need_shortest_edge_and_crop(preprocessor: &JsonFile) -> Result<()> {
    /// Pillow's number of the bicubic kernel.
    const BICUBIC: u32 = 3;
    let root = preprocessor.root();
    for key in ["do_resize", "do_center_crop", "do_normalize", "do_rescale"] {
        if let Some(value) = root.key(key)
            && !value.bool()?
        {
            return Err(value.unsupported("true"));
        }
    }
    if let Some(value) = root.key("resample")
        && value.u32()? != BICUBIC
    {
        return Err(value.unsupported("3 (bicubic)"));
    }
    if let (Some(size), Some(crop)) = (root.key("size"), root.key("crop_size"))
        && side(&size)? != side(&crop)?
    {
        return Err(crop.unsupported(&format!("size {}", side(&size)?)));
    }
    Ok(())
}

fn triple(value: &Json) -> Result<[f32; 3]> {
    let items = value.array()?;
    let [r, g, b] = items.as_slice() else { return Err(value.wrong("three numbers")) };
    Ok([r.f64()? as f32, g.f64()? as f32, b.f64()? as f32])
}

/// A side as a number, or as an object with `shortest_edge` or `height`.
fn side(value: &Json) -> Result<u32> {
    match value.key("shortest_edge").or_else(|| value.key("height")) {
        Some(side) => side.u32(),
        None => value.u32(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Normalisation> {
        let dir = tempfile::tempdir().unwrap();
        if !text.is_empty() {
            std::fs::write(dir.path().join("preprocessor_config.json"), text).unwrap();
        }
        let file = JsonFile::read_or_empty(&dir.path().join("preprocessor_config.json"))?;
        read(&file, &IMAGENET, 448)
    }

    #[test]
    fn reads_or_assumes() {
        let read = of(r#"{"image_mean": [0.5, 0.4, 0.3], "image_std": [1, 1, 1], "size": 448}"#).unwrap();
        assert_eq!((read.mean, read.std), ([0.5, 0.4, 0.3], [1.0; 3]));
        assert!(read.assumed.is_empty() && read.notes.is_empty());

        let assumed = of("").unwrap();
        assert_eq!((assumed.mean, assumed.std), (IMAGENET.mean, IMAGENET.std));
        assert_eq!(assumed.assumed[0], "preprocessor_config.image_mean = [0.485, 0.456, 0.406]");

        let other =
            of(r#"{"size": {"shortest_edge": 224}, "crop_size": {"height": 448, "width": 448}}"#).unwrap();
        assert_eq!(other.notes, ["preprocessor_config.size says 224, the model takes 448"]);
    }

    #[test]
    fn refuses_other_values() {
        let cases = [
            (r#"{"image_mean": [1, 2]}"#, "image_mean: expected three numbers, found an array"),
            (r#"{"image_mean": 1}"#, "image_mean: expected an array, found 1"),
            (r#"{"image_std": [1, 0, 1]}"#, "image_std: expected three positive numbers, found an array"),
            (r#"{"size": {}}"#, "size: expected an integer from 0 to 4294967295, found an object"),
            ("[]", "preprocessor_config.json: expected an object, found an array"),
            ("{", "preprocessor_config.json: EOF while parsing"),
        ];
        for (text, expected) in cases {
            let found = of(text).unwrap_err().to_string();
            assert!(found.contains(expected), "expected {expected}\n   found {found}");
        }
    }
}
