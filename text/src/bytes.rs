use std::sync::OnceLock;

/// How a model's tokens spell bytes.
pub enum Spelling {
    /// GPT-2's printable alphabet of 256 characters.
    ByteLevel,
    /// SentencePiece: a stand-in for the space, `<0x41>` for single bytes.
    Sentence { space: String, byte_fallback: bool },
}

impl Spelling {
    pub fn bytes_of(&self, token: &str) -> Vec<u8> {
        match self {
            Spelling::ByteLevel => {
                let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
                bytes.unwrap_or_else(|| token.as_bytes().to_vec())
            }
            Spelling::Sentence {
                space,
                byte_fallback,
            } => {
                if let Some(byte) = byte_token(token).filter(|_| *byte_fallback) {
                    return vec![byte];
                }
                token.replace(space.as_str(), " ").into_bytes()
            }
        }
    }
}

/// 0x41 of "<0x41>".
pub fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The byte behind one character of GPT-2's alphabet: printable Latin-1 stands for itself, the
/// others follow from U+0100 in ascending order.
fn byte_of(c: char) -> Option<u8> {
    static REST: OnceLock<Vec<u8>> = OnceLock::new();
    let printable = |c: u32| matches!(c, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let code = c as u32;
    if printable(code) {
        return Some(code as u8);
    }
    let rest = REST.get_or_init(|| (0..=255u8).filter(|&b| !printable(b.into())).collect());
    rest.get(code.checked_sub(0x100)? as usize).copied()
}
