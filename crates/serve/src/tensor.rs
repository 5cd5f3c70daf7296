//! Tensors as the Open Inference Protocol has them: a datatype, a shape, and
//! the elements as little-endian bytes in row order.
//!
//! Invariant: a [`Tensor`] made by [`Tensor::new`] has exactly as many
//! elements as its shape says, so runtimes need no checks of their own.

use bytes::Bytes;

/// Datatypes of the protocol that are implemented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    F32,
    F64,
    Text,
}

const NAMES: [(DataType, &str, usize); 13] = [
    (DataType::Bool, "BOOL", 1),
    (DataType::U8, "UINT8", 1),
    (DataType::U16, "UINT16", 2),
    (DataType::U32, "UINT32", 4),
    (DataType::U64, "UINT64", 8),
    (DataType::I8, "INT8", 1),
    (DataType::I16, "INT16", 2),
    (DataType::I32, "INT32", 4),
    (DataType::I64, "INT64", 8),
    (DataType::F16, "FP16", 2),
    (DataType::F32, "FP32", 4),
    (DataType::F64, "FP64", 8),
    (DataType::Text, "BYTES", 0),
];

impl DataType {
    fn row(self) -> &'static (DataType, &'static str, usize) {
        // Every variant stands in the table; a test holds it to that.
        NAMES.iter().find(|(t, ..)| *t == self).unwrap_or(&NAMES[0])
    }

    pub fn name(self) -> &'static str {
        self.row().1
    }

    pub fn parse(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, n, _)| *n == name).map(|(t, ..)| *t)
    }

    /// Bytes of one element; `None` for strings, whose elements differ.
    pub fn size(self) -> Option<usize> {
        (self != Self::Text).then_some(self.row().2)
    }

    /// All names, for messages.
    pub fn names() -> String {
        NAMES.iter().map(|(_, n, _)| *n).collect::<Vec<_>>().join(", ")
    }
}

/// The elements of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Elements of a fixed size, little-endian, without gaps.
    Raw(Bytes),
    /// The elements of a `BYTES` tensor.
    Text(Texts),
}

/// Strings one after the other, each behind its length in four bytes: how the
/// protocol's binary data has them and how a worker wants them. As values of
/// their own they would take many times the memory of a body full of short
/// ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Texts {
    packed: Bytes,
    count: usize,
}

impl Texts {
    /// Checks every length. The error ends a sentence.
    pub fn parse(packed: Bytes) -> Result<Self, String> {
        let (mut rest, mut count) = (&packed[..], 0);
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk().ok_or("ends within a length")?;
            let skipped = after.get(u32::from_le_bytes(*length) as usize..);
            rest = skipped.ok_or_else(|| format!("ends within value {count}"))?;
            count += 1;
        }
        Ok(Self { packed, count })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn packed(&self) -> &Bytes {
        &self.packed
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.packed[..];
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk()?;
            let (item, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = after;
            Some(item)
        })
    }
}

/// Makes [`Texts`].
#[derive(Default)]
pub struct Packer {
    packed: Vec<u8>,
    count: usize,
}

impl Packer {
    pub fn with_capacity(bytes: usize) -> Self {
        Self { packed: Vec::with_capacity(bytes), count: 0 }
    }

    /// The error ends a sentence.
    pub fn push(&mut self, item: &[u8]) -> Result<(), String> {
        let length = u32::try_from(item.len()).map_err(|_| "holds a string of more than 4 GiB")?;
        self.packed.extend_from_slice(&length.to_le_bytes());
        self.packed.extend_from_slice(item);
        self.count += 1;
        Ok(())
    }

    pub fn append(&mut self, texts: &Texts) {
        self.packed.extend_from_slice(&texts.packed);
        self.count += texts.count;
    }

    pub fn finish(self) -> Texts {
        Texts { packed: self.packed.into(), count: self.count }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub datatype: DataType,
    pub shape: Vec<i64>,
    pub data: Data,
}

impl Tensor {
    /// The error is a whole sentence.
    pub fn new(name: String, datatype: DataType, shape: Vec<i64>, data: Data) -> Result<Self, String> {
        let wanted = elements(&shape).ok_or_else(|| format!("tensor '{name}' has the impossible shape {shape:?}"))?;
        let got = match (&data, datatype.size()) {
            (Data::Raw(bytes), Some(size)) if bytes.len() % size == 0 => bytes.len() / size,
            (Data::Raw(bytes), Some(size)) => {
                return Err(format!(
                    "tensor '{name}' has {} bytes, which is no multiple of the {size} bytes of {}",
                    bytes.len(),
                    datatype.name()
                ));
            }
            (Data::Text(items), None) => items.count(),
            _ => return Err(format!("tensor '{name}' has elements that do not belong to {}", datatype.name())),
        };
        if got == wanted {
            Ok(Self { name, datatype, shape, data })
        } else {
            Err(format!("tensor '{name}' has {got} elements; its shape {shape:?} asks for {wanted}"))
        }
    }
}

/// How many elements a shape holds; `None` for a negative dimension or a
/// product above what memory could ever hold.
pub fn elements(shape: &[i64]) -> Option<usize> {
    let mut product: usize = 1;
    for dim in shape {
        product = product.checked_mul(usize::try_from(*dim).ok()?)?;
    }
    (product <= isize::MAX as usize).then_some(product)
}

/// What a model says of one of its inputs or outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    pub name: String,
    pub datatype: DataType,
    /// -1 where any size will do.
    pub shape: Vec<i64>,
}

/// Half precision to single; exact.
pub fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half >> 15) << 31;
    let exponent = u32::from(half >> 10) & 0x1f;
    let fraction = u32::from(half & 0x3ff);
    match (exponent, fraction) {
        (0, 0) => f32::from_bits(sign),
        // A subnormal is its fraction times 2^-24, which single precision holds exactly.
        (0, _) => f32::from_bits((fraction as f32 * 2f32.powi(-24)).to_bits() | sign),
        (31, _) => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

/// Double precision to the nearest half, ties to even; beyond the range,
/// infinity.
pub fn f64_to_f16(value: f64) -> u16 {
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    let a = value.abs();
    if a.is_nan() {
        return sign | 0x7e00;
    }
    // 65520 is halfway between the greatest half (65504) and the next power.
    if a >= 65520.0 {
        return sign | 0x7c00;
    }
    // Below 2^-14 halves are multiples of 2^-24; above, of 2^(e-10).
    let exponent = if a < 2f64.powi(-14) { -14 } else { a.log2().floor() as i32 };
    // log2 may round up across a power of two.
    let exponent = if a < 2f64.powi(exponent) && exponent > -14 { exponent - 1 } else { exponent };
    let units = (a * 2f64.powi(10 - exponent)).round_ties_even() as u16;
    // `units` carries the hidden bit for normal numbers, so that a carry out
    // of the fraction moves into the exponent by itself.
    sign | (((exponent + 14) as u16) << 10).wrapping_add(units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_whole() {
        for (t, name, _) in NAMES {
            assert_eq!(t.name(), name);
            assert_eq!(DataType::parse(name), Some(t));
        }
        assert_eq!(DataType::parse("FP8"), None);
    }

    #[test]
    fn every_half_survives() {
        for half in 0..=u16::MAX {
            let single = f16_to_f32(half);
            if single.is_nan() {
                assert!(f16_to_f32(f64_to_f16(f64::from(single))).is_nan());
            } else {
                assert_eq!(f64_to_f16(f64::from(single)), half, "{half:#06x} is {single}");
            }
        }
        assert_eq!(f16_to_f32(0x3c00), 1.0);
        assert_eq!(f16_to_f32(0x7bff), 65504.0);
        assert_eq!(f64_to_f16(65519.0), 0x7bff);
        assert_eq!(f64_to_f16(1e9), 0x7c00);
    }

    proptest! {
        #[test]
        fn strings_survive_packing(items in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..20), cut in 1usize..5) {
            let mut packer = Packer::default();
            items.iter().for_each(|item| packer.push(item).unwrap());
            let texts = packer.finish();
            prop_assert_eq!(texts.iter().collect::<Vec<_>>(), items.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(Texts::parse(texts.packed().clone()), Ok(texts.clone()));
            // Whatever is cut off at the end: fewer strings, or an error.
            let whole = texts.packed();
            if let Ok(fewer) = Texts::parse(whole.slice(..whole.len().saturating_sub(cut))) {
                prop_assert!(fewer.count() < items.len() || items.is_empty());
            }
        }

        #[test]
        fn halves_are_the_nearest(value in -70000f64..70000f64) {
            let half = f64_to_f16(value);
            let error = (f64::from(f16_to_f32(half)) - value).abs();
            if error.is_finite() {
                for other in [half.wrapping_sub(1), half.wrapping_add(1)] {
                    let other = f64::from(f16_to_f32(other));
                    if other.is_finite() {
                        prop_assert!(error <= (other - value).abs());
                    }
                }
            }
        }

        #[test]
        fn elements_never_overflow(shape in proptest::collection::vec(any::<i64>(), 0..8)) {
            let exact = shape.iter().try_fold(1u128, |p, d| u128::try_from(*d).ok().and_then(|d| p.checked_mul(d)));
            match elements(&shape) {
                Some(n) => prop_assert_eq!(Some(n as u128), exact),
                None => prop_assert!(exact.is_none_or(|n| n > isize::MAX as u128) || shape.contains(&0)),
            }
        }
    }
}
