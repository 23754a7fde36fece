//! Which versions of the server have run on this storage: `sys/version-history`.

use obol_mount::{Error, Result};
use obol_storage::View;
use serde::{Deserialize, Serialize};

use super::{Core, VERSION, unix_now};

/// One version, when it was the first time that it unsealed this storage after another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub version: String,
    /// Seconds since 1970.
    pub installed: u64,
}

impl Core {
    pub(super) async fn version_history(&self) -> Result<Vec<Run>> {
        Ok(self.versions()?.get_json(RECORD).await?.unwrap_or_default())
    }

    /// Notes this version, the first time that it runs.
    pub(super) async fn note_version(&self) -> Result<()> {
        let known = |history: &[Run]| history.iter().any(|run| run.version == VERSION);
        if known(&self.version_history().await?) {
            return Ok(());
        }
        self.versions()?
            .update_json(RECORD, |history: Option<Vec<Run>>| {
                let mut history = history.unwrap_or_default();
                if !known(&history) {
                    history.push(Run {
                        version: VERSION.to_owned(),
                        installed: unix_now(),
                    });
                }
                Ok::<_, Error>(history)
            })
            .await?;
        Ok(())
    }

    fn versions(&self) -> Result<View> {
        Ok(View::new(self.barrier.clone(), "core/")?)
    }
}

const RECORD: &str = "version-history";
