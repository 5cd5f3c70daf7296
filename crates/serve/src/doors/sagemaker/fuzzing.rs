//! Doors for fuzz targets; see `fuzz/`.

use bytes::Bytes;

use super::{csv, json, npy, table};
use crate::failure::Failure;
use crate::tensor::{Data, DataType, Port, Tensor};

fn bytes_of(tensor: &Tensor) -> usize {
    match &tensor.data {
        Data::Raw(bytes) => bytes.len(),
        Data::Text(items) => items.packed().len(),
    }
}

/// A byte that chooses what the model wants, then a body of any media type:
/// what is read takes no more memory than was charged, and an array that is
/// written is read again as the same.
pub fn invocation(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let body = Bytes::copy_from_slice(body);
    let datatype = [DataType::F32, DataType::I64, DataType::Text, DataType::F16][usize::from(choice & 3)];
    let known = Port { name: "a".to_owned(), datatype, shape: vec![-1, 2] };
    let port = (choice & 4 != 0).then_some(&known);
    let mut charged = 0_usize;
    let mut charge = |bytes: usize| {
        charged = charged.saturating_add(bytes);
        Ok::<_, Failure>(())
    };
    let mut tensors = Vec::new();
    tensors.extend(csv::read(&body, port, &|_| 1, &mut charge));
    if let Ok(array) = npy::read(&body, port, &|_| 1, &mut charge) {
        if let Ok(file) = npy::write(&array) {
            let again = npy::read(&file.into(), port, &|_| 1, &mut |_| Ok(()));
            assert_eq!(again.map_err(|e| e.message), Ok(array.clone()));
        }
        tensors.push(array);
    }
    let column = [Port { shape: vec![-1], ..known.clone() }];
    tensors.extend(table::from_csv(&body, &column, &|_| 1, &mut charge).into_iter().flatten());
    tensors
        .extend(json::read(&body, Some(&column), true, &|_| 1, &mut charge).into_iter().flat_map(|(found, _)| found));
    let found = json::read(&body, port.map(std::slice::from_ref), false, &|_| 1, &mut charge);
    tensors.extend(found.into_iter().flat_map(|(tensors, _)| tensors));
    for tensor in &tensors {
        assert!(bytes_of(tensor) <= charged + body.len(), "{charged}");
        let _ = csv::write(tensor);
    }
}
