use tokenizers::normalizers::NFC;
use tokenizers::NormalizerWrapper;

use crate::error::{Fail, Result};
use crate::pre::PreStep;

/// What a `tokenizer.ggml.pre` name stands for: how byte-level BPE vocabularies cut words. The
/// expressions are those of the models' own tokenizer.json files.
struct Family {
    names: &'static [&'static str],
    patterns: &'static [&'static str],
    nfc: bool,
    /// A word that is a token is taken whole (tiktoken's rule).
    ignore_merges: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|",
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|",
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const DEEPSEEK3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"##,
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const CJK: &str = "[一-龥\u{3040}-ゟ゠-ヿ]+";
const DIGIT: &str = r"\p{N}";
const THREE_DIGITS: &str = r"\p{N}{1,3}";

const FAMILIES: &[Family] = &[
    Family {
        names: &[
            "gpt-2",
            "default",
            "phi-2",
            "mpt",
            "olmo",
            "jina-es",
            "jina-de",
            "roberta-bpe",
        ],
        patterns: &[GPT2],
        nfc: false,
        ignore_merges: false,
    },
    Family {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "minerva-7b",
        ],
        patterns: &[DIGIT, GPT2],
        nfc: false,
        ignore_merges: false,
    },
    Family {
        names: &["qwen2", "deepseek-r1-qwen"],
        patterns: &[QWEN2],
        nfc: true,
        ignore_merges: false,
    },
    Family {
        names: &["qwen35"],
        patterns: &[QWEN35],
        nfc: true,
        ignore_merges: false,
    },
    Family {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3"],
        patterns: &[LLAMA3],
        nfc: false,
        ignore_merges: true,
    },
    Family {
        names: &["glm4", "chatglm-bpe", "dbrx", "smaug-bpe"],
        patterns: &[LLAMA3],
        nfc: false,
        ignore_merges: false,
    },
    Family {
        names: &["gpt-4o", "llama4"],
        patterns: &[GPT4O],
        nfc: false,
        ignore_merges: true,
    },
    Family {
        names: &["tekken"],
        patterns: &[TEKKEN],
        nfc: false,
        ignore_merges: true,
    },
    Family {
        names: &["deepseek-v3"],
        patterns: &[THREE_DIGITS, CJK, DEEPSEEK3],
        nfc: false,
        ignore_merges: false,
    },
];

pub struct Words {
    pub steps: Vec<PreStep>,
    pub normalizer: Option<NormalizerWrapper>,
    pub ignore_merges: bool,
}

/// The word cutter that `name` stands for; an empty name is "default".
pub fn words(name: &str) -> Result<Words> {
    let wanted = if name.is_empty() { "default" } else { name };
    let Some(family) = FAMILIES
        .iter()
        .find(|family| family.names.contains(&wanted))
    else {
        let mut known: Vec<_> = FAMILIES
            .iter()
            .flat_map(|family| family.names)
            .copied()
            .collect();
        known.sort_unstable();
        return Err(Fail::unsupported(format!(
            "got pre-tokenizer '{name}'; need one of {}",
            known.join(", ")
        )));
    };
    let mut steps = Vec::new();
    for pattern in family.patterns {
        steps.push(PreStep::isolated(pattern)?);
    }
    steps.push(PreStep::byte_level());
    let normalizer = family.nfc.then_some(NormalizerWrapper::NFC(NFC));
    Ok(Words {
        steps,
        normalizer,
        ignore_merges: family.ignore_merges,
    })
}
