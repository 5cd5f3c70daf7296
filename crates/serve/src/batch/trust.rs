//! Whether a model answers a row alike in any company.
//!
//! A first dimension of any size mostly counts independent rows, but not
//! always: a model may take a mean over it, or count time by it. Such a model
//! would give other answers in a batch, silently. So before requests go
//! together, some are run alone and together, and the answers compared.

use crate::tensor::{Data, DataType, Tensor, f16_to_f32};

/// Comparisons that must hold.
const PROOFS: u8 = 2;
/// Tries that prove nothing (the model refused what was made up) before it is
/// left at that.
const TRIES: u8 = 16;
/// Of two answers to the same row: sums are taken in another order.
const RELATIVE: f64 = 2e-3;
const ABSOLUTE: f64 = 1e-4;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trust {
    proofs: u8,
    tries: u8,
    refuted: bool,
}

impl Trust {
    pub fn is_proven(self) -> bool {
        self.proofs >= PROOFS && !self.refuted
    }

    pub fn wants_proof(self) -> bool {
        !self.refuted && self.proofs < PROOFS && self.tries < TRIES
    }

    pub fn refuted(self) -> bool {
        self.refuted
    }

    pub fn holds(&mut self) {
        self.proofs = self.proofs.saturating_add(1);
    }

    pub fn fails(&mut self) {
        self.refuted = true;
    }

    pub fn proves_nothing(&mut self) {
        self.tries = self.tries.saturating_add(1);
    }
}

/// Whether two answers are the same but for rounding.
pub fn same(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            a.name == b.name
                && a.shape == b.shape
                && a.datatype == b.datatype
                && same_data(a.datatype, &a.data, &b.data)
        })
}

fn same_data(datatype: DataType, a: &Data, b: &Data) -> bool {
    let (Data::Raw(x), Data::Raw(y)) = (a, b) else { return a == b };
    macro_rules! near {
        ($t:ty, $of:expr) => {{
            let ((x, _), (y, _)) = (x.as_chunks::<{ size_of::<$t>() }>(), y.as_chunks::<{ size_of::<$t>() }>());
            x.len() == y.len()
                && x.iter().zip(y).all(|(x, y)| {
                    let (x, y): (f64, f64) = ($of(<$t>::from_le_bytes(*x)), $of(<$t>::from_le_bytes(*y)));
                    x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= ABSOLUTE + RELATIVE * x.abs().max(y.abs())
                })
        }};
    }
    match datatype {
        DataType::F16 => near!(u16, |half| f64::from(f16_to_f32(half))),
        DataType::F32 => near!(f32, f64::from),
        DataType::F64 => near!(f64, |value| value),
        _ => x == y,
    }
}

/// The same values in reverse: another request that a model which takes the
/// first may take too.
pub fn reversed(inputs: &[Tensor]) -> Vec<Tensor> {
    let turned = |tensor: &Tensor| match (&tensor.data, tensor.datatype.size()) {
        (Data::Raw(bytes), Some(size)) => {
            Data::Raw(bytes.chunks_exact(size).rev().flatten().copied().collect::<Vec<u8>>().into())
        }
        (data, _) => data.clone(),
    };
    inputs.iter().map(|tensor| Tensor { data: turned(tensor), ..tensor.clone() }).collect()
}
