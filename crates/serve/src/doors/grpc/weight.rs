//! What a request takes once its message is decoded. A field of two bytes may
//! become a hundred, so this is counted on the message as it came, and nothing
//! is decoded that there is no room for.

use std::fmt::Display;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::failure::Failure;

/// Of the structs, twice: a list that grows is copied.
const INPUT: usize = 1024;
const OUTPUT: usize = 256;
const PARAMETER: usize = 256;
const BYTES: usize = 64;

/// Bytes that a `ModelInferRequest` takes decoded, at most, beside its message.
pub(super) fn weigh(message: &[u8]) -> Result<usize, Failure> {
    request(message).map_err(|e| not_a_request(&e))
}

pub(super) fn not_a_request(why: &dyn Display) -> Failure {
    Failure::bad(format!("the message is not an inference request: {why}"))
}

fn request(message: &[u8]) -> Result<usize, String> {
    sum(message, |tag, value| {
        Ok(match tag {
            4 => PARAMETER + value.len(),
            5 => INPUT + input(value)?,
            6 => OUTPUT + sum(value, |tag, value| Ok(if tag == 2 { PARAMETER } else { 0 } + value.len()))?,
            7 => BYTES,
            _ => value.len(),
        })
    })
}

fn input(message: &[u8]) -> Result<usize, String> {
    sum(message, |tag, value| {
        Ok(match tag {
            3 => numbers(value, 8, 1),
            4 => PARAMETER + value.len(),
            5 => contents(value)?,
            _ => value.len(),
        })
    })
}

fn contents(message: &[u8]) -> Result<usize, String> {
    sum(message, |tag, value| {
        Ok(match tag {
            1 => numbers(value, 1, 1),
            2 | 4 => numbers(value, 4, 1),
            3 | 5 => numbers(value, 8, 1),
            6 => numbers(value, 4, 4),
            7 => numbers(value, 8, 8),
            _ => BYTES,
        })
    })
}

/// Of a list, or of one number of it: each takes `wire` bytes at least.
fn numbers(packed: &[u8], size: usize, wire: usize) -> usize {
    2 * size * (packed.len() / wire).max(1)
}

/// Of all fields together. What is not of a length of its own has no bytes.
fn sum(mut message: &[u8], of: impl Fn(u32, &[u8]) -> Result<usize, String>) -> Result<usize, String> {
    let mut total = 0usize;
    while !message.is_empty() {
        let (tag, wire) = decode_key(&mut message).map_err(|e| e.to_string())?;
        let mut value: &[u8] = &[];
        if wire == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut message).map_err(|e| e.to_string())?).unwrap_or(usize::MAX);
            (value, message) = message.split_at_checked(length).ok_or("it ends within a field")?;
        } else {
            skip_field(wire, tag, &mut message, DecodeContext::default()).map_err(|e| e.to_string())?;
        }
        total = total.saturating_add(of(tag, value)?);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::super::messages::*;
    use super::*;

    fn request(elements: usize, inputs: usize) -> Vec<u8> {
        let ones = vec![1; elements];
        let input = InferInputTensor {
            shape: ones.clone(),
            contents: Some(InferTensorContents { uint64_contents: vec![1; elements], ..Default::default() }),
            ..Default::default()
        };
        ModelInferRequest { inputs: vec![input; inputs], ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn what_grows_is_counted() {
        // A byte of a small number becomes eight.
        assert!(weigh(&request(1000, 1)).unwrap() >= 2 * 8 * 1000);
        assert!(weigh(&request(0, 1000)).unwrap() >= 1000 * size_of::<InferInputTensor>());
        assert_eq!(weigh(&[]).unwrap(), 0);
        // What comes as bytes stays where it is.
        let raw = ModelInferRequest { raw_input_contents: vec![vec![0; 1 << 20].into()], ..Default::default() };
        assert!(weigh(&raw.encode_to_vec()).unwrap() < 1000);
    }

    proptest! {
        #[test]
        fn nothing_is_decoded_that_has_no_weight(
            elements in 0usize..20,
            inputs in 0usize..4,
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
            noise in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut message = request(elements, inputs);
            for (at, byte) in changes {
                let length = message.len().max(1);
                if let Some(changed) = message.get_mut(at % length) {
                    *changed = byte;
                }
            }
            for message in [message, noise] {
                if ModelInferRequest::decode(&message[..]).is_ok() {
                    prop_assert!(weigh(&message).is_ok());
                }
            }
        }
    }
}
