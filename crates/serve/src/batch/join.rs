//! Several requests as one run of the model, and its outputs as theirs.
//!
//! The first dimension of every tensor counts rows; requests go together where
//! all else of their inputs is alike.

use bytes::Bytes;

use crate::tensor::{Data, Packer, Tensor};

/// How many rows a request has: its inputs' first dimension, where they agree
/// and it is not empty.
pub fn rows(inputs: &[Tensor]) -> Option<usize> {
    let first = |tensor: &Tensor| tensor.shape.first().copied();
    let rows = first(inputs.first()?)?;
    (rows > 0 && inputs.iter().all(|tensor| first(tensor) == Some(rows))).then_some(usize::try_from(rows).ok()?)
}

/// Whether two requests differ in nothing but their rows.
pub fn alike(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.name == b.name && a.datatype == b.datatype && a.shape.get(1..) == b.shape.get(1..))
}

/// The rows of all, in this order. `all` are alike, and not empty.
pub fn join(all: &[&[Tensor]]) -> Vec<Tensor> {
    let Some(first) = all.first() else { return Vec::new() };
    (0..first.len())
        .map(|at| {
            let of_each = || all.iter().filter_map(move |inputs| inputs.get(at));
            let model = &first[at];
            let mut shape = model.shape.clone();
            if let Some(rows) = shape.first_mut() {
                *rows = of_each().filter_map(|tensor| tensor.shape.first()).sum();
            }
            Tensor { name: model.name.clone(), datatype: model.datatype, shape, data: joined(of_each()) }
        })
        .collect()
}

fn joined<'t>(tensors: impl Iterator<Item = &'t Tensor> + Clone) -> Data {
    let is_text = tensors.clone().any(|tensor| matches!(tensor.data, Data::Text(_)));
    if is_text {
        let mut packer = Packer::default();
        for tensor in tensors {
            if let Data::Text(texts) = &tensor.data {
                packer.append(texts);
            }
        }
        return Data::Text(packer.finish());
    }
    let parts = || {
        tensors.clone().filter_map(|tensor| match &tensor.data {
            Data::Raw(bytes) => Some(bytes),
            Data::Text(_) => None,
        })
    };
    let mut bytes = Vec::with_capacity(parts().map(Bytes::len).sum());
    parts().for_each(|part| bytes.extend_from_slice(part));
    Data::Raw(bytes.into())
}

/// The outputs of each request, which has so many rows. `None` where an output
/// does not have as many rows as went in: then the requests do not go together.
pub fn split(outputs: &[Tensor], rows: &[usize]) -> Option<Vec<Vec<Tensor>>> {
    let total: usize = rows.iter().sum();
    let mut each: Vec<Vec<Tensor>> = rows.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
    for output in outputs {
        if output.shape.first().and_then(|n| usize::try_from(*n).ok()) != Some(total) || total == 0 {
            return None;
        }
        let mut from = 0;
        let mut texts = match &output.data {
            Data::Text(texts) => Some((texts.iter(), texts.count() / total)),
            Data::Raw(_) => None,
        };
        for (own, count) in each.iter_mut().zip(rows) {
            let data = match (&output.data, &mut texts) {
                (Data::Raw(bytes), _) => {
                    let row = bytes.len() / total;
                    let part = bytes.get(from * row..(from + count) * row)?;
                    // A copy: a part would keep the others' bytes as long as its own.
                    Data::Raw(Bytes::copy_from_slice(part))
                }
                (Data::Text(_), Some((items, row))) => {
                    let mut packer = Packer::default();
                    for _ in 0..count * *row {
                        packer.push(items.next()?).ok()?;
                    }
                    Data::Text(packer.finish())
                }
                (Data::Text(_), None) => return None,
            };
            from += count;
            let mut shape = output.shape.clone();
            *shape.first_mut()? = i64::try_from(*count).ok()?;
            own.push(Tensor { name: output.name.clone(), datatype: output.datatype, shape, data });
        }
    }
    Some(each)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::DataType;

    fn raw(rows: usize, width: usize, from: u8) -> Tensor {
        let bytes: Vec<u8> = (0..rows * width).map(|n| from.wrapping_add(n as u8)).collect();
        Tensor::new("x".into(), DataType::U8, vec![rows as i64, width as i64], Data::Raw(bytes.into())).unwrap()
    }

    fn text(rows: usize, from: u8) -> Tensor {
        let mut packer = Packer::default();
        (0..rows * 2).for_each(|n| packer.push(&vec![from; n]).unwrap());
        Tensor::new("t".into(), DataType::Text, vec![rows as i64, 2], Data::Text(packer.finish())).unwrap()
    }

    proptest! {
        #[test]
        fn what_was_joined_is_split_again(counts in prop::collection::vec((1usize..5, any::<u8>()), 1..6), width in 0usize..4) {
            let requests: Vec<Vec<Tensor>> =
                counts.iter().map(|(rows, from)| vec![raw(*rows, width, *from), text(*rows, *from)]).collect();
            let rows: Vec<usize> = requests.iter().map(|inputs| super::rows(inputs).unwrap()).collect();
            let together = join(&requests.iter().map(Vec::as_slice).collect::<Vec<_>>());
            for tensor in &together {
                let again = Tensor::new(tensor.name.clone(), tensor.datatype, tensor.shape.clone(), tensor.data.clone());
                prop_assert_eq!(again.as_ref(), Ok(tensor), "a whole tensor");
            }
            prop_assert_eq!(split(&together, &rows), Some(requests));
        }
    }

    #[test]
    fn outputs_with_other_rows_are_not_split() {
        assert_eq!(split(&[raw(3, 2, 0)], &[1, 1]), None);
        let scalar = Tensor::new("s".into(), DataType::U8, vec![], Data::Raw(Bytes::from_static(&[1]))).unwrap();
        assert_eq!(split(std::slice::from_ref(&scalar), &[1]), None);
        assert_eq!(rows(&[scalar]), None);
        assert_eq!(rows(&[raw(2, 1, 0), raw(3, 1, 0)]), None);
        assert_eq!(rows(&[raw(0, 1, 0)]), None);
    }

    #[test]
    fn requests_that_differ_in_shape_stay_apart() {
        assert!(alike(&[raw(1, 2, 0)], &[raw(5, 2, 9)]));
        assert!(!alike(&[raw(1, 2, 0)], &[raw(1, 3, 0)]));
        assert!(!alike(&[raw(1, 2, 0)], &[raw(1, 2, 0), text(1, 0)]));
    }
}
