//! Reads a tensor's `data`: a flat list, or lists nested as the shape says.
//!
//! The list is read straight into the bytes of its datatype. Going through
//! `serde_json::Value` would take sixteen times the memory of the body.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::tensor::{Data, DataType, Packer, f64_to_f16};

/// The bytes that [`read`] keeps, and the elements it finds at most. An
/// element takes two bytes of JSON at least and a string three, so a body
/// cannot ask for more than a few times its own size.
pub fn size(raw: &RawValue, datatype: DataType, wanted: usize) -> (usize, usize) {
    let json = raw.get().len();
    match datatype.size() {
        Some(size) => {
            let elements = wanted.min(json / 2 + 1);
            (size * elements, elements)
        }
        None => {
            // A string loses two quotes and a comma, and gains four bytes.
            let strings = wanted.min(json / 3 + 1);
            (json + strings, strings)
        }
    }
}

/// The bytes that [`read`] takes besides: a string with escapes in it is put
/// together elsewhere first.
pub fn scratch(raw: &RawValue) -> usize {
    if raw.get().contains('\\') { raw.get().len() } else { 0 }
}

/// `wanted` is the number of elements that the shape asks for. The error ends
/// a sentence that began with the tensor's name.
pub fn read(raw: &RawValue, datatype: DataType, shape: &[i64], wanted: usize) -> Result<Data, String> {
    let (room, _) = size(raw, datatype, wanted);
    let is_text = datatype == DataType::Text;
    let mut sink = Sink {
        datatype,
        shape,
        wanted,
        count: 0,
        bytes: Vec::with_capacity(if is_text { 0 } else { room }),
        text: Packer::with_capacity(if is_text { room } else { 0 }),
        error: None,
    };
    let mut json = serde_json::Deserializer::from_str(raw.get());
    let read = Level { sink: &mut sink, depth: 0 }.deserialize(&mut json);
    match (read, sink.error.take()) {
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(format!("has data that cannot be read: {error}")),
        (Ok(_), None) if sink.count != wanted => {
            Err(format!("has {} values; its shape {shape:?} asks for {wanted}", sink.count))
        }
        (Ok(_), None) if is_text => Ok(Data::Text(sink.text.finish())),
        (Ok(_), None) => Ok(Data::Raw(Bytes::from(sink.bytes))),
    }
}

struct Sink<'s> {
    datatype: DataType,
    shape: &'s [i64],
    wanted: usize,
    count: usize,
    bytes: Vec<u8>,
    text: Packer,
    /// The first thing wrong, in words; serde's own error would add a
    /// position within the fragment, which says nothing to the caller.
    error: Option<String>,
}

impl Sink<'_> {
    fn fail<T, E: Error>(&mut self, message: String) -> Result<T, E> {
        self.error.get_or_insert(message);
        Err(E::custom("refused"))
    }

    fn wrong<T, E: Error>(&mut self, got: impl fmt::Display) -> Result<T, E> {
        let message = format!("wants {}, but value {} is {got}", self.datatype.name(), self.count);
        self.fail(message)
    }

    fn next<E: Error>(&mut self) -> Result<(), E> {
        if self.count >= self.wanted {
            let message = format!("has more than the {} values that its shape {:?} asks for", self.wanted, self.shape);
            return self.fail(message);
        }
        self.count += 1;
        Ok(())
    }

    fn integer<E: Error>(&mut self, value: i128) -> Result<(), E> {
        macro_rules! put {
            ($t:ty) => {
                match <$t>::try_from(value) {
                    Ok(v) => self.bytes.extend_from_slice(&v.to_le_bytes()),
                    Err(_) => return self.wrong(format_args!("{value}, out of its range")),
                }
            };
        }
        match self.datatype {
            DataType::U8 => put!(u8),
            DataType::U16 => put!(u16),
            DataType::U32 => put!(u32),
            DataType::U64 => put!(u64),
            DataType::I8 => put!(i8),
            DataType::I16 => put!(i16),
            DataType::I32 => put!(i32),
            DataType::I64 => put!(i64),
            DataType::F16 | DataType::F32 | DataType::F64 => return self.float(value as f64),
            DataType::Bool if value == 0 || value == 1 => self.bytes.push(value as u8),
            DataType::Bool | DataType::Text => return self.wrong(value),
        }
        self.next()
    }

    fn float<E: Error>(&mut self, value: f64) -> Result<(), E> {
        match self.datatype {
            DataType::F64 => self.bytes.extend_from_slice(&value.to_le_bytes()),
            DataType::F32 if (value as f32).is_finite() => self.bytes.extend_from_slice(&(value as f32).to_le_bytes()),
            DataType::F16 if f64_to_f16(value) & 0x7c00 != 0x7c00 => {
                self.bytes.extend_from_slice(&f64_to_f16(value).to_le_bytes())
            }
            DataType::F32 | DataType::F16 => return self.wrong(format_args!("{value:e}, out of its range")),
            _ => return self.wrong(value),
        }
        self.next()
    }
}

/// What stood at one place of a list.
#[derive(PartialEq, Clone, Copy)]
enum Kind {
    Scalar,
    List,
}

struct Level<'a, 's> {
    sink: &'a mut Sink<'s>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Level<'_, '_> {
    type Value = Kind;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_, '_> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kind, A::Error> {
        let Self { sink, depth } = self;
        if depth > 0 && depth >= sink.shape.len() {
            let message = format!("has data nested deeper than its shape {:?}", sink.shape);
            return sink.fail(message);
        }
        let mut kind = None;
        let mut length = 0i64;
        while let Some(item) = list.next_element_seed(Level { sink: &mut *sink, depth: depth + 1 })? {
            if *kind.get_or_insert(item) != item {
                return sink.fail("has data that mixes values and lists in one list".to_owned());
            }
            length += 1;
        }
        // A flat list is welcome for any shape; a nested one must follow it.
        let flat = depth == 0 && kind != Some(Kind::List);
        if !flat {
            if kind == Some(Kind::Scalar) && depth + 1 != sink.shape.len() {
                let message = format!("has data nested less deep than its shape {:?}", sink.shape);
                return sink.fail(message);
            }
            let dim = sink.shape.get(depth).copied().unwrap_or(0);
            if length != dim {
                let message = format!(
                    "has a list of {length} at depth {depth} of its data; its shape {:?} asks for {dim}",
                    sink.shape
                );
                return sink.fail(message);
            }
        }
        Ok(Kind::List)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Kind, E> {
        if self.sink.datatype != DataType::Bool {
            return self.sink.wrong(value);
        }
        self.sink.bytes.push(u8::from(value));
        self.sink.next().map(|()| Kind::Scalar)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Kind, E> {
        self.sink.integer(value.into()).map(|()| Kind::Scalar)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Kind, E> {
        self.sink.integer(value.into()).map(|()| Kind::Scalar)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Kind, E> {
        self.sink.float(value).map(|()| Kind::Scalar)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Kind, E> {
        if self.sink.datatype != DataType::Text {
            return self.sink.wrong("a string");
        }
        if let Err(message) = self.sink.text.push(value.as_bytes()) {
            return self.sink.fail(message);
        }
        self.sink.next().map(|()| Kind::Scalar)
    }

    fn visit_unit<E: Error>(self) -> Result<Kind, E> {
        self.sink.wrong("null (send NaN as binary tensor data)")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, _: A) -> Result<Kind, A::Error> {
        self.sink.wrong("an object")
    }
}
