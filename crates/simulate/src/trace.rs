//! Recorded requests, as their publishers write them.
//!
//! A row that cannot be read ends the reading, with its line number: half a
//! trace would give a whole answer. Rows may be in any order.

use std::collections::HashMap;

use serde::Deserialize;

/// More rows than this are no trace for one machine's memory.
pub const ROWS_MAX: usize = 20_000_000;
/// Longer traces would be replayed for hours.
const SPAN_S_MAX: f64 = 366.0 * 86_400.0;
/// No recorded time or count is larger.
const NUMBER_MAX: f64 = 1e12;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not in the format.
    #[error("line {line}: {what}")]
    Malformed { line: usize, what: String },
    #[error("there is not one request in it")]
    Empty,
    #[error("it has more than {ROWS_MAX} requests")]
    TooMany,
    #[error("its requests lie more than 366 days apart")]
    TooLong,
}

/// A request to one of many endpoints, in seconds of the trace's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Call {
    pub at_s: f64,
    /// Numbered in the order of their first rows.
    pub endpoint: usize,
    pub runs_s: f64,
}

/// A request to a language model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prompt {
    pub at_s: f64,
    pub tokens_in: f64,
    pub tokens_out: f64,
}

/// Rows of `genai`: CSV with columns `t_s`, `model` and `exec_s`, among others.
/// Those that name no model are taken for one endpoint's.
pub fn genai(text: &str) -> Result<Vec<Call>, Error> {
    let mut endpoints: HashMap<String, usize> = HashMap::new();
    let mut calls = Vec::new();
    for row in csv(text, ["t_s", "model", "exec_s"])? {
        let (line, [at, model, runs]) = row?;
        let next = endpoints.len();
        let endpoint = *endpoints.entry(model.to_owned()).or_insert(next);
        // A request that never began has no run time.
        let runs_s = if runs.is_empty() { 0.0 } else { number(line, "exec_s", runs)? };
        calls.push(Call { at_s: number(line, "t_s", at)?, endpoint, runs_s });
    }
    sorted(calls, |call| call.at_s)
}

/// Rows of `azure-llm`: CSV with columns `t_s`, `in_tokens` and `out_tokens`.
pub fn azure_llm(text: &str) -> Result<Vec<Prompt>, Error> {
    let mut prompts = Vec::new();
    for row in csv(text, ["t_s", "in_tokens", "out_tokens"])? {
        let (line, [at, tokens_in, tokens_out]) = row?;
        prompts.push(Prompt {
            at_s: number(line, "t_s", at)?,
            tokens_in: number(line, "in_tokens", tokens_in)?,
            tokens_out: number(line, "out_tokens", tokens_out)?,
        });
    }
    sorted(prompts, |prompt| prompt.at_s)
}

#[derive(Deserialize)]
struct MooncakeRow {
    /// In milliseconds.
    timestamp: f64,
    input_length: f64,
    output_length: f64,
}

/// Rows of `mooncake`: one JSON object a line.
pub fn mooncake(text: &str) -> Result<Vec<Prompt>, Error> {
    let mut prompts = Vec::new();
    for (at, row) in text.lines().enumerate().filter(|(_, row)| !row.trim().is_empty()) {
        let line = at + 1;
        let row: MooncakeRow = serde_json::from_str(row).map_err(|e| Error::Malformed {
            line,
            what: format!("not an object with timestamp, input_length and output_length: {}", without_place(&e)),
        })?;
        prompts.push(Prompt {
            at_s: checked(line, "timestamp", row.timestamp)? / 1000.0,
            tokens_in: checked(line, "input_length", row.input_length)?,
            tokens_out: checked(line, "output_length", row.output_length)?,
        });
    }
    sorted(prompts, |prompt| prompt.at_s)
}

/// Its message without the place, which is the line's and not the file's.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

type Row<'a, const N: usize> = Result<(usize, [&'a str; N]), Error>;

/// The named columns of each row, with its line number.
fn csv<'a, const N: usize>(
    text: &'a str,
    columns: [&'static str; N],
) -> Result<impl Iterator<Item = Row<'a, N>> + use<'a, N>, Error> {
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_end_matches('\r')));
    let (_, header) = lines.next().ok_or(Error::Empty)?;
    let titles: Vec<&str> = header.trim_start_matches('\u{feff}').split(',').map(str::trim).collect();
    let mut places = [0; N];
    for (place, column) in places.iter_mut().zip(columns) {
        *place = titles.iter().position(|title| *title == column).ok_or_else(|| Error::Malformed {
            line: 1,
            what: format!("no column '{column}': the first line must name {}", columns.join(", ")),
        })?;
    }
    let width = titles.len();
    Ok(lines.filter(|(_, row)| !row.is_empty()).map(move |(line, row)| {
        let cells: Vec<&str> = row.split(',').map(str::trim).collect();
        if cells.len() != width {
            let what = format!("{} cells where the first line names {width}", cells.len());
            return Err(Error::Malformed { line, what });
        }
        Ok((line, places.map(|place| cells[place])))
    }))
}

fn number(line: usize, column: &str, text: &str) -> Result<f64, Error> {
    let number = text
        .parse()
        .map_err(|_| Error::Malformed { line, what: format!("'{text}' is not a number, in the column '{column}'") })?;
    checked(line, column, number)
}

fn checked(line: usize, column: &str, number: f64) -> Result<f64, Error> {
    if (0.0..=NUMBER_MAX).contains(&number) {
        Ok(number)
    } else {
        Err(Error::Malformed { line, what: format!("{column} is {number}, which no request has") })
    }
}

fn sorted<T>(mut rows: Vec<T>, at_s: impl Fn(&T) -> f64) -> Result<Vec<T>, Error> {
    if rows.is_empty() {
        return Err(Error::Empty);
    }
    if rows.len() > ROWS_MAX {
        return Err(Error::TooMany);
    }
    rows.sort_by(|a, b| at_s(a).total_cmp(&at_s(b)));
    match (rows.first(), rows.last()) {
        (Some(first), Some(last)) if at_s(last) - at_s(first) > SPAN_S_MAX => Err(Error::TooLong),
        _ => Ok(rows),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_are_found_by_name_and_rows_sorted() {
        let calls = genai("model,t_s,exec_s\nb,20,3.5\na,10,\n\nb,15,1\n").unwrap();
        let at: Vec<(f64, usize, f64)> = calls.iter().map(|c| (c.at_s, c.endpoint, c.runs_s)).collect();
        assert_eq!(at, [(10.0, 1, 0.0), (15.0, 0, 1.0), (20.0, 0, 3.5)]);
        let prompts = mooncake("{\"timestamp\": 1500, \"input_length\": 7, \"output_length\": 2, \"hash_ids\": []}\n");
        assert_eq!(prompts.unwrap(), [Prompt { at_s: 1.5, tokens_in: 7.0, tokens_out: 2.0 }]);
        assert_eq!(azure_llm("t_s,in_tokens,out_tokens\r\n0.5,3,4\r\n").unwrap()[0].tokens_out, 4.0);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let says = |error: Result<Vec<Prompt>, Error>| error.unwrap_err().to_string();
        let head = "t_s,in_tokens,out_tokens\n";
        assert_eq!(says(azure_llm("")), "there is not one request in it");
        assert_eq!(says(azure_llm(head)), "there is not one request in it");
        assert_eq!(
            says(azure_llm("t_s,in_tokens\n1,2\n")),
            "line 1: no column 'out_tokens': the first line must name t_s, in_tokens, out_tokens"
        );
        assert_eq!(says(azure_llm(&format!("{head}1,2,3\n1,2\n"))), "line 3: 2 cells where the first line names 3");
        assert_eq!(says(azure_llm(&format!("{head}x,2,3\n"))), "line 2: 'x' is not a number, in the column 't_s'");
        assert_eq!(says(azure_llm(&format!("{head}0,1,1\n1e9,1,1\n"))), "its requests lie more than 366 days apart");
        assert_eq!(says(azure_llm(&format!("{head}-1,2,3\n"))), "line 2: t_s is -1, which no request has");
        assert_eq!(says(azure_llm(&format!("{head}1,nan,3\n"))), "line 2: in_tokens is NaN, which no request has");
        assert!(says(mooncake("{}\n")).starts_with("line 1: not an object with timestamp"));
        assert!(!says(mooncake("\n{\n")).contains("at line"), "the line is told once");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}", rows in "[0-9a-z,\\n.{}\"-]{0,80}") {
            for text in [&text, &rows, &format!("t_s,model,exec_s\n{rows}"), &format!("t_s,in_tokens,out_tokens\n{rows}")] {
                let _ = (genai(text), azure_llm(text), mooncake(text));
            }
        }
    }
}
