//! A picture as the model sees it, small, on a terminal that can draw.
//!
//! In: pixels, and what the terminal said of itself. Out: the characters that draw it, or nothing. Kitty's graphics and
//! iTerm's inline pictures where they are known to work, else half blocks in 24-bit or 256 colours.

use super::terminal::{is_of_dumb, may_colour};
use crate::prompt::{Pixels, resize};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::fmt::Write as _;

/// How a terminal draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawing {
    /// <https://sw.kovidgoyal.net/kitty/graphics-protocol/>
    Kitty,
    /// <https://iterm2.com/documentation-images.html>
    Iterm,
    /// Two pixels a character, colours in 24 bits.
    Blocks,
    /// The same in the 256 colours of xterm.
    Blocks256,
}

/// Columns and rows of a thumbnail; a character is twice as high as wide.
const N_COLUMNS: usize = 28;
const N_ROWS: usize = N_COLUMNS / 2;

/// Side of a thumbnail where pixels are drawn as such.
const MAX_SIDE_PX: usize = 224;

/// Bytes of base64 that one of kitty's sequences may carry.
const KITTY_PIECE: usize = 4096;

impl Drawing {
    /// What the terminal can, by its environment `variable`; `None` draws nothing.
    pub fn of_terminal(variable: impl Fn(&str) -> Option<String>) -> Option<Drawing> {
        let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
        let value = |name| variable(name).unwrap_or_default().to_lowercase();
        let (term, program) = (value("TERM"), value("TERM_PROGRAM"));
        if term.is_empty() || is_of_dumb(&term) || !may_colour(&variable) {
            return None;
        }
        // What stands between program and terminal lets only text through.
        let is_multiplexed =
            is_set("TMUX") || is_set("STY") || ["screen", "tmux"].iter().any(|name| term.starts_with(name));
        if !is_multiplexed {
            if is_set("KITTY_WINDOW_ID") || term == "xterm-kitty" || program == "ghostty" {
                return Some(Drawing::Kitty);
            }
            if program == "iterm.app" || program == "wezterm" || value("LC_TERMINAL") == "iterm2" {
                return Some(Drawing::Iterm);
            }
        }
        if ["truecolor", "24bit"].contains(&value("COLORTERM").as_str()) {
            return Some(Drawing::Blocks);
        }
        term.contains("256color").then_some(Drawing::Blocks256)
    }

    /// The characters that draw `pixels`, with a newline behind them; nothing where `n_columns` are too few.
    pub fn draw(self, pixels: &Pixels, n_columns: usize) -> String {
        if n_columns < N_COLUMNS {
            return String::new();
        }
        match self {
            Drawing::Kitty => kitty(pixels),
            Drawing::Iterm => iterm(pixels),
            Drawing::Blocks => blocks(pixels, |[r, g, b]| format!("2;{r};{g};{b}")),
            Drawing::Blocks256 => blocks(pixels, |rgb| format!("5;{}", nearest_of_256(rgb))),
        }
    }
}

/// `[3, side, side]` bytes of the picture, and the side.
fn scaled(pixels: &Pixels, side: usize) -> (Vec<u8>, usize) {
    let n = pixels.size_px;
    if side >= n { (pixels.rgb.to_vec(), n) } else { (resize(&pixels.rgb, [n, n], [side, side]), side) }
}

fn kitty(pixels: &Pixels) -> String {
    let (rgb, side) = scaled(pixels, MAX_SIDE_PX);
    let data = BASE64_STANDARD.encode(&rgb);
    let mut out = String::new();
    let mut pieces = data.as_bytes().chunks(KITTY_PIECE).peekable();
    let mut keys = format!("a=T,f=24,s={side},v={side},c={N_COLUMNS},r={N_ROWS},q=2,");
    while let Some(piece) = pieces.next() {
        let more = u8::from(pieces.peek().is_some());
        let _ = write!(out, "\x1b_G{keys}m={more};{}\x1b\\", String::from_utf8_lossy(piece));
        keys.clear();
    }
    out + "\n"
}

fn iterm(pixels: &Pixels) -> String {
    let (rgb, side) = scaled(pixels, MAX_SIDE_PX);
    let Some(png) = png(&rgb, side) else { return String::new() };
    let size = png.len();
    let data = BASE64_STANDARD.encode(&png);
    format!(
        "\x1b]1337;File=inline=1;size={size};width={N_COLUMNS};height={N_ROWS};preserveAspectRatio=0:{data}\x07\n"
    )
}

fn png(rgb: &[u8], side: usize) -> Option<Vec<u8>> {
    let side = u32::try_from(side).ok()?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().ok()?.write_image_data(rgb).ok()?;
    Some(bytes)
}

/// The upper half of a character is its foreground, the lower one its background.
fn blocks(pixels: &Pixels, colour: impl Fn([u8; 3]) -> String) -> String {
    let n = pixels.size_px;
    let sides = [N_COLUMNS, 2 * N_ROWS];
    let rgb = resize(&pixels.rgb, [n, n], sides);
    let at = |x: usize, y: usize| {
        let start = (y * N_COLUMNS + x) * 3;
        [rgb[start], rgb[start + 1], rgb[start + 2]]
    };
    let mut out = String::new();
    for row in 0..N_ROWS {
        let mut before = None;
        for column in 0..N_COLUMNS {
            let colours = [colour(at(column, 2 * row)), colour(at(column, 2 * row + 1))];
            if before.as_ref() != Some(&colours) {
                let _ = write!(out, "\x1b[38;{};48;{}m", colours[0], colours[1]);
            }
            out.push('▀');
            before = Some(colours);
        }
        out.push_str("\x1b[0m\n");
    }
    out
}

/// Of xterm's palette: a cube of 6 levels a colour from 16 on, 24 grays from 232 on.
fn nearest_of_256(rgb: [u8; 3]) -> u8 {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let distance =
        |other: [u8; 3]| -> u32 { rgb.iter().zip(other).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum() };
    let nearest = rgb
        .map(|value| (0..6u8).min_by_key(|&level| LEVELS[usize::from(level)].abs_diff(value)).unwrap_or(0));
    let of_cube = nearest.map(|level| LEVELS[usize::from(level)]);
    let mean = rgb.iter().map(|&value| u32::from(value)).sum::<u32>() / 3;
    let step = (mean.saturating_sub(3) / 10).min(23) as u8;
    let gray = 8 + 10 * step;
    if distance([gray; 3]) < distance(of_cube) {
        232 + step
    } else {
        16 + 36 * nearest[0] + 6 * nearest[1] + nearest[2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(variables: &[(&str, &str)]) -> Option<Drawing> {
        Drawing::of_terminal(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn what_terminals_can() {
        type Variables<'a> = &'a [(&'a str, &'a str)];
        let cases: &[(Variables, Option<Drawing>)] = &[
            (&[], None),
            (&[("TERM", "xterm")], None),
            (&[("TERM", "dumb"), ("COLORTERM", "truecolor")], None),
            (&[("TERM", "xterm-256color")], Some(Drawing::Blocks256)),
            (&[("TERM", "xterm-256color"), ("NO_COLOR", "1")], None),
            (&[("TERM", "xterm-256color"), ("NO_COLOR", "")], Some(Drawing::Blocks256)),
            (&[("TERM", "xterm-256color"), ("CLICOLOR", "0")], None),
            (&[("TERM", "xterm-256color"), ("CLICOLOR", "1")], Some(Drawing::Blocks256)),
            (&[("TERM", "cons25"), ("COLORTERM", "truecolor")], None),
            (&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")], Some(Drawing::Blocks)),
            (&[("TERM", "xterm"), ("COLORTERM", "24bit")], Some(Drawing::Blocks)),
            (&[("TERM", "xterm-kitty")], Some(Drawing::Kitty)),
            (&[("TERM", "xterm-256color"), ("KITTY_WINDOW_ID", "1")], Some(Drawing::Kitty)),
            (&[("TERM", "xterm-ghostty"), ("TERM_PROGRAM", "ghostty")], Some(Drawing::Kitty)),
            (&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "iTerm.app")], Some(Drawing::Iterm)),
            (&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "WezTerm")], Some(Drawing::Iterm)),
            (&[("TERM", "xterm-256color"), ("LC_TERMINAL", "iTerm2")], Some(Drawing::Iterm)),
            (&[("TERM", "tmux-256color"), ("KITTY_WINDOW_ID", "1")], Some(Drawing::Blocks256)),
            (
                &[("TERM", "xterm-256color"), ("TMUX", "/t"), ("TERM_PROGRAM", "iTerm.app")],
                Some(Drawing::Blocks256),
            ),
            (&[("TERM", "xterm-kitty"), ("STY", "1"), ("COLORTERM", "truecolor")], Some(Drawing::Blocks)),
        ];
        for (variables, expected) in cases {
            assert_eq!(terminal(variables), *expected, "{variables:?}");
        }
    }

    /// Red above, blue below; green in the upper left corner.
    fn pixels(size_px: usize) -> Pixels {
        let colour = |at: usize| match (at % size_px, at / size_px) {
            (x, y) if x < size_px / 2 && y < size_px / 2 => [0, 255, 0],
            (_, y) if y < size_px / 2 => [255, 0, 0],
            _ => [0, 0, 255],
        };
        let rgb: Vec<u8> = (0..size_px * size_px).flat_map(colour).collect();
        Pixels { size_px, rgb: rgb.into(), planes: vec![] }
    }

    #[test]
    fn half_blocks() {
        let drawn = Drawing::Blocks.draw(&pixels(56), 80);
        let rows: Vec<_> = drawn.lines().collect();
        assert_eq!(rows.len(), N_ROWS);
        assert!(rows[0].starts_with("\x1b[38;2;0;255;0;48;2;0;255;0m▀▀▀"), "{:?}", rows[0]);
        assert!(rows[0].contains("\x1b[38;2;255;0;0;48;2;255;0;0m▀▀") && rows[0].ends_with("▀\x1b[0m"));
        assert!(rows[N_ROWS - 1].starts_with("\x1b[38;2;0;0;255;48;2;0;0;255m▀"), "{:?}", rows[N_ROWS - 1]);
        assert!(rows.iter().all(|row| row.matches('▀').count() == N_COLUMNS));
        let few = Drawing::Blocks256.draw(&pixels(56), 80);
        assert!(few.starts_with("\x1b[38;5;46;48;5;46m▀▀"), "{few:?}");
        assert_eq!(Drawing::Blocks.draw(&pixels(56), N_COLUMNS - 1), "");
    }

    #[test]
    fn kitty_in_pieces() {
        let drawn = Drawing::Kitty.draw(&pixels(56), 80);
        let pieces: Vec<_> = drawn.trim_end().split_terminator("\x1b\\").collect();
        let n_letters = (56 * 56 * 3usize).div_ceil(3) * 4;
        assert_eq!(pieces.len(), n_letters.div_ceil(KITTY_PIECE));
        assert!(
            pieces[0].starts_with("\x1b_Ga=T,f=24,s=56,v=56,c=28,r=14,q=2,m=1;AP8AAP8A"),
            "{:?}",
            &pieces[0][..60]
        );
        assert!(pieces[1].starts_with("\x1b_Gm=1;") && pieces[pieces.len() - 1].starts_with("\x1b_Gm=0;"));
        let n_data: usize = pieces.iter().map(|piece| piece.split_once(';').unwrap().1.len()).sum();
        assert_eq!(n_data, n_letters);
        assert!(Drawing::Kitty.draw(&pixels(448), 80).contains("s=224,v=224"));
    }

    #[test]
    fn iterm_gets_a_png() {
        let drawn = Drawing::Iterm.draw(&pixels(56), 80);
        assert!(drawn.starts_with("\x1b]1337;File=inline=1;size=") && drawn.ends_with("\x07\n"), "{drawn:?}");
        // The first bytes of a PNG.
        assert!(drawn.contains(":iVBORw0KGgo"), "{drawn:?}");
    }

    #[test]
    fn the_nearest_colour() {
        for (rgb, expected) in [
            ([0, 0, 0], 16),
            ([255, 255, 255], 231),
            ([255, 0, 0], 196),
            ([95, 135, 175], 67),
            ([128, 128, 128], 244),
            ([9, 9, 9], 232),
        ] {
            assert_eq!(nearest_of_256(rgb), expected, "{rgb:?}");
        }
    }

    #[test]
    fn base64_of_the_rfc() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(BASE64_STANDARD.encode(bytes), expected);
        }
        assert_eq!(BASE64_STANDARD.encode([0xfb, 0xff]), "+/8=");
    }
}
