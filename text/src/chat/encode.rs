use std::collections::HashSet;

use serde_json::Value as Json;

use super::mark::{Marker, Zeal};
use super::{render, Chat};
use crate::added::Parse;
use crate::error::{Fail, Result};
use crate::tokenizer::TextTokenizer;

/// Ids of a chat prompt. Without hostile spelling they are those of the rendered text with special
/// tokens parsed. Control tokens come from the template's own text only:
///
/// 1. strings from outside that spell a control token out are marked, so that it is not one;
/// 2. because a template may cut and join strings into a token that none of them spelled, the chat
///    is rendered again with marks wherever a token could begin or end. Tokens of the first
///    rendering that the second does not have were not the template's: then the second one counts.
pub fn encode_chat(tokenizer: &TextTokenizer, mut chat: Chat) -> Result<Vec<i32>> {
    let template = tokenizer.identity.chat_template.as_str();
    if template.is_empty() {
        return Err(Fail::unsupported(
            "got a chat for a model without a chat template",
        ));
    }
    chat.bos = tokenizer.text_of(tokenizer.identity.bos).to_string();
    chat.eos = tokenizer.text_of(tokenizer.identity.eos).to_string();
    let control = tokenizer
        .added
        .tokens()
        .iter()
        .filter(|token| token.control);
    let extra = Json::Object(chat.extra.clone());
    let texts = [&chat.messages, &extra];
    let names = control.clone().map(|token| token.content.as_str());
    let Some(marker) = Marker::new(names, &texts, template)? else {
        return tokenizer.encode(&render(template, &chat)?, Parse::All);
    };
    let control: HashSet<i32> = control.map(|token| token.id as i32).collect();
    let encode = |zeal: Zeal| -> Result<(Vec<i32>, Vec<i32>)> {
        let marked = Chat {
            messages: marker.messages(&chat.messages, zeal),
            extra: marker.variables(&chat.extra, zeal),
            bos: chat.bos.clone(),
            eos: chat.eos.clone(),
            add_generation_prompt: chat.add_generation_prompt,
        };
        let (text, cuts) = marker.strip(&render(template, &marked)?);
        let ids = tokenizer.encode(&text, Parse::Cut(&cuts))?;
        let found = ids
            .iter()
            .copied()
            .filter(|id| control.contains(id))
            .collect();
        Ok((ids, found))
    };
    let (ids, found) = encode(Zeal::Spelled)?;
    let (safe_ids, safe_found) = encode(Zeal::Everywhere)?;
    Ok(if found == safe_found { ids } else { safe_ids })
}
