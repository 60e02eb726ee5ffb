use sha2::{Digest, Sha256};

use crate::operate::lines::{Line, hex};

/// Counts and hashes what goes by.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    pub(super) entries: u64,
    pub(super) progress: u64,
    hash: Sha256,
}

impl Sum {
    pub(super) fn entry(&mut self, text: &str) {
        self.entries += 1;
        self.hash.update(text);
    }

    pub(super) fn progress(&mut self, text: &str) {
        self.progress += 1;
        self.hash.update(text);
    }

    pub(super) fn sha256(&self) -> String {
        hex(&self.hash.clone().finalize())
    }

    pub(super) fn end(&self) -> Line {
        Line::End {
            entries: self.entries,
            progress: self.progress,
            sha256: self.sha256(),
        }
    }
}
