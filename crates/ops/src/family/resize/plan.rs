//! What a Resize is asked for: the scaling of every axis.

use super::map::Scaling;
use lorac_ir::Node;

/// The operands of a Resize, as far as they are there.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) part: Option<Vec<f64>>,
    pub(super) scales: Option<Vec<f64>>,
    pub(super) sizes: Option<Vec<i64>>,
}

/// The axes that the operands speak of.
pub(super) fn axes(node: &Node, rank: usize) -> Result<Vec<usize>, String> {
    let Some(axes) = node.ints("axes") else { return Ok((0..rank).collect()) };
    let at = |axis: &i64| {
        let at = if *axis < 0 { axis + rank as i64 } else { *axis };
        usize::try_from(at).ok().filter(|at| *at < rank).ok_or_else(|| format!("axis {axis} of rank {rank}"))
    };
    axes.iter().map(at).collect()
}

/// The scaling of every axis of an operand with lengths `dims`.
pub(super) fn plan(node: &Node, dims: &[usize], asked: &Asked) -> Result<Vec<Scaling>, String> {
    let axes = axes(node, dims.len())?;
    let whole = |len: &usize| Scaling { len: *len, resized: *len, scale: 1.0, exact: *len as f64, part: (0.0, 1.0) };
    let mut out: Vec<Scaling> = dims.iter().map(whole).collect();
    let fits = |count: usize, what: &str| match count == axes.len() {
        true => Ok(()),
        false => Err(format!("{count} {what} for {} axes", axes.len())),
    };
    if let Some(part) = asked.part.as_ref().filter(|p| !p.is_empty()) {
        fits(part.len() / 2, "regions")?;
        for (i, axis) in axes.iter().enumerate() {
            out[*axis].part = (part[i], part[i + axes.len()]);
        }
    }
    match (&asked.scales, &asked.sizes) {
        (Some(scales), None) => {
            fits(scales.len(), "scales")?;
            for (axis, scale) in axes.iter().zip(scales) {
                if !(*scale > 0.0 && *scale < 1e6) {
                    return Err(format!("a scale of {scale}"));
                }
                let s = &mut out[*axis];
                let part = s.part.1 - s.part.0;
                s.exact = s.len as f64 * scale * if cropped(node) { part } else { 1.0 };
                (s.scale, s.resized) = (*scale, resized(s.exact));
            }
        }
        (None, Some(sizes)) => {
            fits(sizes.len(), "sizes")?;
            let scale = |axis: usize, size: i64| (size.max(0) as f64) / out[axis].len.max(1) as f64;
            let scales: Vec<f64> = axes.iter().zip(sizes).map(|(axis, size)| scale(*axis, *size)).collect();
            let common = match node.str("keep_aspect_ratio_policy").unwrap_or("stretch") {
                "stretch" => None,
                "not_larger" => scales.iter().copied().reduce(f64::min),
                "not_smaller" => scales.iter().copied().reduce(f64::max),
                other => return Err(format!("the policy `{other}`")),
            };
            for (i, axis) in axes.iter().enumerate() {
                let s = &mut out[*axis];
                s.scale = common.unwrap_or(scales[i]);
                s.resized = match common {
                    Some(scale) => (scale * s.len as f64 + 0.5).floor() as usize,
                    None => usize::try_from(sizes[i]).map_err(|_| format!("a size of {}", sizes[i]))?,
                };
                s.exact = s.scale * s.len as f64;
            }
        }
        _ => return Err("neither scales nor sizes, or both".to_string()),
    }
    match out.iter().position(|s| s.len == 0 && s.resized > 0) {
        Some(axis) => Err(format!("axis {axis} of no elements cannot become {}", out[axis].resized)),
        None => Ok(out),
    }
}

/// Whether only a part is resized.
pub(super) fn cropped(node: &Node) -> bool {
    node.str("coordinate_transformation_mode") == Some("tf_crop_and_resize")
}

/// A length rounded down; scales are f32, whose products with whole numbers may fall a little short of one.
fn resized(exact: f64) -> usize {
    f64::from(exact as f32).floor().max(0.0) as usize
}
