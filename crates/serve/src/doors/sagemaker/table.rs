//! Rows for a model whose inputs are the columns of a table, as MLflow's models
//! have them: `dataframe_split`, `dataframe_records`, rows by position, and CSV
//! with a head. Columns that the model does not know are left out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::json::{Charge, Cost};
use super::{csv, tensor};
use crate::failure::Failure;
use crate::oip::response;
use crate::tensor::{Data, DataType, Packer, Port, Tensor};

/// What a cell of a row takes while it is read, at most.
const CELL_BYTES: usize = 64;

/// One input, as its rows come.
struct Column<'p> {
    port: &'p Port,
    rows: i64,
    bytes: Vec<u8>,
    texts: Packer,
}

impl<'p> Column<'p> {
    fn new(port: &'p Port) -> Self {
        Self { port, rows: 0, bytes: Vec::new(), texts: Packer::default() }
    }

    /// `None` for a value that is missing, which only floating point has.
    fn push(&mut self, value: Option<&str>) -> Result<(), Failure> {
        let (at, port) = (self.rows, self.port);
        let bad = |why: String| Failure::bad(format!("row {at}, '{}': {why}", port.name));
        self.rows += 1;
        match (port.datatype, value) {
            (DataType::F16 | DataType::F32 | DataType::F64, None) => csv::number("NaN", port.datatype, &mut self.bytes),
            (_, None) => Err("there is no value".to_owned()),
            (DataType::Text, Some(text)) => self.texts.push(text.as_bytes()),
            (datatype, Some(text)) => csv::number(text, datatype, &mut self.bytes),
        }
        .map_err(bad)
    }

    /// As JSON has it.
    fn push_json(&mut self, value: Option<&RawValue>) -> Result<(), Failure> {
        let Some(value) = value.map(RawValue::get).filter(|value| *value != "null") else { return self.push(None) };
        if self.port.datatype != DataType::Text {
            return self.push(Some(value));
        }
        let text: Cow<'_, str> = serde_json::from_str(value)
            .map_err(|_| Failure::bad(format!("row {}, '{}': the value is no string", self.rows, self.port.name)))?;
        self.push(Some(&text))
    }

    fn finish(self) -> Result<Tensor, Failure> {
        let Self { port, rows, bytes, texts } = self;
        let data = if port.datatype == DataType::Text { Data::Text(texts.finish()) } else { Data::Raw(bytes.into()) };
        tensor(Some(port), port.datatype, vec![rows], data)
    }
}

/// `[{"a": 1, "b": 2}, …]` or `[[1, 2], …]`; in those, `names` says what stands
/// where, or else the model does.
pub(super) fn rows(
    list: &RawValue,
    names: Option<&[String]>,
    ports: &[Port],
    cost: Cost<'_>,
    charge: Charge<'_>,
) -> Result<Vec<Tensor>, Failure> {
    let is_named = list.get().strip_prefix('[').is_some_and(|inner| inner.trim_start().starts_with('{'));
    let count = |of: &[u8]| list.get().bytes().filter(|b| of.contains(b)).count();
    // A row in braces may leave out all that it shall have.
    let left_out = if is_named { count(b"{").saturating_mul(ports.len()) } else { 0 };
    charge(room(count(b",[{").saturating_add(left_out), list.get().len(), ports, cost))?;
    let mut columns: Vec<Column<'_>> = ports.iter().map(Column::new).collect();
    let invalid = |e: serde_json::Error| Failure::bad(format!("the rows cannot be read: {e}"));
    if is_named {
        let rows: Vec<BTreeMap<Cow<'_, str>, &RawValue>> = serde_json::from_str(list.get()).map_err(invalid)?;
        for row in &rows {
            for column in &mut columns {
                let value = row.get(column.port.name.as_str()).copied();
                column.push_json(value)?;
            }
        }
    } else {
        let rows: Vec<Vec<&RawValue>> = serde_json::from_str(list.get()).map_err(invalid)?;
        let wide = names.map_or(ports.len(), <[String]>::len);
        let places = places(names, ports)?;
        for (at, row) in rows.iter().enumerate() {
            if row.len() != wide {
                return Err(Failure::bad(format!("row {at} has {} values; there are {wide} columns", row.len())));
            }
            for (column, place) in columns.iter_mut().zip(&places) {
                column.push_json(row.get(*place).copied())?;
            }
        }
    }
    columns.into_iter().map(Column::finish).collect()
}

/// Where each input stands in a row.
fn places(names: Option<&[String]>, ports: &[Port]) -> Result<Vec<usize>, Failure> {
    let Some(names) = names else { return Ok((0..ports.len()).collect()) };
    let place = |port: &Port| {
        let found = names.iter().position(|name| *name == port.name);
        found.ok_or_else(|| Failure::bad(format!("the model's input '{}' is missing", port.name)))
    };
    ports.iter().map(place).collect()
}

/// With a head, as MLflow has it; or, with as many values in each line as the
/// model has inputs, without.
pub(super) fn from_csv(
    body: &[u8],
    ports: &[Port],
    cost: Cost<'_>,
    charge: Charge<'_>,
) -> Result<Vec<Tensor>, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| Failure::bad("the body is not UTF-8"))?;
    let cells = text.bytes().filter(|b| matches!(b, b',' | b'\n')).count() + 1;
    charge(room(cells, text.len(), ports, cost))?;
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
    let Some(head) = lines.peek().map(|(_, line)| split(line)) else {
        return Err(Failure::bad("the body has no line of values"));
    };
    let names: Vec<String> = head.iter().map(|cell| cell.clone().into_owned()).collect();
    let has_head = ports.iter().any(|port| names.contains(&port.name));
    if has_head {
        lines.next();
    }
    let places = places((has_head || names.len() != ports.len()).then_some(&names), ports)?;
    let mut columns: Vec<Column<'_>> = ports.iter().map(Column::new).collect();
    for (at, line) in lines {
        let cells = split(line);
        if cells.len() != names.len() {
            let (got, want) = (cells.len(), names.len());
            return Err(Failure::bad(format!("line {} has {got} values; there are {want} columns", at + 1)));
        }
        for (column, place) in columns.iter_mut().zip(&places) {
            let cell = cells.get(*place).map(|cell| &**cell);
            let is_text = column.port.datatype == DataType::Text;
            column.push(
                cell.map(|cell| if is_text { cell } else { cell.trim() }).filter(|cell| is_text || !cell.is_empty()),
            )?;
        }
    }
    columns.into_iter().map(Column::finish).collect()
}

/// The values of a line; one in quotes may have commas, and quotes written twice.
fn split(line: &str) -> Vec<Cow<'_, str>> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let (cell, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut end = 0;
                while let Some(at) = quoted[end..].find('"') {
                    end += at;
                    if !quoted[end + 1..].starts_with('"') {
                        break;
                    }
                    end += 2;
                }
                let end = if quoted[end..].starts_with('"') { end } else { quoted.len() };
                let after = quoted.get(end + 1..).unwrap_or_default();
                (Cow::Owned(quoted[..end].replace("\"\"", "\"")), after.split_once(',').map(|(_, after)| after))
            }
            None => match rest.split_once(',') {
                Some((cell, after)) => (Cow::Borrowed(cell), Some(after)),
                None => (Cow::Borrowed(rest), None),
            },
        };
        cells.push(cell);
        match after {
            Some(after) => rest = after,
            None => return cells,
        }
    }
}

fn room(cells: usize, bytes: usize, ports: &[Port], cost: Cost<'_>) -> usize {
    let each = ports.iter().map(|port| CELL_BYTES + cost(port.datatype)).max().unwrap_or(CELL_BYTES);
    cells.saturating_mul(each).saturating_add(bytes)
}

/// Outputs of one length as `[{"a": 1, "b": 2}, …]`; `None` where they are none.
pub(super) fn records(outputs: &[Tensor]) -> Result<Option<Vec<u8>>, Failure> {
    let rows = outputs.first().and_then(|output| usize::try_from(*output.shape.first()?).ok());
    let Some(rows) = rows.filter(|rows| outputs.iter().all(|o| o.shape == [*rows as i64])) else { return Ok(None) };
    let mut columns = Vec::with_capacity(outputs.len());
    for output in outputs {
        let (mut name, mut flat, mut ends) = (Vec::new(), Vec::new(), Vec::with_capacity(rows));
        response::put(&mut name, &output.name)?;
        response::elements(output, |written: &[u8]| {
            flat.extend_from_slice(written);
            ends.push(flat.len());
        })?;
        columns.push((name, flat, ends));
    }
    let mut json = vec![b'['];
    for row in 0..rows {
        json.extend_from_slice(if row == 0 { b"{" } else { b",{" });
        for (at, (name, flat, ends)) in columns.iter().enumerate() {
            if at > 0 {
                json.push(b',');
            }
            json.extend_from_slice(name);
            json.push(b':');
            let from = if row == 0 { 0 } else { ends[row - 1] };
            json.extend_from_slice(&flat[from..ends[row]]);
        }
        json.push(b'}');
    }
    json.push(b']');
    Ok(Some(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, datatype: DataType) -> Port {
        Port { name: name.into(), datatype, shape: vec![-1] }
    }

    fn ports() -> [Port; 3] {
        [port("a", DataType::F64), port("b", DataType::I32), port("c", DataType::Text)]
    }

    fn free(_: DataType) -> usize {
        0
    }

    #[test]
    fn lines_are_split_as_csv_has_them() {
        for (line, cells) in [
            ("", vec![""]),
            ("a,b", vec!["a", "b"]),
            ("a,,", vec!["a", "", ""]),
            (r#""a,b",c"#, vec!["a,b", "c"]),
            (r#""say ""hi""",2"#, vec![r#"say "hi""#, "2"]),
            (r#"x,"open"#, vec!["x", "open"]),
            (r#""""#, vec![""]),
        ] {
            assert_eq!(split(line), cells, "{line}");
        }
    }

    #[test]
    fn the_same_table_in_every_form() {
        let ports = ports();
        let json = |text: &str, names: Option<&[String]>| {
            let list: &RawValue = serde_json::from_str(text).unwrap();
            rows(list, names, &ports, &free, &mut |_| Ok(())).map_err(|e| e.message)
        };
        let csv = |text: &str| from_csv(text.as_bytes(), &ports, &free, &mut |_| Ok(())).map_err(|e| e.message);
        let expected = json(r#"[[1.5, 2, "x,y"], [-1, 3, ""]]"#, None).unwrap();
        assert_eq!(expected[0].data, Data::Raw([1.5f64.to_le_bytes(), (-1f64).to_le_bytes()].concat().into()));
        let names = ["c", "other", "b", "a"].map(String::from);
        assert_eq!(json(r#"[["x,y", null, 2, 1.5], ["", {}, 3.0, -1]]"#, Some(&names)).unwrap(), expected);
        assert_eq!(
            json(r#"[{"c": "x,y", "b": 2, "a": 1.5, "d": 0}, {"a": -1, "b": 3, "c": ""}]"#, None).unwrap(),
            expected
        );
        assert_eq!(csv("c,b,d,a\n\"x,y\",2,,1.5\n,3,z,-1\n").unwrap(), expected);
        assert_eq!(csv("1.5,2,\"x,y\"\n-1,3,\n").unwrap(), expected);
        // A value that is missing is one of no kind, or none.
        let Data::Raw(bytes) = &json(r#"[{"b": 1, "c": "x"}]"#, None).unwrap()[0].data.clone() else { panic!() };
        assert!(f64::from_le_bytes(bytes[..].try_into().unwrap()).is_nan());
        for (error, why) in [
            (json("[[1, null, \"\"]]", None), "row 0, 'b': there is no value"),
            (json("[[1, 2]]", None), "row 0 has 2 values; there are 3 columns"),
            (json("[[1, 2.5, \"\"]]", None), "row 0, 'b': '2.5' is no INT32"),
            (json("[[1, 2, 3]]", None), "row 0, 'c': the value is no string"),
            (json("[[1]]", Some(&["a".to_owned()])), "the model's input 'b' is missing"),
            (csv("a,b\n1,2"), "the model's input 'c' is missing"),
            (csv("a,b,c\n1,2"), "line 2 has 2 values; there are 3 columns"),
            (csv(""), "the body has no line of values"),
        ] {
            assert_eq!(error.unwrap_err(), why);
        }
    }

    #[test]
    fn outputs_are_records() {
        let number = |name: &str, rows: i64| {
            let bytes = (0..rows).flat_map(|n| (n as i32).to_le_bytes()).collect::<Vec<_>>();
            Tensor::new(name.into(), DataType::I32, vec![rows], Data::Raw(bytes.into())).unwrap()
        };
        let text =
            |outputs: &[Tensor]| records(outputs).unwrap_or_default().map(|json| String::from_utf8(json).unwrap());
        assert_eq!(text(&[number("a", 2), number("\"", 2)]).unwrap(), r#"[{"a":0,"\"":0},{"a":1,"\"":1}]"#);
        assert_eq!(text(&[number("a", 0), number("b", 0)]).unwrap(), "[]");
        assert_eq!(text(&[number("a", 2), number("b", 3)]), None);
    }
}
