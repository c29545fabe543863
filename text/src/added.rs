use aho_corasick::{AhoCorasick, Input};
use tokenizers::normalizer::Range;
use tokenizers::{NormalizedString, NormalizerWrapper, PreTokenizedString, Token};

use crate::automaton::leftmost_longest;
use crate::error::{Fail, Result};
use crate::regex;
use crate::tokenizer::END_NAMES;

/// A token that is found in the text before the model sees it.
#[derive(Clone, Debug)]
pub struct Added {
    pub id: u32,
    pub content: String,
    pub single_word: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    pub normalized: bool,
    /// Hidden by `skip_special`.
    pub special: bool,
    /// Never made from ordinary text; a superset of `special`.
    pub control: bool,
}

/// Names that mark control tokens even where a file forgot to flag them special.
pub fn looks_control(content: &str) -> bool {
    content == "</s>"
        || END_NAMES.contains(&content)
        || (content.starts_with("<|") && content.ends_with("|>"))
        || (content.starts_with("<｜") && content.ends_with("｜>"))
}

/// Which added tokens may be found in a text.
#[derive(Clone, Copy)]
pub enum Parse<'a> {
    /// Control tokens are ordinary text.
    Plain,
    /// All of them.
    All,
    /// All, but no control token may reach over one of these byte positions (ascending).
    Cut(&'a [usize]),
}

struct Matcher {
    automaton: AhoCorasick,
    /// Pattern number to index in `AddedTokens::tokens`.
    tokens: Vec<usize>,
}

impl Matcher {
    fn build(patterns: Vec<(String, usize)>) -> Result<Option<Matcher>> {
        let patterns: Vec<_> = patterns
            .into_iter()
            .filter(|(text, _)| !text.is_empty())
            .collect();
        if patterns.is_empty() {
            return Ok(None);
        }
        let automaton = leftmost_longest(patterns.iter().map(|(text, _)| text.as_str()))?;
        Ok(Some(Matcher {
            automaton,
            tokens: patterns.into_iter().map(|(_, t)| t).collect(),
        }))
    }
}

/// Finds added tokens as the `tokenizers` crate does (leftmost-longest; raw text first, then the
/// normalized rest), with two things it cannot do: leave control tokens out entirely, and forbid
/// matches over given positions.
pub struct AddedTokens {
    tokens: Vec<Added>,
    raw: [Option<Matcher>; 2],
    normalized: [Option<Matcher>; 2],
}

type Piece = (NormalizedString, Option<Vec<Token>>);

impl AddedTokens {
    pub fn new(tokens: Vec<Added>, normalizer: Option<&NormalizerWrapper>) -> Result<AddedTokens> {
        let mut raw = [Vec::new(), Vec::new()];
        let mut normalized = [Vec::new(), Vec::new()];
        for (index, token) in tokens.iter().enumerate() {
            let (pattern, lists) = if token.normalized {
                (normalize(normalizer, &token.content)?, &mut normalized)
            } else {
                (token.content.clone(), &mut raw)
            };
            lists[0].push((pattern.clone(), index));
            if !token.control {
                lists[1].push((pattern, index));
            }
        }
        let [all, plain] = raw;
        let [normalized_all, normalized_plain] = normalized;
        Ok(AddedTokens {
            tokens,
            raw: [Matcher::build(all)?, Matcher::build(plain)?],
            normalized: [
                Matcher::build(normalized_all)?,
                Matcher::build(normalized_plain)?,
            ],
        })
    }

    pub fn tokens(&self) -> &[Added] {
        &self.tokens
    }

    /// Splits `text` into added tokens and normalized rests.
    pub fn extract(
        &self,
        normalizer: Option<&NormalizerWrapper>,
        text: &str,
        parse: Parse,
    ) -> tokenizers::Result<PreTokenizedString> {
        use tokenizers::Normalizer;
        let stage = usize::from(matches!(parse, Parse::Plain));
        let mut pieces = PreTokenizedString::from(text);
        pieces.split(|_, piece| self.split(piece, self.raw[stage].as_ref(), parse))?;
        pieces.split(|_, mut piece| {
            if let Some(normalizer) = normalizer {
                normalizer.normalize(&mut piece)?;
            }
            self.split(piece, self.normalized[stage].as_ref(), parse)
        })?;
        Ok(pieces)
    }

    fn split(
        &self,
        piece: NormalizedString,
        matcher: Option<&Matcher>,
        parse: Parse,
    ) -> tokenizers::Result<Vec<Piece>> {
        let Some(matcher) = matcher else {
            return Ok(vec![(piece, None)]);
        };
        let slice = |start: usize, end: usize| {
            piece
                .slice(Range::Normalized(start..end))
                .expect("a match lies on character bounds")
        };
        let mut out = Vec::new();
        let mut done = 0;
        for (index, start, end) in self.find(&piece, matcher, parse)? {
            if done < start {
                out.push((slice(done, start), None));
            }
            let token = Token::new(self.tokens[index].id, String::new(), (0, end - start));
            out.push((slice(start, end), Some(vec![token])));
            done = end;
        }
        if done < piece.get().len() {
            out.push((slice(done, piece.get().len()), None));
        }
        Ok(out)
    }

    fn find(
        &self,
        piece: &NormalizedString,
        matcher: &Matcher,
        parse: Parse,
    ) -> tokenizers::Result<Vec<(usize, usize, usize)>> {
        let text = piece.get();
        let (mut from, mut done) = (0, 0);
        let mut found = Vec::new();
        while let Some(hit) = matcher
            .automaton
            .find(Input::new(text).span(from..text.len()))
        {
            regex::check_time()?;
            let index = matcher.tokens[hit.pattern().as_usize()];
            let token = &self.tokens[index];
            let (mut start, mut end) = (hit.start(), hit.end());
            if token.control && !allowed(piece, token, start, end, parse) {
                // Shorter tokens inside the forbidden one may still be found.
                from = start + text[start..].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            from = end;
            if token.single_word && inside_word(text, start, end) {
                continue;
            }
            if token.lstrip {
                start = text[..start].trim_end().len().max(done);
            }
            if token.rstrip {
                end += text[end..].len() - text[end..].trim_start().len();
            }
            found.push((index, start, end));
            (from, done) = (end, end);
        }
        Ok(found)
    }
}

fn normalize(normalizer: Option<&NormalizerWrapper>, text: &str) -> Result<String> {
    use tokenizers::Normalizer;
    let mut string = NormalizedString::from(text);
    if let Some(normalizer) = normalizer {
        normalizer
            .normalize(&mut string)
            .map_err(|e| Fail::corrupt(format!("got an added token that cannot be read: {e}")))?;
    }
    Ok(string.get().to_string())
}

/// Whether a control token may stand at `start..end` of the (normalized) piece.
fn allowed(
    piece: &NormalizedString,
    token: &Added,
    start: usize,
    end: usize,
    parse: Parse,
) -> bool {
    let Parse::Cut(cuts) = parse else { return true };
    let Some(range) = piece.convert_offsets(Range::Normalized(start..end)) else {
        return false;
    };
    // Normalization may spell a token that the text did not: a fullwidth twin, for example.
    if !piece
        .get_original()
        .get(range.clone())
        .is_some_and(|text| text.contains(&token.content))
    {
        return false;
    }
    let base = piece.offsets_original().0;
    let next = cuts.partition_point(|&cut| cut <= base + range.start);
    cuts.get(next).is_none_or(|&cut| cut >= base + range.end)
}

fn inside_word(text: &str, start: usize, end: usize) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text[..start].chars().next_back().is_some_and(word)
        || text[end..].chars().next().is_some_and(word)
}
