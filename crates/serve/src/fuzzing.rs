//! Doors for fuzz targets; see `fuzz/`.

use bytes::Bytes;

pub use crate::doors::sagemaker::fuzzing::invocation;
use crate::oip::{request, response};
use crate::runtime::frames::Frame;
use crate::runtime::handler;
use crate::tensor::{Data, DataType, Port, Tensor};

fn bytes_of(tensors: &[Tensor]) -> usize {
    let bytes = |tensor: &Tensor| match &tensor.data {
        Data::Raw(bytes) => bytes.len(),
        Data::Text(items) => items.packed().len(),
    };
    tensors.iter().map(bytes).sum()
}

/// A byte that chooses, the length of the JSON part, then the body. What is
/// read takes no more memory than was charged, and what is answered no more
/// than was foreseen.
pub fn request(data: &[u8]) {
    let Some(([choice, low, high], body)) = data.split_first_chunk() else { return };
    let body = Bytes::copy_from_slice(body);
    let length = (choice & 1 != 0).then(|| usize::from(u16::from_le_bytes([*low, *high])));
    let port = |name: &str, datatype, shape: &[i64]| Port { name: name.to_owned(), datatype, shape: shape.to_vec() };
    let ports = [port("a", DataType::F32, &[-1, 2]), port("b", DataType::Text, &[-1])];
    let (inputs, outputs) = (choice & 2 != 0).then_some((&ports[..1], &ports[..])).unzip();
    let mut charged = 0_usize;
    let charge = |bytes: usize| {
        charged = charged.saturating_add(bytes);
        Ok(())
    };
    let Ok(found) = request::read(&body, length, inputs, outputs, |_| 1, charge) else { return };
    // Binary data is not copied.
    assert!(bytes_of(&found.inputs) <= charged + body.len(), "{charged}");
    let known = bytes_of(&found.inputs);
    let most = response::bytes_max(&found.inputs, &found.outputs);
    let names: usize = found.inputs.iter().map(|input| 6 * input.name.len() + 25 * input.shape.len() + 128).sum();
    let id = found.id.as_deref();
    if let Ok(written) = response::write("m", "1", id, found.inputs, &found.outputs) {
        let free = 6 * id.map_or(0, str::len) + names;
        assert!(written.bytes.len() + known <= most + free, "{} and {known} of {most}", written.bytes.len());
        let json = &written.bytes[..written.json_length.unwrap_or(written.bytes.len())];
        serde_json::from_slice::<serde_json::Value>(json).expect("an answer is JSON");
    }
}

/// The length of the JSON part, then what a worker has answered.
pub fn answer(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else { return };
    let (json, binary) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length))));
    for is_aligned in [false, true] {
        let frame = Frame { json: json.to_vec(), binary: binary.to_vec(), is_aligned };
        if let Ok(tensors) = handler::decode(frame) {
            assert!(bytes_of(&tensors) <= binary.len());
        }
    }
}
