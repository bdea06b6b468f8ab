//! Answers that are checked to the end, also when the visitor's connection closes meanwhile.
//!
//! A request's handler ends with its connection. Between taking a challenge and granting a session that would lose a right
//! answer, for example when a second click on the button closes the connection of the first.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Answers that are checked at once: as many as there are steps of the store at once. Further ones wait, and those end with
/// their connection.
const MOST: usize = 1024;

/// The check of an answer panicked, or the process ends.
#[derive(Debug, thiserror::Error)]
#[error("the check of an answer ended early; please report this")]
pub struct EndedEarly;

/// Checks answers.
#[derive(Debug)]
pub struct Answers(Arc<Semaphore>);

impl Default for Answers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl Answers {
    /// Runs `work` to its end, whatever becomes of the caller.
    ///
    /// # Errors
    ///
    /// If it panics, or at the end of the process.
    pub(super) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, EndedEarly> {
        let permit = self.0.clone().acquire_owned().await.map_err(|_closed| EndedEarly)?;
        let checked = tokio::spawn(async move {
            let _permit = permit;
            work.await
        });
        checked.await.map_err(|_ended| EndedEarly)
    }
}
