//! Texts to vectors: a tokenizer before the model, pooling after it, as the
//! files of a sentence-transformers model beside it say.
//!
//! Source of the formats: `modules.json`, `sentence_bert_config.json` and
//! `1_Pooling/config.json` as sentence-transformers writes them;
//! `tokenizer.json` as the `tokenizers` library does.

use std::path::Path;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use muonic_types::ErrorCode;
use serde::Deserialize;
use tokenizers::Tokenizer;

use crate::failure::Failure;
use crate::runtime::Runtime;
use crate::tensor::{Data, DataType, Port, Tensor};

/// Where no file says how many tokens the model takes.
const TOKENS_DEFAULT: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooling {
    Mean,
    First,
    Max,
    /// The model gives one vector for each text itself.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feed {
    Ids,
    Mask,
    Kinds,
}

pub struct Embedder {
    tokenizer: Tokenizer,
    feeds: Vec<(String, Feed)>,
    output: String,
    pooling: Pooling,
    normalise: bool,
    tokens_max: usize,
}

#[derive(Deserialize)]
struct Module {
    r#type: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PoolingConfig {
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
}

#[derive(Deserialize)]
struct Lengths {
    max_seq_length: Option<usize>,
    max_position_embeddings: Option<usize>,
}

impl Embedder {
    /// `None` where the folder has no `tokenizer.json`, or the model takes
    /// other inputs than tokens.
    ///
    /// # Errors
    /// A file that is there and cannot be understood.
    pub fn find(folder: &Path, runtime: &dyn Runtime) -> anyhow::Result<Option<Self>> {
        let file = folder.join("tokenizer.json");
        let (Some(inputs), Some(outputs)) = (runtime.inputs(), runtime.outputs()) else { return Ok(None) };
        let (Some(feeds), Some((output, is_pooled)), true) = (feeds(inputs), output(outputs), file.is_file()) else {
            return Ok(None);
        };
        let mut tokenizer =
            Tokenizer::from_file(&file).map_err(|e| anyhow!("{} cannot be read: {e}", file.display()))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| anyhow!("{} cannot be used: {e}", file.display()))?;
        let modules: Vec<Module> = json(&folder.join("modules.json"))?.unwrap_or_default();
        let config: PoolingConfig = json(&folder.join("1_Pooling/config.json"))?.unwrap_or_default();
        let pooling = match config {
            _ if is_pooled => Pooling::Done,
            PoolingConfig { pooling_mode_cls_token: true, .. } => Pooling::First,
            PoolingConfig { pooling_mode_max_tokens: true, pooling_mode_mean_tokens: false, .. } => Pooling::Max,
            _ => Pooling::Mean,
        };
        let normalise = modules.is_empty() || modules.iter().any(|module| module.r#type.ends_with(".Normalize"));
        let lengths: Option<Lengths> = json(&folder.join("sentence_bert_config.json"))?;
        let of_model: Option<Lengths> = json(&folder.join("config.json"))?;
        let tokens_max = lengths.and_then(|l| l.max_seq_length).or(of_model.and_then(|l| l.max_position_embeddings));
        let tokens_max = tokens_max.unwrap_or(TOKENS_DEFAULT);
        Ok(Some(Self { tokenizer, feeds, output: output.to_owned(), pooling, normalise, tokens_max }))
    }

    /// The tokens of a text. The error names no place.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, Failure> {
        let encoded = self.tokenizer.encode_fast(text, true);
        let encoded =
            encoded.map_err(|e| Failure::new(ErrorCode::InvalidInput, format!("the text has no tokens: {e}")))?;
        Ok(encoded.get_ids().to_vec())
    }

    pub fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    /// One row for each, all as long as the longest.
    pub fn inputs(&self, texts: &[&[u32]]) -> Result<Vec<Tensor>, Failure> {
        let longest = texts.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        let shape = [texts.len(), longest].map(|n| i64::try_from(n).unwrap_or(i64::MAX)).to_vec();
        let tensor = |(name, feed): &(String, Feed)| {
            let mut bytes = Vec::with_capacity(texts.len() * longest * 8);
            for tokens in texts {
                for at in 0..longest {
                    let value = match (feed, tokens.get(at)) {
                        (Feed::Ids, Some(id)) => i64::from(*id),
                        (Feed::Mask, Some(_)) => 1,
                        _ => 0,
                    };
                    bytes.extend_from_slice(&value.to_le_bytes());
                }
            }
            Tensor::new(name.clone(), DataType::I64, shape.clone(), Data::Raw(bytes.into())).map_err(Failure::bad)
        };
        self.feeds.iter().map(tensor).collect()
    }

    /// The vector of each text from the outputs for [`Self::inputs`].
    pub fn vectors(&self, outputs: &[Tensor], texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, Failure> {
        let odd = || Failure::new(ErrorCode::Internal, "the model's output is no vector for each token or text");
        let output = outputs.iter().find(|output| output.name == self.output).ok_or_else(odd)?;
        let Data::Raw(bytes) = &output.data else { return Err(odd()) };
        let size = output.shape.last().and_then(|n| usize::try_from(*n).ok()).filter(|n| *n > 0).ok_or_else(odd)?;
        let row = bytes.len() / texts.len().max(1);
        let mut vectors = Vec::with_capacity(texts.len());
        for (at, tokens) in texts.iter().enumerate() {
            let own = bytes.get(at * row..(at + 1) * row).ok_or_else(odd)?;
            let of_tokens: Vec<&[u8]> = own.chunks_exact(size * 4).take(tokens.len().max(1)).collect();
            let mut vector = self.pool(&of_tokens, size).ok_or_else(odd)?;
            if self.normalise {
                let length = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
                vector.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
            }
            vectors.push(vector);
        }
        Ok(vectors)
    }

    fn pool(&self, tokens: &[&[u8]], size: usize) -> Option<Vec<f32>> {
        let values = |token: &[u8]| -> Vec<f32> {
            let (chunks, _) = token.as_chunks::<4>();
            chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
        };
        let first = values(tokens.first()?);
        match self.pooling {
            Pooling::First | Pooling::Done => Some(first),
            Pooling::Max => Some(tokens[1..].iter().fold(first, |mut all, token| {
                all.iter_mut().zip(values(token)).for_each(|(a, b)| *a = a.max(b));
                all
            })),
            Pooling::Mean => {
                let mut sums = vec![0.0_f64; size];
                for token in tokens {
                    sums.iter_mut().zip(values(token)).for_each(|(sum, v)| *sum += f64::from(v));
                }
                Some(sums.into_iter().map(|sum| (sum / tokens.len() as f64) as f32).collect())
            }
        }
    }
}

fn json<T: for<'de> Deserialize<'de>>(file: &Path) -> anyhow::Result<Option<T>> {
    match std::fs::read(file) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).with_context(|| format!("{} cannot be read", file.display())))
            .transpose(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("{} cannot be read", file.display())),
    }
}

fn feeds(inputs: &[Port]) -> Option<Vec<(String, Feed)>> {
    let feed = |port: &Port| {
        let feed = match port.name.as_str() {
            "input_ids" => Feed::Ids,
            "attention_mask" => Feed::Mask,
            "token_type_ids" => Feed::Kinds,
            _ => return None,
        };
        (port.datatype == DataType::I64 && port.shape.len() == 2).then(|| (port.name.clone(), feed))
    };
    let feeds: Vec<_> = inputs.iter().map(feed).collect::<Option<_>>()?;
    feeds.iter().any(|(_, feed)| *feed == Feed::Ids).then_some(feeds)
}

/// The output that is used, and whether it is a vector for each text.
fn output(outputs: &[Port]) -> Option<(&str, bool)> {
    let fits = |port: &&Port| port.datatype == DataType::F32;
    let named = |name: &str| outputs.iter().filter(fits).find(|port| port.name == name);
    let pooled = named("sentence_embedding").filter(|port| port.shape.len() == 2);
    if let Some(port) = pooled {
        return Some((&port.name, true));
    }
    let port = named("last_hidden_state").or_else(|| outputs.iter().find(fits)).filter(|port| port.shape.len() == 3)?;
    Some((&port.name, false))
}

/// As OpenAI's clients ask for it: little-endian, in Base64.
pub fn base64(vector: &[f32]) -> String {
    let bytes: Bytes = vector.iter().flat_map(|v| v.to_le_bytes()).collect();
    data_encoding::BASE64.encode(&bytes)
}
