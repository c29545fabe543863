use std::cell::Cell;
use std::fmt;
use std::sync::Once;
use std::time::{Duration, Instant};

use onig::{MatchParam, Regex, Region, SearchOptions};
use tokenizers::pattern::Pattern;
use tokenizers::Offsets;

use crate::error::{Fail, Result};

thread_local! {
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Bounds what one encode may cost in regular expressions: an honest pattern needs about a
/// microsecond a byte, a catastrophic one ends here with an error.
pub struct TimeBudget(Option<Instant>);

impl TimeBudget {
    pub fn start(bytes: usize) -> TimeBudget {
        let limit = Duration::from_secs(5) + Duration::from_micros(20) * bytes.min(1 << 30) as u32;
        TimeBudget(DEADLINE.replace(Some(Instant::now() + limit)))
    }
}

impl Drop for TimeBudget {
    fn drop(&mut self) {
        DEADLINE.set(self.0);
    }
}

/// A search that went over one of the limits here.
#[derive(Debug)]
pub struct Unbounded(String);

impl fmt::Display for Unbounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unbounded {}

/// An error once this encode's time is over.
pub fn check_time() -> tokenizers::Result<()> {
    match DEADLINE.get() {
        Some(deadline) if Instant::now() > deadline => {
            Err(Unbounded("it takes too long".into()).into())
        }
        _ => Ok(()),
    }
}

/// Limits that Oniguruma keeps for the whole process: they also hold for the expressions that the
/// `tokenizers` crate owns. A million spaces in a row cost a million retries, so ten times that.
pub fn set_limits() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| unsafe {
        onig_sys::onig_set_retry_limit_in_match(10_000_000);
        onig_sys::onig_set_retry_limit_in_search(20_000_000);
        onig_sys::onig_set_match_stack_limit_size(8_000_000);
        onig_sys::onig_set_parse_depth_limit(200);
    });
}

/// A regular expression that gives an error, never a panic or a hang.
pub struct BoundedRegex {
    regex: Regex,
}

impl BoundedRegex {
    pub fn new(pattern: &str) -> Result<BoundedRegex> {
        set_limits();
        if pattern.len() > 64 << 10 {
            return Err(Fail::unsupported(format!(
                "got a regular expression of {} bytes; need at most 65536",
                pattern.len()
            )));
        }
        let regex = Regex::new(pattern)
            .map_err(|e| Fail::corrupt(format!("got a bad regular expression: {e}")))?;
        Ok(BoundedRegex { regex })
    }

    fn search(&self, text: &str, from: usize, region: &mut Region) -> tokenizers::Result<bool> {
        let param = MatchParam::default();
        let none = SearchOptions::SEARCH_OPTION_NONE;
        let found = self
            .regex
            .search_with_param(text, from, text.len(), none, Some(region), param)
            .map_err(|e| Unbounded(e.to_string()))?;
        check_time()?;
        Ok(found.is_some())
    }
}

impl Pattern for &BoundedRegex {
    fn find_matches(&self, inside: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        if inside.is_empty() {
            return Ok(vec![((0, 0), false)]);
        }
        let mut pieces = Vec::with_capacity(inside.len() / 4 + 1);
        let mut region = Region::new();
        let (mut previous, mut from) = (0, 0);
        let mut last_end = None;
        while from <= inside.len() {
            region.clear();
            if !self.search(inside, from, &mut region)? {
                break;
            }
            let Some((start, end)) = region.pos(0) else {
                break;
            };
            // An empty match right after a match would repeat for ever.
            if start == end && last_end == Some(end) {
                from += inside[from..].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            if previous != start {
                pieces.push(((previous, start), false));
            }
            pieces.push(((start, end), true));
            (previous, from, last_end) = (end, end, Some(end));
        }
        if previous != inside.len() {
            pieces.push(((previous, inside.len()), false));
        }
        Ok(pieces)
    }
}
