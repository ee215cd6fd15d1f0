//! Value types: `ValueInfoProto` to and from [`Fact`].

use crate::Problem;
use crate::proto::{TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto as shape, type_proto};
use crate::tensor::{code, dtype};
use lorac_ir::{DType, Dim, Fact};

/// What the file says of a value; an opaque fact where it says nothing that a tensor could be.
pub(crate) fn read_fact(info: &ValueInfoProto) -> Result<Fact, Problem> {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return Ok(Fact::unranked(DType::Opaque));
    };
    let dtype = dtype(tensor.elem_type());
    let Some(shape) = &tensor.shape else { return Ok(Fact::unranked(dtype)) };
    let dims = shape.dim.iter().map(|d| match &d.value {
        Some(shape::dimension::Value::DimValue(n @ ..=-2)) => {
            Err(Problem::NegativeDim { value: info.name().to_string(), dim: *n })
        }
        Some(shape::dimension::Value::DimValue(-1)) | None => Ok(Dim::Unknown),
        Some(shape::dimension::Value::DimValue(n)) => Ok(Dim::Known(*n)),
        Some(shape::dimension::Value::DimParam(p)) => Ok(read_dim(p)),
    });
    Ok(Fact { dtype, shape: Some(dims.collect::<Result<_, _>>()?) })
}

fn read_dim(text: &str) -> Dim {
    // Arithmetic on what a hostile file says must stay small.
    const LONGEST: usize = 256;
    if text.is_empty() {
        return Dim::Unknown;
    }
    match (text.len() <= LONGEST).then(|| Dim::parse(text)).flatten() {
        // A negative number is not a size: such text is just somebody's symbol.
        Some(Dim::Known(n)) if n < 0 => Dim::named(text),
        Some(dim) => dim,
        None => Dim::named(text),
    }
}

/// The value type of a fact; none for opaque elements.
pub(crate) fn write_fact(name: &str, fact: &Fact) -> ValueInfoProto {
    let dim = |d: &Dim| {
        let value = match d {
            Dim::Known(n) => Some(shape::dimension::Value::DimValue(*n)),
            Dim::Sym(_) => Some(shape::dimension::Value::DimParam(d.to_string())),
            Dim::Unknown => None,
        };
        shape::Dimension { value, denotation: None }
    };
    let shape = fact.dims().map(|dims| TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = |elem| type_proto::Value::TensorType(type_proto::Tensor { elem_type: Some(elem), shape });
    let value = code(fact.dtype).map(tensor);
    ValueInfoProto {
        name: Some(name.to_string()),
        r#type: value.map(|v| TypeProto { value: Some(v), denotation: None }),
        ..ValueInfoProto::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_round_trip() {
        for fact in [
            Fact::new(DType::F32, [Dim::Known(2), Dim::named("N"), Dim::Unknown, Dim::named("N") * Dim::Known(3)]),
            Fact::unranked(DType::I64),
            Fact::scalar(DType::Str),
            Fact::unranked(DType::Opaque),
        ] {
            assert_eq!(read_fact(&write_fact("x", &fact)), Ok(fact));
        }
    }

    #[test]
    fn dimension_text_may_be_anything() {
        assert_eq!(read_dim("batch*2"), Dim::named("batch") * Dim::Known(2));
        assert_eq!(read_dim("floor(N/2)"), Dim::named("floor(N/2)"));
        assert_eq!(read_dim(""), Dim::Unknown);
        assert_eq!(read_dim("-7"), Dim::named("-7"));
        let long = "a+".repeat(200_000);
        assert_eq!(read_dim(&long), Dim::named(&long));
    }
}
